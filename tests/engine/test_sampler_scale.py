"""What sampling costs a Prometheus, and who pays for a release that it does not answer for; on a real one."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint, Series
from modelrelease.core import counters
from modelrelease.core.evidence import Counts
from modelrelease.core.measures import measures
from modelrelease.core.observation import Poll, Unavailable
from modelrelease.core.revision import Revision, desired
from modelrelease.core.wants import Measure, SampleWant
from modelrelease.engine.queue import Key
from modelrelease.engine.sampler import Sampler
from modelrelease.presets import Matcher, Selector
from tests.api.builders import spec, workload
from tests.clients.prometheus_server import Pod, pod, prometheus
from tests.engine.sampling import until
from tests.presets.servers import Go, Server, Sglang, Triton, Vllm

pytestmark = pytest.mark.long

RUNTIMES: dict[str, type[Server]] = {"http": Go, "vllm": Vllm, "sglang": Sglang, "triton": Triton}
RELEASES = 500
QUERIES_A_TICK = 20
_SERIES = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", re.MULTILINE)


class Counted(PrometheusClient):
    """A real client that writes down when it was asked, and what."""

    def __init__(self, url: str) -> None:
        super().__init__(PrometheusEndpoint(url), timeout_s=30)
        self.asked: list[tuple[datetime, str]] = []

    def instant(
        self, query: str, at: datetime, *, timeout_s: float | None = None, limit: int | None = None
    ) -> list[Series] | Unavailable:
        self.asked.append((datetime.now(UTC), query))
        return super().instant(query, at, timeout_s=timeout_s, limit=limit)


@contextlib.asynccontextmanager
async def sampling(client: PrometheusClient, *, tick_s: float, lag_s: float) -> AsyncIterator[Sampler]:
    """A sampler that runs until the block ends."""
    sampler = Sampler(client, lambda _: None, lambda: datetime.now(UTC), tick_s=tick_s, lag_s=lag_s)
    task = asyncio.create_task(sampler.run())
    try:
        yield sampler
    finally:
        task.cancel()
        await sampler.close()


def rendered(kind: type[Server], bad: int) -> str:
    """An exposition after 20 good requests and some bad ones."""
    server = kind()
    for number in range(20 + bad):
        server.answer(500 if number >= 20 else 200)
    server.noise()
    server.load(2, 1, 0.5)
    return "\n".join(line for line in server.text().splitlines() if not line.startswith("#")) + "\n"


def labelled(text: str, made: Revision, release: str, name: str) -> str:
    """The exposition of one pod among those of others, with `up`."""
    own = f'namespace="team",pod="{name}",modelrelease_dev_name="{release}",modelrelease_dev_revision="{made.revision}"'
    return (
        _SERIES.sub(lambda found: f"{found[1]}{{{own}{',' + found[2] if found[2] else ''}}} ", text)
        + f"up{{{own}}} 1\n"
    )


async def test_500_releases_in_mid_rollout_cost_at_most_20_queries_a_tick(tmp_path: Path) -> None:
    """All four runtimes; in one tick every release gets a pod more, which is the dearest that can happen."""
    names = list(RUNTIMES)
    arms: dict[Key, tuple[Revision, Revision]] = {}
    for number in range(RELEASES):
        release = f"release-{number}"
        asked = ModelReleaseSpec.model_validate(spec(workload=workload(runtime=names[number % 4])))
        arms["team", release] = (desired(release, asked, None, f"{number + 1}"), desired(release, asked, None, "9999"))
    texts = {(name, bad): rendered(kind, bad) for name, kind in RUNTIMES.items() for bad in (0, 1, 4)}

    def exposition(grown: bool) -> str:
        parts = []
        for (_, release), (stable, canary) in arms.items():
            parts.append(labelled(texts[stable.runtime, 1 if grown else 0], stable, release, f"{release}-s"))
            parts.append(labelled(texts[stable.runtime, 4 if grown else 0], canary, release, f"{release}-c"))
            if grown:
                parts.append(labelled(texts[stable.runtime, 4], canary, release, f"{release}-late"))
        return "".join(parts)

    shown = {"now": exposition(grown=False)}
    after = exposition(grown=True)
    with pod("all", "") as one:
        one.text = lambda: shown["now"]
        with prometheus(tmp_path, one, scrape_interval_s=5) as server:
            await until(lambda: one.scrapes >= 2, 120)
            client = Counted(server.url)
            async with sampling(client, tick_s=5, lag_s=5) as sampler:
                for key, pair in arms.items():
                    of = {each.revision: measures(pair[1], each) for each in pair}
                    load = {each.revision: each.preset.in_flight for each in pair}
                    work = {each.revision: each.preset.progress for each in pair}
                    sampler.want(key, SampleWant(*key, of, datetime.now(UTC), load, work))
                await until(lambda: all(sampler.samples(key).polls for key in arms), 240)
                shown["now"] = after
                await until(lambda: all(_errors(sampler, key, pair[1]).bad == 8 for key, pair in arms.items()), 240)
                for key, (stable, canary) in arms.items():
                    assert _errors(sampler, key, canary) == Counts(28, 8), "a late pod counts from its birth"
                    assert _errors(sampler, key, stable) == Counts(1, 1)
                    assert sampler.samples(key).problem is None

    step, lag = timedelta(seconds=5), timedelta(seconds=5)
    ticks: dict[datetime, int] = {}
    for asked_at, _ in client.asked:
        tick = counters.newest_point(asked_at, step, lag)
        ticks[tick] = ticks.get(tick, 0) + 1
    print(f"{RELEASES} releases: queries by tick {list(ticks.values())}")
    assert max(ticks.values()) <= QUERIES_A_TICK
    assert max(len(query) for _, query in client.asked) < 8192


def _errors(sampler: Sampler, key: Key, of: Revision) -> Counts:
    found = [count for poll in sampler.samples(key).polls for count in poll.counts(of.revision, "errors")]
    return Counts(sum(count.total for count in found), sum(count.bad for count in found))


REQUESTS, FAILED = Selector("requests_total"), Selector("requests_total", (Matcher("code", "=~", "5.."),))
ERRORS = Measure("errors", (REQUESTS,), bad=((1, FAILED),))


@pytest.fixture
def releases() -> Iterator[list[Pod]]:
    """Eight releases with one pod each; the sixth has three thousand series."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(pod("p", f"rev{number}", release=f"r{number}")) for number in range(8)]
        for one in made:
            one.samples = {'requests_total{code="200"}': 10}
        made[5].samples = {f'requests_total{{code="200",user="u{number}"}}': 1 for number in range(3000)}
        yield made


async def test_a_release_that_prometheus_does_not_answer_for_fails_alone(tmp_path: Path, releases: list[Pod]) -> None:
    with prometheus(tmp_path, *releases, scrape_interval_s=0.5, flags=("--query.max-samples=2000",)) as server:
        await until(lambda: all(one.scrapes >= 2 for one in releases))
        client = Counted(server.url)
        async with sampling(client, tick_s=1, lag_s=0.5) as sampler:
            began = datetime.now(UTC)
            for one in releases:
                sampler.want(("team", one.release), SampleWant("team", one.release, {one.revision: (ERRORS,)}, began))
            others = [("team", one.release) for one in releases if one is not releases[5]]
            await until(lambda: all(sampler.samples(key).polls for key in others))
            for one in releases:
                one.add('requests_total{code="500"}', 2)
            await until(lambda: all(_sum(sampler.samples(key).polls) == Counts(2, 2) for key in others))
            bad = sampler.samples(("team", "r5"))
            before = len(client.asked)
            points = {poll.at for poll in sampler.samples(others[0]).polls}
            await until(lambda: len({p.at for p in sampler.samples(others[0]).polls} - points) >= 6)
            later = len(client.asked) - before
            healthy = [sampler.samples(key).problem for key in others]

        assert bad.polls == ()
        assert bad.problem is not None
        assert bad.problem.reason == Reason.PROMETHEUS_ERROR
        assert "too many samples" in bad.problem.message
        assert healthy == [None] * len(others)
        assert later <= 2 * 8, "once it is known which one it is, nobody else is asked for twice"


def _sum(polls: Iterable[Poll]) -> Counts:
    found = [count for poll in polls for arm in poll.arms for count in poll.counts(arm, "errors")]
    return Counts(sum(count.total for count in found), sum(count.bad for count in found))
