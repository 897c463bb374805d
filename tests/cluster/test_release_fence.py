"""Two leaders, stalls, stale reads and a crash after every single write: the outcome is always the same."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.kube import (
    EVENT,
    HTTP_ROUTE,
    MODEL_RELEASE,
    Conflict,
)
from modelrelease.core.render import Child
from modelrelease.engine.apply import Applier, Fenced
from modelrelease.engine.observe import Live
from modelrelease.engine.reconcile import FENCED_AGAIN_S
from tests.cluster.stage import NAME, Process, Request, Stage, condition


class Crash(BaseException):
    """The process ends here."""


class Stall:
    """Holds the first write of a kind until it is let go; `reached` is set when it is held."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Request) -> None:
        if request.what == self._what and not self.reached.is_set() and request.writes:
            self.reached.set()
            await self.go_on.wait()


def has_traffic(status: ModelReleaseStatus) -> bool:
    return status.traffic is not None and status.traffic.confirmed_at is not None and status.traffic.b == 20


@pytest.fixture
async def serving(stage: Stage) -> Stage:
    await stage.release()
    await stage.promoted(1)
    return stage


# -- stale reads ------------------------------------------------------------------------------------------------------
async def test_a_status_that_changed_since_it_was_read_is_read_and_decided_again_at_once(serving: Stage) -> None:
    await serving.want_version(2)
    meddled: list[Request] = []

    async def meddle(request: Request) -> None:
        if request.what == "patch ModelRelease" and len(meddled) < 2:
            meddled.append(request)
            await serving.admin.patch(
                MODEL_RELEASE, serving.namespace, NAME, {"metadata": {"labels": {"n": str(len(meddled))}}}
            )

    kube = serving.operator.kube
    kube.before = meddle
    kube.requests.clear()
    await serving.operator.reconciler(serving.key)

    assert len(meddled) == 2
    reads = [request.what for request in kube.requests]
    assert reads.count("get ModelRelease") == 3
    assert (await serving.status()).phase == "Gating"


async def test_a_release_that_never_holds_still_is_left_for_a_while(serving: Stage) -> None:
    await serving.want_version(2)
    number = itertools.count()

    async def meddle(request: Request) -> None:
        if request.what == "patch ModelRelease":
            label = {"metadata": {"labels": {"n": str(next(number))}}}
            await serving.admin.patch(MODEL_RELEASE, serving.namespace, NAME, label)

    serving.operator.kube.before = meddle
    with pytest.raises(Conflict, match="kept changing while it was being worked"):
        await serving.operator.reconciler(serving.key)
    serving.operator.kube.before = None
    await serving.promoted(2)


async def test_a_child_that_changed_since_it_was_read_is_read_and_decided_again(serving: Stage) -> None:
    route = await serving.live(HTTP_ROUTE)
    rules = json.loads(json.dumps(route["spec"]["rules"]))
    rules[0]["backendRefs"][0]["weight"] = 1
    await serving.admin.patch(HTTP_ROUTE, serving.namespace, NAME, {"spec": {"rules": rules}})
    meddled: list[Request] = []

    async def meddle(request: Request) -> None:
        if request.what == "patch HTTPRoute" and not meddled:
            meddled.append(request)
            rules[0]["backendRefs"][0]["weight"] = 2
            await serving.admin.patch(HTTP_ROUTE, serving.namespace, NAME, {"spec": {"rules": rules}})

    serving.operator.kube.before = meddle
    await serving.operator.reconciler(serving.key)
    assert await serving.weights() == (100, 0)


# -- the fence --------------------------------------------------------------------------------------------------------
async def test_a_child_written_under_a_later_decision_fences_the_writer(serving: Stage) -> None:
    route = await serving.live(HTTP_ROUTE)
    body = {"metadata": {"annotations": {"modelrelease.dev/sequence": "1000"}}}
    route = await serving.admin.patch(HTTP_ROUTE, serving.namespace, NAME, body)
    release, status = await serving.live(MODEL_RELEASE), await serving.status()
    live = Live(release, {("HTTPRoute", NAME): route}, ())
    spec = json.loads(json.dumps(route["spec"]))
    spec["rules"][0]["backendRefs"][0]["weight"] = 7

    with pytest.raises(Fenced, match="HTTPRoute churn was written under a later decision"):
        await Applier(serving.operator.kube).apply(
            live, [Child("HTTPRoute", NAME, {"metadata": {"name": NAME}, "spec": spec})], status
        )
    assert await serving.weights() == (100, 0)


async def test_a_status_restored_from_an_old_backup_goes_on_behind_its_children(serving: Stage) -> None:
    body = {"metadata": {"annotations": {"modelrelease.dev/sequence": "1000"}}}
    await serving.admin.patch(HTTP_ROUTE, serving.namespace, NAME, body)
    await serving.want_version(2)
    await serving.promoted(2)
    assert (await serving.status()).sequence > 1000


@pytest.mark.parametrize("what", ["patch HTTPRoute", "patch Deployment", "patch Service"])
async def test_a_leader_that_stalls_before_a_write_cannot_undo_its_successor(serving: Stage, what: str) -> None:
    """It decides to start or raise version 2 and sleeps; the other one rolls version 2 out meanwhile."""
    stalled = serving.operator
    stall = Stall(what)
    stalled.kube.before = stall
    await serving.want_version(2)
    asleep = None
    for _ in range(30):
        asleep = asyncio.create_task(stalled.reconciler(serving.key))
        reached = asyncio.create_task(stall.reached.wait())
        await asyncio.wait({asleep, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if stall.reached.is_set():
            break
        await asleep
        await stalled.read_registry()
        await serving.play()
        serving.clock.skip(2.1)
    assert stall.reached.is_set()
    assert asleep is not None

    await serving.process()
    await serving.promoted(2)
    before = await state(serving)
    stall.go_on.set()
    again = await asleep
    assert again in (None, FENCED_AGAIN_S)
    assert await state(serving) == before


async def test_a_leader_that_stalls_before_it_creates_cannot_undo_its_successor(stage: Stage) -> None:
    """Nothing was there to carry a resourceVersion: a creation fails where the object exists by then."""
    stalled = stage.operator
    stall = Stall("patch HTTPRoute")
    stalled.kube.before = stall
    await stage.release()
    asleep = asyncio.create_task(first_write(stage, stalled))
    await stall.reached.wait()
    await stage.process()
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.until(has_traffic)
    before = await state(stage)
    stall.go_on.set()
    await asleep
    stalled.kube.before = None
    assert await stage.weights() == (80, 20)
    assert await state(stage) == before
    await stage.promoted(2)


async def test_a_leader_that_stalls_before_a_raise_cannot_raise_after_the_traffic_was_sent_back(serving: Stage) -> None:
    """The successor finds the route as it should be, since the raise was never written."""
    stalled = serving.operator
    stalled.kube.before = stall = Stall("patch HTTPRoute")
    await serving.want_version(2)
    asleep = asyncio.create_task(first_write(serving, stalled))
    await stall.reached.wait()
    assert (await serving.weights(), (await serving.status()).summary.weight) == ((100, 0), "20%")
    await serving.process()
    await serving.want_version(1)
    await serving.promoted(1)
    stall.go_on.set()
    await asleep
    assert await serving.weights() == (100, 0)


async def first_write(stage: Stage, process: Process) -> None:
    while not process.kube.before.reached.is_set():  # type: ignore[union-attr]
        await process.reconciler(stage.key)
        await process.read_registry()
        await stage.play()
        stage.clock.skip(2.1)


async def test_two_leaders_at_once_never_exceed_the_status_and_end_equal(serving: Stage) -> None:
    first, second = serving.operator, await serving.process()
    allowed: list[int] = [0]
    seen: list[tuple[int, int]] = []

    async def watch(request: Request) -> None:
        if request.what == "patch ModelRelease":
            traffic = (await serving.status()).traffic
            allowed.append(traffic.b if traffic else 0)
        if request.what == "patch HTTPRoute":
            seen.append(((await serving.weights())[1], max(allowed)))

    first.kube.after = second.kube.after = watch
    await serving.want_version(2)
    for _ in range(60):
        results = await asyncio.gather(
            *(process.reconciler(serving.key) for process in (first, second)), return_exceptions=True
        )
        assert not [
            result for result in results if isinstance(result, BaseException) and not isinstance(result, Conflict)
        ]
        await asyncio.gather(first.read_registry(), second.read_registry(), serving.play())
        serving.clock.skip(2)
        if (await serving.status()).phase == "Promoted" and (await serving.status()).summary.serving == "2 2/2":
            break
    status = await serving.promoted(2)
    assert seen
    assert all(live <= most for live, most in seen)
    assert [entry.version for entry in status.history] == ["2", "1"]
    assert condition(status, "Ready") == ("True", "Promoted")
    assert await serving.weights() == (0, 100)
    told = [event["note"] for event in await serving.events() if event["reason"] == "WeightChanged"]
    assert len(told) == len(set(told)) == 3, "and each change was told once"


# -- crashes ----------------------------------------------------------------------------------------------------------
async def test_a_crash_after_any_write_changes_nothing_but_time(stage: Stage) -> None:
    """Two rollouts in which every pass ends at its first write, then two at its second."""
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    smooth = await stage.promoted(2)
    expected = await state(stage)
    kinds = set(stage.operator.kube.writes())

    crashes: set[str] = set()
    for number in (1, 2):
        await restart_from_nothing(stage)
        crashes |= await crash_until_promoted(stage, 1, number)
        await stage.want_version(2)
        crashes |= await crash_until_promoted(stage, 2, number)
        status = await stage.rest()
        assert (status.phase, status.message) == (smooth.phase, smooth.message)
        assert await state(stage) == expected
        notes = [event["note"] for event in await stage.events()]
        assert len(notes) == len(set(notes)), "an Event that was posted is not posted again"
    assert crashes == kinds, "it ended at a write of every kind"


async def crash_until_promoted(stage: Stage, version: int, number: int) -> set[str]:
    """Work with a process that ends at this write of every pass, and then another; returns what it ended at."""
    crashes: set[str] = set()
    for _ in range(100):
        writes = itertools.count(1)

        async def crash(request: Request, writes: Iterator[int] = writes) -> None:
            if request.writes and next(writes) == number:
                crashes.add(request.what)
                raise Crash

        stage.operator.kube.after = crash
        try:
            await stage.work()
        except Crash:
            await stage.process()
        await stage.play()
        stage.clock.skip(3)
        status = await stage.status()
        drained = status.previous is None or status.previous.drained_at is not None
        if status.phase == "Promoted" and status.summary.serving == f"{version} 2/2" and drained:
            stage.operator.kube.after = None
            return crashes
    raise AssertionError(f"it ends in {status.phase}: {status.message}")


async def restart_from_nothing(stage: Stage) -> None:
    """Delete the release and, as the garbage collector would, all that belongs to it; create it anew."""
    await stage.delete()
    for event in await stage.all(EVENT):
        await stage.admin.delete(EVENT, stage.namespace, event["metadata"]["name"], uid=event["metadata"]["uid"])
    await stage.play()
    await stage.process()
    await stage.release()


_TIME = re.compile(r"\d{4}-?\d\d-?\d\dT[\d:.]+Z")


async def state(stage: Stage) -> dict[str, Any]:
    """Children and status without times, uids and what counts writes."""
    status = (await stage.live(MODEL_RELEASE)).get("status")
    items = {
        f"{item['kind']} {item['metadata']['name']}": [
            item["metadata"].get("labels"),
            {
                key: value
                for key, value in (item.get("spec") or item["data"]).items()
                if not key.startswith("clusterIP")
            },
        ]
        for item in [*await stage.children(), *await stage.records()]
    }
    text = _TIME.sub("", json.dumps({"status": status, **items}, sort_keys=True))
    # How many requests were counted is a matter of time.
    text = re.sub(r'"(bad|total|rate|allowed|detectable|evidencePercent)": [\d.]+', r'"\1": 0', text)
    text = re.sub(r"[\d.]+% \([\d,]+ of [\d,]+\)|evidence \d+ %", "", text)
    text = re.sub(r'"(sequence|observedGeneration|waitedSeconds)": [\d.]+', r'"\1": 0', text)
    found: dict[str, Any] = json.loads(text)
    return found
