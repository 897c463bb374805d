"""The operator's whole process against a real API server: start, probes, failover, and every way to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from e2e.cluster.interface import Cluster
from modelrelease.clients.kube import HTTP_ROUTE, LEASE, MODEL_RELEASE, Kind, Kube
from tests.cluster.test_watch import CRD, NAMESPACE, crd, release

ROOT = Path(__file__).parents[2]
POD_MONITOR = Kind("monitoring.coreos.com/v1", "podmonitors", True, "PodMonitor")


@pytest.fixture
async def client(apiserver: Cluster) -> AsyncIterator[Kube]:
    kube = await Kube.connect(str(apiserver.kubeconfig))
    yield kube
    await kube.close()


@dataclass
class Process:
    """One running operator. Its log lines are read as they come."""

    process: asyncio.subprocess.Process
    url: str
    lines: list[dict[str, Any]]

    async def leads(self) -> bool:
        """It leads and knows all releases."""
        return await self.probe("/readyz") == 200 and await self.metric("modelrelease_leader") == 1

    async def probe(self, path: str) -> int:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async def metric(self, name: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(self.url + "/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def said(self, words: str) -> bool:
        return any(words in line["message"] for line in self.lines)


Start = Callable[..., Any]


@pytest.fixture
async def lease(client: Kube, apiserver: Cluster) -> str:
    """Name of a namespace of the test's own, and of the Lease in it."""
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    for kind in (HTTP_ROUTE, POD_MONITOR):
        if not await client.served(kind):
            await client.create(CRD, None, crd(kind.group, kind.kind, kind.plural))
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    name = f"main-{uuid4().hex[:8]}"
    await client.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
async def start(apiserver: Cluster, lease: str) -> AsyncIterator[Start]:
    """Starts an operator for the namespace; all that still run are killed in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**environment: str) -> Process:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "modelrelease",
                stderr=asyncio.subprocess.PIPE,
                env={
                    "PATH": os.environ["PATH"],
                    "MODELRELEASE_REGISTRY_URL": "http://127.0.0.1:1",
                    "MODELRELEASE_PROMETHEUS_URL": "http://127.0.0.1:1",
                    "MODELRELEASE_KUBECONFIG": str(apiserver.kubeconfig),
                    "MODELRELEASE_NAMESPACE": lease,
                    "MODELRELEASE_LEASE_NAMESPACE": lease,
                    "MODELRELEASE_PORT": str(port),
                    **environment,
                },
            )
            started = Process(process, f"http://127.0.0.1:{port}", [])
            reading = asyncio.create_task(_read(process, started.lines))
            stack.push_async_callback(_end, process, reading)
            return started

        yield start


async def _read(process: asyncio.subprocess.Process, lines: list[dict[str, Any]]) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        print(line.decode(), end="")  # pytest shows it when a test fails
        lines.append(json.loads(line))


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
    await reading


async def until(condition: Callable[[], Any], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.1)


async def holder(client: Kube, lease: str) -> str:
    live = await client.get(LEASE, lease, "modelrelease")
    return str(live["spec"].get("holderIdentity", "")) if live else ""


async def test_a_release_is_worked_and_sigterm_drains_and_gives_the_lease_back(
    start: Start, client: Kube, lease: str
) -> None:
    operator = await start(MODELRELEASE_IDENTITY="first")
    await until(operator.leads, 40)
    assert await operator.probe("/healthz") == 200
    assert await holder(client, lease) == "first"
    await client.create(MODEL_RELEASE, lease, release("churn"))

    async def worked() -> bool:
        live = await client.get(MODEL_RELEASE, lease, "churn")
        return bool(live and live.get("status", {}).get("observedGeneration") == 1)

    await until(worked)
    assert await operator.metric("modelrelease_leader") == 1
    assert await operator.metric('modelrelease_reconcile_total{result="ok"}') >= 1
    began = asyncio.get_running_loop().time()
    operator.process.send_signal(signal.SIGTERM)
    assert await operator.process.wait() == 0
    assert asyncio.get_running_loop().time() - began < 20
    assert await holder(client, lease) == ""
    assert operator.said("ended")
    assert [line for line in operator.lines if "traceback" in line] == []


async def test_a_standby_is_ready_and_takes_over_when_the_leader_is_killed(
    start: Start, client: Kube, lease: str
) -> None:
    first = await start(MODELRELEASE_IDENTITY="first")
    await until(first.leads, 40)
    second = await start(MODELRELEASE_IDENTITY="second")
    await until(lambda: second.said("standing by: held by first"), 40)
    assert await second.probe("/readyz") == 200
    assert await second.metric("modelrelease_leader") == 0
    first.process.kill()
    await until(second.leads, 40)
    assert await holder(client, lease) == "second"
    second.process.send_signal(signal.SIGTERM)
    assert await second.process.wait() == 0


async def test_a_standby_that_is_stopped_ends_at_once(start: Start, client: Kube, lease: str) -> None:
    body = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": "modelrelease"},
        "spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600},
    }
    await client.create(LEASE, lease, body)
    standby = await start()
    await until(lambda: standby.said("standing by: held by another"), 40)
    standby.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        assert await standby.process.wait() == 0
    assert await holder(client, lease) == "another"


async def test_a_leader_that_loses_the_lease_ends_at_once(start: Start, client: Kube, lease: str) -> None:
    operator = await start()
    await until(operator.leads, 40)
    await client.patch(LEASE, lease, "modelrelease", {"spec": {"holderIdentity": "another"}})
    async with asyncio.timeout(10):
        assert await operator.process.wait() == 1
    assert operator.said("the Lease is lost: the Lease is held by another now")
    assert await holder(client, lease) == "another"


async def test_a_setting_that_cannot_be_used_is_one_line(start: Start) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelrelease", stderr=asyncio.subprocess.PIPE, env={"KUBERNETES_SERVICE_HOST": "x"}
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode() == "modelrelease: MODELRELEASE_REGISTRY_URL: not set; for example http://host:port\n"
