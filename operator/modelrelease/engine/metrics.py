"""The metrics that the operator serves about itself and its work: names, labels, help texts, buckets.

Here: what there is. Not here: when something is counted (engine.telemetry), and the series of single releases
(engine.release_series). docs/operating.md lists all of them, in a table that is made from `FAMILIES`.

The rules: labels come from fixed lists (phases, verbs, kinds, outcomes, sinks), never from names, revisions or
messages, so the number of series is bounded whatever the cluster holds; seconds and ratios, no other units.
"""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

_FAST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_AGE_SECONDS = (0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300)
_ROLLBACK_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)


# They would be a second series for each counter, of which nothing makes use.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Family(NamedTuple):
    """A metric as it is exposed, with the suffix of its type."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str


FAMILIES: list[Family] = []


def _counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    FAMILIES.append(Family(f"{name}_total", "counter", labels, text))
    return Counter(name, text, labels)


def _gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
    FAMILIES.append(Family(name, "gauge", labels, text))
    return Gauge(name, text, labels)


def _histogram(
    name: str, text: str, labels: tuple[str, ...] = (), *, buckets: tuple[float, ...] = _FAST_SECONDS
) -> Histogram:
    FAMILIES.append(Family(name, "histogram", labels, text))
    return Histogram(name, text, labels, buckets=buckets)


LEADER = _gauge("modelrelease_leader", "1 in the replica that leads, else 0.")
BUILD = _gauge("modelrelease_build_info", "1, with the version of the operator.", ("version",))

RELEASES = _gauge("modelrelease_releases", "ModelReleases by phase.", ("phase",))
SERIES_OMITTED = _gauge(
    "modelrelease_release_series_omitted",
    "ModelReleases without series of their own: there are more than the limit.",
)
ROLLOUTS = _counter("modelrelease_rollouts", "Rollouts that ended, by outcome.", ("outcome",))
ROLLBACK_SECONDS = _histogram(
    "modelrelease_rollback_seconds",
    "From the verdict against a candidate to the confirmed route without it.",
    buckets=_ROLLBACK_SECONDS,
)
GATE_RESULTS = _counter(
    "modelrelease_gate_results", "Verdicts of gates, counted when a gate comes to another one.", ("verdict",)
)
CHECK_RESULTS = _counter(
    "modelrelease_check_results", "Verdicts of online checks, counted when a check comes to another one.", ("verdict",)
)
DECISION_SECONDS = _histogram(
    "modelrelease_decision_duration_seconds",
    "From the beginning of a pass until its new decision stood in status; passes that decided nothing do not count.",
)
EVIDENCE_AGE_SECONDS = _histogram(
    "modelrelease_evidence_age_seconds",
    "Age of the newest samples of a rollout when a pass judged it; with decision and queue time, the whole delay.",
    buckets=_AGE_SECONDS,
)

RECONCILES = _counter("modelrelease_reconcile", "Passes over a release, by result: ok or error.", ("result",))
RECONCILE_SECONDS = _histogram("modelrelease_reconcile_duration_seconds", "Time of one pass.")
QUEUE_DEPTH = _gauge("modelrelease_queue_depth", "Releases that wait for a worker.")
QUEUE_OLDEST_SECONDS = _gauge(
    "modelrelease_queue_oldest_seconds", "Since when the release waits for a worker that waits longest, 0 if none does."
)
QUEUE_SECONDS = _histogram("modelrelease_queue_wait_seconds", "Wait of a woken release for a worker.")
WORKING = _gauge("modelrelease_queue_working", "Releases that are being worked.")
WORKING_SECONDS = _gauge(
    "modelrelease_queue_longest_working_seconds", "Age of the oldest pass that runs, 0 if none does."
)

API_REQUESTS = _counter(
    "modelrelease_api_requests",
    "Requests to the Kubernetes API by verb, kind and status code, or unreachable. Watches are not among them.",
    ("verb", "kind", "code"),
)
API_SECONDS = _histogram(
    "modelrelease_api_request_duration_seconds",
    "Time of requests to the Kubernetes API; outcome: ok, refused (4xx) or failed (no answer, 5xx).",
    ("verb", "outcome"),
)
REGISTRY_REQUESTS = _counter(
    "modelrelease_registry_requests", "Calls to the model registry; outcome: ok or a reason.", ("call", "outcome")
)
REGISTRY_SECONDS = _histogram(
    "modelrelease_registry_request_duration_seconds",
    "Time of calls to the model registry; outcome: ok, refused or failed.",
    ("call", "outcome"),
)
PROMETHEUS_REQUESTS = _counter(
    "modelrelease_prometheus_requests", "Queries sent to Prometheus; outcome: ok or a reason.", ("outcome",)
)
PROMETHEUS_SECONDS = _histogram(
    "modelrelease_prometheus_request_duration_seconds",
    "Time of queries sent to Prometheus; outcome: ok or failed.",
    ("outcome",),
)

RECORDS = _counter("modelrelease_records", "ReleaseRecords created, by outcome of the rollout.", ("outcome",))
RECORDS_DROPPED = _counter(
    "modelrelease_records_dropped", "Rollouts that ended without a ReleaseRecord, as none could be created for long."
)
RECORDS_WAITING = _gauge(
    "modelrelease_records_waiting", "ReleaseRecords that somebody has yet to be told of; counted anew every hour."
)
DELIVERIES = _counter(
    "modelrelease_deliveries", "Attempts to tell of a record, by sink and result.", ("sink", "result")
)
DELIVERIES_FAILING = _gauge(
    "modelrelease_deliveries_failing",
    "Releases whose next record a sink refused when it was last tried.",
    ("sink",),
)
