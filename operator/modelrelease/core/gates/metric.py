"""The gate `metric`: one figure of the evaluation against fixed bounds and the champion."""

from __future__ import annotations

from dataclasses import replace

from modelrelease.api.metric_gates import MetricGate
from modelrelease.api.status import GateStatus

from ..observation import MetricValue, ModelVersion
from .bounds import Bounds, Finding, former_value, judge
from .context import Context
from .values import Data, lookup, sample_count, source_words


def metric(
    name: str, gate: MetricGate, candidate: ModelVersion, champion: ModelVersion | None, context: Context
) -> GateStatus:
    """InsufficientData where the figure was not logged, is no number, or cannot be compared with the champion's."""
    data = Data(gate.dataset, gate.dataset_digest)
    finding, found = _find(gate, data, candidate, champion)
    if found is not None and gate.dataset is not None and candidate.metrics_from != "LoggedModel":
        finding = replace(finding, words=f"{finding.words}; logged for the run, which does not record the data set")
    return status_of(name, finding, source_words(candidate))


def _find(
    gate: MetricGate, data: Data, candidate: ModelVersion, champion: ModelVersion | None
) -> tuple[Finding, MetricValue | None]:
    found = lookup(candidate, gate.name, data)
    if isinstance(found, str):
        return Finding(False, found, lacking=True), None
    samples = None
    if gate.samples is not None:
        counted = sample_count(candidate, gate.samples, found)
        if isinstance(counted, str):
            return Finding(False, counted, found.value, lacking=True), found
        samples = counted
    former = None
    if gate.champion is not None and champion is not None:
        looked_up = former_value(champion, gate.name, found, candidate)
        if isinstance(looked_up, Finding):
            return looked_up, found
        former = looked_up
    return judge(gate.name, found, Bounds(gate.min, gate.max, gate.champion), former, samples), found


def status_of(name: str, finding: Finding, source: str | None) -> GateStatus:
    """A finding as it stands in status."""
    return GateStatus(
        name=name,
        verdict="Pass" if finding.ok else "InsufficientData" if finding.lacking else "Fail",
        message=finding.words,
        value=finding.value,
        champion=finding.champion,
        threshold=finding.threshold,
        samples=_whole(finding.samples),
        champion_samples=_whole(finding.champion_samples),
        dataset=finding.dataset,
        source=source,
    )


def _whole(samples: float | None) -> int | None:
    return None if samples is None else round(samples)
