"""Outages of Prometheus as the sampler meets them: a real one, and a proxy before it that breaks in seven ways.

Each gives no poll or the right one. What is wrong is said with a reason and with one beginning, and what Prometheus
still holds is counted to the request once it answers again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.fault_proxy import FaultProxy, Mode
from modelrelease.api.reasons import Reason
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import Unavailable
from modelrelease.core.wants import Measure, Queries, SampleWant
from modelrelease.engine.queue import Key
from modelrelease.engine.sampler import Sampler
from modelrelease.presets import Matcher, Selector
from tests.clients.prometheus_server import Pod, Prometheus, pod, prometheus, undisturbed
from tests.clients.remote_write import Sample, write

KEY: Key = ("team", "chat")
GOOD, BAD = 'requests_total{code="200"}', 'requests_total{code="500"}'
REQUESTS, FAILED = Selector("requests_total"), Selector("requests_total", (Matcher("code", "=~", "5.."),))
ERRORS = Measure("errors", (REQUESTS,), bad=((1, FAILED),))
TICK_S, SCRAPE_S = 2.0, 2.0


@pytest.fixture
def pods() -> Iterator[tuple[Pod, Pod]]:
    with pod("s1", "aaaa") as stable, pod("c1", "bbbb") as canary:
        stable.samples, canary.samples = {GOOD: 1000, BAD: 7}, {GOOD: 50, BAD: 1}
        yield stable, canary


@pytest.fixture
def server(tmp_path: Path, pods: tuple[Pod, Pod]) -> Iterator[Prometheus]:
    with prometheus(tmp_path, *pods, scrape_interval_s=SCRAPE_S) as made:
        made.await_scrapes()
        yield made


@pytest.fixture
def proxy(server: Prometheus) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as made:
        yield made


def now() -> datetime:
    return datetime.now(UTC)


def want(*arms: str, measures: tuple[Measure, ...] = (ERRORS,)) -> SampleWant:
    return SampleWant(*KEY, dict.fromkeys(arms or ("aaaa", "bbbb"), measures), now())


async def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def sampling(url: str, timeout_s: float = 5, clock: Callable[[], datetime] = now) -> AsyncIterator[Sampler]:
    """A sampler that runs until the block ends."""
    client = PrometheusClient(PrometheusEndpoint(url), timeout_s=timeout_s)
    sampler = Sampler(client, lambda _: None, clock, tick_s=TICK_S, lag_s=SCRAPE_S)
    running = asyncio.create_task(sampler.run())
    try:
        yield sampler
    finally:
        running.cancel()
        await sampler.close()


def total(sampler: Sampler, revision: str, check: str = "errors") -> Counts:
    found = [count for poll in sampler.samples(KEY).polls for count in poll.counts(revision, check)]
    return Counts(sum(count.total for count in found), sum(count.bad for count in found))


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


OWN = Measure("own", custom=Queries('t_total{pod=~"$(pods)"}', "b_total{pod=~'$(pods)',rev!='$(revision)'}"))


@pytest.mark.parametrize(
    ("total_query", "words"),
    [
        pytest.param("sum(t_total{pod=~'$(pods)'}", "refused a query (HTTP 400)", id="no PromQL"),
        pytest.param("sum(t_total{pod=~'$(pods)'})", "series without the label pod", id="no pod"),
        pytest.param("many_total{pod=~`$(pods)`}", "gave more than 1,000 series", id="too many series"),
    ],
)
@undisturbed
async def test_a_bad_query_of_ones_own_fails_alone(
    server: Prometheus, pods: tuple[Pod, Pod], total_query: str, words: str
) -> None:
    stable, canary = pods
    canary.samples |= {f'many_total{{user="u{number}"}}': 1 for number in range(1100)}
    canary.samples["t_total"] = stable.samples["t_total"] = 100
    seen = [one.scrapes for one in pods]
    await until(lambda: all(one.scrapes > was + 1 for one, was in zip(pods, seen, strict=True)))
    bad = Measure("bad", custom=Queries(total_query, "b_total{pod=~'$(pods)'}"))
    async with sampling(server.url, timeout_s=10) as sampler:
        sampler.want(KEY, want(measures=(ERRORS, OWN, bad)))
        await until(lambda: words in getattr(sampler.samples(KEY).problem, "message", ""))
        await until(lambda: bool(sampler.samples(KEY).polls))
        canary.add("t_total", 8)
        canary.add("b_total", 2)
        canary.add(GOOD, 10)
        await until(lambda: total(sampler, "bbbb", "own") == Counts(8, 2))
        await until(lambda: total(sampler, "bbbb") == Counts(10, 0))
        samples = sampler.samples(KEY)

    assert total(sampler, "bbbb", "bad") == Counts(0, 0)
    assert samples.problem is not None
    assert samples.problem.message.startswith("check bad: its query for total")


@undisturbed
async def test_a_query_of_ones_own_that_hangs_delays_neither_its_release_nor_others(
    server: Prometheus, proxy: FaultProxy, pods: tuple[Pod, Pod]
) -> None:
    other: Key = ("team", "other")
    proxy.only = b"t_total"
    proxy.mode = "hang"
    with pod("o1", "oooo", release="other") as third:
        third.samples = {GOOD: 1}
        server.scrape(*pods, third)
        await until(lambda: third.scrapes > 1)
        async with sampling(proxy.url) as sampler:
            sampler.want(KEY, want(measures=(ERRORS, OWN)))
            sampler.want(other, SampleWant(*other, {"oooo": (ERRORS,)}, datetime.now(UTC)))
            await until(lambda: len(sampler.samples(KEY).polls) >= 2 and len(sampler.samples(other).polls) >= 2)
            pods[1].add(BAD, 6)
            await until(lambda: total(sampler, "bbbb") == Counts(6, 6))
            hanging, healthy = sampler.samples(KEY).problem, sampler.samples(other).problem

    assert healthy is None
    assert hanging is not None
    assert hanging.message.startswith("check own: its query for total: ")
