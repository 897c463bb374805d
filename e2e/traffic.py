"""Constant traffic on a model behind a gateway, counted by the version that answered.

Here lives the generator: requests at a fixed rate, long streams, what came of each. What the numbers should be is the
caller's business. Rules kept: the loop is open (a slow answer does not slow the next request), and everything is
bounded: rate, requests in flight, number and time. Meant for loopback and for a test cluster's own network namespace.

It runs on a thread of its own with its own event loop, so that tests and the demo stay ordinary synchronous code.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")

VERSION_HEADER = "x-model-version"
NO_VERSION = ""
"""Stands for the version of an answer that no model server gave, or of a request that got none."""
STREAM_INTERVAL_S = 0.5
_KEPT_RECORDS = 50_000
_KEPT_FAILURES = 2_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request that came to its end."""

    ended: float
    """Seconds since the epoch."""
    status: int | None
    """None when there was no answer."""
    version: str
    latency_s: float
    problem: str
    """Empty for an answer with status 200."""

    def describe(self) -> str:
        """One line for a person."""
        at = datetime.fromtimestamp(self.ended, UTC).strftime("%H:%M:%S.%f")[:-3]
        who = f"v{self.version}" if self.version else "no model"
        return f"{at} {self.status or 'no answer'} from {who} after {self.latency_s * 1000:.0f} ms: {self.problem}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What came back within a stretch of time."""

    seconds: float
    counts: Mapping[tuple[int | None, str], int]
    """By (status, version)."""
    p50_s: float
    """Latencies are of all answers; NaN when there was none."""
    p95_s: float

    @property
    def total(self) -> int:
        """All requests, answered or not."""
        return sum(self.counts.values())

    @property
    def by_version(self) -> dict[str, int]:
        """Answers of any status, by the version that gave them."""
        return _by_version(self.counts)


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What became of a stream."""

    complete: bool
    version: str
    items: int
    seconds: float
    problem: str

    def describe(self) -> str:
        """One line for a person."""
        end = "complete" if self.complete else f"BROKEN ({self.problem})"
        return f"v{self.version or '?'} {end}, {self.items} items in {self.seconds:.1f} s"


class Stream:
    """A long answer under way."""

    def __init__(self) -> None:
        self._version: Future[str] = Future()
        self._result: Future[StreamResult]

    def version(self, timeout_s: float = 10) -> str:
        """Which version answers, as soon as its headers are here; NO_VERSION when none does. Raises TimeoutError."""
        return self._version.result(timeout_s)

    def result(self, timeout_s: float) -> StreamResult:
        """Wait for its end. Raises TimeoutError, and CancelledError after `cancel`."""
        return self._result.result(timeout_s)

    def cancel(self) -> None:
        """Hang up."""
        self._result.cancel()


@dataclass(slots=True)
class _Ledger:
    """What has come back so far; safe to read from any thread."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    recent: deque[Outcome] = field(default_factory=lambda: deque(maxlen=_KEPT_RECORDS))
    failures: deque[Outcome] = field(default_factory=lambda: deque(maxlen=_KEPT_FAILURES))
    first_failures: dict[str, float] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        with self.lock:
            self.counts[outcome.status, outcome.version] += 1
            self.recent.append(outcome)
            if outcome.problem:
                self.failures.append(outcome)
                self.first_failures.setdefault(outcome.version, outcome.ended)


class Traffic:
    """Requests on `url` (the gateway's address) for the host `hostname`, taken from `bodies` in turn.

    Each request opens a connection of its own unless `keep_alive`: reuse is cheaper, but a request sent into a
    connection that the other side is just closing fails through no fault of a server. At most `max_in_flight` requests
    wait at once; those due beyond are not sent and counted as `skipped`. It ends by itself after `max_requests` or
    `max_seconds`.
    """

    def __init__(
        self,
        url: str,
        hostname: str,
        model: str,
        bodies: Sequence[Mapping[str, Any]],
        *,
        rate: float,
        keep_alive: bool = False,
        timeout_s: float = 30,
        max_in_flight: int = 500,
        max_requests: int = 1_000_000,
        max_seconds: float = 3600,
    ) -> None:
        self.rate = rate
        self.skipped = 0
        self._predict_url = f"{url.rstrip('/')}/v1/models/{model}:predict"
        self._stream_url = f"{url.rstrip('/')}/v1/models/{model}:stream"
        self._headers = {"Host": hostname, "Content-Type": "application/json"}
        self._bodies = [json.dumps(body).encode() for body in bodies]
        # A stream is judged by its end, so it gets scans without nulls, which any model can read.
        whole = [body["instances"][0] for body in bodies if None not in body["instances"][0]]
        self._stream_instance = whole[0] if whole else None
        self._keep_alive = keep_alive
        self._timeout_s = timeout_s
        self._max_in_flight, self._max_requests, self._max_seconds = max_in_flight, max_requests, max_seconds
        self._ledger = _Ledger()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: aiohttp.ClientSession
        self._sending: Future[None] | None = None

    def start(self) -> None:
        """Begin to send; returns at once. Does nothing when it sends already."""
        if self._sending is None or self._sending.done():
            self._sending = self._submit(self._send())

    def stop(self) -> None:
        """Send no more, wait for the answers due, hang up the streams. What was counted stays readable."""
        if self._loop is None or self._thread is None:
            return
        if self._sending is not None:
            self._sending.cancel()
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(self._timeout_s + 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = self._sending = None

    def snapshot(self, last_s: float = 5) -> Snapshot:
        """What came back within the last seconds, as far as the last 50,000 requests reach."""
        since = time.time() - last_s
        with self._ledger.lock:
            recent = [outcome for outcome in self._ledger.recent if outcome.ended >= since]
        latencies = sorted(outcome.latency_s for outcome in recent if outcome.status is not None)
        counts = Counter((outcome.status, outcome.version) for outcome in recent)
        return Snapshot(last_s, counts, _quantile(latencies, 0.5), _quantile(latencies, 0.95))

    def counts(self) -> dict[tuple[int | None, str], int]:
        """All requests so far by (status, version)."""
        with self._ledger.lock:
            return dict(self._ledger.counts)

    def by_version(self) -> dict[str, int]:
        """Answers of any status so far, by the version that gave them."""
        return _by_version(self.counts())

    def served(self, version: str) -> int:
        """Answers with status 200 so far that this version gave."""
        return self.counts().get((200, version), 0)

    def failures(self, but_of: Collection[str] = ()) -> list[str]:
        """A line for each of the last 2,000 failed requests, less those that these versions answered."""
        with self._ledger.lock:
            return [outcome.describe() for outcome in self._ledger.failures if outcome.version not in but_of]

    def first_failure_of(self, version: str) -> float:
        """When this version first answered with an error, in seconds since the epoch; raises LookupError if never."""
        with self._ledger.lock:
            if version not in self._ledger.first_failures:
                raise LookupError(f"v{version} has not failed a request")
            return self._ledger.first_failures[version]

    def describe(self, last_s: float = 5) -> str:
        """One line for a person: totals, and the last seconds."""
        totals = ", ".join(
            f"{count} x {status or 'no answer'} {f'v{version}' if version else 'no model'}"
            for (status, version), count in sorted(
                self.counts().items(), key=lambda item: (item[0][1], item[0][0] or 0)
            )
        )
        now = self.snapshot(last_s)
        shares = ", ".join(f"v{version} {count / now.total:.0%}" for version, count in sorted(now.by_version.items()))
        latency = f"p50 {now.p50_s * 1000:.0f} ms, p95 {now.p95_s * 1000:.0f} ms" if now.total else "no answers"
        skipped = f"; {self.skipped} not sent" if self.skipped else ""
        return f"{totals or 'nothing yet'}{skipped} | last {last_s:.0f} s: {shares or '-'}; {latency}"

    def open_stream(self, seconds: float) -> Stream:
        """Begin a stream that lasts so long; it runs beside the requests, and also without them."""
        if self._stream_instance is None:
            raise ValueError("no request body without nulls to make a stream of")
        stream = Stream()
        stream._result = self._submit(self._read_stream(stream, max(2, math.ceil(seconds / STREAM_INTERVAL_S) + 1)))
        return stream

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="traffic", daemon=True)
            self._thread.start()
            asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _open(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=not self._keep_alive)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)

    async def _finish(self) -> None:
        me = asyncio.current_task()
        tasks = {task for task in asyncio.all_tasks() if task is not me}
        for task in tasks:
            if task.get_name().startswith("stream"):
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    async def _send(self) -> None:
        """Send at the rate's own grid: what a busy machine delays is caught up, not lost."""
        began = time.monotonic()
        in_flight: set[asyncio.Task[None]] = set()
        for number, body in zip(range(self._max_requests), itertools.cycle(self._bodies), strict=False):
            due = began + number / self.rate
            if due - began > self._max_seconds:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(in_flight) >= self._max_in_flight:
                self.skipped += 1
                continue
            task = asyncio.create_task(self._request(body))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)

    async def _request(self, body: bytes) -> None:
        began = time.perf_counter()
        status, version, problem = None, NO_VERSION, ""
        try:
            async with asyncio.timeout(self._timeout_s), self._session.post(self._predict_url, data=body) as response:
                status, version = response.status, response.headers.get(VERSION_HEADER, NO_VERSION)
                text = await response.text()
            if status != 200:
                problem = text.strip()[:200] or response.reason or "no text"
            elif "predictions" not in text:
                problem = f"not a prediction: {text[:200]}"
        except TimeoutError:
            status, problem = None, f"no answer within {self._timeout_s:.0f} s"
        except (aiohttp.ClientError, OSError) as error:
            status, problem = None, f"{type(error).__name__}: {error}"
        self._ledger.add(Outcome(time.time(), status, version, time.perf_counter() - began, problem))

    async def _read_stream(self, stream: Stream, items: int) -> StreamResult:
        task = asyncio.current_task()
        assert task is not None, "runs in a task"
        task.set_name("stream")
        body = {"instances": [self._stream_instance] * items, "interval_ms": STREAM_INTERVAL_S * 1000}
        began, seen, version, problem, done = time.perf_counter(), 0, NO_VERSION, "", False
        # Silence is what breaks a stream, not its length.
        timeout = aiohttp.ClientTimeout(total=None, sock_read=self._timeout_s)
        try:
            async with self._session.post(self._stream_url, json=body, timeout=timeout) as response:
                version = response.headers.get(VERSION_HEADER, NO_VERSION)
                stream._version.set_result(version)
                async for text in response.content:
                    line = json.loads(text) if response.status == 200 else {"error": f"{response.status} {text!r}"}
                    seen += "prediction" in line
                    done = done or "done" in line
                    problem = problem or str(line.get("error", ""))
            problem = problem or ("" if done else "it ended before its last line")
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            if not stream._version.done():
                stream._version.set_result(version)
        return StreamResult(done and seen == items, version, seen, time.perf_counter() - began, problem)


def _by_version(counts: Mapping[tuple[int | None, str], int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (status, version), count in counts.items():
        if status is not None and version != NO_VERSION:
            found[version] += count
    return dict(found)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of sorted values; NaN of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
