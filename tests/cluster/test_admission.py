"""The chart's admission policies on a real API server, with users that have real RBAC rights.

Who does what stands in the names: `writer` may write ModelReleases but no Deployments, `team` may do both, `oncall` may
read ModelReleases, patch them and command them, `lead` may do all of that and create them. A policy bites some seconds
after it was created, so the fixture waits until it does.
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
from tests.api.builders import release
from tests.cluster.chart import of_kinds, render

ROOT = Path(__file__).parents[2]
COMMAND = "modelrelease.dev/command"
COMMAND_BY = "modelrelease.dev/command-by"
POLICY_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
RBAC_KINDS = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
RIGHTS = {
    "writer": [
        ("modelrelease.dev", ["modelreleases", "modelreleases/scale"], ["get", "create", "update", "patch", "delete"])
    ],
    "team": [
        ("modelrelease.dev", ["modelreleases", "modelreleases/scale"], ["get", "create", "update", "patch", "delete"]),
        ("apps", ["deployments"], ["create"]),
    ],
    "oncall": [("modelrelease.dev", ["modelreleases"], ["get", "patch", "command"])],
    "lead": [
        ("modelrelease.dev", ["modelreleases"], ["get", "create", "patch", "command"]),
        ("apps", ["deployments"], ["create"]),
    ],
}

As = Callable[..., str]
"""Runs kubectl in the test's namespace as a user: `run("team", "get", "mr")`. Raises ClusterError where it fails."""


def role(
    user: str, rules: list[tuple[str, list[str], list[str]]], names: list[str] | None = None
) -> list[dict[str, Any]]:
    """A Role and its RoleBinding to one user, as objects."""
    entries = [{"apiGroups": [group], "resources": resources, "verbs": verbs} for group, resources, verbs in rules]
    if names is not None:
        entries = [entry | {"resourceNames": names} for entry in entries]
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": user}, "rules": entries},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": user},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        },
    ]


@pytest.fixture(scope="module")
def namespace(apiserver: ControlPlane) -> Iterator[str]:
    """A namespace with the users of this module, under the chart's policies, which are in force."""
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    name = f"admission-{uuid4().hex[:8]}"
    apiserver.kubectl("create", "namespace", name)
    people = [item for user, rules in RIGHTS.items() for item in role(user, rules)]
    apiserver.kubectl("apply", "-n", name, "-f", "-", input=yaml.safe_dump_all(people))
    # The chart's release is named after the namespace: the API server is shared, policies have no namespace.
    chart = of_kinds(render(namespace=name, name=name), *POLICY_KINDS, *RBAC_KINDS)
    apiserver.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(chart))
    try:
        wait_until("the policies bite", lambda: both_bite(apiserver, name), 30, interval_s=0.5)
        yield name
    finally:
        apiserver.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(chart))
        apiserver.kubectl("delete", "namespace", name, "--wait=false")


def both_bite(apiserver: ControlPlane, namespace: str) -> bool:
    body = release("probe")
    body["metadata"]["annotations"] = {COMMAND: "pause@abc-1"}
    create = ("create", "-n", namespace, "--dry-run=server", "-f", "-")
    try:
        apiserver.kubectl(*create, "--as=writer", input=json.dumps(release("probe")))
    except ClusterError:
        try:
            apiserver.kubectl(*create, "--as=team", input=json.dumps(body))
        except ClusterError:
            return True
    return False


@pytest.fixture
def run(apiserver: ControlPlane, namespace: str) -> As:
    def kubectl(user: str, *args: str, body: dict[str, Any] | None = None) -> str:
        stdin = None if body is None else json.dumps(body)
        return apiserver.kubectl("-n", namespace, f"--as={user}", *args, input=stdin)

    return kubectl


@pytest.fixture
def live(apiserver: ControlPlane, namespace: str) -> Iterator[str]:
    """The name of a ModelRelease that exists, made by the cluster's administrator."""
    name = f"r{uuid4().hex[:8]}"
    apiserver.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(release(name)))
    yield name
    apiserver.kubectl("delete", "-n", namespace, f"mr/{name}")


def patch(name: str, body: dict[str, Any], *options: str) -> tuple[str, ...]:
    return ("patch", f"mr/{name}", "--type=merge", "-p", json.dumps(body), *options)


def annotate(name: str, key: str, value: str | None) -> tuple[str, ...]:
    return patch(name, {"metadata": {"annotations": {key: value}}})


SPEC_CHANGE = {"spec": {"suspend": True}}


def test_a_writer_without_deployments_cannot_create_a_release_and_reads_why(run: As, namespace: str) -> None:
    with pytest.raises(ClusterError) as refused:
        run("writer", "create", "-f", "-", body=release("smuggled"))
    assert (
        f"user writer may not create Deployments in namespace {namespace}: the spec of a ModelRelease runs pods there, "
        "so whoever writes it needs the right to create deployments.apps"
    ) in str(refused.value)


def test_a_writer_without_deployments_cannot_change_a_spec(run: As, live: str) -> None:
    with pytest.raises(ClusterError, match="user writer may not create Deployments"):
        run("writer", *patch(live, SPEC_CHANGE))


def test_who_may_create_deployments_may_create_and_change_a_release(run: As) -> None:
    assert "created" in run("team", "create", "-f", "-", body=release("allowed"))
    assert "patched" in run("team", *patch("allowed", SPEC_CHANGE))
    assert "deleted" in run("team", "delete", "mr/allowed")


def test_deployments_of_another_namespace_do_not_count(apiserver: ControlPlane, run: As, namespace: str) -> None:
    elsewhere = role("writer", [("apps", ["deployments"], ["create"])])
    apiserver.kubectl("apply", "-n", "default", "-f", "-", input=yaml.safe_dump_all(elsewhere))
    try:
        with pytest.raises(ClusterError, match=f"may not create Deployments in namespace {namespace}"):
            run("writer", "create", "-f", "-", body=release("smuggled"))
    finally:
        apiserver.kubectl("delete", "-n", "default", "-f", "-", input=yaml.safe_dump_all(elsewhere))


def test_a_writer_gets_through_from_the_moment_he_may_create_deployments(
    apiserver: ControlPlane, run: As, namespace: str
) -> None:
    grants = role("newcomer", RIGHTS["writer"])
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(grants))
    wait_until("rights arrive", lambda: allowed(run, "newcomer", "get", "mr", "--ignore-not-found", "none"), 10)
    with pytest.raises(ClusterError, match="user newcomer may not create Deployments"):
        run("newcomer", "create", "-f", "-", body=release("first"))
    grants = role("newcomer", RIGHTS["team"])
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(grants))
    create = ("create", "--dry-run=server", "-f", "-")
    wait_until("it is allowed", lambda: allowed(run, "newcomer", *create, body=release("first")), 10)


def allowed(run: As, user: str, *args: str, body: dict[str, Any] | None = None) -> bool:
    try:
        run(user, *args, body=body)
    except ClusterError:
        return False
    return True


def test_labels_and_scale_are_no_change_of_the_spec_that_needs_deployments(run: As, live: str) -> None:
    assert "patched" in run("writer", *patch(live, {"metadata": {"labels": {"team": "ml"}}}))
    assert "scaled" in run("writer", "scale", f"mr/{live}", "--replicas=3")


def test_an_update_that_leaves_the_spec_alone_passes(
    apiserver: ControlPlane, run: As, namespace: str, live: str
) -> None:
    body = json.loads(apiserver.kubectl("get", "-n", namespace, f"mr/{live}", "-o", "json"))
    body["metadata"]["labels"] = {"team": "ml"}
    assert "replaced" in run("writer", "replace", "-f", "-", body=body)


def test_the_operator_writes_status_but_no_spec(run: As, namespace: str, live: str) -> None:
    operator = f"system:serviceaccount:{namespace}:{namespace}-modelrelease"
    status = {key: release(live)[key] for key in ("apiVersion", "kind", "metadata")} | {"status": {"phase": "Gating"}}
    # An apply, because kubectl patch reads the subresource first, for which the operator has no use and no right.
    assert "applied" in run(operator, "apply", "--server-side", "--subresource=status", "-f", "-", body=status)
    with pytest.raises(ClusterError, match=r'cannot patch resource "modelreleases" in API group'):
        run(operator, *patch(live, SPEC_CHANGE))


def test_a_command_without_the_verb_is_refused_and_says_which_verb(run: As, namespace: str, live: str) -> None:
    with pytest.raises(ClusterError) as refused:
        run("team", *annotate(live, COMMAND, "promote@0123456789-1"))
    assert (
        f"user team may not set {COMMAND} on {namespace}/{live}: "
        'it needs the verb "command" on modelreleases.modelrelease.dev'
    ) in str(refused.value)


def test_a_release_cannot_be_born_with_a_command(run: As) -> None:
    body = release("born")
    body["metadata"]["annotations"] = {COMMAND: "promote@0123456789-1"}
    with pytest.raises(ClusterError, match="user team may not set"):
        run("team", "create", "-f", "-", body=body)


def test_who_has_the_verb_commands_without_the_right_to_create_deployments(run: As, live: str) -> None:
    assert "patched" in run("oncall", *annotate(live, COMMAND, "abort@0123456789-1"))
    assert "patched" in run("oncall", *annotate(live, COMMAND, "retry@0123456789-2"))


def test_who_has_the_verb_only_still_cannot_change_the_spec(run: As, live: str) -> None:
    with pytest.raises(ClusterError, match="user oncall may not create Deployments"):
        run("oncall", *patch(live, SPEC_CHANGE))


def test_a_command_that_stands_there_hinders_nobody(run: As, live: str) -> None:
    run("oncall", *annotate(live, COMMAND, "pause@0123456789-1"))
    assert "patched" in run("team", *patch(live, SPEC_CHANGE))
    assert "patched" in run("team", *annotate(live, "note", "seen"))
    with pytest.raises(ClusterError, match="user team may not set"):
        run("team", *annotate(live, COMMAND, "resume@0123456789-2"))
    assert "patched" in run("team", *annotate(live, COMMAND, None))


def test_the_verb_can_be_given_for_one_release(apiserver: ControlPlane, run: As, namespace: str, live: str) -> None:
    grants = role("guest", [("modelrelease.dev", ["modelreleases"], ["get", "patch", "command"])], names=[live])
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(grants))
    command = annotate(live, COMMAND, "pause@0123456789-1")
    wait_until("the guest may command it", lambda: allowed(run, "guest", *command), 10)
    every = role("guest-everywhere", [("modelrelease.dev", ["modelreleases"], ["get", "patch"])])
    every[1]["subjects"][0]["name"] = "guest"
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(every))
    apiserver.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(release("other")))
    label = patch("other", {"metadata": {"labels": {"seen": "yes"}}})
    wait_until("the guest may patch the other", lambda: allowed(run, "guest", *label), 10)
    with pytest.raises(ClusterError, match="user guest may not set"):
        run("guest", *annotate("other", COMMAND, "pause@0123456789-1"))


def test_a_command_of_any_length_is_refused(run: As, live: str) -> None:
    with pytest.raises(ClusterError, match=f"{COMMAND} must have at most 128 characters"):
        run("oncall", *annotate(live, COMMAND, "x" * 129))


# -- who gave a command --
PAUSE, RESUME = "pause@0123456789-1", "resume@0123456789-2"


def given(name: str, command: str | None, by: str | None) -> tuple[str, ...]:
    return patch(name, {"metadata": {"annotations": {COMMAND: command, COMMAND_BY: by}}})


def test_who_commands_may_say_who_they_are(run: As, live: str) -> None:
    assert "patched" in run("oncall", *given(live, PAUSE, f"{PAUSE} oncall"))


def test_nobody_commands_in_the_name_of_another(run: As, live: str) -> None:
    with pytest.raises(ClusterError) as refused:
        run("oncall", *given(live, PAUSE, f"{PAUSE} ann"))
    assert (
        f'user oncall may not set a command in the name of another: {COMMAND_BY} must be "{PAUSE} oncall", '
        "or be left out"
    ) in str(refused.value)


def test_a_release_is_not_born_with_a_command_of_another(run: As) -> None:
    body = release("born")
    body["metadata"]["annotations"] = {COMMAND: PAUSE, COMMAND_BY: f"{PAUSE} ann"}
    with pytest.raises(ClusterError, match="in the name of another"):
        run("lead", "create", "-f", "-", body=body)


def test_a_plain_annotation_may_leave_the_former_name_alone(run: As, live: str) -> None:
    run("oncall", *given(live, PAUSE, f"{PAUSE} oncall"))
    assert "patched" in run("lead", *annotate(live, COMMAND, RESUME))


def test_a_former_command_is_not_given_again_in_the_name_of_who_gave_it(run: As, live: str) -> None:
    run("oncall", *given(live, PAUSE, f"{PAUSE} oncall"))
    run("lead", *annotate(live, COMMAND, RESUME))
    with pytest.raises(ClusterError, match="user lead may not set a command in the name of another"):
        run("lead", *annotate(live, COMMAND, PAUSE))


@pytest.mark.parametrize("by", [None, f"{PAUSE} lead"])
def test_who_gave_a_command_is_not_changed_afterwards(run: As, live: str, by: str | None) -> None:
    run("oncall", *given(live, PAUSE, f"{PAUSE} oncall"))
    with pytest.raises(ClusterError, match=f"{COMMAND_BY} changes only together with {COMMAND}"):
        run("lead", *annotate(live, COMMAND_BY, by))
    assert "patched" in run("team", *given(live, None, None))


def test_a_releaser_commands_and_writes_no_spec_while_a_viewer_does_neither(
    apiserver: ControlPlane, run: As, namespace: str, live: str
) -> None:
    chart = render(namespace=namespace, name=namespace)
    for user, suffix in (("releaser", "releaser"), ("viewer", "view")):
        [name] = [item["metadata"]["name"] for item in chart if item["metadata"]["name"].endswith(f"-{suffix}")]
        apiserver.kubectl("create", "rolebinding", user, "-n", namespace, f"--clusterrole={name}", f"--user={user}")
    command = given(live, PAUSE, f"{PAUSE} releaser")
    wait_until("the releaser may command", lambda: allowed(run, "releaser", *command), 10)
    with pytest.raises(ClusterError, match="user releaser may not create Deployments"):
        run("releaser", *patch(live, SPEC_CHANGE))
    with pytest.raises(ClusterError, match=r'User "viewer" cannot patch resource "modelreleases"'):
        run("viewer", *annotate(live, COMMAND, RESUME))


def test_who_may_edit_by_the_default_roles_may_command_and_who_may_view_may_not(namespace: str) -> None:
    roles = of_kinds(render(namespace=namespace, name=namespace), "ClusterRole")
    gain = {
        target: {
            verb
            for item in roles
            if item["metadata"]["labels"].get(f"rbac.authorization.k8s.io/aggregate-to-{target}") == "true"
            for rule in item["rules"]
            if "modelreleases" in rule["resources"]
            for verb in rule["verbs"]
        }
        for target in ("view", "edit", "admin")
    }
    assert ("command" in gain["view"], "command" in gain["edit"], "command" in gain["admin"]) == (False, True, True)
