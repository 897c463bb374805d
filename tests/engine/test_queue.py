"""The work queue on virtual time: order, overlap, timers, back-off, draining."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

import pytest

from modelrelease.engine.queue import BACKOFF_MAX_S, Key, QueueObserver, WorkQueue

pytestmark = pytest.mark.virtual_time

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")


def now() -> float:
    return asyncio.get_running_loop().time()


class Worker:
    """Records when each pass began and ended, and does what the test says."""

    def __init__(
        self, takes_s: float = 0.0, then: Callable[[Key, int], float | None] = lambda key, number: None
    ) -> None:
        self.began: list[tuple[Key, float]] = []
        self.ended: list[tuple[Key, float]] = []
        self.running: set[Key] = set()
        self.most_running = 0
        self._takes_s = takes_s
        self._then = then

    async def __call__(self, key: Key) -> float | None:
        assert key not in self.running, "two passes of one key overlap"
        self.running.add(key)
        self.most_running = max(self.most_running, len(self.running))
        self.began.append((key, now()))
        try:
            await asyncio.sleep(self._takes_s)
            return self._then(key, sum(one == key for one, _ in self.began))
        finally:
            self.running.remove(key)
            self.ended.append((key, now()))

    def times(self, key: Key) -> list[float]:
        return [at for one, at in self.began if one == key]


async def serve(queue: WorkQueue, during: Callable[[], Awaitable[None]]) -> None:
    """Run the queue while `during` runs, then drain it."""
    running = asyncio.create_task(queue.run())
    await during()
    queue.drain()
    await running


async def test_wake_many_times_before_the_pass_works_once() -> None:
    work = Worker()
    queue = WorkQueue(work)

    async def during() -> None:
        for _ in range(5):
            queue.wake(A)
        await asyncio.sleep(1)

    await serve(queue, during)
    assert work.times(A) == [0]


async def test_wake_while_being_worked_works_once_more_and_never_overlaps() -> None:
    work = Worker(takes_s=10)
    queue = WorkQueue(work)

    async def during() -> None:
        queue.wake(A)
        for second in range(1, 9):
            await asyncio.sleep(1)
            assert second == now()
            queue.wake(A)
        await asyncio.sleep(30)

    await serve(queue, during)
    assert work.times(A) == [0, 10]


async def test_workers_limit_how_many_keys_are_worked_at_once() -> None:
    work = Worker(takes_s=1)
    queue = WorkQueue(work, workers=3)

    async def during() -> None:
        for number in range(9):
            queue.wake(("ns", str(number)))
        await asyncio.sleep(10)

    await serve(queue, during)
    assert work.most_running == 3
    assert [at for _, at in work.began] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_a_key_that_always_wants_more_does_not_starve_the_others() -> None:
    work = Worker(takes_s=1, then=lambda key, number: 0 if key == A else None)
    queue = WorkQueue(work, workers=1)

    async def during() -> None:
        queue.wake(A)
        await asyncio.sleep(0.5)
        queue.wake(B)
        queue.wake(C)
        await asyncio.sleep(4)

    await serve(queue, during)
    assert [key for key, _ in work.began][:4] == [A, B, C, A]


async def test_a_pass_that_asks_for_seconds_is_worked_again_then() -> None:
    work = Worker(takes_s=1, then=lambda key, number: 5 if number < 3 else None)
    queue = WorkQueue(work)

    async def during() -> None:
        queue.wake(A)
        await asyncio.sleep(60)

    await serve(queue, during)
    assert work.times(A) == [0, 6, 12]


@pytest.mark.parametrize(
    ("deadlines", "expected"),
    [
        pytest.param([10.0, 20.0], [10.0], id="a later deadline does not move the earlier one"),
        pytest.param([20.0, 10.0], [10.0], id="an earlier deadline replaces the later one"),
        pytest.param([-5.0], [0.0], id="a deadline in the past is now"),
    ],
)
async def test_wake_at(deadlines: list[float], expected: list[float]) -> None:
    work = Worker()
    queue = WorkQueue(work)

    async def during() -> None:
        for deadline in deadlines:
            queue.wake_at(A, deadline)
        await asyncio.sleep(100)

    await serve(queue, during)
    assert work.times(A) == expected


async def test_a_wake_replaces_the_timer() -> None:
    work = Worker()
    queue = WorkQueue(work)

    async def during() -> None:
        queue.wake_at(A, 10)
        await asyncio.sleep(4)
        queue.wake(A)
        await asyncio.sleep(60)

    await serve(queue, during)
    assert work.times(A) == [4]


async def test_a_timer_set_during_the_pass_survives_when_it_is_earlier_than_what_the_pass_asks_for() -> None:
    work = Worker(takes_s=1, then=lambda key, number: 30 if number == 1 else None)
    queue = WorkQueue(work)

    async def during() -> None:
        queue.wake(A)
        await asyncio.sleep(0.5)
        queue.wake_at(A, 7)
        await asyncio.sleep(100)

    await serve(queue, during)
    assert work.times(A) == [0, 7]


async def test_a_failing_key_backs_off_alone_and_starts_over_after_a_success(caplog: pytest.LogCaptureFixture) -> None:
    def then(key: Key, number: int) -> float | None:
        if key == A and number <= 8:
            raise ValueError("broken")
        if key == A and number == 9:
            return 100
        if key == A and number == 10:
            raise ValueError("broken again")
        return None

    work = Worker(then=then)
    queue = WorkQueue(work)

    async def during() -> None:
        queue.wake(A)
        await asyncio.sleep(0.5)
        queue.wake(B)
        await asyncio.sleep(1000)

    with caplog.at_level(logging.CRITICAL):
        await serve(queue, during)
    times = work.times(A)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == [1, 2, 4, 8, 16, 32, BACKOFF_MAX_S, BACKOFF_MAX_S, 100, 1]
    assert work.times(B) == [0.5]


async def test_an_expected_failure_is_logged_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def then(key: Key, number: int) -> float | None:
        raise OSError("try later") if key == A else ValueError("a bug")

    queue = WorkQueue(Worker(then=then), expected=(OSError,))

    async def during() -> None:
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(0.5)

    await serve(queue, during)
    traced = {record.getMessage(): bool(record.exc_info) for record in caplog.records}
    assert traced == {"pass failed: try later": False, "pass failed: a bug": True}


async def test_a_wake_does_not_wait_for_the_back_off(caplog: pytest.LogCaptureFixture) -> None:
    def then(key: Key, number: int) -> float | None:
        if number < 5:
            raise ValueError("broken")
        return None

    work = Worker(then=then)
    queue = WorkQueue(work)

    async def during() -> None:
        queue.wake(A)
        await asyncio.sleep(3.5)  # passes at 0, 1 and 3, the next would be at 7
        queue.wake(A)
        await asyncio.sleep(100)

    with caplog.at_level(logging.CRITICAL):
        await serve(queue, during)
    assert work.times(A) == [0, 1, 3, 3.5, 11.5]


async def test_drain_lets_running_passes_end_and_starts_no_other() -> None:
    work = Worker(takes_s=10)
    queue = WorkQueue(work, workers=1)
    running = asyncio.create_task(queue.run())
    queue.wake(A)
    queue.wake(B)
    await asyncio.sleep(1)
    queue.wake(A)
    queue.drain()
    queue.wake(C)
    queue.wake_at(C, 2)
    await running
    assert work.ended == [(A, 10)]
    assert work.times(B) == work.times(C) == []


async def test_forget_drops_the_place_in_line_and_the_timer() -> None:
    work = Worker()
    queue = WorkQueue(work)

    async def during() -> None:
        queue.wake(A)
        queue.forget(A)
        queue.wake_at(B, 5)
        queue.forget(B)
        queue.wake(C)
        queue.forget(C)
        queue.wake(C)
        await asyncio.sleep(60)

    await serve(queue, during)
    assert work.began == [(C, 0)]


async def test_the_observer_sees_depth_latency_and_results(caplog: pytest.LogCaptureFixture) -> None:
    class Recorder(QueueObserver):
        def __init__(self) -> None:
            self.waits: list[float] = []
            self.results: list[tuple[str, float]] = []
            self.depths: list[tuple[int, int]] = []

        def began(self, waited_s: float) -> None:
            self.waits.append(waited_s)

        def ended(self, result: str, took_s: float) -> None:
            self.results.append((result, took_s))

        def changed(self, ready: int, working: int) -> None:
            self.depths.append((ready, working))

    def then(key: Key, number: int) -> float | None:
        if key == B:
            raise ValueError("broken")
        return None

    recorder = Recorder()
    queue = WorkQueue(Worker(takes_s=2, then=then), workers=1, observer=recorder)

    async def during() -> None:
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(3)
        assert queue.longest_running_s() == 1
        await asyncio.sleep(1.5)

    with caplog.at_level(logging.CRITICAL):
        await serve(queue, during)
    assert recorder.waits == [0, 2]
    assert recorder.results == [("ok", 2), ("error", 2)]
    assert recorder.depths[:4] == [(1, 0), (2, 0), (1, 1), (1, 0)]
    assert queue.longest_running_s() == 0
