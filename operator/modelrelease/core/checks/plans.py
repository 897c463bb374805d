"""Plans of the checks: what is fixed before a rollout's first poll, and what they can find, said before a phase.

The rule: a plan is a function of the revision and of numbers fixed when the rollout began; nothing that was counted
changes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from modelrelease.api.base import parse_duration
from modelrelease.api.checks import Check, GaugeCheck, LatencyCheck
from modelrelease.core import evidence as e
from modelrelease.core.revision import Revision, margin_of

ALPHA = 0.05
POLLS_PLANNED_LEAST, POLLS_PLANNED_MOST = 50, 1000
SHARE_OF_TIMEOUTS = 0.01
"""Of the phases' timeouts, the time that a rollout is planned to wait for evidence beyond its durations."""
NEAR_PARITY = 1.25
"""Loads of a pod that differ by at most this factor are alike."""
TICK = timedelta(seconds=5)
_NO_BAKE = timedelta()


def bounds_of(check: Check) -> int:
    """How many wealths a check has: one a bound of a latency, none for a gauge, else one."""
    match check.part:
        case LatencyCheck() as part:
            return len(part.bounds_s)
        case GaugeCheck():
            return 0
        case _:
            return 1


def load_matters(check: Check) -> bool:
    """Whether it compares latencies, which depend on the load that a pod gets."""
    return isinstance(check.part, LatencyCheck) and check.part.max is None


def planned_polls(revision: Revision, bake: timedelta = _NO_BAKE) -> int:
    """Polls over which the stake is spread: the phases' durations, a share of their timeouts, a bake that compares."""
    whole = bake
    for phase in revision.phases:
        duration, timeout = parse_duration(phase.duration), parse_duration(phase.timeout)
        whole += duration + SHARE_OF_TIMEOUTS * max(timeout - duration, timedelta())
    return min(max(math.ceil(whole / TICK), POLLS_PLANNED_LEAST), POLLS_PLANNED_MOST)


def plan(revision: Revision, check: Check, polls: int | None = None) -> e.TestPlan:
    """The test plan of a check that has one. polls: as planned when the rollout began; from the phases if None."""
    margin, bounds = margin_of(check), bounds_of(check)
    if margin is None:
        raise ValueError(f"check {check.name} is a gauge: it has a tolerance, and no test")
    tested = sum(1 for item in revision.checks if bounds_of(item))
    return e.TestPlan(
        margin=e.Margin(margin.relative, margin.absolute),
        planned_polls=polls or planned_polls(revision),
        min_polls=check.min_polls,
        metrics=max(tested, 1) * bounds,
        alpha=ALPHA,
        alpha_safe=ALPHA,
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a phase can show, before it starts.

    detectable: the smallest bad share of the canary that is found in four rollouts of five until `within` has passed,
    None where none is. requests: of the canary until Pass, if it is as good as stable, None where the margin can never
    be shown. seconds: how long these take. decides: whether they come within `within`.
    """

    check: str
    detectable: float | None
    requests: int | None
    seconds: float | None
    decides: bool


def forecast(
    revision: Revision,
    check: Check,
    stable_rate: float,
    stable_per_canary: float,
    canary_per_second: float,
    *,
    within: timedelta,
) -> Forecast:
    """What a check can show within a time (a phase's timeout) at this traffic. A gauge needs its polls, no requests.

    stable_rate: bad share of stable. stable_per_canary: requests of stable for one of the canary. Without traffic
    nothing is decided.
    """
    horizon = within.total_seconds()
    if isinstance(check.part, GaugeCheck):
        long = check.part.polls * TICK.total_seconds()
        return Forecast(check.name, None, 0, long, long <= horizon)
    test = plan(revision, check)
    ratio = max(stable_per_canary, 0.0)
    if test.margin.relative and ratio <= 0.0:
        return Forecast(check.name, None, None, None, decides=False)
    canary = max(canary_per_second, 0.0) * horizon
    detectable = e.smallest_detectable(test, stable_rate, canary, canary * ratio)
    requests = e.requests_expected(test, stable_rate, ratio or 1.0)
    if requests is None:
        return Forecast(check.name, detectable, None, None, decides=False)
    # the cap: no poll takes a verdict further than a part of the way, however many requests it brings
    least = math.log(1 / ALPHA) / test.log_cap * TICK.total_seconds()
    seconds = max(requests / canary_per_second, least) if canary_per_second > 0 else None
    decides = seconds is not None and seconds <= horizon
    return Forecast(check.name, detectable, math.ceil(requests), seconds, decides)
