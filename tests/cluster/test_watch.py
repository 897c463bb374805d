"""The watches of kopf on a real API server: that they wake, write nothing, and see every edit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from e2e.cluster.interface import Cluster
from modelrelease.clients.kube import DEPLOYMENT, HTTP_ROUTE, MODEL_RELEASE, RELEASE_POLICY, Kind, Kube
from modelrelease.engine.queue import Key, WorkQueue
from modelrelease.engine.watch import NEEDED, Watch

NAMESPACE = Kind("v1", "namespaces", False, "Namespace")
CRD = Kind("apiextensions.k8s.io/v1", "customresourcedefinitions", False, "CustomResourceDefinition")
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def client(apiserver: Cluster) -> AsyncIterator[Kube]:
    kube = await Kube.connect(str(apiserver.kubeconfig))
    yield kube
    await kube.close()


def crd(group: str, kind: str, plural: str) -> dict[str, Any]:
    """A kind without a schema: as much as a watch needs to see."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": CRD.api_version,
        "kind": CRD.kind,
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.fixture
async def namespace(apiserver: Cluster, client: Kube) -> str:
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    if not await client.served(HTTP_ROUTE):
        await client.create(CRD, None, crd(HTTP_ROUTE.group, HTTP_ROUTE.kind, HTTP_ROUTE.plural))
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    name = f"watch-{uuid4().hex[:8]}"
    await client.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def release(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": MODEL_RELEASE.api_version,
        "kind": MODEL_RELEASE.kind,
        "metadata": {"name": name},
        "spec": {
            "model": {"name": "churn", "version": 7},
            "traffic": {"gateway": {"parentRefs": [{"name": "edge"}]}},
            "workload": {"template": {"spec": {"containers": [{"name": "server", "image": "example.test/sk:1"}]}}},
            **spec,
        },
    }


def child(release: str) -> dict[str, Any]:
    labels = {"modelrelease.dev/name": release}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "server", "image": "x"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{release}-x", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


class Passes:
    """Counts passes by key instead of working."""

    def __init__(self) -> None:
        self.counts: dict[Key, int] = {}
        self.forgotten: list[Key] = []

    async def __call__(self, key: Key) -> float | None:
        self.counts[key] = self.counts.get(key, 0) + 1
        return None

    async def after(self, key: Key, change: Callable[[], Any], expected: bool = True) -> None:
        """Make a change and see whether it wakes the key."""
        before = self.counts.get(key, 0)
        await change()
        for _ in range(50 if expected else 10):
            await asyncio.sleep(0.05)
            if expected and self.counts.get(key, 0) > before:
                return
        assert (self.counts.get(key, 0) > before) is expected


async def test_watch_wakes_for_what_matters_and_writes_nothing(client: Kube, namespace: str) -> None:
    passes = Passes()
    queue = WorkQueue(passes)
    watch = Watch(client, queue, passes.forgotten.append, namespace=namespace)
    early, late, policy = (namespace, "early"), (namespace, "late"), f"policy-{namespace}"
    created = await client.create(MODEL_RELEASE, namespace, release("early", policyRef={"name": policy}))
    working = asyncio.create_task(queue.run())
    watching = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(20):
            while watch.problem() is not None:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert passes.counts == {early: 1}

        await passes.after(late, lambda: client.create(MODEL_RELEASE, namespace, release("late")))
        status = {"phase": "Pending", "message": "written by the operator"}
        version = created["metadata"]["resourceVersion"]
        await passes.after(
            early, lambda: client.patch_status(MODEL_RELEASE, namespace, "early", status, version), expected=False
        )
        suspend = {"spec": {"suspend": True}}
        await passes.after(early, lambda: client.patch(MODEL_RELEASE, namespace, "early", suspend))
        command = {"metadata": {"annotations": {"modelrelease.dev/command": "abort@a-1"}}}
        await passes.after(early, lambda: client.patch(MODEL_RELEASE, namespace, "early", command))

        await passes.after(early, lambda: client.create(DEPLOYMENT, namespace, child("early")))
        scale = {"spec": {"replicas": 5}}
        await passes.after(early, lambda: client.patch(DEPLOYMENT, namespace, "early-x", scale))
        await passes.after(late, lambda: client.patch(DEPLOYMENT, namespace, "early-x", scale), expected=False)

        body = {
            "apiVersion": RELEASE_POLICY.api_version,
            "kind": RELEASE_POLICY.kind,
            "metadata": {"name": policy},
            "spec": {"gates": [{"name": "auc", "metric": {"name": "auc", "min": 0.9}}]},
        }
        await passes.after(early, lambda: client.create(RELEASE_POLICY, None, body))

        live = await client.get(MODEL_RELEASE, namespace, "early")
        assert live is not None
        assert "finalizers" not in live["metadata"]
        assert set(live["metadata"]["annotations"]) == {"modelrelease.dev/command"}
        managers = {entry["manager"] for entry in live["metadata"]["managedFields"]}
        assert managers == {"modelrelease"}  # the test's own client; kopf wrote nothing

        uid = live["metadata"]["uid"]
        await client.delete(MODEL_RELEASE, namespace, "early", uid=uid)
        async with asyncio.timeout(5):
            while early not in passes.forgotten:
                await asyncio.sleep(0.05)
    finally:
        queue.drain()
        await working
        watch.stop()
        async with asyncio.timeout(20):
            await watching


async def test_watch_waits_for_the_crds_and_says_so(
    client: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Kind(f"{namespace}.example.test/v1", "widgets", True, "Widget")
    monkeypatch.setattr("modelrelease.engine.watch.NEEDED", (*NEEDED, late))
    monkeypatch.setattr("modelrelease.engine.watch.LOOK_AGAIN_S", 0.2)
    watch = Watch(client, WorkQueue(Passes()), lambda key: None, namespace=namespace)
    watching = asyncio.create_task(watch.run())
    try:
        await asyncio.sleep(1)
        assert watch.problem() == f"not installed in this cluster: the CRDs widgets.{late.group}"
        await client.create(CRD, None, crd(late.group, late.kind, late.plural))
        async with asyncio.timeout(30):
            while watch.problem() is not None:
                await asyncio.sleep(0.1)
    finally:
        watch.stop()
        await watching
