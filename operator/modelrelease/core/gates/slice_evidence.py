"""What the differences between candidate and champion are worth, slice by slice, given on how much they rest.

Values between 0 and 1 with sample counts are treated as shares: the variance of a mean of scores in [0, 1] is at most
that of a share, so that this errs on the safe side. Values with standard errors have normal limits. Anything else has
no known variance: the values themselves are held against the bound, and the words say so.

noRegression blocks where the upper limit of the difference lies below minus the margin, with Holm's correction over the
slices, and demands as many samples as it takes to see a regression. nonInferior passes where every lower limit lies
above minus the margin (all must hold, so no correction is needed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial

from modelrelease.api.metric_gates import ChampionBound

from ..observation import MetricValue
from .bounds import Bounds, Finding, judge
from .intervals import Share, enough, holm, newcombe, p_value, quantile
from .values import TOLERANCE, count, dataset_words, number

_POWER = 0.8
_MOST = 1e4  # how many times as many samples are still worth naming


@dataclass(frozen=True, slots=True)
class Pair:
    """Candidate's and champion's value on one slice, and what they rest on: samples, or standard errors, or neither."""

    shown: str
    found: MetricValue
    former: MetricValue
    samples: float | None = None
    champion_samples: float | None = None
    error: float | None = None
    champion_error: float | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the gate asks: the margin, which way the proof goes, and what must be findable (see SliceGate)."""

    bound: ChampionBound
    non_inferior: bool
    alpha: float
    detect: float


class _Difference:
    """Candidate minus champion of one slice, turned so that more is better, and its limits at any sample size."""

    def __init__(self, pair: Pair, demand: Demand) -> None:
        self.pair = pair
        self.margin = demand.bound.margin(pair.former.value)
        downward = demand.bound.downward
        value, former = pair.found.value, pair.former.value
        self._errors = pair.error is not None and pair.champion_error is not None
        shares = all(0 <= item <= 1 for item in (value, former))
        self.known = self._errors or (shares and pair.samples is not None)
        self.value, self.former = (value, former) if downward else (1 - value, 1 - former)
        self.d = self.value - self.former

    def limits(self, alpha: float, factor: float = 1.0) -> tuple[float, float]:
        """One-sided limits of the difference, with `factor` times as many samples in both."""
        pair = self.pair
        if self._errors:
            half = quantile(alpha) * self._error() / math.sqrt(factor)
            return self.d - half, self.d + half
        assert pair.samples is not None, "known"
        assert pair.champion_samples is not None, "known"
        return newcombe(
            Share(self.value, pair.samples * factor), Share(self.former, pair.champion_samples * factor), alpha
        )

    def regressed(self, alpha: float, factor: float = 1.0) -> bool:
        """Whether the margin is broken beyond doubt."""
        return self.limits(alpha, factor)[1] < -self.margin - TOLERANCE

    def kept(self, alpha: float, factor: float = 1.0) -> bool:
        """Whether the margin is kept beyond doubt."""
        return self.limits(alpha, factor)[0] > -self.margin

    def findable(self, detect: float, alpha: float, factor: float = 1.0) -> bool:
        """Whether a change `detect` past the margin would block with probability 0.8 (normal approximation)."""
        quantiles = quantile(alpha) + quantile(1 - _POWER)
        pair = self.pair
        if self._errors:
            return detect >= quantiles * self._error() / math.sqrt(factor)
        assert pair.samples is not None, "known"
        assert pair.champion_samples is not None, "known"
        fallen = max(0.0, self.former - self.margin - detect)
        distance = self.former - self.margin - fallen
        if distance <= 0:
            return True  # the champion's own value is within the margin of the worst there is
        variance = fallen * (1 - fallen) / pair.samples + self.former * (1 - self.former) / pair.champion_samples
        return distance >= quantiles * math.sqrt(variance / factor)

    def _error(self) -> float:
        assert self.pair.error is not None, "known"
        assert self.pair.champion_error is not None, "known"
        return math.hypot(self.pair.error, self.pair.champion_error)


@lru_cache(maxsize=2048)  # gates are evaluated in every pass, on figures that hardly ever change
def weigh(pairs: tuple[Pair, ...], demand: Demand) -> tuple[Finding, ...]:
    """One finding a slice."""
    differences = [_Difference(pair, demand) for pair in pairs]
    known = [item for item in differences if item.known]
    levels = holm([p_value(item.regressed) for item in known], demand.alpha)
    findings = [_unknown(item, demand) for item in differences if not item.known]
    for item, level in zip(known, levels, strict=True):
        if item.regressed(level):
            findings.append(_broken(item, demand))
        elif demand.non_inferior:
            findings.append(_kept_or_lacking(item, demand, level))
        else:
            # The strictest level is what a slice of this size would have to reach on its own.
            findings.append(_findable_or_lacking(item, demand, demand.alpha / len(known)))
    return tuple(findings)


def _unknown(item: _Difference, demand: Demand) -> Finding:
    pair = item.pair
    seen = judge(pair.shown, pair.found, Bounds(champion=demand.bound), pair.former, pair.samples)
    why = "not between 0 and 1 and without a standard error: compared as it is, without a confidence"
    return _finding(item, seen.ok, f"{seen.words}; {why}", seen.threshold, seen.headroom)


def _broken(item: _Difference, demand: Demand) -> Finding:
    return _finding(item, False, _words(item, demand), _limit(item, demand), item.d + item.margin)


def _kept_or_lacking(item: _Difference, demand: Demand, level: float) -> Finding:
    lower = item.limits(demand.alpha)[0]
    if item.kept(demand.alpha):
        return _finding(item, True, _words(item, demand), _limit(item, demand), lower + item.margin)
    decides = partial(item.kept, demand.alpha) if item.d > -item.margin else partial(item.regressed, level)
    words = f"{_words(item, demand)}: too few to be sure that it holds; {_more(item, enough(decides, most=_MOST))}"
    return _finding(item, False, words, _limit(item, demand), lower + item.margin, lacking=True)


def _findable_or_lacking(item: _Difference, demand: Demand, level: float) -> Finding:
    room = item.d + item.margin
    if item.findable(demand.detect, level):
        return _finding(item, True, _words(item, demand), _limit(item, demand), room)
    factor = enough(partial(item.findable, demand.detect, level), most=_MOST)
    worse = "lower" if demand.bound.downward else "higher"
    past = f"a value {number(item.margin + demand.detect)} {worse}"
    words = f"{_words(item, demand)}: too few to find {past}; {_more(item, factor)}"
    return _finding(item, False, words, _limit(item, demand), room, lacking=True)


def _more(item: _Difference, factor: float | None) -> str:
    if factor is None:
        return "it is too close to the bound for more samples to tell"
    if item.pair.samples is None:
        return f"about {number(math.ceil(factor * 10) / 10)} times as many samples are needed"
    return f"about {count(math.ceil(item.pair.samples * (factor - 1)))} more samples are needed"


def _limit(item: _Difference, demand: Demand) -> float:
    former = item.pair.former.value
    return former - item.margin if demand.bound.downward else former + item.margin


def _words(item: _Difference, demand: Demand) -> str:
    pair = item.pair
    sign = "needs" if demand.bound.downward else "allowed"
    size = f", {count(pair.samples)} samples" if pair.samples is not None else ""
    return (
        f"{pair.shown}: {number(pair.found.value)}, {sign} {number(_limit(item, demand))} "
        f"(champion {number(pair.former.value)}{size})"
    )


def _finding(
    item: _Difference, ok: bool, words: str, threshold: float | None, room: float | None, *, lacking: bool = False
) -> Finding:
    pair = item.pair
    return Finding(
        ok,
        words,
        pair.found.value,
        pair.former.value,
        threshold,
        lacking,
        pair.samples,
        pair.champion_samples,
        room,
        dataset_words(pair.found),
    )
