"""engine.sampler against a real Prometheus that scrapes pods whose counters the test decides.

The clock is the real one, the grid is fine: Prometheus scrapes twice a second, polls end every second and are read a
while later, so that on a busy machine, too, all scrapes before them are stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint, Series
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import Poll, Unavailable
from modelrelease.core.wants import Measure, SampleWant
from modelrelease.engine.queue import Key
from modelrelease.engine.sampler import Sampler
from modelrelease.presets import Selector
from tests.clients.prometheus_server import Pod, Prometheus, pod, prometheus, undisturbed
from tests.engine.sampling import BAD, ERRORS, GOOD, KEY, now, until

pytestmark = pytest.mark.long

SLOW = Measure("slow", (Selector("seconds"),), slower_than_s=(0.5,))
TICK_S, SCRAPE_S, LAG_S = 1.0, 0.5, 1.5


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back as fast as it goes."""
    monkeypatch.setattr("modelrelease.engine.sampler.CATCH_UP_PAUSE_S", 0)


def want(since: datetime, *arms: str, measures: tuple[Measure, ...] = (ERRORS,), key: Key = KEY) -> SampleWant:
    return SampleWant(*key, dict.fromkeys(arms, measures), since)


@contextlib.asynccontextmanager
async def sampling(
    url: str, *, wake: Callable[[Key], None] = lambda _: None, clock: Callable[[], datetime] = now, timeout_s: float = 5
) -> AsyncIterator[Sampler]:
    """A sampler that runs until the block ends."""
    client = PrometheusClient(PrometheusEndpoint(url), timeout_s=timeout_s)
    sampler = Sampler(client, wake, clock, tick_s=TICK_S, lag_s=LAG_S)
    running = asyncio.create_task(sampler.run())
    try:
        yield sampler
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await sampler.close()


async def polls_after(url: str, wanted: SampleWant, last: datetime) -> tuple[Poll, ...]:
    """What a new leader makes of the time from `since` to the grid point `last`."""
    end = last + timedelta(seconds=LAG_S + 0.01)
    async with sampling(url, clock=lambda: end) as sampler:
        sampler.want(KEY, wanted)
        await until(lambda: bool(sampler.samples(KEY).polls) and sampler.samples(KEY).polls[-1].at >= last)
        return sampler.samples(KEY).polls


def total(polls: tuple[Poll, ...], revision: str, check: str = "errors") -> Counts:
    found = [count for poll in polls for count in poll.counts(revision, check)]
    return Counts(sum(count.total for count in found), sum(count.bad for count in found))


@pytest.fixture
def stable() -> Iterator[Pod]:
    with pod("s1", "aaaa") as made:
        made.samples = {GOOD: 1000, BAD: 7}
        yield made


@pytest.fixture
def canary() -> Iterator[Pod]:
    with pod("c1", "bbbb") as made:
        made.samples = {GOOD: 5}
        yield made


@pytest.fixture
def server(tmp_path: Path, stable: Pod, canary: Pod) -> Iterator[Prometheus]:
    with prometheus(tmp_path, stable, canary, scrape_interval_s=SCRAPE_S) as made:
        made.await_scrapes()
        yield made


async def scraped(*pods: Pod) -> None:
    """Wait until each pod was scraped once more from now, and a little longer so that it is stored."""
    before = [pod.scrapes for pod in pods]
    await until(lambda: all(pod.scrapes > was + 1 for pod, was in zip(pods, before, strict=True)))


@undisturbed
async def test_requests_of_both_arms_are_counted_exactly(server: Prometheus, stable: Pod, canary: Pod) -> None:
    await scraped(stable, canary)
    woken: list[Key] = []
    async with sampling(server.url, wake=woken.append) as sampler:
        sampler.want(KEY, want(now(), "aaaa", "bbbb"))
        await until(lambda: bool(sampler.samples(KEY).polls))
        for _ in range(8):
            stable.add(GOOD, 9)
            canary.add(GOOD, 2)
            canary.add(BAD)  # the series is born with its first error
            await asyncio.sleep(0.2)
        # either arm's last scrape may come after a grid point that the other's came before
        wanted = {"aaaa": Counts(72, 0), "bbbb": Counts(24, 8)}
        await until(lambda: all(total(sampler.samples(KEY).polls, arm) == counts for arm, counts in wanted.items()))
        await until(lambda: sampler.samples(KEY).problem is None)
        samples = sampler.samples(KEY)

    assert {arm: total(samples.polls, arm) for arm in wanted} == wanted
    assert [poll.at.timestamp() % TICK_S for poll in samples.polls] == [0] * len(samples.polls)
    assert set(woken) == {KEY}


@undisturbed
async def test_any_leader_gets_the_same_polls(tmp_path: Path, server: Prometheus, stable: Pod, canary: Pod) -> None:
    """A history with everything in it, sampled live and read back from every poll that could be a checkpoint."""
    await scraped(stable, canary)
    with pod("s2", "aaaa") as second, pod("c2", "bbbb") as late:
        second.samples = {GOOD: 50}
        server.scrape(stable, canary, second)
        await scraped(stable, canary, second)
        async with sampling(server.url) as sampler:
            began = now()
            sampler.want(KEY, want(began, "aaaa", "bbbb"))

            async def traffic(seconds: float) -> None:
                for _ in range(round(seconds / 0.1)):
                    for one in (stable, canary, second, late):
                        one.add(GOOD)
                    await asyncio.sleep(0.1)

            await traffic(2)
            canary.add(BAD, 3)
            await traffic(1)
            stable.samples = {GOOD: 4}  # its process restarts
            await traffic(1)
            server.scrape(stable, canary, second, late)
            await traffic(2)
            second.down = True
            await traffic(2)
            second.down = False
            await traffic(2)
            server.scrape(stable, canary, late)  # `second` vanishes
            await traffic(1)
            server.freeze()
            await traffic(2.5)
            server.thaw()
            await traffic(1)
            await asyncio.to_thread(server.kill)
            await traffic(2)
            await until(lambda: isinstance(sampler.samples(KEY).problem, Unavailable))
            await asyncio.to_thread(server.start)
            await traffic(3)
            last = now()
            await until(lambda: bool(p := sampler.samples(KEY).polls) and p[-1].at >= last)
            await until(lambda: sampler.samples(KEY).problem is None)
            live = sampler.samples(KEY)

    assert len(live.polls) >= 10
    for index in range(-1, len(live.polls) - 1):
        since = began if index < 0 else live.polls[index].at
        again = await polls_after(server.url, want(since, "aaaa", "bbbb"), live.polls[-1].at)
        assert again == live.polls[index + 1 :], f"read back from {since}"


@undisturbed
async def test_a_restart_counts_what_came_after_it(server: Prometheus, stable: Pod, canary: Pod) -> None:
    await scraped(stable, canary)
    async with sampling(server.url) as sampler:
        sampler.want(KEY, want(now(), "aaaa", "bbbb"))
        await until(lambda: bool(sampler.samples(KEY).polls))
        stable.samples = {GOOD: 30, BAD: 8}  # BAD has outgrown the restart, GOOD tells that there was one
        await until(lambda: total(sampler.samples(KEY).polls, "aaaa") == Counts(38, 8))


@undisturbed
async def test_a_pod_that_vanished_leaves_what_it_counted(server: Prometheus, stable: Pod, canary: Pod) -> None:
    await scraped(stable, canary)
    async with sampling(server.url) as sampler:
        sampler.want(KEY, want(now(), "aaaa", "bbbb"))
        await until(lambda: bool(sampler.samples(KEY).polls))
        canary.add(GOOD, 6)
        await until(lambda: total(sampler.samples(KEY).polls, "bbbb").total == 6)
        server.scrape(stable)
        await until(lambda: sampler.samples(KEY).problem is not None)
        stable.add(GOOD, 3)
        await until(lambda: total(sampler.samples(KEY).polls, "aaaa").total == 3)
        samples = sampler.samples(KEY)

    assert total(samples.polls, "bbbb") == Counts(6, 0)
    assert "bbbb" not in samples.polls[-1].arms, "an arm without pods has no entry"
    assert samples.problem is not None
    assert samples.problem.reason == Reason.NO_DATA
    assert "no pod of revision bbbb" in samples.problem.message


@undisturbed
async def test_a_new_pod_counts_from_zero_and_one_with_a_gap_does_not(
    server: Prometheus, stable: Pod, canary: Pod
) -> None:
    await scraped(stable, canary)
    async with sampling(server.url) as sampler:
        sampler.want(KEY, want(now(), "aaaa", "bbbb"))
        await until(lambda: bool(sampler.samples(KEY).polls))
        with pod("c2", "bbbb") as late:
            late.samples = {GOOD: 11}
            server.scrape(stable, canary, late)
            await until(lambda: total(sampler.samples(KEY).polls, "bbbb").total == 11)
            stable.down = True
            await until(lambda: "no pod of revision aaaa" in getattr(sampler.samples(KEY).problem, "message", ""))
            stable.add(GOOD, 500)
            stable.down = False
            await scraped(stable)
            back = now()
            await until(lambda: any(poll.at > back and "aaaa" in poll.arms for poll in sampler.samples(KEY).polls))
            stable.add(GOOD, 2)
            await until(lambda: total(sampler.samples(KEY).polls, "aaaa").total == 2)
            samples = sampler.samples(KEY)

    assert total(samples.polls, "bbbb").total == 11


@undisturbed
async def test_an_outage_is_said_and_the_polls_that_it_kept_are_read_back(
    server: Prometheus, stable: Pod, canary: Pod
) -> None:
    await scraped(stable, canary)
    async with sampling(server.url, timeout_s=2) as sampler:
        sampler.want(KEY, want(now(), "aaaa", "bbbb"))
        await until(lambda: bool(sampler.samples(KEY).polls))
        before = sampler.samples(KEY).polls
        server.freeze()
        await until(lambda: sampler.samples(KEY).problem is not None)
        frozen = sampler.samples(KEY)
        canary.add(GOOD, 4)
        server.thaw()
        await until(lambda: total(sampler.samples(KEY).polls, "bbbb").total == 4)
        await until(lambda: sampler.samples(KEY).problem is None)
        after = sampler.samples(KEY)

    assert frozen.problem is not None
    assert frozen.problem.reason == Reason.PROMETHEUS_UNREACHABLE
    assert frozen.problem.since is not None
    assert frozen.polls[: len(before)] == before
    assert after.polls[: len(frozen.polls)] == frozen.polls


@undisturbed
async def test_latency_counts_what_is_beyond_the_bound(server: Prometheus, stable: Pod, canary: Pod) -> None:
    stable.samples = {'seconds_bucket{le="0.25"}': 5, 'seconds_bucket{le="0.5"}': 9, 'seconds_bucket{le="+Inf"}': 10}
    canary.samples = {GOOD: 1}
    await scraped(stable, canary)
    async with sampling(server.url) as sampler:
        sampler.want(KEY, want(now(), "aaaa", "bbbb", measures=(SLOW,)))
        await until(lambda: "give no seconds_bucket" in getattr(sampler.samples(KEY).problem, "message", ""))
        before = sampler.samples(KEY)
        canary.samples |= {'seconds_bucket{le="0.50"}': 3.0, 'seconds_bucket{le="+Inf"}': 7.0}
        stable.add('seconds_bucket{le="+Inf"}', 2)
        await until(lambda: total(sampler.samples(KEY).polls, "bbbb", "slow") == Counts(7, 4))
        await until(lambda: total(sampler.samples(KEY).polls, "aaaa", "slow") == Counts(2, 2))
        await until(lambda: sampler.samples(KEY).problem is None)

    assert before.problem is not None
    assert "give no seconds_bucket" in before.problem.message


@undisturbed
async def test_arms_without_a_common_bound_have_no_entry(server: Prometheus, stable: Pod, canary: Pod) -> None:
    stable.samples = {'seconds_bucket{le="0.25"}': 5, 'seconds_bucket{le="+Inf"}': 10, GOOD: 1}
    canary.samples = {'seconds_bucket{le="0.4"}': 5, 'seconds_bucket{le="+Inf"}': 10, GOOD: 1}
    await scraped(stable, canary)
    async with sampling(server.url) as sampler:
        sampler.want(KEY, want(now(), "aaaa", "bbbb", measures=(SLOW, ERRORS)))
        await until(lambda: bool(sampler.samples(KEY).polls))
        samples = sampler.samples(KEY)

    assert {check for arm in samples.polls[-1].arms.values() for pod in arm.values() for check in pod.counts} == {
        "errors"
    }
    assert samples.problem is not None
    assert "no bucket of seconds_bucket at or below 0.5 s is common" in samples.problem.message


@undisturbed
async def test_moving_since_on_drops_what_was_used_and_anything_else_begins_anew(
    server: Prometheus, stable: Pod, canary: Pod
) -> None:
    await scraped(stable, canary)
    async with sampling(server.url) as sampler:
        began = now()
        sampler.want(KEY, want(began, "aaaa", "bbbb"))
        await until(lambda: len(sampler.samples(KEY).polls) >= 3)
        first = sampler.samples(KEY).polls
        sampler.want(KEY, want(first[0].at, "aaaa", "bbbb"))
        assert sampler.samples(KEY).polls == first[1:]
        sampler.want(KEY, want(first[0].at, "aaaa", "bbbb"))
        assert sampler.samples(KEY).polls == first[1:]
        sampler.want(KEY, want(began, "aaaa", "bbbb"))
        assert sampler.samples(KEY).polls == ()
        await until(lambda: len(sampler.samples(KEY).polls) >= 3)
        assert sampler.samples(KEY).polls[:3] == first[:3]
        sampler.want(KEY, None)
        assert sampler.samples(KEY).polls == ()


async def test_scrapes_rarer_than_ticks_make_longer_intervals(tmp_path: Path, stable: Pod, canary: Pod) -> None:
    stable.text = lambda: f"{GOOD} {1000 + 9 * stable.scrapes}\n"  # some requests between any two scrapes
    canary.text = lambda: f"{GOOD} {5 + canary.scrapes}\n"
    with prometheus(tmp_path, stable, canary, scrape_interval_s=2) as server:
        await asyncio.to_thread(server.await_scrapes)
        async with sampling(server.url) as sampler:
            before = min(stable.scrapes, canary.scrapes)
            sampler.want(KEY, want(now(), "aaaa", "bbbb"))
            await until(lambda: len(sampler.samples(KEY).polls) >= 3)
            polls = sampler.samples(KEY).polls
            scrapes = min(stable.scrapes, canary.scrapes) - before

    assert len(polls) <= scrapes, "no interval without a scrape of either arm"
    assert polls[-1].at - polls[0].at > (len(polls) - 1) * timedelta(seconds=TICK_S)
    for poll in polls:
        assert poll.counts("aaaa", "errors")[0].total > 0, "no arm is judged without the other"
        assert poll.counts("bbbb", "errors")[0].total > 0


class Silent:
    """A Prometheus that knows nothing and counts how it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []

    def instant(
        self, query: str, at: datetime, *, timeout_s: float | None = None, limit: int | None = None
    ) -> list[Series] | Unavailable:
        self.asked.append((at.timestamp(), query))
        return []


async def test_what_lies_too_far_back_is_given_up_and_the_rest_read_oldest_first() -> None:
    prometheus = Silent()
    start = datetime(2030, 1, 1, tzinfo=UTC)
    sampler = Sampler(prometheus, lambda _: None, lambda: start, tick_s=5, lag_s=5)
    sampler.want(KEY, want(start - timedelta(days=1), "aaaa"))
    running = asyncio.create_task(sampler.run())
    await until(lambda: bool(prometheus.asked) and prometheus.asked[-1][0] == start.timestamp() - 5, 60)
    running.cancel()
    await sampler.close()

    points = list(dict.fromkeys(at for at, _ in prometheus.asked))
    assert points == [start.timestamp() - 5 * back for back in range(721, 0, -1)]
