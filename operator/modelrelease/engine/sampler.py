"""Samples Prometheus for all releases on one grid and keeps the polls that decisions have not used up yet.

Concurrency: all state belongs to the event loop. A round reads one grid point for all releases that are due there, in
chunks, each chunk in a thread of a small pool; nothing else waits for it. Releases at the newest point go first; those
that lag behind (after a restart, or an outage) are read back one older point a round, oldest first.

Every interval begins where a poll ended, at a grid point, and is worked out from what Prometheus holds for its two ends
and nothing else. Whoever asks for polls after a given poll therefore gets the same ones: a new leader, or this
process after an outage. For this, scrapes must be stored when a point is read: `lag` is at least the scrape timeout.

Not here: queries (engine.readings), differences (core.counters), evidence (core). The rule: a failure makes no poll,
nor loses one that Prometheus can still tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from modelrelease.api.reasons import Reason
from modelrelease.core import counters
from modelrelease.core.counters import Column, Snapshot
from modelrelease.core.observation import PodPoll, Poll, Samples, Unavailable
from modelrelease.core.wants import SampleWant

from . import readings
from .queue import Key
from .readings import Instant, Read, Release

logger = logging.getLogger(__name__)

MEMORY = 720
"""Grid points that are read back at most, and polls kept; older ones are given up (an hour at the default step)."""

CHUNK = 100
"""Releases asked for in one query."""

CATCH_UP_PAUSE_S = 0.02
"""Between two rounds that read back, so that a restart does not press Prometheus."""


@dataclass(slots=True, eq=False)
class _Sampled:
    """One release's progress.

    due: the grid point to read next. known: points that polls may be asked from: where sampling began and where polls
    ended. held_at: the newest grid point at the time when the last read failed.
    """

    release: Release
    due: datetime
    known: set[datetime]
    polls: deque[Poll] = field(default_factory=lambda: deque(maxlen=MEMORY))
    problem: Unavailable | None = None
    held_at: datetime | None = None


class Sampler:
    """One Prometheus' polls for all releases. `wake` is called for a release with new requests or a new problem."""

    def __init__(
        self,
        prometheus: Instant,
        wake: Callable[[Key], None],
        now: Callable[[], datetime],
        *,
        tick_s: float = 5,
        lag_s: float | None = None,
        threads: int = 4,
    ) -> None:
        """tick_s: the grid's step, at least the scrape interval. lag_s: how long a point may fill; else a tick."""
        self._prometheus = prometheus
        self._wake = wake
        self._now = now
        self._step = timedelta(seconds=tick_s)
        self._lag = self._step if lag_s is None else timedelta(seconds=lag_s)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prometheus")
        self._sampled: dict[Key, _Sampled] = {}
        self._changed = asyncio.Event()

    def want(self, key: Key, want: SampleWant | None) -> None:
        """Replace what a release wants; None forgets it.

        Moving `since` on to a poll that was given drops what lies before. Any other change begins anew at `since`.
        """
        if want is None:
            self._sampled.pop(key, None)
            return
        held = self._sampled.get(key)
        if held is None or held.release.want.arms != want.arms or want.since not in held.known:
            self._sampled[key] = self._begin(want)
            self._changed.set()
            return
        held.release.want = want
        while held.polls and held.polls[0].at <= want.since:
            held.polls.popleft()
        held.known = {point for point in held.known if point >= want.since}

    def samples(self, key: Key) -> Samples:
        """All polls after `since`, in order, and what is wrong now."""
        held = self._sampled.get(key)
        return Samples(tuple(held.polls), held.problem) if held else Samples(problem=self._unread())

    async def run(self) -> None:
        """Read grid points as they come, until cancelled."""
        while True:
            self._changed.clear()
            newest = counters.newest_point(self._now(), self._step, self._lag)
            due = self._due(newest)
            if due:
                await self._round(due, newest)
                if due[0].due <= newest:
                    await asyncio.sleep(CATCH_UP_PAUSE_S)
                continue
            wait = (newest + self._step + self._lag - self._now()).total_seconds() if self._sampled else None
            with suppress(TimeoutError):
                # not wait_for: before Python 3.12 it loses a cancellation that comes together with the event
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def close(self) -> None:
        """Start nothing more. Queries under way end by the client's timeout; their answers go nowhere."""
        self._sampled.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, want: SampleWant) -> _Sampled:
        first = counters.first_point(want.since, self._step)
        return _Sampled(Release(want), first, {want.since}, problem=self._unread())

    def _unread(self) -> Unavailable:
        """Until the first answer nothing is known: no weight may rise on that."""
        return Unavailable(Reason.NO_DATA, "Prometheus has not been read yet for this phase", self._now())

    def _due(self, newest: datetime) -> list[_Sampled]:
        """The releases of the next round, all due at one point: the newest that anyone is due at, then the oldest."""
        oldest_kept = newest - MEMORY * self._step
        for key, held in list(self._sampled.items()):
            if held.due < oldest_kept:
                if held.release.before is not None:
                    logger.warning("polls of %s/%s before %s are given up", *key, oldest_kept.isoformat())
                anew = self._begin(held.release.want)
                self._sampled[key] = replace(anew, due=oldest_kept, problem=held.problem, held_at=held.held_at)
        waiting = [held for held in self._sampled.values() if held.due <= newest and held.held_at != newest]
        if not waiting:
            return []
        points = {held.due for held in waiting}
        point = newest if newest in points else min(points)
        return [held for held in waiting if held.due == point]

    async def _round(self, due: list[_Sampled], newest: datetime) -> None:
        point = due[0].due
        chunks = [due[begin : begin + CHUNK] for begin in range(0, len(due), CHUNK)]
        await asyncio.gather(*(self._read(chunk, point, newest) for chunk in chunks))

    async def _read(self, chunk: list[_Sampled], point: datetime, newest: datetime) -> None:
        releases = [held.release for held in chunk]
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._pool, readings.read, self._prometheus, releases, point
            )
        except Exception:
            # A bug must neither end the sampling of all releases nor pass for a poll.
            logger.exception("counters at %s could not be read", point.isoformat())
            problem = Unavailable(Reason.PROMETHEUS_ERROR, "counters could not be read; see the operator's log")
            found = [problem] * len(releases)
        results = dict(zip(chunk, found, strict=True))
        for key, held in list(self._sampled.items()):
            if held in results:  # what was replaced or forgotten meanwhile is not
                self._take(key, held, results[held], newest)

    def _take(self, key: Key, held: _Sampled, found: Read | Unavailable, newest: datetime) -> None:
        """Carry one release on by one grid point, or hold it there until the grid moves on."""
        news = False
        if isinstance(found, Unavailable):
            held.held_at = newest
            problem: Unavailable | None = found
        else:
            news = self._advance(held, found)
            held.due += self._step
            problem = _no_data(held.release.want, found.snapshot) if held.due > newest else held.problem
            if held.due <= newest and problem is not None and problem.reason is not Reason.NO_DATA:
                problem = None  # reading back: Prometheus answers again
        before = held.problem
        if problem is not None:
            same = before is not None and (before.reason, before.message) == (problem.reason, problem.message)
            problem = replace(problem, since=before.since if before and same else self._now())
        held.problem = problem
        if news or problem != before:
            self._wake(key)

    def _advance(self, held: _Sampled, found: Read) -> bool:
        """Close the interval if it makes a poll; whether any request came with it."""
        before, after = held.release.before, found.snapshot
        if before is None:
            held.release.before = after
            return False
        if not counters.closes(before, after):
            return False
        grown = counters.increments(before, after, found.gaps)
        arms: dict[str, dict[str, PodPoll]] = {}
        for pod, own in grown.items():
            found_of = counters.counts(held.release.want.arms[pod.revision], own, _bounds_of(after, pod.revision))
            if found_of:
                counts = {check: (count,) for check, count in found_of.items()}
                arms.setdefault(pod.revision, {})[pod.name] = PodPoll(counts)
        held.release.before = after
        if not arms:
            return False
        held.polls.append(Poll(after.at, arms))
        held.known.add(after.at)
        return any(
            part.total
            for arm in arms.values()
            for pod in arm.values()
            for count in pod.counts.values()
            for part in count
        )


def _bounds_of(snapshot: Snapshot, revision: str) -> dict[str, float]:
    return {check: bound for (of, check), bound in snapshot.bounds.items() if of == revision}


def _no_data(want: SampleWant, snapshot: Snapshot) -> Unavailable | None:
    """The first thing that is missing for some check of some arm, None if nothing is."""
    for revision, measures in want.arms.items():
        arm = [reading for pod, reading in snapshot.pods.items() if pod.revision == revision]
        if not arm:
            hint = f"is {readings.REVISION} a label of their scrape target?"
            return Unavailable(Reason.NO_DATA, f"Prometheus has scraped no pod of revision {revision}; {hint}")
        columns = {column for reading in arm for column in reading.counters}
        for measure in measures:
            bound = snapshot.bounds.get((revision, measure.check))
            if measure.slower_than_s is None:
                name, present = measure.total.metric, Column(measure.total) in columns
            else:
                name = f"{measure.total.metric}_bucket"
                present = any(column.selector == measure.total for column in columns)
                if bound is None and (revision, measure.total) not in snapshot.unborn:
                    what = f"no bucket of {name} at or below {measure.slower_than_s:g} s is common to all revisions"
                    return Unavailable(Reason.NO_DATA, f"check {measure.check}: {what}")
            if not present:
                what = f"pods of revision {revision} give no {name}; it may appear with their first request"
                return Unavailable(Reason.NO_DATA, f"check {measure.check}: {what}")
    return None
