"""What the operator says about itself: log lines, metrics, and the three HTTP paths that serve probes and Prometheus.

Others call the small functions here; none of them raises or waits. Labels come from fixed lists (phases, verbs, kinds,
outcomes), never from names of releases: what is known of one release stands in its status.

The rule it keeps: nothing decides by anything that is counted here.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from modelrelease import __version__
from modelrelease.api.reasons import Phase
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.prometheus import PrometheusClient, Series
from modelrelease.core.observation import Lookup, Missing, Unavailable
from modelrelease.core.version_facts import Part
from modelrelease.core.wants import AliasWrite, TagWrite

from .queue import Key, QueueObserver
from .refresh import Alias, Registry, Tag

_PASS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROLLBACK_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)

RECONCILES = Counter("modelrelease_reconcile", "Passes over a release, by result: ok or error.", ["result"])
RECONCILE_SECONDS = Histogram("modelrelease_reconcile_duration_seconds", "Time of one pass.", buckets=_PASS_SECONDS)
QUEUE_SECONDS = Histogram(
    "modelrelease_queue_wait_seconds", "Wait of a woken release for a worker.", buckets=_PASS_SECONDS
)
QUEUE_DEPTH = Gauge("modelrelease_queue_depth", "Releases that wait for a worker.")
WORKING = Gauge("modelrelease_queue_working", "Releases that are being worked.")
API_REQUESTS = Counter(
    "modelrelease_api_requests",
    "Requests to the Kubernetes API by verb, kind and status code, or unreachable.",
    ["verb", "kind", "code"],
)
REGISTRY_REQUESTS = Counter("modelrelease_registry_requests", "Calls to the model registry.", ["call", "outcome"])
PROMETHEUS_REQUESTS = Counter("modelrelease_prometheus_requests", "Queries sent to Prometheus.", ["outcome"])
RELEASES = Gauge("modelrelease_releases", "ModelReleases by phase.", ["phase"])
ROLLOUTS = Counter("modelrelease_rollouts", "Rollouts that ended, by outcome.", ["outcome"])
ROLLBACK_SECONDS = Histogram(
    "modelrelease_rollback_seconds",
    "From the verdict against a candidate to the confirmed route without it.",
    buckets=_ROLLBACK_SECONDS,
)
RECORDS = Counter("modelrelease_records", "ReleaseRecords created, by outcome of the rollout.", ["outcome"])
RECORDS_DROPPED = Counter(
    "modelrelease_records_dropped", "Rollouts that ended without a ReleaseRecord, as none could be created for long."
)
RECORDS_WAITING = Gauge("modelrelease_records_waiting", "ReleaseRecords that somebody had yet to be told of, hourly.")
DELIVERIES = Counter("modelrelease_deliveries", "Attempts to tell of a record, by sink and result.", ["sink", "result"])
LEADER = Gauge("modelrelease_leader", "1 in the replica that leads, else 0.")
BUILD = Gauge("modelrelease_build_info", "Version of the operator.", ["version"])

Answer = TypeVar("Answer")

decisions = logging.getLogger("modelrelease.decisions")

_phase_of: dict[Key, str] = {}


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


def api_request(verb: str, kind: str, code: str) -> None:
    """Count one request to the Kubernetes API."""
    API_REQUESTS.labels(verb, kind, code).inc()


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


def record_created(outcome: str) -> None:
    """Count one ReleaseRecord."""
    RECORDS.labels(outcome).inc()


def records_waiting(count: int) -> None:
    """Say how many records are not exported yet."""
    RECORDS_WAITING.set(count)


def delivery(sink: str, result: str) -> None:
    """Count one attempt to tell a sink; result is ok or failed."""
    DELIVERIES.labels(sink, result).inc()


def forget_release(key: Key) -> None:
    """The release is gone."""
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

    def read_version(self, model: str, version: str, parts: frozenset[Part]) -> Lookup:
        """As the registry does."""
        return _counted("read_version", self._registry.read_version(model, version, parts))

    def read_alias(self, model: str, alias: str) -> Alias:
        """As the registry does."""
        return _counted("read_alias", self._registry.read_alias(model, alias))

    def write_alias(self, write: AliasWrite) -> Alias:
        """As the registry does."""
        return _counted("write_alias", self._registry.write_alias(write))

    def write_tag(self, write: TagWrite) -> Tag:
        """As the registry does."""
        return _counted("write_tag", self._registry.write_tag(write))


class CountedPrometheus:
    """A Prometheus client whose queries are counted by their outcome."""

    def __init__(self, prometheus: PrometheusClient) -> None:
        self._prometheus = prometheus

    def instant(
        self, query: str, at: datetime, *, timeout_s: float | None = None, limit: int | None = None
    ) -> list[Series] | Unavailable:
        """As the client does."""
        answer = self._prometheus.instant(query, at, timeout_s=timeout_s, limit=limit)
        PROMETHEUS_REQUESTS.labels(_outcome(answer)).inc()
        return answer


def _counted(call: str, answer: Answer) -> Answer:
    REGISTRY_REQUESTS.labels(call, _outcome(answer)).inc()
    return answer


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


async def serve(port: int, *, health: Problem, ready: Problem, host: str | None = None) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics until `cleanup()` of what is returned. Port 0 picks a free one.

    A probe that reports a problem answers 503 with its words.
    """
    BUILD.labels(__version__).set(1)
    for phase in Phase:
        RELEASES.labels(phase.value)  # a phase that no release is in is 0, not absent

    async def probe(request: web.Request) -> web.Response:
        problem = (health if request.path == "/healthz" else ready)()
        return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/healthz", probe)
    application.router.add_get("/readyz", probe)
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
