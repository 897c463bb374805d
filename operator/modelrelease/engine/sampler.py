"""Samples Prometheus for all releases on one grid and keeps the polls that decisions have not used up yet.

Concurrency: all state belongs to the event loop. A round reads one grid point for all releases that are due there, in
chunks, each chunk in a thread of a small pool; nothing else waits for it. Releases at the newest point go first; those
that lag behind (after a restart, or an outage) are read back one older point a round, oldest first. A release with
queries of its own waits for those alone, in other threads.

Every interval begins where a poll ended, at a grid point, and is worked out from what Prometheus holds for its two ends
and nothing else. Whoever asks for polls after a given poll therefore gets the same ones: a new leader, or this
process after an outage. For this, scrapes must be stored when a point is read: `lag` is at least the scrape timeout.

Not here: queries (engine.readings, engine.custom), differences (core.counters), evidence (core). The rule: a failure
makes no poll, nor loses one that Prometheus can still tell.
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
from modelrelease.clients.prometheus import Refused
from modelrelease.core import counters
from modelrelease.core.observation import PodPoll, Poll, Samples, Unavailable
from modelrelease.core.wants import SampleWant

from . import custom, readings
from .queue import Key
from .readings import Instant, Read, Release
from .shortage import shortage

logger = logging.getLogger(__name__)

MEMORY = 720
"""Grid points that are read back at most, and polls kept; older ones are given up (an hour at the default step)."""

PATIENCE = 6
"""Grid points between two tries to read a release that Prometheus refuses to answer for."""

CUSTOM_LIMIT_S = 6.0
"""For all queries of its own that a release has, at one grid point."""

CUSTOM_PAUSE = timedelta(seconds=30)
"""A check is not asked for again so soon after its own queries failed, so that it takes no threads from others."""

CATCH_UP_PAUSE_S = 0.02
"""Between two rounds that read back, so that a restart does not press Prometheus."""


@dataclass(slots=True, eq=False)
class _Sampled:
    """One release's progress.

    due: the grid point to read next. known: points that polls may be asked from: where sampling began and where polls
    ended. held_until: a grid point until which no more reads are tried, since the last one failed. alone: Prometheus
    refused a query for this release, so that it shares none with others. busy: its own queries are being asked. rests:
    by check, why its own queries failed, and until when they are not asked again.
    """

    release: Release
    due: datetime
    known: set[datetime]
    polls: deque[Poll] = field(default_factory=lambda: deque(maxlen=MEMORY))
    problem: Unavailable | None = None
    held_until: datetime | None = None
    alone: bool = False
    busy: bool = False
    rests: dict[str, tuple[str, datetime]] = field(default_factory=dict)


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
        custom_threads: int = 8,
    ) -> None:
        """tick_s: the grid's step, at least the scrape interval. lag_s: how long a point may fill; else a tick."""
        self._prometheus = prometheus
        self._wake = wake
        self._now = now
        self._step = timedelta(seconds=tick_s)
        self._lag = self._step if lag_s is None else timedelta(seconds=lag_s)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prometheus")
        self._custom_pool = ThreadPoolExecutor(custom_threads, thread_name_prefix="custom-query")
        self._asking: set[asyncio.Task[None]] = set()
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
        if held is None or want.since not in held.known or replace(held.release.want, since=want.since) != want:
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
        for task in self._asking:
            task.cancel()
        for pool in (self._pool, self._custom_pool):
            pool.shutdown(wait=False, cancel_futures=True)

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
                self._sampled[key] = replace(
                    anew, due=oldest_kept, problem=held.problem, held_until=held.held_until, alone=held.alone
                )
        waiting = [
            held
            for held in self._sampled.values()
            if held.due <= newest and not held.busy and (held.held_until is None or held.held_until <= newest)
        ]
        if not waiting:
            return []
        points = {held.due for held in waiting}
        point = newest if newest in points else min(points)
        return [held for held in waiting if held.due == point]

    async def _round(self, due: list[_Sampled], newest: datetime) -> None:
        """Read one point. A release that begins anew meanwhile keeps nothing of it."""
        point = due[0].due
        of = {id(held.release): held for held in due}
        batches = list(readings.batches(held.release for held in due if not held.alone))
        batches += [[held.release] for held in due if held.alone]
        await asyncio.gather(*(self._read([of[id(one)] for one in batch], point, newest) for batch in batches))

    async def _read(self, batch: list[_Sampled], point: datetime, newest: datetime) -> None:
        releases = [held.release for held in batch]
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._pool, readings.read, self._prometheus, releases, point
            )
        except Exception:
            # A bug must neither end the sampling of all releases nor pass for a poll.
            logger.exception("counters at %s could not be read", point.isoformat())
            problem = Unavailable(Reason.PROMETHEUS_ERROR, "counters could not be read; see the operator's log")
            found = [problem] * len(releases)
        for held, one in zip(batch, found, strict=True):
            if isinstance(one, Read) and custom.measures(held.release.want):
                held.busy = True
                task = asyncio.create_task(self._ask_own(held, one, newest))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            else:
                self._take(held, one, newest)

    async def _ask_own(self, held: _Sampled, found: Read, newest: datetime) -> None:
        """Add what the release's own queries give. Whatever they do, the rest of the snapshot counts."""
        now = self._now()
        want, snapshot = held.release.want, found.snapshot
        answers: dict[str, custom.Found | str] = {
            check: words for check, (words, until) in held.rests.items() if until > now
        }
        loop = asyncio.get_running_loop()
        asked = {
            loop.run_in_executor(self._custom_pool, custom.read, self._prometheus, want, measure, snapshot): check
            for check, measure in custom.measures(want).items()
            if check not in answers
        }
        held.rests = {check: rest for check, rest in held.rests.items() if check in answers}
        done, late = await asyncio.wait(asked, timeout=CUSTOM_LIMIT_S) if asked else (set(), set())
        for future in late:
            future.cancel()
            answers[asked[future]] = f"its queries took longer than {CUSTOM_LIMIT_S:g} s"
        for future in done:
            error = future.exception()
            if error is not None:
                logger.error("queries of check %s could not be asked", asked[future], exc_info=error)
            answers[asked[future]] = "its queries could not be asked" if error is not None else future.result()
        for check in asked.values():
            if isinstance(words := answers[check], str):
                held.rests[check] = (words, now + CUSTOM_PAUSE)
        held.busy = False
        self._take(held, found._replace(snapshot=custom.with_found(snapshot, answers)), newest)
        self._changed.set()

    def _take(self, held: _Sampled, found: Read | Unavailable, newest: datetime) -> None:
        """Carry one release on by one grid point, or hold it there until the grid moves on."""
        key = (held.release.want.namespace, held.release.want.release)
        if self._sampled.get(key) is not held:
            return  # replaced or forgotten meanwhile
        news = False
        held.alone = isinstance(found, Refused)
        if isinstance(found, Unavailable):
            held.held_until = newest + (PATIENCE if held.alone else 1) * self._step
            problem: Unavailable | None = found
        else:
            news = self._advance(held, found)
            held.due += self._step
            problem = shortage(held.release.want, found.snapshot) if held.due > newest else held.problem
            if held.due <= newest and problem is not None and problem.reason is not Reason.NO_DATA:
                problem = None  # reading back: Prometheus answers again
        before = held.problem
        if problem is not None:
            same = before is not None and _cause(before) == _cause(problem)
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
        want = held.release.want
        arms: dict[str, dict[str, PodPoll]] = {}
        for pod, own in counters.increments(before, after, found.gaps).items():
            measures, reading = want.arms[pod.revision], after.pods[pod]
            bounds = {check: bound for (of, check), bound in after.bounds.items() if of == pod.revision}
            poll = PodPoll(
                counters.counts(measures, own, bounds),
                counters.gauges(measures, reading),
                counters.in_flight(want.in_flight.get(pod.revision, ()), reading),
                counters.progress(want.progress.get(pod.revision, ()), own),
            )
            # one without a single series was scraped, too: its counters are born with its first request
            arms.setdefault(pod.revision, {})[pod.name] = poll
        held.release.before = after
        if all(poll == PodPoll() for arm in arms.values() for poll in arm.values()):
            return False
        held.polls.append(Poll(after.at, arms))
        held.known.add(after.at)
        pods = [pod for arm in arms.values() for pod in arm.values()]
        return any(pod.in_flight or any(part.total for of in pod.counts.values() for part in of) for pod in pods)


def _cause(problem: Unavailable) -> bool:
    """Whether data are missing, rather than Prometheus: an outage has one beginning, however it shows itself."""
    return problem.reason is Reason.NO_DATA
