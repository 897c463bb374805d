"""Waves and enforced policies on a real API server: two releases of one model, and the labels of their namespace."""

from __future__ import annotations

from typing import Any

from modelrelease.clients.kube import HTTP_ROUTE, MODEL_RELEASE, NAMESPACE, RELEASE_POLICY, SERVICE, Kind, Object
from tests.cluster.stage import NAME, Stage, small_spec

EARLIER = "churn-eu"


def named(kind: Kind, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object to be created."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


async def earlier(stage: Stage, version: int) -> Object:
    """Another release of the model, which nobody works: the test writes its status."""
    spec = small_spec(stage.model, version)
    spec["traffic"]["gateway"]["hostnames"] = ["eu.example"]
    return await stage.admin.create(MODEL_RELEASE, stage.namespace, named(MODEL_RELEASE, EARLIER, spec))


async def says(stage: Stage, version: int, **status: Any) -> None:
    """What the earlier wave serves since now, and what else its status says."""
    live = await stage.live(MODEL_RELEASE, EARLIER)
    at = stage.clock().isoformat()
    stable = {"revision": "aa", "rules": "r1", "version": str(version), "model": stage.model, "slot": "a"}
    body = {"phase": "Promoted", "stable": {**stable, "promotedAt": at}, **status}
    version_read = live["metadata"]["resourceVersion"]
    await stage.admin.patch_status(MODEL_RELEASE, stage.namespace, EARLIER, body, version_read)


async def test_a_later_wave_waits_goes_on_by_itself_and_is_blocked_by_a_rollback_by_name(stage: Stage) -> None:
    gate = {"name": "eu-first", "after": {"release": EARLIER, "promotedFor": "1h"}}
    await stage.release(1, gates=[gate])
    missing = await stage.rest()
    assert missing.phase == "Blocked"
    assert f"there is no ModelRelease {EARLIER} in this namespace" in missing.message

    await earlier(stage, 1)
    waits = await stage.passes(2)
    assert (waits.phase, waits.candidate is not None) == ("Pending", True)
    assert waits.message == f"gate eu-first: {EARLIER} has not promoted v1 yet: it serves nothing"
    assert stage.operator.reconciler.followers((stage.namespace, EARLIER)) == [stage.key]
    await says(stage, 1)
    await stage.work()
    stage.clock.skip(61)  # words alone are written once a minute
    again = await stage.work()
    assert (await stage.status()).phase == "Pending"
    assert again is not None
    assert 3400 < again <= 3600, "it looks again when the hour is over"
    stage.clock.skip(3601)
    await stage.promoted(1)

    entry = {"key": "bb-r1", "version": "2", "outcome": "RolledBack", "reason": "CheckFailed"}
    words = {"message": "errors 2.9 %, 0.4 % of stable", "since": stage.clock().isoformat()}
    await says(stage, 1, quarantine=[{**entry, **words}])
    await stage.want_version(2)
    blocked = await stage.rest()
    assert blocked.phase == "Blocked"
    assert f"gate eu-first: {EARLIER} rolled v2 back: errors 2.9 %" in blocked.message
    assert blocked.stable is not None
    assert blocked.stable.version == "1"
    assert [item["metadata"]["name"] for item in await stage.all(HTTP_ROUTE)] == [NAME]
    assert len(await stage.all(SERVICE)) >= 2


async def test_an_enforced_policy_holds_by_the_labels_of_the_namespace(stage: Stage) -> None:
    gate = {"name": "floor", "metric": {"name": "accuracy", "min": 0.999}}
    enforce = {"namespaceSelector": {"matchLabels": {"wave-test": stage.namespace}}}
    policy = named(RELEASE_POLICY, stage.namespace, {"enforce": enforce, "gates": [gate]})
    created = await stage.admin.create(RELEASE_POLICY, None, policy)
    try:
        await stage.release(1)
        await stage.promoted(1)
        labels = {"metadata": {"labels": {"wave-test": stage.namespace}}}
        await stage.admin.patch(NAMESPACE, None, stage.namespace, labels)
        serves = await stage.rest()
        assert serves.phase == "Promoted", "what serves is left alone"
        await stage.want_version(2)
        blocked = await stage.rest()

        assert blocked.phase == "Blocked"
        assert f"gate {stage.namespace}/floor: accuracy: " in blocked.message
        origins = {gate.name: gate.origin for gate in blocked.gates}
        assert origins[f"{stage.namespace}/floor"] == stage.namespace
    finally:
        await stage.admin.delete(RELEASE_POLICY, None, stage.namespace, uid=created["metadata"]["uid"])
