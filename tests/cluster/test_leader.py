"""Leader election with a real Lease on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from e2e.cluster.interface import Cluster
from modelrelease.clients.kube import LEASE, Kube
from modelrelease.engine.leader import Leader


@pytest.fixture
async def client(apiserver: Cluster) -> AsyncIterator[Kube]:
    kube = await Kube.connect(str(apiserver.kubeconfig))
    yield kube
    await kube.close()


def leader(kube: Kube, lease: str, identity: str) -> Leader:
    return Leader(kube, "default", lease, identity, lease_s=1.5, renew_deadline_s=1.0, retry_s=0.2)


async def test_leadership_passes_on_when_it_is_released_and_when_the_leader_dies(client: Kube) -> None:
    lease = f"lease-{uuid4().hex[:8]}"
    first, second, third = (leader(client, lease, name) for name in ("first", "second", "third"))
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(2)
    assert not waiting.done(), "a lease that is renewed is not taken"
    holding.cancel()
    await first.release()
    async with asyncio.timeout(1):
        await waiting
    async with asyncio.timeout(5):
        await third.acquire()  # the second never renews: as if killed
    live = await client.get(LEASE, "default", lease)
    assert live is not None
    assert live["spec"]["holderIdentity"] == "third"
    assert live["spec"]["leaseTransitions"] == 2
    assert await second.hold()
    assert not second.leading


async def test_of_many_that_start_together_exactly_one_leads(client: Kube) -> None:
    lease = f"lease-{uuid4().hex[:8]}"
    claims = [leader(client, lease, f"replica-{number}") for number in range(5)]
    tasks = [asyncio.create_task(claim.acquire()) for claim in claims]
    await asyncio.sleep(1)
    assert sum(task.done() for task in tasks) == 1
    for task in tasks:
        task.cancel()
