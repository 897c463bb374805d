"""Series of single releases: phase, conditions, weight, what checks and gates say. Made when Prometheus asks.

They are read from the status that a pass decided; nothing is computed here that status does not say. A series lives as
long as what it speaks of: it goes with the release, and those of checks and weight go with the candidate.

The rules: at most `limit` releases have series, those that do not rest first, so trouble is never what is left out; no
label is a revision, a version or a message. What names a thing by the user's words (a check, a gate) is bounded by the
schema (32 and 64 a release) and shown only while there is a candidate, or a phase that a gate brought about.

`collect` runs in a thread of its own; it copies what it shows first, in one step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelrelease.api.reasons import Phase
from modelrelease.api.status import ModelReleaseStatus, Outcome

from .metrics import FAMILIES, SERIES_OMITTED, Family
from .queue import Key

LIMIT = 1000
"""Releases that have series; with one candidate, three checks and three gates a release has about 15."""

CONDITIONS = ("Serving", "EvidenceAvailable", "Ready")
_RELEASE = ("namespace", "release")
_TEXTS = {
    "modelrelease_release_phase": (
        ("phase", "reason"),
        "1 for the phase that a release is in, with its reason.",
    ),
    "modelrelease_release_phase_since_timestamp_seconds": (
        (),
        "Since when it has been in this phase for this reason.",
    ),
    "modelrelease_release_condition": (
        ("condition", "reason"),
        f"1 if True, 0 if False; {', '.join(CONDITIONS)}. Absent while Unknown.",
    ),
    "modelrelease_release_weight_ratio": ((), "Share of the traffic that the candidate has; absent without one."),
    "modelrelease_release_check": (("check", "verdict"), "1 for the verdict of an online check of the candidate."),
    "modelrelease_release_check_evidence_ratio": (
        ("check",),
        "How much of the evidence that a rollback needs a check has seen.",
    ),
    "modelrelease_release_gate": (("gate", "verdict"), "1 for the verdict of a gate, while it bears on a candidate."),
    "modelrelease_release_rollback_unconfirmed_since_timestamp_seconds": (
        (),
        "When the rollback was decided whose route no gateway has confirmed yet; absent otherwise.",
    ),
}
FAMILIES += [Family(name, "gauge", (*_RELEASE, *labels), text) for name, (labels, text) in _TEXTS.items()]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the series of one release say; as little as that, because there may be thousands."""

    phase: str
    reason: str
    since: datetime | None
    conditions: tuple[tuple[str, str, bool], ...]
    weight: int | None
    checks: tuple[tuple[str, str, int], ...]
    gates: tuple[tuple[str, str], ...]
    unconfirmed_since: datetime | None


class ReleaseSeries(Collector):
    """What is known of each release by now."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._seen: dict[Key, _Seen] = {}

    def see(self, key: Key, status: ModelReleaseStatus) -> None:
        """Replace what is known of a release."""
        self._seen[key] = _read(status)
        SERIES_OMITTED.set(max(0, len(self._seen) - self._limit))

    def forget(self, key: Key) -> None:
        """The release is gone."""
        self._seen.pop(key, None)
        SERIES_OMITTED.set(max(0, len(self._seen) - self._limit))

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """All families, empty."""
        return _families().values()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All series of the releases within the limit."""
        families = _families()
        for key, seen in self._shown():
            for name, labels, value in _series(seen):
                families[f"modelrelease_release_{name}"].add_metric([*key, *labels], value)
        return families.values()

    def _shown(self) -> list[tuple[Key, _Seen]]:
        known = list(self._seen.items())
        if len(known) > self._limit:
            known.sort(key=lambda item: (_rests(item[1]), item[0]))
        return known[: self._limit]


def _rests(seen: _Seen) -> bool:
    return seen.phase == Phase.PROMOTED and all(value for kind, _, value in seen.conditions if kind == "Serving")


def _families() -> dict[str, GaugeMetricFamily]:
    return {name: GaugeMetricFamily(name, text, labels=[*_RELEASE, *labels]) for name, (labels, text) in _TEXTS.items()}


def _series(seen: _Seen) -> Iterable[tuple[str, tuple[str, ...], float]]:
    yield "phase", (seen.phase, seen.reason), 1
    if seen.since is not None:
        yield "phase_since_timestamp_seconds", (), seen.since.timestamp()
    for kind, reason, value in seen.conditions:
        yield "condition", (kind, reason), value
    if seen.weight is not None:
        yield "weight_ratio", (), seen.weight / 100
    for name, verdict, percent in seen.checks:
        yield "check", (name, verdict), 1
        yield "check_evidence_ratio", (name,), percent / 100
    for name, verdict in seen.gates:
        yield "gate", (name, verdict), 1
    if seen.unconfirmed_since is not None:
        yield "rollback_unconfirmed_since_timestamp_seconds", (), seen.unconfirmed_since.timestamp()


def _read(status: ModelReleaseStatus) -> _Seen:
    candidate = status.candidate
    reasons = {item.type: item.reason for item in status.conditions}
    returning = candidate.returning if candidate else None
    unconfirmed = returning is not None and returning.outcome is Outcome.ROLLED_BACK and returning.confirmed_at is None
    weight = getattr(status.traffic, candidate.slot) if candidate and status.traffic else None
    judged = candidate is not None or status.phase in (Phase.GATING, Phase.BLOCKED)
    return _Seen(
        phase=status.phase,
        reason=reasons.get("Progressing", ""),
        since=status.summary.since,
        conditions=tuple(
            (item.type, item.reason, item.status == "True")
            for item in status.conditions
            if item.type in CONDITIONS and item.status != "Unknown"
        ),
        weight=weight if weight is not None else 0 if candidate else None,
        checks=tuple((item.name, item.verdict, item.evidence_percent) for item in status.checks) if candidate else (),
        gates=tuple((item.name, item.verdict) for item in status.gates) if judged else (),
        unconfirmed_since=returning.since if returning is not None and unconfirmed else None,
    )
