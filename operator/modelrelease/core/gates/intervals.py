"""Confidence limits of shares, means and their differences, for figures that are looked at once.

Formulas only: which figure is held against what is said in `slices` and `win_rate`. All limits are one-sided: each is
crossed with probability `alpha` at most (exactly so or nearly, as said). Sample sizes need not be whole numbers: an
effective sample size takes the place of a count, as in Korn and Graubard (1998) for Clopper-Pearson. Not for figures
that are looked at again and again while they grow: that is what `core.evidence` is for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

_STEPS = 40  # halvings of [0, 1]: far more digits than are shown
_COARSE = 24  # halvings where a figure is only said to be about right
_TINY = 1e-300
_TERMS = 20_000  # of a million samples it takes about a thousand
_SMALLEST_ALPHA = 1e-12


@dataclass(frozen=True, slots=True)
class Share:
    """A share or a mean of scores in [0, 1], and on how many samples it rests."""

    value: float
    n: float


def quantile(alpha: float) -> float:
    """The z that a standard normal variable exceeds with probability alpha."""
    return NormalDist().inv_cdf(1 - alpha)


def wilson(share: Share, alpha: float) -> tuple[float, float]:
    """Lower and upper score limits (Wilson 1927). About right at any size, a little liberal near 0 and 1."""
    z2 = quantile(alpha) ** 2
    p, n = share.value, share.n
    middle = p + z2 / (2 * n)
    half = math.sqrt(z2) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


@lru_cache(maxsize=4096)  # gates are evaluated in every pass, on figures that hardly ever change
def clopper_pearson(share: Share, alpha: float) -> tuple[float, float]:
    """Lower and upper exact limits (Clopper and Pearson 1934). Never crossed more often than alpha."""
    x, n = share.value * share.n, share.n
    lower = 0.0 if x <= 0 else _root(lambda p: beta_cdf(p, x, n - x + 1) - alpha, 0.0, 1.0)
    upper = 1.0 if x >= n else _root(lambda p: beta_cdf(p, x + 1, n - x) - (1 - alpha), 0.0, 1.0)
    return lower, upper


def newcombe(first: Share, second: Share, alpha: float) -> tuple[float, float]:
    """Lower and upper limits of first - second (Newcombe 1998, method 10: two Wilson intervals put together).

    For independent samples. On the same samples it is too wide where the two err alike, hence on the safe side.
    """
    low1, high1 = wilson(first, alpha)
    low2, high2 = wilson(second, alpha)
    d = first.value - second.value
    lower = d - math.hypot(first.value - low1, high2 - second.value)
    upper = d + math.hypot(high1 - first.value, second.value - low2)
    return lower, upper


def p_value(below: Callable[[float], bool]) -> float:
    """The smallest alpha at which `below(alpha)` holds; it says that a limit is beyond a bound, which more alpha eases.

    1 where it holds at no alpha up to a half.
    """
    if not below(0.5):
        return 1.0
    low, high = math.log(_SMALLEST_ALPHA), math.log(0.5)
    if below(_SMALLEST_ALPHA):
        return _SMALLEST_ALPHA
    for _ in range(_COARSE):
        middle = (low + high) / 2
        low, high = (low, middle) if below(math.exp(middle)) else (middle, high)
    return math.exp(high)


def holm(p_values: Sequence[float], alpha: float) -> tuple[float, ...]:
    """The level at which each p-value is held, all together at most alpha (Holm 1979): reject where p <= its level.

    From the smallest p-value on the levels are alpha/m, alpha/(m-1), ...; from the first that is not rejected on, all
    stand at the level of that one.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    levels = [0.0] * len(p_values)
    level, rejecting = 0.0, True
    for rank, index in enumerate(order):
        if rejecting:
            level = alpha / (len(order) - rank)
            rejecting = p_values[index] <= level
        levels[index] = level
    return tuple(levels)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), a and b above 0, by its continued fraction (Lentz)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    h = d
    for m in range(1, _TERMS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 + factor * d, 1 + factor / c
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = c if abs(c) > _TINY else _TINY
            h *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return h


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def enough(holds: Callable[[float], bool], *, most: float = 1e6) -> float | None:
    """The smallest factor above 1 by which samples must grow for `holds(factor)`, None where `most` is not enough."""
    if not holds(most):
        return None
    low, high = 1.0, most
    for _ in range(_COARSE):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
