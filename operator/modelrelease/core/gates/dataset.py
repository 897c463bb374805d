"""The gate dataset: how fresh, complete, documented and real the data are, by the tags of the run's dataset inputs."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from modelrelease.api.registry_gates import DatasetGate
from modelrelease.api.status import GateStatus

from .. import lineage
from ..observation import ModelVersion
from ..version_facts import DatasetInput
from .context import Context
from .findings import Findings, unread

COLLECTED_TAG = "collected_at"
DOCUMENTATION_TAG = "documentation"
SYNTHETIC_TAG = "synthetic_share"
_CLOCK_SKEW = timedelta(days=1)  # also time zones: a date of tomorrow may be today where it was written
_TOLERANCE = 1e-9


def judge(
    name: str, gate: DatasetGate, candidate: ModelVersion, _: ModelVersion | None, context: Context
) -> GateStatus:
    """Every data set of the context must hold every bound; an absent or unreadable tag is InsufficientData."""
    if not lineage.was_read(candidate):
        return unread(name, "the run")
    run, found = candidate.run, Findings()
    if run is None or run.deleted:
        gone = f"run {run.id} is deleted" if run else f"version {candidate.version} names no run"
        found.lacking.append(f"{gone}: its data sets are not known")
        return found.conclude(name)
    inputs = [item for item in run.inputs if item.context == gate.context and gate.name in (None, item.name)]
    if not inputs:
        which = f"data set {gate.name}" if gate.name else "data set"
        found.lacking.append(
            f"no {gate.context} {which} is logged; call mlflow.log_input(data, context='{gate.context}', tags={{...}})"
        )
    for item in inputs:
        _one(item, gate, context.now, found)
    return found.conclude(name, dataset=inputs[0].shown if inputs else None, source=f"run {run.id}")


def _one(item: DatasetInput, gate: DatasetGate, now: datetime, found: Findings) -> None:
    seen: list[str] = []
    for dimension, least in (gate.min or {}).items():
        value = _number(item, dimension, found)
        if value is not None:
            words = f"{dimension} {value:g}, needs {least:g}"
            _sort(value >= least - _TOLERANCE, item, words, seen, found)
    if gate.max_synthetic_share is not None:
        value = _number(item, SYNTHETIC_TAG, found)
        if value is not None and not 0 <= value <= 1:
            found.lacking.append(
                f"{item.name}: tag {SYNTHETIC_TAG} is {item.tags[SYNTHETIC_TAG]!r}, no share of 0 to 1"
            )
        elif value is not None:
            words = f"{value:.4g} of it synthetic, allowed {gate.max_synthetic_share:g}"
            _sort(value <= gate.max_synthetic_share + _TOLERANCE, item, words, seen, found)
    if gate.max_age_days is not None:
        _age(item, gate.max_age_days, now, seen, found)
    if gate.require_documentation:
        if documentation := item.tags.get(DOCUMENTATION_TAG, "").strip():
            seen.append(f"documented in {documentation}")
        else:
            found.lacking.append(f"{item.name} is not documented; log the tag {DOCUMENTATION_TAG} with it")
    if seen:
        found.seen.append(f"{item.name}: {', '.join(seen)}")


def _age(item: DatasetInput, allowed: int, now: datetime, seen: list[str], found: Findings) -> None:
    text = item.tags.get(COLLECTED_TAG)
    if text is None:
        found.lacking.append(f"{item.name}: tag {COLLECTED_TAG} is not logged")
        return
    collected = _date(text.strip())
    if collected is None:
        found.lacking.append(f"{item.name}: tag {COLLECTED_TAG} is {_quoted(text)}, no date such as 2026-01-31")
    elif collected > now + _CLOCK_SKEW:
        found.lacking.append(f"{item.name}: tag {COLLECTED_TAG} is {_quoted(text)}, which is yet to come")
    else:
        words = f"collected {text.strip()}, allowed {allowed} days"
        _sort(now - collected <= timedelta(days=allowed), item, words, seen, found)


def _sort(ok: bool, item: DatasetInput, words: str, seen: list[str], found: Findings) -> None:
    if ok:
        seen.append(words)
    else:
        found.failed.append(f"{item.name}: {words}")


def _number(item: DatasetInput, name: str, found: Findings) -> float | None:
    text = item.tags.get(name)
    if text is None:
        found.lacking.append(f"{item.name}: tag {name} is not logged")
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        found.lacking.append(f"{item.name}: tag {name} is {_quoted(text)}, no number")
        return None
    return value


def _date(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _quoted(text: str) -> str:
    return repr(text[:60])
