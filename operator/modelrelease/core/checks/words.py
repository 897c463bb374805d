"""What a check says to people: one sentence of what is seen, against what is allowed, and what follows.

No verdict is made here. Figures have two digits, so that a sentence changes seldom while the counts go on.
"""

from __future__ import annotations

import math

from modelrelease.api.checks import Check, GaugeCheck, LatencyCheck, ScoreCheck, WinRateCheck
from modelrelease.core import evidence as e


def share(value: float | None) -> str:
    """A share as percent with two significant digits below ten: 0.42%, 2.9%, 12%."""
    if value is None:
        return "-"
    percent = value * 100
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.2g}%"


def figure(value: float) -> str:
    """A number with three significant digits and no exponent where it can be helped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def two_digits(value: float) -> int:
    """Rounded up to two significant digits, so that the number shown does not flicker."""
    if value < 10:
        return math.ceil(value)
    size: int = 10 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / size) * size


def title(check: Check, bound: int) -> str:
    """Its name, and the bound that is meant."""
    part = check.part
    if isinstance(part, LatencyCheck):
        return f"{check.name} (slower than {(part.slower_than, *part.also_slower_than)[bound]})"
    return check.name


def seen(check: Check, bound: int, canary: e.Counts, stable: e.Counts | None, allowed: float | None) -> str:
    """What the canary shows, against stable and against what is allowed."""
    rate, beside = canary.rate, stable.rate if stable is not None else None
    assert rate is not None, "there are requests to speak of"
    part, count = check.part, f"{canary.total:,.0f}"
    match part:
        case WinRateCheck():
            return f"{check.name} wins {share(1 - rate)} of {count}, needs more than {share(part.min)}"
        case ScoreCheck():
            flip = part.higher_is_better
            mean = [None if x is None else 1 - x if flip else x for x in (rate, beside, allowed)]
            against = f" against {figure(mean[1])}" if mean[1] is not None else ""
            limit = f", {'at least' if flip else 'at most'} {figure(mean[2])}" if mean[2] is not None else ""
            return f"{check.name} {figure(mean[0] or 0.0)} (mean of {count}){against}{limit}"
        case _:
            against = f" against {share(beside)}" if beside is not None else ""
            limit = f", allowed {share(allowed)}" if allowed is not None else ""
            return f"{title(check, bound)} {share(rate)} ({canary.bad:,.0f} of {count}){against}{limit}"


def gauge(check: Check, part: GaugeCheck, canary: float, stable: float) -> str:
    """What a gauge shows."""
    side = "above" if part.worse == "higher" else "below"
    return f"{check.name} {figure(canary)} against {figure(stable)}, allowed {figure(part.tolerance)} {side}"
