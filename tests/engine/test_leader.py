"""Leader election on virtual time, against a Lease in memory that fails when it is told to."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from typing import Any, cast

import pytest

from modelrelease.clients.kube import AlreadyExists, Conflict, Kind, Kube, KubeError, NotFound, Refused, Unreachable
from modelrelease.engine.leader import Leader

pytestmark = pytest.mark.virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


class LeaseStore:
    """The one Lease of an API server: optimistic concurrency, switchable failures, latency."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.failure: KubeError | None = None
        self.latency_s = 0.0
        self.lose_answers = False
        self._version = 0

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        await self._arrive()
        return copy.deepcopy(self.lease)

    async def create(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        await self._arrive()
        if self.lease is not None:
            raise AlreadyExists("exists")
        self.lease = dict(body)
        return self._store({})

    async def patch(self, kind: Kind, namespace: str | None, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        await self._arrive()
        if self.lease is None:
            raise NotFound("not found")
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("modified")
        stored = self._store(body["spec"])
        if self.lose_answers:
            raise Unreachable("connection reset")
        return stored

    def touch(self) -> None:
        """Somebody labels the Lease."""
        self._store({})

    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])

    def _store(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        assert self.lease is not None
        self._version += 1
        self.lease["spec"] = {**self.lease["spec"], **spec}
        self.lease["metadata"] = {**self.lease["metadata"], "resourceVersion": str(self._version)}
        return copy.deepcopy(self.lease)

    async def _arrive(self) -> None:
        await asyncio.sleep(self.latency_s)
        if self.failure is not None:
            raise self.failure


def leader(store: LeaseStore, identity: str) -> Leader:
    return Leader(cast(Kube, store), "system", "modelrelease", identity)


async def test_the_first_leads_at_once_and_goes_on() -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.acquire()
    assert now() == 0
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(3600)
    assert first.leading
    assert not holding.done()
    assert store.holder() == "first"
    holding.cancel()


async def test_a_second_takes_over_when_the_first_is_gone_and_not_before() -> None:
    store = LeaseStore()
    first, second = leader(store, "first"), leader(store, "second")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(101)
    assert not waiting.done()
    holding.cancel()  # kill -9: nothing is released; the last renewal was at 100 s
    await waiting
    assert 115 < now() <= 100 + 15 + 2 * 2
    assert store.holder() == "second"
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 1


async def test_a_released_lease_is_taken_within_one_retry() -> None:
    store = LeaseStore()
    first, second = leader(store, "first"), leader(store, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(1)
    await first.release()
    assert not first.leading
    await waiting
    assert now() <= 1 + 2


async def test_the_same_pod_restarted_leads_at_once() -> None:
    store = LeaseStore()
    await leader(store, "pod-1").acquire()
    await leader(store, "pod-1").acquire()
    assert now() == 0


async def test_of_two_that_start_together_one_leads() -> None:
    store = LeaseStore()
    store.latency_s = 0.01
    tasks = [asyncio.create_task(leader(store, name).acquire()) for name in ("first", "second")]
    await asyncio.sleep(10)
    assert [task.done() for task in tasks].count(True) == 1
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Unreachable("network"), id="the network is down"),
        pytest.param(Refused("leases is forbidden"), id="the right to write Leases is gone"),
    ],
)
async def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over(failure: KubeError) -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(21)  # last renewed at 20
    store.failure = failure
    assert "not renewed for 10 s" in await holding
    assert now() == 30
    assert not first.leading


async def test_an_outage_shorter_than_the_deadline_is_survived() -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(21)
    store.failure = Unreachable("network")
    await asyncio.sleep(6)
    store.failure = None
    await asyncio.sleep(60)
    assert not holding.done()
    holding.cancel()


async def test_a_request_that_hangs_does_not_outlast_the_deadline() -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(21)
    store.latency_s = 3600
    assert "not renewed" in await holding
    assert now() == 30


async def test_a_renewal_whose_answer_was_lost_is_no_loss() -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(1)
    store.lose_answers = True
    await asyncio.sleep(5)
    store.lose_answers = False
    await asyncio.sleep(60)
    assert not holding.done()
    holding.cancel()


async def test_a_lease_that_somebody_labels_or_deletes_is_kept() -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(1)
    store.touch()
    await asyncio.sleep(10)
    store.lease = None
    await asyncio.sleep(10)
    assert not holding.done()
    assert store.holder() == "first"
    holding.cancel()


async def test_a_leader_that_slept_learns_at_once_that_another_leads() -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.acquire()
    assert store.lease is not None
    store.lease["spec"]["holderIdentity"] = "second"
    store.touch()
    assert await first.hold() == "the Lease is held by second now"
    assert now() == 2


async def test_acquire_waits_out_an_unreachable_api() -> None:
    store = LeaseStore()
    store.failure = Unreachable("network")
    waiting = asyncio.create_task(leader(store, "first").acquire())
    await asyncio.sleep(100)
    assert not waiting.done()
    store.failure = None
    await waiting
    assert now() <= 102


async def test_release_is_bounded_and_harmless() -> None:
    store = LeaseStore()
    first = leader(store, "first")
    await first.release()
    await first.acquire()
    store.latency_s = 3600
    began = now()
    await first.release()
    assert now() - began == 2
    await first.release()


def test_durations_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="retry < renew deadline < lease"):
        Leader(cast(Kube, LeaseStore()), "system", "modelrelease", "x", lease_s=5, renew_deadline_s=10)
