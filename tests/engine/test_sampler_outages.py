"""Outages of Prometheus as the sampler meets them: a real one, and a proxy before it that breaks in seven ways.

Each gives no poll or the right one. What is wrong is said with a reason and with one beginning, and what Prometheus
still holds is counted to the request once it answers again.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.fault_proxy import FaultProxy, Mode
from modelrelease.api.reasons import Reason
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import Unavailable
from modelrelease.core.wants import SampleWant
from modelrelease.engine.sampler import Sampler
from tests.clients.prometheus_server import Pod, Prometheus, prometheus, undisturbed
from tests.clients.remote_write import Sample, write
from tests.engine.sampling import BAD, ERRORS, GOOD, KEY, TICK_S, sampling, total, until, want

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("mode", "reason", "words"),
    [
        pytest.param("hang", Reason.PROMETHEUS_UNREACHABLE, "", id="hung"),
        pytest.param("refuse", Reason.PROMETHEUS_UNREACHABLE, "", id="nobody listens"),
        pytest.param("error", Reason.PROMETHEUS_ERROR, "HTTP 500", id="status 500"),
        pytest.param("empty", Reason.NO_DATA, "scraped no pod of revision", id="empty answers"),
        pytest.param("nan", Reason.PROMETHEUS_ERROR, "NaN", id="NaN"),
        pytest.param("partial", Reason.PROMETHEUS_ERROR, "not whole", id="partial answers"),
    ],
)
@undisturbed
async def test_an_outage_makes_no_poll_and_loses_none(
    server: Prometheus, proxy: FaultProxy, pods: tuple[Pod, Pod], mode: Mode, reason: Reason, words: str
) -> None:
    stable, canary = pods
    proxy.mode = "pass"
    async with sampling(proxy.url) as sampler:
        sampler.want(KEY, want())
        await until(lambda: len(sampler.samples(KEY).polls) >= 2)
        stable.add(GOOD, 40)
        await until(lambda: total(sampler, "aaaa") == Counts(40, 0) and sampler.samples(KEY).problem is None)

        proxy.mode = mode
        await until(lambda: sampler.samples(KEY).problem is not None)
        first, polls = sampler.samples(KEY).problem, sampler.samples(KEY).polls
        stable.add(GOOD, 90)
        canary.add(GOOD, 9)
        canary.add(BAD, 1)
        asked = proxy.requests
        if mode == "refuse":
            await asyncio.sleep(3 * TICK_S)
        else:
            await until(lambda: proxy.requests > asked + 1)  # it goes on asking
        during = sampler.samples(KEY)

        proxy.mode = "pass"
        await until(lambda: sampler.samples(KEY).problem is None)
        await until(lambda: total(sampler, "aaaa").total >= 130 and total(sampler, "bbbb").total >= 10)
        found = total(sampler, "aaaa"), total(sampler, "bbbb")

    assert first is not None
    assert first.reason == reason
    assert words in first.message
    assert during.problem == first, "the same words and the same beginning, however long it lasts"
    assert during.polls == polls
    assert found == (Counts(130, 0), Counts(10, 1))


@undisturbed
async def test_an_outage_has_one_beginning_however_it_shows_itself(server: Prometheus, proxy: FaultProxy) -> None:
    proxy.mode = "pass"
    async with sampling(proxy.url) as sampler:
        sampler.want(KEY, want())
        await until(lambda: bool(sampler.samples(KEY).polls))
        seen: list[Unavailable] = []
        modes: tuple[tuple[Mode, Reason], ...] = (
            ("error", Reason.PROMETHEUS_ERROR),
            ("hang", Reason.PROMETHEUS_UNREACHABLE),
            ("partial", Reason.PROMETHEUS_ERROR),
        )
        for mode, reason in modes:
            proxy.mode = mode
            await until(functools.partial(_shows, sampler, reason))
            problem = sampler.samples(KEY).problem
            assert problem is not None
            seen.append(problem)

    assert len({problem.since for problem in seen}) == 1
    assert len({problem.message for problem in seen}) == 3


def _shows(sampler: Sampler, reason: Reason) -> bool:
    return _reason(sampler) == reason


def _reason(sampler: Sampler) -> Reason | None:
    problem = sampler.samples(KEY).problem
    return problem.reason if problem is not None else None


@undisturbed
async def test_a_prometheus_that_was_stopped_leaves_a_gap_that_counts_once(
    server: Prometheus, pods: tuple[Pod, Pod]
) -> None:
    """What pods counted meanwhile is in their counters: one interval holds the outage, for both arms alike."""
    stable, canary = pods
    async with sampling(server.url) as sampler:
        sampler.want(KEY, want())
        await until(lambda: bool(sampler.samples(KEY).polls))
        await asyncio.to_thread(server.kill)
        await until(lambda: _reason(sampler) == Reason.PROMETHEUS_UNREACHABLE)
        since = sampler.samples(KEY).problem
        stable.add(GOOD, 400)
        canary.add(GOOD, 40)
        await asyncio.sleep(2 * TICK_S)
        assert sampler.samples(KEY).problem == since
        await asyncio.to_thread(server.start)
        await until(lambda: total(sampler, "aaaa") == Counts(400, 0) and total(sampler, "bbbb") == Counts(40, 0))
        await until(lambda: sampler.samples(KEY).problem is None)


def stored(server: Prometheus, at: datetime, pods: tuple[Pod, Pod]) -> None:
    """Store what a scrape of both pods at this time would have stored."""
    for one in pods:
        target = {"namespace": one.namespace, "pod": one.name, "instance": one.name}
        target |= {"modelrelease_dev_name": one.release, "modelrelease_dev_revision": one.revision}
        found: dict[str, tuple[dict[str, str], float]] = {"up": ({}, 1.0)}
        found |= {code: ({"code": code}, one.samples[f'requests_total{{code="{code}"}}']) for code in ("200", "500")}
        series = [
            (
                {"__name__": "up" if name == "up" else "requests_total", **target, **labels},
                [Sample(at.timestamp(), value)],
            )
            for name, (labels, value) in found.items()
        ]
        write(server.url, series)


async def test_a_prometheus_that_lost_its_data_counts_what_is_known_at_both_ends(
    tmp_path: Path, pods: tuple[Pod, Pod]
) -> None:
    """Scrapes are stored by the test: in which order a new Prometheus comes to know its pods is left to no chance."""
    stable, canary = pods
    tick = timedelta(seconds=TICK_S)
    began = datetime.fromtimestamp(time.time() // TICK_S * TICK_S - 60, UTC)
    clock = [began + 2 * tick]
    with prometheus(tmp_path, flags=("--web.enable-remote-write-receiver",)) as server:
        stored(server, began - tick / 2, pods)
        stored(server, began + tick / 2, pods)
        async with (
            sampling(server.url, clock=lambda: clock[0]) as sampler,
            sampling(server.url, clock=lambda: clock[0]) as late,
        ):
            wanted = SampleWant(*KEY, dict.fromkeys(("aaaa", "bbbb"), (ERRORS,)), began)
            sampler.want(KEY, wanted)
            await until(lambda: [poll.at for poll in sampler.samples(KEY).polls] == [began + tick])
            await asyncio.to_thread(server.kill)
            shutil.rmtree(tmp_path / "data")
            stable.add(GOOD, 30)
            canary.add(BAD, 3)
            await asyncio.to_thread(server.start)
            stored(server, began + 4.5 * tick, pods)
            clock[0] = began + 6 * tick
            await until(lambda: total(sampler, "aaaa") == Counts(30, 0) and total(sampler, "bbbb") == Counts(3, 3))

            late.want(KEY, wanted)  # a new leader cannot know what was before: it counts nothing of it
            stable.add(GOOD, 5)
            stored(server, began + 5.5 * tick, pods)
            clock[0] = began + 7 * tick
            await until(lambda: total(late, "aaaa").total > 0)
            assert total(late, "aaaa") == Counts(5, 0)
            assert total(late, "bbbb") == Counts(0, 0)


@undisturbed
async def test_a_counter_that_is_nan_tells_nothing_until_it_was_a_number_at_both_ends(
    server: Prometheus, pods: tuple[Pod, Pod]
) -> None:
    canary = pods[1]
    async with sampling(server.url) as sampler:
        sampler.want(KEY, want())
        await until(lambda: bool(sampler.samples(KEY).polls))
        canary.samples[GOOD] = float("nan")
        await until(lambda: "give NaN for requests_total" in getattr(sampler.samples(KEY).problem, "message", ""))
        canary.samples[GOOD] = 5000
        await until(lambda: sampler.samples(KEY).problem is None)
        seen = len(sampler.samples(KEY).polls)
        await until(lambda: len(sampler.samples(KEY).polls) > seen + 1)
        canary.add(GOOD, 3)
        await until(lambda: total(sampler, "bbbb").total > 0)
        assert total(sampler, "bbbb") == Counts(3, 0)
        assert total(sampler, "aaaa") == Counts(0, 0)
