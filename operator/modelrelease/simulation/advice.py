"""What a person should do with the result, in plain words: one paragraph, from the most important sentence on.

Every number in it is computed: a margin or a duration is recommended only where the forecast says that it would do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from modelrelease.api.base import format_duration
from modelrelease.core import checks
from modelrelease.core.checks import share
from modelrelease.core.evidence import Margin, TestPlan, requests_expected, smallest_detectable

from .forecast import PhaseForecast, Standing, stable_per_canary
from .scenario import Scenario, bad_shares
from .subject import Subject
from .summary import Summary

ABSOLUTES = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
_OFTEN, _SELDOM = 0.8, 0.05
_NOTABLE = 0.25  # of a phase's duration


def advise(
    subject: Subject,
    scenario: Scenario,
    summary: Summary,
    standings: Sequence[Standing],
    phases: Sequence[PhaseForecast],
) -> str:
    """The paragraph."""
    sentences = [*_outcome(subject, scenario, summary, standings, phases), *_waits(subject, scenario, summary, phases)]
    return " ".join(sentences)


def _outcome(
    subject: Subject,
    scenario: Scenario,
    summary: Summary,
    standings: Sequence[Standing],
    phases: Sequence[PhaseForecast],
) -> Iterator[str]:
    worst = max(standings, key=lambda item: item.strain, default=None)
    if worst is None:
        yield "No check counts requests: only pods that crash would take the traffic back."
    elif summary.harmful:
        yield from _harmful(subject, scenario, summary, worst, phases)
    else:
        yield from _harmless(summary, standings)


def _harmful(
    subject: Subject, scenario: Scenario, summary: Summary, worst: Standing, phases: Sequence[PhaseForecast]
) -> Iterator[str]:
    found = summary.rolled_back.share
    seen = f"{worst.check} {share(worst.canary)} against {share(worst.allowed)} allowed"
    if found >= _OFTEN and summary.to_detect is not None:
        half = words(summary.to_detect.median)
        yield f"This canary ({seen}) is found in {percent(found)} of the runs, in half of them within {half}."
        if summary.promoted.count:
            yield f"It still got through {times(summary.promoted.count)}."
        return
    went = "is promoted" if summary.promoted.share >= summary.held.share else "is neither promoted nor rolled back"
    yield f"This canary ({seen}) is found in only {percent(found)} of the runs; most often it {went}."
    better = _finds(subject, scenario, worst, phases)
    if better:
        yield better
    else:
        yield "At this traffic no margin and no duration up to a day would find it reliably."


def _harmless(summary: Summary, standings: Sequence[Standing]) -> Iterator[str]:
    if summary.rolled_back.share > _SELDOM:
        yield (
            f"A canary within its margins is rolled back in {percent(summary.rolled_back.share)} of the runs, more "
            "than the 5% that the test allows: the test takes requests to be independent and pods to be alike. More "
            "canary pods, a larger absolute margin, or mending what strikes the canary alone would help."
        )
        return
    worse = [item for item in standings if item.canary > item.stable * 1.05 + 1e-9]
    for item in worse[:1]:
        tighter = next((a for a in reversed(ABSOLUTES) if item.relative * item.stable + a < item.canary), None)
        how = (
            f"; margin {margin_words(item.relative, tighter)} would call it worse, by which such a canary can be found"
            if tighter is not None
            else ""
        )
        yield (
            f"{item.check} {share(item.canary)} instead of {share(item.stable)} is within the margin "
            f"({share(item.allowed)} allowed), so this canary is meant to pass{how}."
        )
    if summary.promoted.share >= _OFTEN and summary.to_promote is not None:
        often, half = percent(summary.promoted.share), words(summary.to_promote.median)
        yield f"It is promoted in {often} of the runs, in half of them within {half}."
    elif summary.held.share > 1 - _OFTEN:
        yield f"In {percent(summary.held.share)} of the runs the evidence does not suffice and the weight stays held."


def _waits(subject: Subject, scenario: Scenario, summary: Summary, phases: Sequence[PhaseForecast]) -> Iterator[str]:
    """What would let the slowest phase end in its time."""
    slow = [phase for phase in phases if not phase.decides or phase.waits_s > _NOTABLE * phase.duration_s]
    if not slow:
        if not summary.harmful and any(item.compared for phase in phases for item in phase.checks):
            yield "Every phase gets the requests that it needs within its duration."
        return
    phase = max(slow, key=lambda item: (not item.decides, item.waits_s))
    waiting = [item for item in phase.checks if item.compared and not item.excused]
    item = max(waiting, key=lambda item: math.inf if item.needed is None else item.needed)
    check = next(check for check in subject.checks if check.name == item.check)
    test = checks.plan(subject.candidate, check)
    rates = bad_shares(check, scenario.stable[check.name])
    wider = _absolute(test, rates, phase)
    suits = f"margin {margin_words(test.margin.relative, wider)}" if wider is not None else ""
    if item.needed is None:
        said = f"Phase {phase.name} cannot decide {item.check} at margin "
        said += f"{margin_words(test.margin.relative, test.margin.absolute)}, however long it lasts"
        yield f"{said}: {suits} would do." if suits else f"{said}."
        return
    lasts = item.needed / (scenario.traffic_per_s * phase.weight / 100)
    choices = [f"a duration of {words(_rounded(lasts))}", suits]
    said = (
        f"Phase {phase.name} gets about {number(phase.requests)} canary requests in its {words(phase.duration_s)} and "
        f"needs about {number(item.needed)} for {item.check}, so it lasts about {words(_rounded(lasts))}"
    )
    if not phase.decides:
        said += f", longer than its timeout of {words(phase.timeout_s)}"
    yield f"{said}; {' or '.join(choice for choice in choices if choice)} would fit."


def _absolute(test: TestPlan, rates: Sequence[float], phase: PhaseForecast) -> float | None:
    """The smallest absolute margin that lets the phase pass within its duration."""
    ratio = stable_per_canary(phase.weight)
    for absolute in ABSOLUTES:
        if absolute <= test.margin.absolute:
            continue
        wider = replace(test, margin=Margin(test.margin.relative, absolute))
        needed = [requests_expected(wider, rate, ratio) for rate in rates]
        if all(item is not None and item <= phase.requests for item in needed):
            return absolute
    return None


def _finds(subject: Subject, scenario: Scenario, worst: Standing, phases: Sequence[PhaseForecast]) -> str:
    """A duration or a margin with which a phase would find a canary as bad as this."""
    check = next(check for check in subject.checks if check.name == worst.check)
    test = checks.plan(subject.candidate, check)
    compared = [phase for phase in phases if phase.weight < 100 or not worst.relative]
    if not compared:
        return ""
    phase = max(compared, key=lambda item: item.requests * (100 - item.weight if worst.relative else 1))
    ratio, per_s = stable_per_canary(phase.weight), scenario.traffic_per_s * phase.weight / 100

    def finds(margin: Margin, duration_s: float) -> bool:
        seen = smallest_detectable(
            replace(test, margin=margin), worst.stable, per_s * duration_s, per_s * duration_s * ratio
        )
        return seen is not None and seen <= worst.canary

    for absolute in reversed(ABSOLUTES):
        if absolute < test.margin.absolute and finds(Margin(test.margin.relative, absolute), phase.duration_s):
            return (
                f"Phase {phase.name} would find it with margin {margin_words(test.margin.relative, absolute)} instead "
                f"of {margin_words(test.margin.relative, test.margin.absolute)}."
            )
    duration = max(phase.duration_s, 60.0)
    while duration <= 86400.0:
        if finds(test.margin, duration):
            return f"Phase {phase.name} would find it if it lasted {words(_rounded(duration))}."
        duration *= 1.25
    return ""


def margin_words(relative: float, absolute: float | None) -> str:
    """A margin as people say it: `1.25 x stable + 1%`."""
    size = share(absolute or 0.0)
    return f"{relative:g} x stable + {size}" if relative else size


def words(seconds: float) -> str:
    """A duration as people read it, to the second."""
    return format_duration(timedelta(seconds=round(seconds))) if seconds >= 1 else "0s"


def percent(value: float) -> str:
    """A probability in whole percents, or as much as it takes not to read 0% or 100%."""
    if 0.0 < value < 0.01 or 0.99 < value < 1.0:
        return f"{value * 100:.1f}%"
    return f"{value * 100:.0f}%"


def number(value: float) -> str:
    """A count with two or three significant digits."""
    if value < 1000:
        return f"{value:.0f}"
    size = 10 ** (math.floor(math.log10(value)) - 1)
    return f"{round(value / size) * size:,}"


def times(count: int) -> str:
    """Once, twice, so many times."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _rounded(seconds: float) -> float:
    """Up to what a person would write: whole minutes, five minutes past an hour."""
    step = 60.0 if seconds < 3600 else 300.0
    return math.ceil(seconds / step) * step
