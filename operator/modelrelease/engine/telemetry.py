"""What the operator says about itself: log lines, metrics, and the three HTTP paths that serve probes and Prometheus.

Others call the small functions here; none of them raises or waits. What metrics there are stands in engine.metrics, and
engine.release_series has those of single releases.

The rule it keeps: nothing decides by anything that is counted here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from modelrelease import __version__
from modelrelease.api.reasons import Phase
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.prometheus import PrometheusClient, Series
from modelrelease.core.observation import AliasTarget, Lookup, Missing, Samples, Unavailable
from modelrelease.core.version_facts import Part
from modelrelease.core.wants import AliasWrite, TagWrite

from .metrics import (
    API_REQUESTS,
    API_SECONDS,
    BUILD,
    CHECK_RESULTS,
    DECISION_SECONDS,
    DELIVERIES,
    DELIVERIES_FAILING,
    EVIDENCE_AGE_SECONDS,
    GATE_RESULTS,
    LEADER,
    PROMETHEUS_REQUESTS,
    PROMETHEUS_SECONDS,
    QUEUE_DEPTH,
    QUEUE_OLDEST_SECONDS,
    QUEUE_SECONDS,
    RECONCILE_SECONDS,
    RECONCILES,
    RECORDS,
    RECORDS_DROPPED,
    RECORDS_WAITING,
    REGISTRY_REQUESTS,
    REGISTRY_SECONDS,
    RELEASES,
    ROLLBACK_SECONDS,
    ROLLOUTS,
    WORKING,
    WORKING_SECONDS,
)
from .queue import Key, QueueObserver, WorkQueue
from .refresh import Alias, Registry, Tag
from .release_series import ReleaseSeries

Answer = TypeVar("Answer")

decisions = logging.getLogger("modelrelease.decisions")

_phase_of: dict[Key, str] = {}
_judged_at: dict[Key, datetime] = {}
_failing: dict[str, set[Key]] = {}
_series = ReleaseSeries()
REGISTRY.register(_series)


class QueueMetrics(QueueObserver):
    """Puts what the queue tells into metrics."""

    def began(self, waited_s: float) -> None:
        QUEUE_SECONDS.observe(waited_s)

    def ended(self, result: str, took_s: float) -> None:
        RECONCILES.labels(result).inc()
        RECONCILE_SECONDS.observe(took_s)

    def changed(self, ready: int, working: int) -> None:
        QUEUE_DEPTH.set(ready)
        WORKING.set(working)


def api_request(verb: str, kind: str, code: str, seconds: float) -> None:
    """Count one request to the Kubernetes API."""
    API_REQUESTS.labels(verb, kind, code).inc()
    outcome = "ok" if code.startswith("2") else "refused" if code.startswith("4") else "failed"
    API_SECONDS.labels(verb, outcome).observe(seconds)


def leading(is_leader: bool) -> None:
    """Say whether this replica leads."""
    LEADER.set(is_leader)


def observe_release(key: Key, before: ModelReleaseStatus, after: ModelReleaseStatus) -> None:
    """Count the release under its phase, and what ended since `before`. Call it in every pass, changed or not."""
    former = _phase_of.get(key)
    if former != after.phase:
        if former is not None:
            RELEASES.labels(former).dec()
        RELEASES.labels(after.phase).inc()
        _phase_of[key] = after.phase
    _series.see(key, after)
    _count_verdicts(before, after)
    for entry in after.history:
        if entry in before.history:
            break
        ROLLOUTS.labels(entry.outcome).inc()
    RECORDS_DROPPED.inc(max(0, after.records_dropped - before.records_dropped))
    done = after.last_rollback
    if done is not None and done.seconds is not None:
        known = before.last_rollback
        if known is None or known.seconds is None or known.decided_at != done.decided_at:
            ROLLBACK_SECONDS.observe(done.seconds)


def _count_verdicts(before: ModelReleaseStatus, after: ModelReleaseStatus) -> None:
    for counter, old, new in (
        (GATE_RESULTS, before.gates, after.gates),
        (CHECK_RESULTS, before.checks, after.checks),
    ):
        known = {item.name: item.verdict for item in old}
        for item in new:
            if known.get(item.name) != item.verdict:
                counter.labels(item.verdict).inc()


def decided(seconds: float) -> None:
    """Count a pass that decided something new, so long after it began."""
    DECISION_SECONDS.observe(max(0.0, seconds))


def evidence_judged(key: Key, samples: Samples, now: datetime) -> None:
    """Say how old a release's newest samples were when a pass judged them for the first time."""
    newest = samples.polls[-1].at if samples.polls else None
    if newest is not None and newest != _judged_at.get(key):
        _judged_at[key] = newest
        EVIDENCE_AGE_SECONDS.observe(max(0.0, (now - newest).total_seconds()))


def record_created(outcome: str) -> None:
    """Count one ReleaseRecord."""
    RECORDS.labels(outcome).inc()
    RECORDS_WAITING.inc()


def record_exported() -> None:
    """One record less that somebody has yet to be told of."""
    RECORDS_WAITING.dec()


def records_waiting(count: int) -> None:
    """Say how many records are not exported yet, counted anew."""
    RECORDS_WAITING.set(count)


def delivery(sink: str, result: str) -> None:
    """Count one attempt to tell a sink; result is ok or failed."""
    DELIVERIES.labels(sink, result).inc()


def sink_failing(sink: str, key: Key, failing: bool) -> None:
    """Say whether the sink refused the next record of a release when it was last tried."""
    known = _failing.setdefault(sink, set())
    if failing:
        known.add(key)
    else:
        known.discard(key)
    DELIVERIES_FAILING.labels(sink).set(len(known))


def forget_release(key: Key) -> None:
    """The release is gone."""
    _series.forget(key)
    _judged_at.pop(key, None)
    phase = _phase_of.pop(key, None)
    if phase is not None:
        RELEASES.labels(phase).dec()


def log_decision(key: Key, *, generation: int, old: str, new: str, reason: str, note: str = "") -> None:
    """One line for a decision that changed something."""
    decisions.info(
        note or f"{old} -> {new}",
        extra={"key": "/".join(key), "generation": generation, "from": old, "to": new, "reason": reason},
    )


class CountedRegistry:
    """A registry client whose calls are counted by their outcome."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def read_version(self, model: str, version: str, parts: frozenset[Part], source: str = "") -> Lookup:
        """As the registry does."""
        return _counted("read_version", lambda: self._registry.read_version(model, version, parts, source))

    def read_alias(self, model: str, alias: str) -> Alias:
        """As the registry does."""
        return _counted("read_alias", lambda: self._registry.read_alias(model, alias))

    def read_aliases(
        self, wanted: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], AliasTarget | Missing] | Unavailable:
        """As the registry does."""
        return _counted("read_aliases", lambda: self._registry.read_aliases(wanted))

    def write_alias(self, write: AliasWrite) -> Alias:
        """As the registry does."""
        return _counted("write_alias", lambda: self._registry.write_alias(write))

    def write_tag(self, write: TagWrite) -> Tag:
        """As the registry does."""
        return _counted("write_tag", lambda: self._registry.write_tag(write))


class CountedPrometheus:
    """A Prometheus client whose queries are counted by their outcome."""

    def __init__(self, prometheus: PrometheusClient) -> None:
        self._prometheus = prometheus

    def instant(
        self, query: str, at: datetime, *, timeout_s: float | None = None, limit: int | None = None
    ) -> list[Series] | Unavailable:
        """As the client does."""
        began = time.monotonic()
        answer = self._prometheus.instant(query, at, timeout_s=timeout_s, limit=limit)
        PROMETHEUS_SECONDS.labels(_kind_of(answer)).observe(time.monotonic() - began)
        PROMETHEUS_REQUESTS.labels(_outcome(answer)).inc()
        return answer


def _counted(call: str, ask: Callable[[], Answer]) -> Answer:
    began = time.monotonic()
    answer = ask()
    REGISTRY_SECONDS.labels(call, _kind_of(answer)).observe(time.monotonic() - began)
    REGISTRY_REQUESTS.labels(call, _outcome(answer)).inc()
    return answer


def _kind_of(answer: object) -> str:
    """What a histogram is split by: with all reasons it would have too many series."""
    return "refused" if isinstance(answer, Missing) else "failed" if isinstance(answer, Unavailable) else "ok"


def _outcome(answer: object) -> str:
    return str(answer.reason) if isinstance(answer, Missing | Unavailable) else "ok"


# -- log lines --

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what was given as `extra`, and the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def setup_logging(level: str) -> None:
    """Send everything to standard error as JSON lines; libraries only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("modelrelease").setLevel(level.upper())
    logging.captureWarnings(True)


# -- HTTP --

Problem = Callable[[], str | None]
"""What is wrong right now, None if nothing is."""


async def serve(
    port: int, *, health: Problem, ready: Problem, queue: WorkQueue | None = None, host: str | None = None
) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics until `cleanup()` of what is returned. Port 0 picks a free one.

    A probe that reports a problem answers 503 with its words. queue: whose ages are read for each scrape.
    """
    BUILD.labels(__version__).set(1)
    for phase in Phase:
        RELEASES.labels(phase.value)  # a phase that no release is in is 0, not absent

    async def probe(request: web.Request) -> web.Response:
        problem = (health if request.path == "/healthz" else ready)()
        return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")

    async def metrics(request: web.Request) -> web.Response:
        if queue is not None:
            QUEUE_OLDEST_SECONDS.set(queue.longest_waiting_s())
            WORKING_SECONDS.set(queue.longest_running_s())
        # A thread: ten thousand series take long enough to delay a rollback.
        body = await asyncio.to_thread(generate_latest)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/healthz", probe)
    application.router.add_get("/readyz", probe)
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
