"""What wakes a release and what does not, without a cluster: handlers, fingerprints and the resync."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, cast

import pytest

from modelrelease.clients.kube import MODEL_RELEASE, Kind, Kube
from modelrelease.engine.queue import Key, WorkQueue
from modelrelease.engine.watch import Watch

pytestmark = pytest.mark.virtual_time

Json = dict[str, Any]
CHURN, FRAUD = ("crm", "churn"), ("crm", "fraud")


class Queue:
    """Records wakes."""

    def __init__(self) -> None:
        self.woken: list[Key] = []
        self.due: dict[Key, float] = {}
        self.forgotten: list[Key] = []

    def wake(self, key: Key) -> None:
        self.woken.append(key)

    def wake_at(self, key: Key, deadline: float) -> None:
        self.due[key] = deadline

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)

    def take(self) -> list[Key]:
        woken, self.woken = self.woken, []
        return woken


class Cluster:
    """The lists of an API server in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, list[Json]] = {}

    async def list(
        self, kind: Kind, namespace: str | None = None, label_selector: str = "", *, metadata_only: bool = False
    ) -> list[Json]:
        listed = [{"metadata": one["metadata"]} for one in self.objects.get(kind.kind, [])]
        await asyncio.sleep(0.01)
        return listed

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        found = (one for one in self.objects.get(kind.kind, []) if one["metadata"]["name"] == name)
        return next(found, None)


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def watch(queue: Queue, cluster: Cluster) -> Watch:
    return Watch(cast(Kube, cluster), cast(WorkQueue, queue), queue.forgotten.append, resync_s=100)


def release(name: str = "churn", policy: str | None = None) -> Json:
    spec: Json = {"model": {"name": name, "version": 7}}
    if policy:
        spec["policyRef"] = {"name": policy}
    return {
        "kind": "ModelRelease",
        "metadata": {"namespace": "crm", "name": name, "uid": f"u-{name}", "generation": 1, "resourceVersion": "1"},
        "spec": spec,
        "status": {"phase": "Pending"},
    }


def deployment(**status: Any) -> Json:
    return {
        "kind": "Deployment",
        "metadata": {
            "namespace": "crm",
            "name": "churn-aaaaaaaaaa",
            "uid": "d1",
            "generation": 1,
            "resourceVersion": "1",
            "labels": {"modelrelease.dev/name": "churn"},
            "annotations": {"modelrelease.dev/sequence": "4"},
        },
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "server"}]}}},
        "status": {"readyReplicas": 1, "conditions": [], **status},
    }


def service() -> Json:
    body = deployment()
    body.update(kind="Service", spec={"selector": {"modelrelease.dev/revision": "aaaaaaaaaa"}}, status={})
    body["metadata"]["uid"] = "s1"
    return body


def route(**condition: Any) -> Json:
    body = deployment()
    accepted = {"type": "Accepted", "status": "True", "observedGeneration": 1, "lastTransitionTime": "t1", **condition}
    body.update(
        kind="HTTPRoute",
        spec={"rules": [{"backendRefs": [{"name": "churn-a", "weight": 100}]}]},
        status={"parents": [{"conditions": [accepted]}]},
    )
    body["metadata"]["uid"] = "r1"
    return body


def changed(body: Json, path: str, value: Any) -> Json:
    """A copy with one value at a path of names and numbers replaced; every write changes the resourceVersion."""
    body = copy.deepcopy(body)
    body["metadata"]["resourceVersion"] = "2"
    *parents, last = path.split("/")
    target: Any = body
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
    target[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "wakes"),
    [
        pytest.param("status/phase", "Promoted", False, id="our own write of status"),
        pytest.param("metadata/annotations", {"kubectl.kubernetes.io/x": "y"}, False, id="an annotation of others"),
        pytest.param("metadata/managedFields", [{}], False, id="who wrote which field"),
        pytest.param("metadata/generation", 2, True, id="an edit of the spec"),
        pytest.param("metadata/annotations", {"modelrelease.dev/command": "abort@a-1"}, True, id="a command"),
        pytest.param("metadata/deletionTimestamp", "2026-01-02T03:04:05Z", True, id="the begin of a deletion"),
        pytest.param("metadata/labels", {"team": "crm"}, True, id="a label"),
        pytest.param("metadata/uid", "another", True, id="deleted and created anew"),
    ],
)
async def test_a_release_wakes_for_what_a_pass_reads(
    watch: Watch, queue: Queue, path: str, value: Any, wakes: bool
) -> None:
    await watch.release_event({"type": None, "object": release()})
    assert queue.take() == [CHURN]
    await watch.release_event({"type": "MODIFIED", "object": changed(release(), path, value)})
    assert queue.take() == ([CHURN] if wakes else [])


@pytest.mark.parametrize(
    ("body", "path", "value", "wakes"),
    [
        pytest.param(
            deployment(), "metadata/annotations", {"modelrelease.dev/sequence": "5"}, False, id="our sequence"
        ),
        pytest.param(deployment(), "spec/replicas", 9, True, id="a Deployment scaled by hand"),
        pytest.param(deployment(), "status/readyReplicas", 2, True, id="a pod became ready"),
        pytest.param(
            deployment(),
            "status/conditions",
            [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}],
            True,
            id="a quota refuses pods",
        ),
        pytest.param(service(), "spec/selector", {"modelrelease.dev/revision": "x"}, True, id="a Service pointed away"),
        pytest.param(service(), "status/loadBalancer", {}, False, id="the status of a Service"),
        pytest.param(route(), "spec/rules/0/backendRefs/0/weight", 50, True, id="a weight edited by hand"),
        pytest.param(
            route(), "status/parents/0/conditions/0/observedGeneration", 2, True, id="the gateway saw the new weights"
        ),
        pytest.param(route(), "status/parents/0/conditions/0/status", "False", True, id="the gateway refuses"),
        pytest.param(
            route(), "status/parents/0/conditions/0/lastTransitionTime", "t2", False, id="a time in the route's status"
        ),
        pytest.param(deployment(), "metadata/labels/extra", "x", True, id="a label of a child"),
    ],
)
async def test_a_child_wakes_its_release_for_what_a_pass_reads(
    watch: Watch, queue: Queue, body: Json, path: str, value: Any, wakes: bool
) -> None:
    await watch.release_event({"type": None, "object": release()})
    await watch.child_event({"type": None, "object": body})
    queue.take()
    await watch.child_event({"type": "MODIFIED", "object": changed(body, path, value)})
    assert queue.take() == ([CHURN] if wakes else [])
    await watch.child_event({"type": "DELETED", "object": body})
    assert queue.take() == [CHURN]


async def test_a_child_of_no_release_wakes_nobody(watch: Watch, queue: Queue) -> None:
    await watch.child_event({"type": "ADDED", "object": deployment()})
    assert queue.take() == []


async def test_a_deleted_release_is_forgotten_by_all(watch: Watch, queue: Queue) -> None:
    await watch.release_event({"type": None, "object": release()})
    await watch.release_event({"type": "DELETED", "object": release()})
    assert queue.forgotten == [CHURN, CHURN]
    queue.take()
    await watch.release_event({"type": "ADDED", "object": release()})
    assert queue.take() == [CHURN]


@pytest.mark.parametrize("kind", [None, "ADDED", "DELETED"])
async def test_an_approval_wakes_the_release_that_it_is_for(watch: Watch, queue: Queue, kind: str | None) -> None:
    await watch.release_event({"type": None, "object": release("churn")})
    await watch.release_event({"type": None, "object": release("fraud")})
    queue.take()
    said = {"metadata": {"namespace": "crm", "name": "a", "uid": "a1"}, "spec": {"release": "churn"}}
    await watch.approval_event({"type": kind, "object": said})
    assert queue.take() == [CHURN]
    for other in ({"namespace": "elsewhere"}, {"namespace": "crm", "release": "gone"}):
        foreign = {
            "metadata": {**said["metadata"], "namespace": other["namespace"]},
            "spec": {"release": other.get("release", "churn")},
        }
        await watch.approval_event({"type": kind, "object": foreign})
    assert queue.take() == []


async def test_a_policy_wakes_the_releases_that_name_it(watch: Watch, queue: Queue) -> None:
    await watch.release_event({"type": None, "object": release("churn", policy="shared")})
    await watch.release_event({"type": None, "object": release("fraud")})
    queue.take()
    await watch.policy_event({"type": "MODIFIED", "object": {"metadata": {"name": "shared"}}})
    assert queue.take() == [CHURN]
    moved = changed(changed(release("churn"), "metadata/generation", 2), "spec/policyRef", {"name": "other"})
    await watch.release_event({"type": "MODIFIED", "object": moved})
    queue.take()
    await watch.policy_event({"type": "DELETED", "object": {"metadata": {"name": "shared"}}})
    assert queue.take() == []
    await watch.policy_event({"type": "ADDED", "object": {"metadata": {"name": "other"}}})
    assert queue.take() == [CHURN]


async def test_a_policy_that_is_or_was_enforced_wakes_everyone(watch: Watch, queue: Queue) -> None:
    await watch.release_event({"type": None, "object": release("churn")})
    await watch.release_event({"type": None, "object": release("fraud")})
    queue.take()
    enforced = {"metadata": {"name": "house"}, "spec": {"enforce": {"namespaceSelector": {}}}}
    await watch.policy_event({"type": "ADDED", "object": enforced})
    assert queue.take() == [CHURN, FRAUD]
    await watch.policy_event({"type": "MODIFIED", "object": {"metadata": {"name": "house"}, "spec": {}}})
    assert queue.take() == [CHURN, FRAUD], "it has just ceased to be enforced"
    await watch.policy_event({"type": "MODIFIED", "object": {"metadata": {"name": "house"}, "spec": {}}})
    assert queue.take() == []


async def test_a_release_wakes_those_that_wait_for_it_when_it_gets_on(queue: Queue, cluster: Cluster) -> None:
    waits = {CHURN: [FRAUD]}
    watch = Watch(
        cast(Kube, cluster), cast(WorkQueue, queue), queue.forgotten.append, followers=lambda key: waits.get(key, [])
    )
    await watch.release_event({"type": None, "object": release("fraud")})
    await watch.release_event({"type": None, "object": release("churn")})
    queue.take()
    counted = changed(release("churn"), "status", {"phase": "Pending", "message": "12 requests"})
    await watch.release_event({"type": "MODIFIED", "object": counted})
    assert queue.take() == [], "counts and texts are nothing to it"
    stable = {"revision": "aa", "rules": "r", "promotedAt": "2026-01-01T00:00:00.000Z"}
    await watch.release_event({"type": "MODIFIED", "object": changed(counted, "status/stable", stable)})
    assert queue.take() == [FRAUD]
    failed = changed(changed(counted, "status/stable", stable), "status/quarantine", [{"key": "bb-r"}])
    await watch.release_event({"type": "MODIFIED", "object": failed})
    assert queue.take() == [FRAUD]
    await watch.release_event({"type": "DELETED", "object": failed})
    assert queue.take() == [FRAUD]


async def test_the_first_list_wakes_everyone_once(watch: Watch, queue: Queue, cluster: Cluster) -> None:
    cluster.objects[MODEL_RELEASE.kind] = [release("churn", policy="shared"), release("fraud")]
    await watch.resync()
    assert queue.take() == [CHURN, FRAUD]
    await watch.release_event({"type": None, "object": release("churn", policy="shared")})
    assert queue.take() == []
    await watch.policy_event({"type": "MODIFIED", "object": {"metadata": {"name": "shared"}}})
    assert queue.take() == [CHURN]


async def test_a_resync_spreads_the_known_and_forgets_the_missing(watch: Watch, queue: Queue, cluster: Cluster) -> None:
    for name in ("churn", "fraud", "gone"):
        await watch.release_event({"type": None, "object": release(name)})
    await watch.child_event({"type": None, "object": deployment()})
    queue.take()
    cluster.objects[MODEL_RELEASE.kind] = [release("churn"), release("fraud")]
    await watch.resync()
    assert queue.due == {CHURN: pytest.approx(50, abs=0.1), FRAUD: pytest.approx(100, abs=0.1)}
    assert queue.take() == []
    assert queue.forgotten == [("crm", "gone")] * 2
    # the Deployment vanished unseen: as soon as it appears again, that is news
    await watch.child_event({"type": "ADDED", "object": deployment()})
    assert queue.take() == [CHURN]


async def test_a_release_created_while_the_list_is_read_is_not_forgotten(
    watch: Watch, queue: Queue, cluster: Cluster
) -> None:
    resync = asyncio.create_task(watch.resync())
    await asyncio.sleep(0)  # the list is under way, without the release
    cluster.objects[MODEL_RELEASE.kind] = [release()]
    await watch.release_event({"type": "ADDED", "object": release()})
    await resync
    assert queue.forgotten == []
