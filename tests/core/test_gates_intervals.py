"""Confidence limits of shares against scipy and by exact enumeration."""

from __future__ import annotations

import math
from functools import partial

import pytest
from scipy import stats

from modelrelease.core.gates.intervals import (
    Share,
    beta_cdf,
    clopper_pearson,
    enough,
    holm,
    newcombe,
    p_value,
    quantile,
    wilson,
)

SIZES = (1, 7, 50, 1204)
LEVELS = (0.05, 0.05 / 20, 1e-6)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("alpha", LEVELS)
def test_limits_of_a_share_are_those_of_scipy(n: int, alpha: float) -> None:
    for won in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        known = stats.binomtest(won, n)
        for own, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
            interval = known.proportion_ci(1 - 2 * alpha, method=method)
            assert own(Share(won / n, n), alpha) == pytest.approx((interval.low, interval.high), abs=1e-9)


@pytest.mark.parametrize("a", [0.5, 3.0, 120.0, 50_000.0])
@pytest.mark.parametrize("b", [0.7, 9.0, 60_000.0])
def test_the_incomplete_beta_function_is_that_of_scipy(a: float, b: float) -> None:
    for x in (0.0, 0.01, 0.3, a / (a + b), 0.45, 0.99, 1.0):
        assert beta_cdf(x, a, b) == pytest.approx(float(stats.beta.cdf(x, a, b)), rel=1e-7, abs=1e-12)


def test_an_effective_sample_size_need_not_be_whole() -> None:
    low, high = clopper_pearson(Share(0.5, 37.5), 0.05)
    wider, narrower = clopper_pearson(Share(0.5, 37), 0.05), clopper_pearson(Share(0.5, 38), 0.05)
    assert wider[0] < low < narrower[0]
    assert narrower[1] < high < wider[1]


def test_newcombe_gives_the_interval_of_its_paper() -> None:
    """Newcombe 1998, table II, case (a), method 10, 95 % two-sided: 56/70 against 48/80 is 0.0524 to 0.3339."""
    limits = newcombe(Share(56 / 70, 70), Share(48 / 80, 80), 0.025)
    assert limits == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("p", "n"), [(0.5, 100), (0.85, 200), (0.97, 200)])
def test_newcombe_errs_as_often_as_it_says_about(p: float, n: int) -> None:
    """Both arms equal: how often does the upper limit lie below 0, by enumeration of all outcomes."""
    pmf = stats.binom.pmf(range(n + 1), n, p)
    often = [k for k in range(n + 1) if pmf[k] > 1e-9]
    wrong = sum(
        float(pmf[first] * pmf[second])
        for first in often
        for second in often
        if first < second and newcombe(Share(first / n, n), Share(second / n, n), 0.05)[1] < 0
    )
    assert 0.02 < wrong < 0.06


def test_a_p_value_is_the_level_at_which_the_limit_meets_the_bound() -> None:
    first, second = Share(0.7, 300), Share(0.8, 300)
    found = p_value(lambda alpha: newcombe(first, second, alpha)[1] < 0)
    assert newcombe(first, second, found)[1] == pytest.approx(0, abs=1e-6)
    assert p_value(lambda alpha: newcombe(second, first, alpha)[1] < 0) == 1
    assert p_value(lambda alpha: newcombe(Share(0, 10_000), Share(1, 10_000), alpha)[1] < 0) < 1e-11


HOLM = {
    "all are rejected": ([0.001, 0.04, 0.02], 0.05, [True, True, True]),
    "the smallest is held against alpha over their number": ([0.02, 0.9, 0.9], 0.05, [False, False, False]),
    "from the first that stands on all stand": ([0.001, 0.03, 0.04], 0.05, [True, False, False]),
    "one alone is held against alpha": ([0.05], 0.05, [True]),
    "none": ([], 0.05, []),
}


@pytest.mark.parametrize("case", HOLM.values(), ids=HOLM.keys())
def test_holm(case: tuple[list[float], float, list[bool]]) -> None:
    found, alpha, rejected = case
    levels = holm(found, alpha)
    assert [p <= level for p, level in zip(found, levels, strict=True)] == rejected


def test_enough_is_the_smallest_factor_that_does() -> None:
    assert enough(lambda factor: factor >= 7.25) == pytest.approx(7.25)
    assert enough(lambda factor: False) is None
    needed = enough(partial(_excludes_half, Share(0.55, 100)))
    assert needed is not None
    z = quantile(0.05)
    assert needed * 100 == pytest.approx((z**2 * 0.25 + 0) / 0.05**2, rel=0.02)


def _excludes_half(share: Share, factor: float) -> bool:
    return wilson(Share(share.value, share.n * factor), 0.05)[0] > 0.5


def test_the_quantile_is_the_normal_one() -> None:
    assert quantile(0.05) == pytest.approx(1.6448536)
    assert math.isclose(quantile(0.5), 0, abs_tol=1e-12)
