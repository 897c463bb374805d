"""The gate `slices`: one metric on every slice of the evaluation data, so that none is sacrificed for the average.

Here: which slices there are, fixed bounds, the spread, and the champion's bound on the values themselves. Where sample
counts or standard errors are logged, `slice_evidence` says what the difference to the champion is worth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelrelease.api.metric_gates import ChampionBound, Evidence, SliceGate
from modelrelease.api.status import GateStatus

from ..observation import MetricValue, ModelVersion
from .bounds import Bounds, Finding, former_value, judge
from .context import Context
from .metric import status_of
from .slice_evidence import Demand, Pair, weigh
from .values import TOLERANCE, Data, among, dataset_words, lookup, number, sample_count, source_words, standard_error

_SHOWN = 3
_CONFIDENCE = 0.95
_DETECT = 0.1


@dataclass(frozen=True, slots=True)
class _Slice:
    """A slice of the candidate: its value and the champion's, None where the champion was not evaluated on it."""

    name: str
    shown: str
    found: MetricValue
    former: MetricValue | None


class _Naming:
    """How a gate names its slices: metrics of one data set, or one data set a slice."""

    def __init__(self, gate: SliceGate) -> None:
        self._gate = gate
        self.by_dataset = gate.datasets is not None
        self._prefix, self._suffix = (gate.datasets or gate.match).split("*")
        self._pattern = re.compile(re.escape(self._prefix) + r"([^/]+)" + re.escape(self._suffix))

    def names(self, version: ModelVersion) -> set[str]:
        """The slices that a version was evaluated on."""
        gate = self._gate
        if self.by_dataset:
            places = {item.dataset for item in version.by_key.get(gate.metric, ()) if item.dataset}
        else:
            behind = f"/{gate.metric}"
            places = {
                key.removesuffix(behind)
                for key, items in version.by_key.items()
                if key.endswith(behind)
                and (not self._narrows(version) or any(i.dataset == gate.dataset for i in items))
            }
        return {match[1] for place in places if (match := self._pattern.fullmatch(place))}

    def _narrows(self, version: ModelVersion) -> bool:
        return self._gate.dataset is not None and version.metrics_from == "LoggedModel"

    def place(self, name: str) -> str:
        """The slice as it is shown and logged: slice/night, holdout-night."""
        return f"{self._prefix}{name}{self._suffix}"

    def value(self, version: ModelVersion, name: str) -> MetricValue | str:
        """The value on one slice."""
        gate = self._gate
        if self.by_dataset:
            return lookup(version, gate.metric, Data(self.place(name)))
        return lookup(version, f"{self.place(name)}/{gate.metric}", Data(gate.dataset, gate.dataset_digest))

    def key(self, pattern: str, name: str) -> str:
        """The metric that a pattern of samples or standard errors names on one slice."""
        return pattern if self.by_dataset else pattern.replace("*", name)


def slices(
    name: str, gate: SliceGate, candidate: ModelVersion, champion: ModelVersion | None, context: Context
) -> GateStatus:
    """Every slice alike; those that fail, else those that cannot be judged, else the tightest give the words."""
    naming = _Naming(gate)
    rival = champion if gate.champion else None
    names = naming.names(candidate)
    former_names = naming.names(rival) if rival else set[str]()
    expected = set(gate.required) | former_names
    source = source_words(candidate)
    if not names and not expected:
        pattern = f"{gate.metric} on data sets {gate.datasets}" if gate.datasets else f"{gate.match}/{gate.metric}"
        words = f"no slice matches {pattern} in the evaluation of version {candidate.version}"
        return status_of(name, Finding(False, words, lacking=True), source)
    findings = [
        Finding(False, f"{gate.metric}[{naming.place(item)}] was not evaluated") for item in sorted(expected - names)
    ]
    present: list[_Slice] = []
    for item in sorted(names):
        seen = _read(gate, naming, item, candidate, rival if item in former_names else None)
        if isinstance(seen, Finding):
            findings.append(seen)
        else:
            present.append(seen)
    findings += _judged(gate, naming, present, candidate, rival)
    if gate.max_spread is not None and present:
        findings.append(_spread(gate.metric, gate.max_spread, present))
    return status_of(name, _summed_up(findings, len(names)), source)


def _read(
    gate: SliceGate, naming: _Naming, name: str, candidate: ModelVersion, rival: ModelVersion | None
) -> _Slice | Finding:
    found = naming.value(candidate, name)
    if isinstance(found, str):
        return Finding(False, found, lacking=True)
    shown = f"{gate.metric}[{naming.place(name)}]"
    former = None
    if rival is not None:
        looked_up = former_value(rival, shown, found, candidate)
        if isinstance(looked_up, Finding):
            return looked_up
        former = looked_up
    return _Slice(name, shown, found, former)


def _judged(
    gate: SliceGate, naming: _Naming, present: Sequence[_Slice], candidate: ModelVersion, rival: ModelVersion | None
) -> list[Finding]:
    """Fixed bounds always hold the value itself; the champion's bound holds what `evidence` says."""
    findings, pairs = [], []
    for item in present:
        sizes = _sizes(gate, naming, item, candidate, rival)
        if isinstance(sizes, Finding):
            findings.append(sizes)
            continue
        pair, samples = sizes
        fixed = judge(item.shown, item.found, Bounds(gate.min, gate.max), item.former, samples)
        if pair is None:
            bounds = Bounds(gate.min, gate.max, gate.champion)
            findings.append(judge(item.shown, item.found, bounds, item.former, samples))
        elif not fixed.ok:
            findings.append(fixed)
        else:
            pairs.append(pair)
    if pairs and gate.champion is not None:
        findings += weigh(tuple(pairs), _demand(gate, gate.champion))
    return findings


def _demand(gate: SliceGate, bound: ChampionBound) -> Demand:
    confidence = gate.confidence if gate.confidence is not None else _CONFIDENCE
    return Demand(
        bound,
        non_inferior=gate.judged_by is Evidence.NON_INFERIOR,
        alpha=1 - confidence,
        detect=gate.detect if gate.detect is not None else _DETECT,
    )


def _sizes(
    gate: SliceGate, naming: _Naming, item: _Slice, candidate: ModelVersion, rival: ModelVersion | None
) -> tuple[Pair | None, float | None] | Finding:
    """What both values rest on; the pair is None where there is no champion's value to compare with."""
    read: dict[str, float | None] = {}
    arms = [("", candidate, item.found)]
    if rival is not None and item.former is not None and gate.judged_by is not Evidence.POINT:
        arms.append(("champion ", rival, item.former))
    for arm, version, value in arms:
        for what, pattern, reader in (
            ("samples", gate.samples, sample_count),
            ("error", gate.standard_errors, standard_error),
        ):
            figure_or_words = None if pattern is None else reader(version, naming.key(pattern, item.name), value)
            if isinstance(figure_or_words, str):
                words = f"{item.shown}: {number(item.found.value)}, but {arm and 'of the champion '}{figure_or_words}"
                return Finding(False, words, item.found.value, lacking=True, dataset=dataset_words(item.found))
            read[arm + what] = figure_or_words
    if len(arms) == 1 or item.former is None:
        return None, read["samples"]
    return (
        Pair(
            item.shown,
            item.found,
            item.former,
            samples=read["samples"],
            champion_samples=read["champion samples"],
            error=read["error"],
            champion_error=read["champion error"],
        ),
        read["samples"],
    )


def _spread(metric: str, allowed: float, present: Sequence[_Slice]) -> Finding:
    best = max(present, key=lambda item: item.found.value)
    worst = min(present, key=lambda item: item.found.value)
    spread = best.found.value - worst.found.value
    words = (
        f"{metric}: {number(best.found.value)} on {best.name} and {number(worst.found.value)} on {worst.name} are "
        f"{number(spread)} apart, allowed {number(allowed)}"
    )
    room = allowed - spread
    return Finding(room >= -TOLERANCE, words, spread, None, allowed, headroom=room, dataset=dataset_words(worst.found))


def _summed_up(findings: Sequence[Finding], number_of_slices: int) -> Finding:
    """One finding for all: broken bounds first, then what cannot be judged; three are shown."""
    failed = [item for item in findings if not item.ok]
    if not failed:
        tightest = min(findings, key=lambda item: float("inf") if item.headroom is None else item.headroom)
        return replace(tightest, words=f"{among(number_of_slices)}{tightest.words}")
    failed.sort(key=lambda item: item.lacking)  # stable: by name within each
    more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    return replace(failed[0], words="; ".join(item.words for item in failed[:_SHOWN]) + more)
