"""Gates over logged metrics: one metric, or one metric on every slice, against fixed bounds and the champion."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelrelease.api.gates import ChampionBound, MetricGate, SliceGate
from modelrelease.api.status import GateStatus

from ..observation import MetricValue, ModelVersion
from .context import Context

_TOLERANCE = 1e-9  # of floats that went through a database and JSON
_SHOWN_SLICES = 3


@dataclass(frozen=True, slots=True)
class _Finding:
    """One metric against its bounds: ok, and the words for it."""

    ok: bool
    words: str
    value: float | None = None
    champion: float | None = None
    threshold: float | None = None
    lacking: bool = False


def metric(
    name: str, gate: MetricGate, candidate: ModelVersion, champion: ModelVersion | None, context: Context
) -> GateStatus:
    """One metric; InsufficientData where it was not logged, or cannot be compared with the champion's."""
    found = _lookup(candidate, gate.name, gate.dataset)
    if isinstance(found, str):
        return GateStatus(name=name, verdict="InsufficientData", message=found, source=_source(candidate))
    finding = _judge(gate.name, found, gate.min, gate.max, gate.champion, champion)
    return GateStatus(
        name=name,
        verdict="Pass" if finding.ok else "InsufficientData" if finding.lacking else "Fail",
        message=finding.words,
        value=finding.value,
        champion=finding.champion,
        threshold=finding.threshold,
        dataset=_dataset(found),
        source=_source(candidate),
    )


def slices(
    name: str, gate: SliceGate, candidate: ModelVersion, champion: ModelVersion | None, context: Context
) -> GateStatus:
    """Every slice alike, so that none is sacrificed for the average; the worst ones give the words."""
    prefix, suffix = gate.match.split("*")
    pattern = re.compile(re.escape(prefix) + r"([^/]+)" + re.escape(suffix) + "/" + re.escape(gate.metric))
    names = _slice_names(candidate, pattern, gate.dataset)
    expected = set(gate.required) | (
        _slice_names(champion, pattern, gate.dataset) if champion and gate.champion else set()
    )
    if not names and not expected:
        words = f"no slice matches {gate.match}/{gate.metric} in the evaluation of version {candidate.version}"
        return GateStatus(name=name, verdict="InsufficientData", message=words, source=_source(candidate))
    findings: list[_Finding] = [
        _Finding(False, f"{gate.metric}[{prefix}{item}{suffix}] was not evaluated") for item in sorted(expected - names)
    ]
    dataset: str | None = None
    for item in sorted(names):
        key = f"{prefix}{item}{suffix}/{gate.metric}"
        found = _lookup(candidate, key, gate.dataset)
        if isinstance(found, str):
            findings.append(_Finding(False, found, lacking=True))
            continue
        dataset = dataset or _dataset(found)
        shown = f"{gate.metric}[{prefix}{item}{suffix}]"
        findings.append(_judge(shown, found, gate.min, gate.max, gate.champion, champion, new_slice_ok=True))
    failed = [finding for finding in findings if not finding.ok]
    if failed:
        shown_words = "; ".join(finding.words for finding in failed[:_SHOWN_SLICES])
        more = f"; and {len(failed) - _SHOWN_SLICES} more" if len(failed) > _SHOWN_SLICES else ""
        worst = failed[0]
        verdict = "InsufficientData" if all(finding.lacking for finding in failed) else "Fail"
        words = shown_words + more
    else:
        worst = min(findings, key=_headroom)
        verdict, words = "Pass", f"{len(findings)} slices, the tightest {worst.words}"
    return GateStatus(
        name=name,
        verdict=verdict,
        message=words,
        value=worst.value,
        champion=worst.champion,
        threshold=worst.threshold,
        dataset=dataset,
        source=_source(candidate),
    )


def _judge(
    shown: str,
    found: MetricValue,
    least: float | None,
    most: float | None,
    bound: ChampionBound | None,
    champion: ModelVersion | None,
    *,
    new_slice_ok: bool = False,
) -> _Finding:
    """Hold one value against all its bounds; the first that it misses gives the words.

    new_slice_ok: a slice that the champion was never evaluated on has nothing to be compared with and passes.
    """
    value = found.value
    former: MetricValue | None = None
    if bound is not None and champion is not None:
        looked_up = _lookup(champion, found.key, found.dataset)
        if isinstance(looked_up, MetricValue):
            former = looked_up
        elif not new_slice_ok:
            return _Finding(False, f"{shown}: {_n(value)}, but of the champion {looked_up}", value, lacking=True)
        if former and found.digest and former.digest and found.digest != former.digest:
            words = (
                f"{shown}: evaluated on data set {_dataset(found)}, the champion on {_dataset(former)}: "
                "the values cannot be compared"
            )
            return _Finding(False, words, value, former.value, lacking=True)
    against = f" (champion {_n(former.value)})" if former else ""
    limits = [(least, True), (most, False)]
    if bound is not None and former is not None:
        if bound.max_drop is not None:
            limits.append((former.value - bound.max_drop, True))
        if bound.max_rise is not None:
            limits.append((former.value + bound.max_rise, False))
    kept = [(limit, lower) for limit, lower in limits if limit is not None]
    # the limit that leaves least room decides what is shown
    kept.sort(key=lambda item: (value - item[0]) if item[1] else (item[0] - value))
    champion_value = former.value if former else None
    if not kept:
        return _Finding(True, f"{shown}: {_n(value)}, nothing to compare with yet", value)
    limit, lower = kept[0]
    ok = value >= limit - _TOLERANCE if lower else value <= limit + _TOLERANCE
    seen, bound_shown = _told_apart(value, limit)
    words = f"{shown}: {seen}, {'needs' if lower else 'allowed'} {bound_shown}{against}"
    return _Finding(ok, words, value, champion_value, limit)


def _headroom(finding: _Finding) -> float:
    if finding.value is None or finding.threshold is None:
        return float("inf")
    return abs(finding.value - finding.threshold)


def _slice_names(version: ModelVersion, pattern: re.Pattern[str], dataset: str | None) -> set[str]:
    keys = (metric.key for metric in version.metrics if dataset is None or metric.dataset == dataset)
    return {match.group(1) for key in keys if (match := pattern.fullmatch(key))}


def _lookup(version: ModelVersion, key: str, dataset: str | None) -> MetricValue | str:
    """The one value of a metric, or words that say why there is none."""
    found = [item for item in version.metrics if item.key == key]
    if not found:
        return f"metric {key} was not logged for version {version.version}"
    if dataset is not None and version.metrics_from == "LoggedModel":
        found = [item for item in found if item.dataset == dataset]
        if not found:
            return f"metric {key} of version {version.version} was not logged for data set {dataset}"
    names = sorted({item.dataset or "-" for item in found})
    if len(names) > 1:
        logged = f"metric {key} of version {version.version} was logged for data sets {', '.join(names)}"
        return f"{logged}: name one in the gate"
    return found[-1]


def _dataset(value: MetricValue) -> str | None:
    return f"{value.dataset}@{value.digest}" if value.dataset and value.digest else value.dataset


def _source(version: ModelVersion) -> str:
    return f"{version.metrics_from} of run {version.run_id}" if version.run_id else version.metrics_from


def _told_apart(value: float, limit: float) -> tuple[str, str]:
    """Both with four significant digits, or as many more as it takes to see that they differ."""
    for digits in range(4, 9):
        if _n(value, digits) != _n(limit, digits):
            return _n(value, digits), _n(limit, digits)
    return _n(value), _n(limit)


def _n(value: float, digits: int = 4) -> str:
    """Significant digits, as people compare them."""
    return f"{value:.{digits}g}"
