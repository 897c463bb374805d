"""What people do to the objects of a release by hand, and a status that was lost: both mended within a pass."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    SERVICE,
    Kind,
    NotFound,
    Object,
)
from modelrelease.core.render import SINCE
from tests.cluster.stage import NAME, Stage, condition


@pytest.fixture
async def canary(stage: Stage) -> Stage:
    """Version 1 serves, version 2 has 20 percent, for longer than a test takes."""
    phases = [{"name": "canary", "weight": 20, "duration": "30s"}, {"name": "full", "weight": 100}]
    await stage.release(rollout={"phases": phases, "bake": {"duration": "10s"}})
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.until(has_traffic)
    return stage


def has_traffic(status: ModelReleaseStatus) -> bool:
    return status.traffic is not None and status.traffic.confirmed_at is not None and status.traffic.b == 20


async def stable_name(stage: Stage) -> str:
    status = await stage.status()
    assert status.stable is not None
    return f"{NAME}-{status.stable.revision}"


async def edit_weights(stage: Stage) -> None:
    route = await stage.live(HTTP_ROUTE)
    rules = copy.deepcopy(route["spec"]["rules"])
    rules[0]["backendRefs"][0]["weight"], rules[0]["backendRefs"][1]["weight"] = 0, 100
    await stage.admin.patch(HTTP_ROUTE, stage.namespace, NAME, {"spec": {"rules": rules}})


async def add_a_filter(stage: Stage) -> None:
    route = await stage.live(HTTP_ROUTE)
    rules = copy.deepcopy(route["spec"]["rules"])
    rules[0]["filters"] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["authorization"]}}]
    await stage.admin.patch(HTTP_ROUTE, stage.namespace, NAME, {"spec": {"rules": rules}})


async def add_a_match(stage: Stage) -> None:
    route = await stage.live(HTTP_ROUTE)
    rules = copy.deepcopy(route["spec"]["rules"])
    rules[0]["matches"] = [{"path": {"type": "PathPrefix", "value": "/v2"}}]
    await stage.admin.patch(HTTP_ROUTE, stage.namespace, NAME, {"spec": {"rules": rules}})


async def add_a_rule(stage: Stage) -> None:
    route = await stage.live(HTTP_ROUTE)
    rules = [*route["spec"]["rules"], {"backendRefs": [{"name": "elsewhere", "port": 80}]}]
    await stage.admin.patch(HTTP_ROUTE, stage.namespace, NAME, {"spec": {"rules": rules}})


async def edit_hostnames(stage: Stage) -> None:
    await stage.admin.patch(HTTP_ROUTE, stage.namespace, NAME, {"spec": {"hostnames": ["elsewhere.example"]}})


async def scale_stable_down(stage: Stage) -> None:
    await stage.admin.patch(DEPLOYMENT, stage.namespace, await stable_name(stage), {"spec": {"replicas": 0}})


async def edit_the_image(stage: Stage) -> None:
    body = {"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "example.test/evil:1"}]}}}}
    await stage.admin.patch(DEPLOYMENT, stage.namespace, await stable_name(stage), body)


async def point_the_service_elsewhere(stage: Stage) -> None:
    body = {"spec": {"selector": {"modelrelease.dev/revision": "elsewhere"}}}
    await stage.admin.patch(SERVICE, stage.namespace, f"{NAME}-a", body)


async def narrow_the_service(stage: Stage) -> None:
    await stage.admin.patch(SERVICE, stage.namespace, f"{NAME}-a", {"spec": {"selector": {"app": "nobody"}}})


async def take_labels_away(stage: Stage) -> None:
    labels = {"metadata": {"labels": {"modelrelease.dev/name": None}}}
    await stage.admin.patch(DEPLOYMENT, stage.namespace, await stable_name(stage), labels)
    await stage.admin.patch(HTTP_ROUTE, stage.namespace, NAME, labels)


async def spoil_the_sequence(stage: Stage) -> None:
    for kind, name in ((SERVICE, f"{NAME}-a"), (HTTP_ROUTE, NAME)):
        body = {"metadata": {"annotations": {"modelrelease.dev/sequence": "many"}}}
        await stage.admin.patch(kind, stage.namespace, name, body)
    await edit_weights(stage)


def delete(kind: Kind, name: str) -> Callable[[Stage], Awaitable[None]]:
    async def edit(stage: Stage) -> None:
        live = await stage.live(kind, name)
        await stage.admin.delete(kind, stage.namespace, name, uid=live["metadata"]["uid"])

    return edit


async def delete_stable(stage: Stage) -> None:
    await delete(DEPLOYMENT, await stable_name(stage))(stage)


EDITS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "the weights": edit_weights,
    "a filter in the route": add_a_filter,
    "a match in the route": add_a_match,
    "a rule in the route": add_a_rule,
    "the host names": edit_hostnames,
    "the size of what serves": scale_stable_down,
    "the image of what serves": edit_the_image,
    "the selector of a Service": point_the_service_elsewhere,
    "one more label in the selector of a Service": narrow_the_service,
    "the labels that we know our objects by": take_labels_away,
    "a sequence that is no number": spoil_the_sequence,
    "the route deleted": delete(HTTP_ROUTE, NAME),
    "a Service deleted": delete(SERVICE, f"{NAME}-a"),
    "what serves deleted": delete_stable,
}


async def test_whatever_was_edited_by_hand_is_put_back_within_one_pass(canary: Stage) -> None:
    before = {item["metadata"]["name"]: essence(item) for item in await canary.children()}
    for what, edit in EDITS.items():
        await edit(canary)
        assert await differences(canary, before), what
        await canary.operator.reconciler(canary.key)
        assert await differences(canary, before) == [], what
        await canary.play()
    kinds = [event["reason"] for event in await canary.events()]
    assert "WeightRestored" in kinds
    await canary.promoted(2)


async def differences(stage: Stage, before: dict[str, dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    """What of the children is not as it was: what, before and now."""
    live = {item["metadata"]["name"]: essence(item) for item in await stage.children()}
    return [
        (f"{name}.{part}", before.get(name, {}).get(part), live.get(name, {}).get(part))
        for name in live.keys() | before.keys()
        for part in live.get(name, {}).keys() | before.get(name, {}).keys()
        if before.get(name, {}).get(part) != live.get(name, {}).get(part)
    ]


def essence(item: Object) -> dict[str, Any]:
    """What of a child a person would notice."""
    spec = {key: value for key, value in item["spec"].items() if not key.startswith(("clusterIP", "ipFamil"))}
    labels = {key: value for key, value in (item["metadata"].get("labels") or {}).items() if key != SINCE}
    return {"labels": labels, **spec}


async def test_a_deleted_revision_of_the_candidate_starts_the_rollout_again(canary: Stage) -> None:
    status = await canary.status()
    assert status.candidate is not None
    await delete(CONTROLLER_REVISION, f"{NAME}-{status.candidate.key}")(canary)

    await canary.work()
    assert await canary.weights() == (100, 0)
    status = await canary.status()
    assert status.candidate is not None
    assert status.candidate.returning is not None
    assert "was deleted or cannot be read; the rollout starts again" in status.candidate.returning.message
    await canary.promoted(2)


async def test_a_status_lost_in_mid_rollout_is_rebuilt_and_the_rollout_starts_again(canary: Stage) -> None:
    before = await canary.status()
    assert before.stable is not None
    await canary.lose_status()
    await canary.process()

    await canary.work()
    rebuilt = await canary.status()
    assert rebuilt.stable is not None
    assert (rebuilt.stable.version, rebuilt.stable.key) == ("1", before.stable.key)
    written_under = [
        int(item["metadata"]["annotations"]["modelrelease.dev/sequence"]) for item in await canary.children()
    ]
    assert rebuilt.sequence == max(written_under), "else its children could never be written again"
    assert await canary.weights() == (100, 0)
    assert [(event["type"], event["note"]) for event in await canary.events() if event["reason"] == "StatusRebuilt"]
    await canary.promoted(2)
    assert not await canary.admin.list(DEPLOYMENT, canary.namespace, "modelrelease.dev/name!=churn")


async def test_a_status_lost_at_rest_is_rebuilt_without_a_write_to_anything_that_serves(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    before = await stage.promoted(2)
    children = {item["metadata"]["uid"]: item["metadata"]["generation"] for item in await generations(stage)}
    await stage.lose_status()
    kube = stage.operator.kube
    kube.requests.clear()
    after = await stage.rest()

    assert after.stable is not None
    assert before.stable is not None
    assert (after.stable.key, after.stable.slot) == (before.stable.key, before.stable.slot)
    assert (after.phase, after.summary.serving, after.candidate) == ("Promoted", "2 2/2", None)
    assert condition(after, "Ready") == ("True", "Promoted")
    alive = {item["metadata"]["uid"]: item["metadata"]["generation"] for item in await generations(stage)}
    assert {uid: children[uid] for uid in alive} == alive
    assert "create ControllerRevision" not in kube.writes(), "it is not the first release"
    assert await stage.weights() == (0, 100)


async def test_a_status_lost_while_it_bakes_goes_back_to_what_was_promoted_last(canary: Stage) -> None:
    await canary.until(lambda status: status.phase == "Baking")
    assert await canary.weights() == (0, 100)
    await canary.lose_status()
    await canary.work()
    status = await canary.status()
    assert status.stable is not None
    assert status.stable.version == "1"
    assert await canary.weights() == (100, 0)
    await canary.promoted(2)


async def test_a_quarantine_outlives_the_status(canary: Stage) -> None:
    status = await canary.status()
    assert status.candidate is not None
    canary.operator.feed.failing[status.candidate.revision] = 0.5
    await canary.until(lambda status: status.phase == "RolledBack")
    await canary.rest()
    await canary.lose_status()
    process = await canary.process()
    status = await canary.rest()

    assert (status.phase, status.summary.serving) == ("RolledBack", "1 2/2")
    assert [entry.version for entry in status.quarantine] == ["2"]
    assert "patch Deployment" not in process.kube.writes()


async def test_a_status_lost_together_with_the_route_is_no_first_release(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.edit(model={"version": 3})  # fails its gate: as a first release it would be blocked all the same
    await stage.rest()
    await delete(HTTP_ROUTE, NAME)(stage)
    await stage.lose_status()
    status = await stage.rest()
    assert (status.phase, status.summary.serving) == ("Blocked", "1 2/2")
    assert await stage.weights() == (100, 0)


async def test_what_an_admission_policy_alters_is_not_fought(stage: Stage) -> None:
    """A mutation of every Deployment, as service meshes and registries do it."""
    name = stage.namespace
    policy, binding = mutating_policy(name)
    await stage.admin.create(MUTATING_POLICY, None, policy)
    await stage.admin.create(MUTATING_BINDING, None, binding)
    try:
        await until_mutated(stage)
        await stage.release()
        await stage.promoted(1)
        [deployment] = [item for item in await stage.all(DEPLOYMENT) if item["metadata"]["name"] != "probe"]
        assert deployment["spec"]["minReadySeconds"] == 7
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 3
        kube = stage.operator.kube
        kube.requests.clear()
        await stage.passes(3)
        assert kube.writes() == []
        await stage.process()
        await stage.passes(3)
        assert stage.operator.kube.writes() == ["patch Deployment"], "a new process asks once"
        await scale_stable_down(stage)
        await stage.work()
        [deployment] = [item for item in await stage.all(DEPLOYMENT) if item["metadata"]["name"] != "probe"]
        assert deployment["spec"]["replicas"] == 2, "a hand edit is put back all the same"
    finally:
        for kind in (MUTATING_BINDING, MUTATING_POLICY):
            live = await stage.admin.get(kind, None, name)
            assert live is not None
            await stage.admin.delete(kind, None, name, uid=live["metadata"]["uid"])


MUTATING_POLICY = Kind("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", False, "MutatingAdmissionPolicy")
MUTATING_BINDING = Kind(
    "admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings", False, "MutatingAdmissionPolicyBinding"
)


def mutating_policy(namespace: str) -> tuple[Object, Object]:
    """Deployments of the namespace get minReadySeconds 7 and maxSurge 3."""
    expression = (
        "Object{spec: Object.spec{minReadySeconds: 7, "
        "strategy: Object.spec.strategy{rollingUpdate: Object.spec.strategy.rollingUpdate{maxSurge: 3}}}}"
    )
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    spec = {
        "matchConstraints": {
            "resourceRules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        },
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    }
    policy = {"apiVersion": MUTATING_POLICY.api_version, "kind": MUTATING_POLICY.kind, "metadata": {"name": namespace}}
    binding = {
        "apiVersion": MUTATING_BINDING.api_version,
        "kind": MUTATING_BINDING.kind,
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace},
    }
    return {**policy, "spec": spec}, binding


async def until_mutated(stage: Stage) -> None:
    """The API server takes a moment to take a policy up."""
    labels = {"app": "probe"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "example.test/web:1"}]}}
    body = {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": "probe"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }
    for _ in range(200):
        if (await stage.admin.create(DEPLOYMENT, stage.namespace, body, dry_run=True))["spec"].get("minReadySeconds"):
            return
        await asyncio.sleep(0.05)
    raise NotFound("the policy is not taken up")


async def generations(stage: Stage) -> list[Object]:
    """What a write would change; Services have none."""
    return [item for item in await stage.children() if "generation" in item["metadata"]]
