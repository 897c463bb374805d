"""A release over an HTTPRoute that somebody else owns: two weights are the operator's, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelrelease.clients.kube import HTTP_ROUTE, MODEL_RELEASE, SERVICE, Object
from tests.cluster.stage import NAME, Stage, condition, revision_of

ROUTE = "shop"
SHARED = {"httpRoute": {"name": ROUTE, "rule": "model"}}


def backend(name: str, weight: int) -> dict[str, Any]:
    return {"name": name, "port": 80, "weight": weight}


def rules() -> list[dict[str, Any]]:
    """A rule for the model between two of the shop's own, with filters, and a third backend beside the two slots."""
    header = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-team", "value": "ml"}]}}
    return [
        {
            "name": "cart",
            "matches": [{"path": {"type": "PathPrefix", "value": "/cart"}}],
            "backendRefs": [backend("cart", 7)],
        },
        {
            "name": "model",
            "matches": [{"path": {"type": "PathPrefix", "value": "/rank"}}],
            "filters": [header],
            "timeouts": {"request": "30s"},
            "backendRefs": [backend(f"{NAME}-a", 1), backend(f"{NAME}-b", 0), backend("shadow", 0)],
        },
        {"name": "rest", "backendRefs": [backend("web", 1)]},
    ]


async def own_route(stage: Stage, **changes: Any) -> Object:
    """The route as the shop's team keeps it in Git."""
    metadata = {"name": ROUTE, "labels": {"modelrelease.dev/name": NAME, "team": "shop"}, **changes.pop("metadata", {})}
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": ["shop.example"], "rules": rules(), **changes}
    body = {"apiVersion": HTTP_ROUTE.api_version, "kind": "HTTPRoute", "metadata": metadata, "spec": spec}
    stage.routes = (NAME, ROUTE)
    return await stage.admin.create(HTTP_ROUTE, stage.namespace, body)


async def weights(stage: Stage) -> tuple[int, int]:
    found = (await stage.live(HTTP_ROUTE, ROUTE))["spec"]["rules"][1]["backendRefs"]
    return found[0]["weight"], found[1]["weight"]


def without_weights(route: Object) -> Any:
    """All of a route's spec, labels and annotations but for the two weights."""
    spec = copy.deepcopy(route["spec"])
    for item in spec["rules"][1]["backendRefs"][:2]:
        item["weight"] = None
    return (
        spec,
        route["metadata"].get("labels"),
        route["metadata"].get("annotations"),
        route["metadata"].get("ownerReferences"),
    )


async def test_only_the_two_weights_of_the_named_rule_are_written(stage: Stage) -> None:
    before = await own_route(stage)
    await stage.release(traffic=SHARED)
    await stage.promoted(1)
    assert await weights(stage) == (100, 0)
    await stage.want_version(2)
    await stage.until(lambda status: status.traffic is not None and status.traffic.b == 20)
    assert await weights(stage) == (80, 20)
    await stage.promoted(2)

    assert await weights(stage) == (0, 100)
    assert without_weights(await stage.live(HTTP_ROUTE, ROUTE)) == without_weights(before)
    assert await stage.admin.get(HTTP_ROUTE, stage.namespace, NAME) is None, "no route of its own beside it"


async def test_whatever_weights_git_has_users_reach_what_serves_while_no_rollout_is_under_way(stage: Stage) -> None:
    await own_route(stage)
    await stage.release(traffic=SHARED)
    first = await stage.promoted(1)
    assert first.stable is not None
    assert {revision_of(item) for item in await stage.all(SERVICE)} == {first.stable.revision}
    await stage.want_version(2)
    canary = await stage.until(lambda status: status.traffic is not None and status.traffic.b == 20)
    assert canary.candidate is not None
    selected = {revision_of(item) for item in await stage.all(SERVICE)}
    assert selected == {first.stable.revision, canary.candidate.revision}
    second = await stage.promoted(2)
    assert second.stable is not None
    assert {revision_of(item) for item in await stage.all(SERVICE)} == {second.stable.revision}, "once v1 has drained"


async def test_a_lost_status_is_rebuilt_from_two_slots_that_select_the_same(stage: Stage) -> None:
    await own_route(stage)
    await stage.release(traffic=SHARED)
    await stage.promoted(1)
    await stage.want_version(2)
    second = await stage.promoted(2)
    await stage.lose_status()
    rebuilt = await stage.promoted(2)
    assert second.stable is not None
    assert rebuilt.stable is not None
    assert (rebuilt.stable.key, rebuilt.stable.slot) == (second.stable.key, second.stable.slot)
    assert await weights(stage) == (0, 100)


async def test_a_rollback_leaves_the_route_serving_from_stable(stage: Stage) -> None:
    before = await own_route(stage)
    await stage.release(traffic=SHARED)
    first = await stage.promoted(1)
    await stage.want_version(2)
    canary = await stage.until(lambda status: status.traffic is not None and status.traffic.b == 20)
    assert canary.candidate is not None
    stage.operator.feed.failing[canary.candidate.revision] = 0.6
    rolled = await stage.until(lambda status: status.phase == "RolledBack")

    assert await weights(stage) == (100, 0)
    assert rolled.stable == first.stable
    assert without_weights(await stage.live(HTTP_ROUTE, ROUTE)) == without_weights(before)


async def test_weights_changed_by_hand_are_put_back_and_other_edits_are_kept(stage: Stage) -> None:
    await own_route(stage)
    await stage.release(traffic=SHARED)
    await stage.promoted(1)
    live = await stage.live(HTTP_ROUTE, ROUTE)
    edited = copy.deepcopy(live["spec"]["rules"])
    edited[1]["backendRefs"][1]["weight"] = 50
    edited[0]["backendRefs"][0]["weight"] = 9
    await stage.admin.patch(HTTP_ROUTE, stage.namespace, ROUTE, {"spec": {"rules": edited, "hostnames": ["b.example"]}})
    await stage.rest()

    after = await stage.live(HTTP_ROUTE, ROUTE)
    assert await weights(stage) == (100, 0)
    assert after["spec"]["rules"][0]["backendRefs"][0]["weight"] == 9
    assert after["spec"]["hostnames"] == ["b.example"]


async def test_an_unreadable_spec_does_not_keep_the_traffic_from_going_back(stage: Stage) -> None:
    await own_route(stage)
    await stage.release(traffic=SHARED)
    await stage.promoted(1)
    await stage.want_version(2)
    canary = await stage.until(lambda status: status.traffic is not None and status.traffic.b == 20)
    assert canary.candidate is not None
    await stage.edit(model={"version": 10**18})  # what the schema cannot refuse and the operator cannot read
    stage.operator.feed.failing[canary.candidate.revision] = 0.6
    await stage.until(lambda status: status.candidate is None)
    assert await weights(stage) == (100, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(None, "HTTPRoute shop does not exist in this namespace", id="no such route"),
        pytest.param(
            {"metadata": {"labels": {}}},
            "its owner has to set the label modelrelease.dev/name: churn",
            id="a route whose owner did not consent",
        ),
        pytest.param({"rules": rules()[:1]}, "HTTPRoute shop has no rule named model", id="no such rule"),
        pytest.param(
            {"rules": [{"name": "model", "backendRefs": [backend(f"{NAME}-a", 1)]}]},
            "does not name both backends churn-a and churn-b",
            id="a slot is missing",
        ),
    ],
)
async def test_a_route_that_cannot_carry_the_release_is_told(
    stage: Stage, changes: dict[str, Any] | None, words: str
) -> None:
    if changes is not None:
        await own_route(stage, **copy.deepcopy(changes))
    await stage.release(traffic=SHARED)
    status = await stage.rest()
    assert (status.phase, condition(status, "Progressing")[1]) == ("Pending", "RouteNotFound")
    assert words in status.message


async def test_moving_to_a_shared_route_removes_the_own_one_once_the_other_carries(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    await own_route(stage)
    await stage.edit(traffic={**SHARED, "gateway": None})
    stage.gateway_says = None
    await stage.passes(3)
    assert await weights(stage) == (100, 0)
    assert await stage.admin.get(HTTP_ROUTE, stage.namespace, NAME) is not None, (
        "it serves until the other is confirmed"
    )
    stage.gateway_says = ("True", "Accepted")
    await stage.rest()
    assert await stage.admin.get(HTTP_ROUTE, stage.namespace, NAME) is None
    assert (await stage.status()).phase == "Promoted"


async def test_deleting_the_release_leaves_the_route_as_it_is(stage: Stage) -> None:
    await own_route(stage)
    await stage.release(traffic=SHARED)
    await stage.promoted(1)
    before = await stage.live(HTTP_ROUTE, ROUTE)
    live = await stage.live(MODEL_RELEASE)
    await stage.admin.delete(MODEL_RELEASE, stage.namespace, NAME, uid=live["metadata"]["uid"])
    await stage.work()
    after = await stage.live(HTTP_ROUTE, ROUTE)
    assert after["spec"] == before["spec"]
    assert "ownerReferences" not in after["metadata"]
