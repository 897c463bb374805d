"""The chart's admission policy for ReleaseApprovals, on a real API server, with users, groups and service accounts.

Everybody here has the chart's approver role in the namespace. `alice` may do nothing else; `author` may write releases,
`patcher`, `updater` and `creator` by one verb each; `bot` is a service account.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import ClusterError, wait_until
from modelrelease.api.approval import ADMISSION
from tests.api.builders import release
from tests.cluster.chart import find, of_kinds, render
from tests.cluster.test_admission import role

ROOT = Path(__file__).parents[2]
KINDS = ("ClusterRole", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
WRITES = {
    "author": ["get", "create", "update", "patch"],
    "updater": ["update"],
    "patcher": ["patch"],
    "creator": ["create"],
}
PEOPLE = ("alice", "bob", *WRITES)

As = Callable[..., str]


def approval(user: str, *, group: str | None = None, release: str = "churn", **spec: Any) -> dict[str, Any]:
    """A ReleaseApproval as `user` would write it."""
    approver = {"username": user} | ({"group": group} if group else {})
    known = {"release": release, "revision": "0123456789", "rules": "abcdef0123", "gate": "sign-off"}
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ReleaseApproval",
        "metadata": {"generateName": "churn-sign-off-"},
        "spec": {**known, "decision": "Approve", "approver": approver, **spec},
    }


@pytest.fixture(scope="module")
def namespace(apiserver: ControlPlane) -> Iterator[str]:
    """A namespace with these people, under the chart's policies, which are in force."""
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    name = f"approval-{uuid4().hex[:8]}"
    apiserver.kubectl("create", "namespace", name)
    apiserver.kubectl("create", "serviceaccount", "bot", "-n", name)
    chart = of_kinds(render(namespace=name, name=name), *KINDS)
    apiserver.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(chart))
    approver = f"--clusterrole={name}-modelrelease-approver"
    bound = [f"--user={user}" for user in PEOPLE] + [f"--serviceaccount={name}:bot"]
    apiserver.kubectl("create", "rolebinding", "approvers", "-n", name, approver, *bound)
    people = [
        item for user, verbs in WRITES.items() for item in role(user, [("modelrelease.dev", ["modelreleases"], verbs)])
    ]
    apiserver.kubectl("apply", "-n", name, "-f", "-", input=yaml.safe_dump_all(people))
    try:
        wait_until("the policy bites", lambda: bites(apiserver, name), 30, interval_s=0.5)
        yield name
    finally:
        apiserver.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(chart))
        apiserver.kubectl("delete", "namespace", name, "--wait=false")


def bites(apiserver: ControlPlane, namespace: str) -> bool:
    body = json.dumps(approval("somebody-else"))
    try:
        apiserver.kubectl("create", "-n", namespace, "--as=alice", "--dry-run=server", "-f", "-", input=body)
    except ClusterError as error:
        return "spec.approver.username must be" in str(error)
    return False


@pytest.fixture
def run(apiserver: ControlPlane, namespace: str) -> As:
    def kubectl(user: str, *args: str, groups: tuple[str, ...] = (), body: dict[str, Any] | None = None) -> str:
        who = [f"--as={user}", *(f"--as-group={group}" for group in groups)]
        stdin = None if body is None else json.dumps(body)
        return apiserver.kubectl("-n", namespace, *who, *args, input=stdin)

    return kubectl


CREATE = ("create", "-f", "-")


def test_the_chart_has_the_rules_that_the_operator_relies_on() -> None:
    policy = find(render(), "ValidatingAdmissionPolicy", "modelrelease-approval")
    said = ["".join(item["expression"].split()) for item in policy["spec"]["validations"]]
    assert said == ["".join(wanted.split()) for wanted in ADMISSION]


def test_the_api_server_finds_nothing_wrong_with_the_rules(apiserver: ControlPlane, namespace: str) -> None:
    """An expression that is wrong in its types would refuse everybody."""
    name = f"validatingadmissionpolicy/{namespace}-modelrelease-approval"
    policy = json.loads(apiserver.kubectl("get", name, "-o", "json"))
    assert not (policy.get("status") or {}).get("typeChecking", {}).get("expressionWarnings")


def test_who_says_who_he_is_may_approve(run: As) -> None:
    assert "created" in run("alice", *CREATE, body=approval("alice"))


def test_nobody_approves_in_another_name(run: As) -> None:
    with pytest.raises(ClusterError) as refused:
        run("alice", *CREATE, body=approval("bob"))
    assert "spec.approver.username must be alice, who creates it, and is bob" in str(refused.value)


def test_the_administrator_of_the_cluster_approves_in_no_other_name_either(
    apiserver: ControlPlane, namespace: str
) -> None:
    with pytest.raises(ClusterError, match=r"spec\.approver\.username must be"):
        apiserver.kubectl(*CREATE, "-n", namespace, input=json.dumps(approval("alice")))


def test_a_member_approves_for_the_group(run: As) -> None:
    body = approval("alice", group="ml-leads")
    assert "created" in run("alice", *CREATE, groups=("staff", "ml-leads"), body=body)


@pytest.mark.parametrize("groups", [(), ("sre",), ("ml-lead", "ml-leads2")], ids=["of none", "of another", "alike"])
def test_nobody_approves_for_a_group_that_he_is_not_of(run: As, groups: tuple[str, ...]) -> None:
    with pytest.raises(ClusterError) as refused:
        run("alice", *CREATE, groups=groups, body=approval("alice", group="ml-leads"))
    assert "user alice does not belong to group ml-leads and cannot approve for it" in str(refused.value)


def test_who_may_not_write_the_release_may_say_that_duties_are_separated(run: As) -> None:
    assert "created" in run("alice", *CREATE, body=approval("alice", dutiesSeparated=True))


@pytest.mark.parametrize("user", WRITES)
def test_who_may_write_the_release_may_approve_but_not_say_that_duties_are_separated(
    run: As, namespace: str, user: str
) -> None:
    assert "created" in run(user, *CREATE, body=approval(user))
    with pytest.raises(ClusterError) as refused:
        run(user, *CREATE, body=approval(user, dutiesSeparated=True))
    verb = next(verb for verb in ("create", "update", "patch") if verb in WRITES[user])
    assert (
        f"user {user} may {verb} ModelRelease {namespace}/churn: an approval with "
        "dutiesSeparated must come from somebody who may not"
    ) in str(refused.value)


def test_the_right_to_write_one_release_separates_duties_for_the_others(
    apiserver: ControlPlane, run: As, namespace: str
) -> None:
    grants = role("bob", [("modelrelease.dev", ["modelreleases"], ["update"])], names=["fraud"])
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(grants))
    mine = approval("bob", release="fraud", dutiesSeparated=True)
    wait_until("the right arrives", lambda: not separated(run, "bob", body=mine), 10)
    assert "created" in run("bob", *CREATE, body=approval("bob", dutiesSeparated=True))


def test_rights_that_a_group_gives_count_too(apiserver: ControlPlane, run: As, namespace: str) -> None:
    grants = role("editors", [("modelrelease.dev", ["modelreleases"], ["update"])])
    grants[1]["subjects"][0]["kind"] = "Group"
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(grants))
    body = approval("alice", dutiesSeparated=True)
    wait_until("the right arrives", lambda: not separated(run, "alice", groups=("editors",), body=body), 10)
    assert separated(run, "alice", groups=("ml-leads",), body=body)


def separated(run: As, user: str, *, groups: tuple[str, ...] = (), body: dict[str, Any]) -> bool:
    try:
        run(user, *CREATE, "--dry-run=server", groups=groups, body=body)
    except ClusterError as error:
        if "an approval with dutiesSeparated must come" not in str(error):
            raise
        return False
    return True


def test_a_service_account_approves_as_itself_with_its_own_token(
    apiserver: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    token = apiserver.kubectl("create", "token", "bot", "-n", namespace, "--duration=1h").strip()
    known = yaml.safe_load(apiserver.kubeconfig.read_text())
    known["users"] = [{"name": user["name"], "user": {"token": token}} for user in known["users"]]
    config = tmp_path / "bot.kubeconfig"
    config.write_text(json.dumps(known))
    me = f"system:serviceaccount:{namespace}:bot"
    body = approval(me, group=f"system:serviceaccounts:{namespace}")
    own = (f"--kubeconfig={config}", "-n", namespace)
    assert "created" in apiserver.kubectl(*CREATE, *own, input=json.dumps(body))
    with pytest.raises(ClusterError, match=f"must be {me}, who creates it, and is alice"):
        apiserver.kubectl(*CREATE, *own, input=json.dumps(approval("alice")))
    with pytest.raises(ClusterError, match="does not belong to group ml-leads"):
        apiserver.kubectl(*CREATE, *own, input=json.dumps(approval(me, group="ml-leads")))


def test_who_has_no_right_to_create_approvals_creates_none(run: As) -> None:
    with pytest.raises(ClusterError, match='cannot create resource "releaseapprovals"'):
        run("mallory", *CREATE, body=approval("mallory"))


def test_nobody_ever_changes_one_and_its_author_may_take_it_back(
    apiserver: ControlPlane, run: As, namespace: str
) -> None:
    name = run("alice", *CREATE, "-o", "name", body=approval("alice", decision="Deny")).strip()
    for change in ({"decision": "Approve"}, {"approver": {"username": "bob"}}, {"revision": "9876543210"}):
        patch = ("patch", name, "--type=merge", "-p", json.dumps({"spec": change}))
        with pytest.raises(ClusterError, match="a ReleaseApproval never changes; delete it and create another one"):
            apiserver.kubectl("-n", namespace, *patch)
        with pytest.raises(ClusterError, match='cannot patch resource "releaseapprovals"'):
            run("alice", *patch)
    label = ("patch", name, "--type=merge", "-p", json.dumps({"metadata": {"labels": {"seen": "yes"}}}))
    assert "patched" in apiserver.kubectl("-n", namespace, *label), "what is not the spec is nobody's word"
    assert "deleted" in run("alice", "delete", name)


def test_those_of_one_release_can_be_asked_for(run: As) -> None:
    run("alice", *CREATE, body=approval("alice", release="asked"))
    listed = run("alice", "get", "ra", "--field-selector=spec.release=asked", "-o", "json")
    assert [item["spec"]["release"] for item in json.loads(listed)["items"]] == ["asked"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"revision": "xyz"}, "spec.revision", id="a revision that is none"),
        pytest.param({"rules": None}, "spec.rules: Required", id="no rules"),
        pytest.param({"decision": "Perhaps"}, "spec.decision", id="neither yes nor no"),
        pytest.param({"comment": "x" * 257}, "spec.comment: Too long", id="a novel"),
        pytest.param({"approver": {}}, "spec.approver.username: Required", id="nobody"),
        pytest.param({"by": "alice"}, 'unknown field "spec.by"', id="an unknown field"),
    ],
)
def test_nonsense_is_refused(run: As, change: dict[str, Any], says: str) -> None:
    body = approval("alice")
    body["spec"] = {key: value for key, value in {**body["spec"], **change}.items() if value is not None}
    with pytest.raises(ClusterError) as refused:
        run("alice", *CREATE, body=body)
    assert says in str(refused.value)


def test_a_release_names_the_phases_that_its_gates_stand_before(apiserver: ControlPlane, namespace: str) -> None:
    """Which phases there are may depend on a policy, so the operator says it; the field's form is the schema's."""
    body = release("shapes")
    body["spec"]["gates"] = [{"name": "sign-off", "approval": {"count": 2, "group": "ml-leads", "beforePhase": "half"}}]
    create = (*CREATE, "-n", namespace, "--dry-run=server")
    assert "created" in apiserver.kubectl(*create, input=json.dumps(body))
    body["spec"]["gates"][0]["approval"]["count"] = 0
    with pytest.raises(ClusterError, match=r"approval\.count"):
        apiserver.kubectl(*create, input=json.dumps(body))
