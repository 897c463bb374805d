"""Whoever begins at a poll gets the polls that follow it: random histories in a real Prometheus, read from every poll.

Histories hold what happens to pods: restarts, series that are born late, failed scrapes, scrapes that nobody made,
counters that are NaN for a moment, pods that come and go, histograms with other buckets in each arm. They are written
with the times and stale markers that scrapes would have stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint
from modelrelease.core.observation import Poll
from modelrelease.core.wants import Measure, SampleWant
from modelrelease.engine.queue import Key
from modelrelease.engine.sampler import Sampler
from modelrelease.presets import Matcher, Selector
from tests.clients.prometheus_server import Prometheus, prometheus
from tests.clients.remote_write import STALE, Sample, write

HISTORIES, SCRAPES = 40, 40
STEP_S = 5
REQUESTS, FAILED = Selector("requests_total"), Selector("requests_total", (Matcher("code", "=~", "5.."),))
SECONDS, BUSY = Selector("seconds"), Selector("busy")
MEASURES = (
    Measure("errors", (REQUESTS,), bad=((1, FAILED),)),
    Measure("slow", (SECONDS,), slower_than_s=(0.5, 2)),
    Measure("busy", gauge=BUSY),
)
BUCKETS = (("0.25", "0.5", "1", "2.5"), ("0.25", "0.5", "1.0", "2"), ("0.1", "1"))
BEFORE = 1_000_000
"""What old pods had counted before: counting it as new would be seen at once."""


class History:
    """One release in 40 scrape intervals, by chance. served: requests of each arm, all of them."""

    def __init__(self, number: int, start: float) -> None:
        self.key: Key = ("team", f"release-{number}")
        self.series: dict[tuple[tuple[str, str], ...], list[Sample]] = defaultdict(list)
        self.served: dict[str, int] = defaultdict(int)
        self._chance = random.Random(number)
        self._silent = {scrape for scrape in range(SCRAPES) if self._chance.random() < 0.06}
        if self._chance.random() < 0.3:
            begin = self._chance.randrange(5, SCRAPES - 8)
            self._silent |= set(range(begin, begin + 5))  # Prometheus was away
        for revision in ("aaaa", "bbbb"):
            buckets = self._chance.choice(BUCKETS)
            for pod in range(self._chance.randint(1, 3)):
                born = self._chance.choice((0, 0, self._chance.randrange(SCRAPES - 4)))
                gone = self._chance.choice((SCRAPES, SCRAPES, self._chance.randrange(born + 2, SCRAPES + 1)))
                self._live(revision, f"{revision}-{pod}", buckets, range(born, gone), start)

    def _live(self, revision: str, pod: str, buckets: tuple[str, ...], life: range, start: float) -> None:
        chance, target = self._chance, {"instance": f"10.0.0.1:{pod}", "job": "pods", "pod": pod}
        target |= {"namespace": "team", "modelrelease_dev_name": self.key[1], "modelrelease_dev_revision": revision}
        offset = chance.uniform(0.1, STEP_S - 0.1)
        counters: dict[tuple[str, ...], float] = {("requests_total", "code", "200"): BEFORE if life.start == 0 else 0}
        histogram_from = chance.choice((life.start, life.start + chance.randrange(10)))
        shown: set[tuple[tuple[str, str], ...]] = set()
        for scrape in life:
            at = start + scrape * STEP_S + offset
            if chance.random() < 0.04:
                counters = {("requests_total", "code", "200"): 0}  # its process restarts
            for code, share in (("200", 1.0), ("500", 0.1)):
                if chance.random() < share:
                    series = ("requests_total", "code", code)
                    more = chance.randrange(20)
                    counters[series] = counters.get(series, 0) + more
                    self.served[revision] += more
            if scrape >= histogram_from:
                slow = sorted(chance.randrange(10) for _ in range(len(buckets) + 1))
                for le, more in zip((*buckets, "+Inf"), slow, strict=True):
                    series = ("seconds_bucket", "le", le)
                    counters[series] = counters.get(series, 0) + more
            if scrape in self._silent:
                continue
            up = chance.random() > 0.05
            now: dict[tuple[tuple[str, str], ...], float] = {}
            if up:
                broken = chance.choice(tuple(counters)) if chance.random() < 0.04 else None
                for (name, label, value), count in counters.items():
                    seen = math.nan if (name, label, value) == broken else count
                    now[_labels(target, __name__=name, **{label: value})] = seen
                now[_labels(target, __name__="busy")] = chance.random()
            for labels in shown - now.keys():
                self.series[labels].append(Sample(at, STALE))
            for labels, value in now.items():
                self.series[labels].append(Sample(at, value))
            self.series[_labels(target, __name__="up")].append(Sample(at, float(up)))
            shown = set(now)
        if life.stop < SCRAPES:
            at = start + life.stop * STEP_S + offset
            for labels in (*shown, _labels(target, __name__="up")):
                self.series[labels].append(Sample(at, STALE))


def _labels(target: Mapping[str, str], **more: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({**target, **more}.items()))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Prometheus]:
    with prometheus(tmp_path, flags=("--web.enable-remote-write-receiver",)) as made:
        yield made


async def polls(server: Prometheus, since: Mapping[Key, datetime], end: datetime) -> dict[Key, tuple[Poll, ...]]:
    """What a sampler that begins at these times has read when it has come to the end."""
    client = PrometheusClient(PrometheusEndpoint(server.url), timeout_s=30)
    sampler = Sampler(client, lambda _: None, lambda: end, tick_s=STEP_S, lag_s=0)
    for key, began in since.items():
        arms = dict.fromkeys(("aaaa", "bbbb"), MEASURES)
        loads, work = dict.fromkeys(arms, (BUSY,)), dict.fromkeys(arms, (REQUESTS,))
        sampler.want(key, SampleWant(*key, arms, began, loads, work))
    running = asyncio.create_task(sampler.run())
    deadline = time.monotonic() + 240
    while sampler._due(end):
        assert time.monotonic() < deadline, "it is not read to its end"
        await asyncio.sleep(0.02)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    found = {key: sampler.samples(key).polls for key in since}
    await sampler.close()
    return found


async def test_whoever_begins_at_a_poll_gets_the_same_polls(
    server: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelrelease.engine.sampler.CATCH_UP_PAUSE_S", 0)
    start = math.floor(time.time() / STEP_S) * STEP_S - SCRAPES * STEP_S
    histories = [History(number, start) for number in range(HISTORIES)]
    for history in histories:
        write(server.url, ((dict(labels), samples) for labels, samples in history.series.items()))
    began = datetime.fromtimestamp(start + 3 * STEP_S, UTC)
    end = began + timedelta(seconds=(SCRAPES - 4) * STEP_S)

    whole = await polls(server, {history.key: began for history in histories}, end)

    assert sum(map(len, whole.values())) > 15 * HISTORIES, "most intervals make a poll"
    for history in histories:
        for revision in ("aaaa", "bbbb"):
            seen = sum(part.total for poll in whole[history.key] for part in poll.counts(revision, "errors"))
            assert seen <= history.served[revision], f"{history.key}: more than was ever served"
    for index in range(max(map(len, whole.values()))):
        since = {key: found[index].at for key, found in whole.items() if index < len(found)}
        again = await polls(server, since, end)
        for key, found in again.items():
            assert found == whole[key][index + 1 :], f"{key} from poll {index}"
