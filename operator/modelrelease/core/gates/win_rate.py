"""The gate `winRate`: the share of comparisons won lies above a minimum beyond doubt, and the judgments are worth it.

A one-shot test: valid for an evaluation that was planned and is complete, not for one that is looked at while judgments
arrive (see docs/gates.md). Ties count half. Judgments of one prompt are alike: with `clusters` only prompts count, with
`standardError` as many judgments as would err that much. In slices all must hold, with Holm's correction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from modelrelease.api.metric_gates import Bound, JudgeRules, WinRateGate
from modelrelease.api.status import GateStatus

from ..observation import MetricValue, ModelVersion
from .bounds import Finding
from .context import Context
from .intervals import Share, beta_cdf, clopper_pearson, holm, quantile, wilson
from .metric import status_of
from .values import (
    TOLERANCE,
    Data,
    among,
    count,
    dataset_words,
    figure,
    lookup,
    number,
    sample_count,
    source_words,
    standard_error,
)

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Judged:
    """A win rate with ties as half, the judgments behind it, and how many independent ones they are worth."""

    shown: str
    found: MetricValue
    rate: float
    judgments: float
    effective: float

    @property
    def share(self) -> Share:
        return Share(self.rate, self.effective)


def win_rate(
    name: str, gate: WinRateGate, candidate: ModelVersion, champion: ModelVersion | None, context: Context
) -> GateStatus:
    """Fail below the minimum or with a poor judge; InsufficientData where a figure is missing or proves too little."""
    places = _places(gate, candidate)
    findings: list[Finding] = []
    judged: list[_Judged] = []
    missing = sorted(set(gate.required) - places.keys()) if gate.slices else []
    findings += [Finding(False, f"{gate.metric}[{gate.slices}] was not judged for {item}") for item in missing]
    if gate.slices and not places and not missing:
        words = f"no slice matches {gate.slices}/{_key(gate)} in the evaluation of version {candidate.version}"
        findings.append(Finding(False, words, lacking=True))
    for prefix in places.values():
        read = _read(gate, prefix, candidate)
        if isinstance(read, str):
            findings.append(Finding(False, read, lacking=True))
            continue
        judged.append(read)
        findings += _quality(gate, prefix, read, candidate)
    if gate.judge is not None and gate.judge.same_as and champion is not None:
        findings += _same_judge(gate.judge, candidate, champion)
    findings += _weighed(gate, judged)
    return status_of(name, _summed_up(findings, len(judged) if gate.slices else 0), source_words(candidate))


def _places(gate: WinRateGate, candidate: ModelVersion) -> dict[str, str]:
    """What stands before the names of the metrics, by slice; one empty place where there are no slices."""
    if gate.slices is None:
        return {"": ""}
    head, tail = gate.slices.split("*")
    pattern = re.compile(re.escape(head) + r"([^/]+)" + re.escape(tail) + "/" + re.escape(_key(gate)))
    found = sorted({match[1] for item in candidate.metrics if (match := pattern.fullmatch(item.key))})
    return {item: f"{head}{item}{tail}/" for item in found}


def _key(gate: WinRateGate) -> str:
    if not gate.length_controlled:
        return gate.metric
    head, slash, last = gate.metric.rpartition("/")
    return f"{head}{slash}length_controlled_{last}"


def _read(gate: WinRateGate, prefix: str, candidate: ModelVersion) -> _Judged | str:
    """The figures of one place, or words that say which one is missing or cannot be."""
    found = lookup(candidate, prefix + _key(gate), Data(gate.dataset, gate.dataset_digest))
    if isinstance(found, str):
        return found + (": the gate asks for it with lengthControlled" if gate.length_controlled else "")
    judgments = sample_count(candidate, prefix + gate.samples, found)
    if isinstance(judgments, str):
        return judgments
    rate, shown = found.value, f"{_key(gate)}[{prefix[:-1]}]" if prefix else _key(gate)
    if gate.ties is not None and not gate.length_controlled:
        ties = figure(candidate, prefix + gate.ties, found)
        if isinstance(ties, str):
            return ties
        if ties < 0 or rate + ties / judgments > 1 + TOLERANCE:
            return f"{shown}: {number(rate)} of {count(judgments)} won and {number(ties)} tied, which cannot be"
        rate += ties / judgments / 2
    if not -TOLERANCE <= rate <= 1 + TOLERANCE:
        return f"{shown} is {number(rate)}, not a share between 0 and 1"
    rate = min(1.0, max(0.0, rate))
    effective = _effective(gate, prefix, candidate, found, Share(rate, judgments))
    return effective if isinstance(effective, str) else _Judged(shown, found, rate, judgments, effective)


def _effective(
    gate: WinRateGate, prefix: str, candidate: ModelVersion, found: MetricValue, share: Share
) -> float | str:
    """How many independent judgments these are worth, never more than there are."""
    effective = share.n
    if gate.standard_error is not None:
        error = standard_error(candidate, prefix + gate.standard_error, found)
        if isinstance(error, str):
            return error
        variance = share.value * (1 - share.value)
        if error > 0 and variance > 0:
            effective = variance / error**2
    if gate.clusters is not None:
        clusters = sample_count(candidate, prefix + gate.clusters, found)
        if isinstance(clusters, str):
            return clusters
        # A standard error says more than the worst case, that all judgments of a prompt are the same one.
        if gate.standard_error is None:
            effective = clusters
    return max(1.0, min(effective, share.n))


def _weighed(gate: WinRateGate, judged: Sequence[_Judged]) -> list[Finding]:
    alpha = 1 - gate.confidence
    levels = holm([_p_value(gate, item.share) for item in judged], alpha)
    return [_held(gate, item, level) for item, level in zip(judged, levels, strict=True)]


def _held(gate: WinRateGate, item: _Judged, level: float) -> Finding:
    limits = clopper_pearson if gate.method is Bound.CLOPPER_PEARSON else wilson
    lower = limits(item.share, level)[0]
    worth = "" if item.effective >= item.judgments else f", worth {count(item.effective)} independent ones"
    sure = f"{number(100 * (1 - level))} %"
    words = (
        f"{item.shown}: {number(item.rate)} of {count(item.judgments)} judgments{worth}, "
        f"at {sure} confidence above {number(lower)}, needs more than {number(gate.min)}"
    )
    lacking = False
    ok = _p_value(gate, item.share) <= level
    if not ok and item.rate > gate.min:
        lacking = True
        factor = max(0.0, _needed(gate, item, level) / item.effective - 1)
        unit = "prompts" if gate.clusters is not None and gate.standard_error is None else "judgments"
        more = math.ceil(factor * (item.effective if unit == "prompts" else item.judgments))
        words = f"{words}: about {count(max(1, more))} more {unit} at this rate would show it"
    return Finding(
        ok,
        words,
        item.rate,
        threshold=gate.min,
        lacking=lacking,
        samples=item.judgments,
        headroom=lower - gate.min,
        dataset=dataset_words(item.found),
    )


def _p_value(gate: WinRateGate, share: Share) -> float:
    """How likely a candidate that wins just `min` of its comparisons does as well."""
    if share.value <= gate.min:
        return 1.0
    if gate.method is Bound.WILSON:
        return 1 - NormalDist().cdf((share.value - gate.min) / math.sqrt(gate.min * (1 - gate.min) / share.n))
    won = share.value * share.n
    return beta_cdf(gate.min, won, share.n - won + 1)


def _needed(gate: WinRateGate, item: _Judged, level: float) -> float:
    """About how many independent judgments show this rate to be above the minimum."""
    distance = item.rate - gate.min
    needed = quantile(level) ** 2 * gate.min * (1 - gate.min) / distance**2
    return needed + (1 / distance if gate.method is Bound.CLOPPER_PEARSON else 0)


def _quality(gate: WinRateGate, prefix: str, read: _Judged, candidate: ModelVersion) -> list[Finding]:
    """What the gate asks of the judgments, each by a figure of the slice where there is one, else of the whole."""
    rules = gate.judge
    if rules is None:
        return []
    findings = []
    for asked, least, key in (
        (rules.min_agreement, True, rules.agreement),
        (rules.min_annotators, True, rules.annotators),
        (rules.min_human_share, True, rules.human_share),
        (rules.max_tie_share, False, rules.tie_share),
    ):
        if asked is None:
            continue
        name = key
        seen: float | str
        if not least and gate.ties is not None:
            name = f"{gate.ties} / {gate.samples}"
            ties = figure(candidate, prefix + gate.ties, read.found)
            seen = ties if isinstance(ties, str) else ties / read.judgments
        else:
            seen = figure(candidate, prefix + key, read.found)
            if isinstance(seen, str) and prefix:
                seen = figure(candidate, key, read.found)
        if isinstance(seen, str):
            findings.append(Finding(False, seen, read.rate, lacking=True, samples=read.judgments))
        elif (seen < asked - TOLERANCE) if least else (seen > asked + TOLERANCE):
            words = f"{prefix}{name}: {number(seen)}, {'needs' if least else 'allowed'} {number(asked)}"
            findings.append(Finding(False, words, read.rate, threshold=gate.min, samples=read.judgments))
    return findings


def _same_judge(rules: JudgeRules, candidate: ModelVersion, champion: ModelVersion) -> list[Finding]:
    for version in (candidate, champion):
        if not version.tags.get(rules.identity):
            words = f"tag {rules.identity} of version {version.version}, which names the judge, was not set"
            return [Finding(False, words, lacking=True)]
    own, other = candidate.tags[rules.identity], champion.tags[rules.identity]
    if own == other:
        return []
    return [Finding(False, f"judged by {own}, the champion by {other}: needs the same judge")]


def _summed_up(findings: Sequence[Finding], slices: int) -> Finding:
    failed = sorted((item for item in findings if not item.ok), key=lambda item: item.lacking)
    if failed:
        figures = next((item for item in failed if item.value is not None), failed[0])
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        words = "; ".join(item.words for item in failed[:_SHOWN]) + more
        return replace(figures, words=words, lacking=failed[0].lacking)
    tightest = min(findings, key=lambda item: float("inf") if item.headroom is None else item.headroom)
    return replace(tightest, words=f"{among(slices)}{tightest.words}") if slices else tightest
