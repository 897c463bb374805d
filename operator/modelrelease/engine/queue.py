"""The work queue: which release is worked when, and never twice at once.

Concurrency, all in one event loop: a key is in line (`_ready`), being worked (`_working`), or neither; besides, it may
have one timer. A wake while it is being worked is remembered in `_again` and puts it back in line when that pass ends,
so no change is missed and no two passes of one key overlap. The line is first in, first out: a key that is woken all
the time waits behind the others like every key. A pass begins by dropping the key's timer: it looks at everything anew.

A pass that raises is repeated after a back-off of its own key, doubling up to a limit. A wake does not wait for that
back-off, nor does it reset it; only a pass that ends well does.

The workers are tasks of `run()`. kopf cancels every task that was started after it, so `run()` has to be started first.

The rule it keeps: nothing here knows what a key stands for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

Key = tuple[str, str]
"""Namespace and name of a ModelRelease."""

Work = Callable[[Key], Awaitable[float | None]]
"""One pass over a key: returns the seconds until it wants to be worked again, None for when something wakes it."""

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0

logger = logging.getLogger(__name__)


class QueueObserver:
    """What the queue tells as it goes; telemetry overrides it. Must not raise."""

    def began(self, waited_s: float) -> None:
        """A pass began, so long after its key got in line."""

    def ended(self, result: str, took_s: float) -> None:
        """A pass ended; result is `ok` or `error`."""

    def changed(self, ready: int, working: int) -> None:
        """So many keys are in line now, and so many are being worked."""


class WorkQueue:
    """Runs `work` for every key that is woken, at most `workers` keys at a time."""

    def __init__(
        self,
        work: Work,
        *,
        workers: int = 16,
        observer: QueueObserver | None = None,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        """expected: failures that say `try later`; they are logged without a traceback."""
        self._work = work
        self._expected = expected
        self._workers = workers
        self._observer = observer or QueueObserver()
        self._line: asyncio.Queue[Key | None] = asyncio.Queue()  # None ends one worker
        self._ready: dict[Key, float] = {}  # since when; an entry of the line without one here was forgotten
        self._working: dict[Key, float] = {}  # since when
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._draining = False

    def wake(self, key: Key) -> None:
        """Work the key as soon as its turn comes, once more if it is being worked now."""
        if self._draining:
            return
        self._drop_timer(key)
        if key in self._working:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = self._now()
            self._line.put_nowait(key)
            self._tell()

    def wake_at(self, key: Key, deadline: float) -> None:
        """Work the key at this time of the event loop's clock; of several deadlines the earliest wins."""
        if self._draining or key in self._ready or key in self._again:
            return
        timer = self._timers.get(key)
        if timer is None or deadline < timer.when():
            self._drop_timer(key)
            self._timers[key] = asyncio.get_running_loop().call_at(deadline, self.wake, key)

    def forget(self, key: Key) -> None:
        """Drop all that is kept about a key. A pass that runs ends; it may set a new timer."""
        self._ready.pop(key, None)
        self._again.discard(key)
        self._failures.pop(key, None)
        self._drop_timer(key)
        self._tell()

    async def run(self) -> None:
        """Work until `drain()`; returns when the passes that run then have ended."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._serve(), name=f"worker {number}")

    def drain(self) -> None:
        """Start no other pass and take no more wakes."""
        if self._draining:
            return
        self._draining = True
        for key in [*self._ready, *self._again, *self._timers]:
            self.forget(key)
        for _ in range(self._workers):
            self._line.put_nowait(None)

    def longest_waiting_s(self) -> float:
        """How long the key waits that got in line first, 0 if none does."""
        return max((self._now() - since for since in self._ready.values()), default=0.0)

    def longest_running_s(self) -> float:
        """Age of the oldest pass that runs, 0 if none does: how a stuck worker shows."""
        return max((self._now() - began for began in self._working.values()), default=0.0)

    async def _serve(self) -> None:
        while (key := await self._line.get()) is not None:
            since = self._ready.pop(key, None)
            if since is not None:
                await self._pass(key, since)

    async def _pass(self, key: Key, ready_since: float) -> None:
        began = self._now()
        self._drop_timer(key)
        self._working[key] = began
        self._observer.began(began - ready_since)
        self._tell()
        result, again_after = "ok", None
        try:
            again_after = await self._work(key)
            self._failures.pop(key, None)
        except Exception as error:  # one release's failure must not end the worker that serves the others
            result, again_after = "error", self._back_off(key)
            logger.warning(
                "pass failed: %s",
                error,
                exc_info=not isinstance(error, self._expected),
                extra={"key": "/".join(key), "again_after_s": again_after},
            )
        finally:
            del self._working[key]
        self._observer.ended(result, self._now() - began)
        self._tell()
        if key in self._again:
            self._again.discard(key)
            self.wake(key)
        elif again_after is not None:
            self.wake_at(key, self._now() + max(again_after, 0.0))

    def _back_off(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return min(BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10), BACKOFF_MAX_S)

    def _drop_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _tell(self) -> None:
        self._observer.changed(len(self._ready), len(self._working))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
