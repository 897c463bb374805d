"""A sampler that runs against a real Prometheus with a pod of each arm; the fixtures are in conftest.py."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint
from modelrelease.core.evidence import Counts
from modelrelease.core.wants import Measure, SampleWant
from modelrelease.engine.queue import Key
from modelrelease.engine.sampler import Sampler
from modelrelease.presets import Matcher, Selector

KEY: Key = ("team", "chat")
GOOD, BAD = 'requests_total{code="200"}', 'requests_total{code="500"}'
REQUESTS, FAILED = Selector("requests_total"), Selector("requests_total", (Matcher("code", "=~", "5.."),))
ERRORS = Measure("errors", (REQUESTS,), bad=((1, FAILED),))
TICK_S, SCRAPE_S = 2.0, 2.0


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
