"""A release deleted with --cascade=orphan: what it leaves behind serves on, and the next of its name takes it over.

The API server of these tests has no garbage collector, so the test takes the owners away as that one does.
"""

from __future__ import annotations

from modelrelease.clients.kube import (
    MODEL_RELEASE,
    POD,
    SERVICE,
)
from tests.cluster.stage import NAME, Stage, condition


async def orphan(stage: Stage) -> None:
    """kubectl delete modelrelease --cascade=orphan."""
    live = await stage.live(MODEL_RELEASE)
    await stage.admin.delete(MODEL_RELEASE, stage.namespace, NAME, uid=live["metadata"]["uid"])
    for kind in await stage.owned_kinds():
        for item in await stage.all(kind):
            body = {"metadata": {"ownerReferences": None}}
            await stage.admin.patch(kind, stage.namespace, item["metadata"]["name"], body)
    await stage.work()


async def test_what_a_deleted_release_left_behind_is_taken_over_without_a_restart(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    second = await stage.promoted(2)
    pods = {pod["metadata"]["uid"] for pod in await stage.all(POD)}
    await orphan(stage)
    assert await stage.weights() == (0, 100), "users are served without the release"

    release = await stage.release(2)
    again = await stage.promoted(2)

    assert again.stable is not None
    assert second.stable is not None
    assert (again.stable.key, again.stable.slot) == (second.stable.key, second.stable.slot)
    assert {pod["metadata"]["uid"] for pod in await stage.all(POD)} == pods
    assert await stage.weights() == (0, 100)
    for kind in await stage.owned_kinds():
        for item in await stage.all(kind):
            assert [owner["uid"] for owner in item["metadata"]["ownerReferences"]] == [release["metadata"]["uid"]]


async def test_what_has_another_owner_or_other_labels_is_not_taken_over(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    await orphan(stage)
    bare = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}
    await stage.admin.patch(SERVICE, stage.namespace, f"{NAME}-a", bare)
    await stage.release()
    status = await stage.rest()
    assert (status.phase, condition(status, "Accepted")) == ("Invalid", ("False", "NameConflict"))
    assert f"Service {NAME}-a" in status.message
