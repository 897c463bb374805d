"""The random counts have the mean, the variance and the distribution that they claim, on both sides of each method."""

from __future__ import annotations

import math
import statistics
from random import Random

import pytest
from scipy import stats

from modelrelease.simulation.draws import binomial, poisson, sibling

DRAWS = 20_000


def _fits(seen: list[int], chance: list[float]) -> float:
    """p-value of a chi-square test; cells of few expected ones are put together."""
    counts, expected, count, mass = [], [], 0.0, 0.0
    for value, probability in enumerate(chance):
        count, mass = count + seen.count(value), mass + probability * len(seen)
        if mass >= 20:
            counts.append(count)
            expected.append(mass)
            count = mass = 0.0
    counts[-1] += len(seen) - sum(counts)
    expected[-1] += len(seen) - sum(expected)
    return float(stats.chisquare(counts, expected).pvalue)


@pytest.mark.parametrize("mean", [0.05, 0.9, 4.0, 9.9, 10.1, 37.5, 400.0])
def test_poisson_when_drawn_often_has_its_distribution(mean: float) -> None:
    random = Random(7)
    seen = [poisson(random, mean) for _ in range(DRAWS)]
    top = int(mean + 12 * math.sqrt(mean) + 12)
    assert _fits(seen, [float(stats.poisson.pmf(value, mean)) for value in range(top)]) > 1e-4


@pytest.mark.parametrize(
    ("trials", "share"), [(1, 0.3), (40, 0.01), (90, 0.11), (101, 0.1), (5000, 0.01), (60, 0.5), (300, 0.93)]
)
def test_binomial_when_drawn_often_has_its_distribution(trials: int, share: float) -> None:
    random = Random(8)
    seen = [binomial(random, trials, share) for _ in range(DRAWS)]
    assert _fits(seen, [float(stats.binom.pmf(value, trials, share)) for value in range(trials + 1)]) > 1e-4


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (poisson(Random(1), 0.0), 0),
        (poisson(Random(1), -1.0), 0),
        (binomial(Random(1), 0, 0.5), 0),
        (binomial(Random(1), 9, 0.0), 0),
        (binomial(Random(1), 9, 1.0), 9),
        (binomial(Random(1), 9, 1.5), 9),
    ],
)
def test_counts_when_nothing_is_left_to_chance_are_certain(drawn: int, expected: int) -> None:
    assert drawn == expected


def test_sibling_when_pods_differ_keeps_the_mean_and_has_the_correlation() -> None:
    random = Random(9)
    shares = [sibling(random, 0.1, 0.05) for _ in range(DRAWS)]
    assert statistics.fmean(shares) == pytest.approx(0.1, rel=0.03)
    assert statistics.variance(shares) == pytest.approx(0.05 * 0.1 * 0.9, rel=0.08)
    assert sibling(random, 0.1, 0.0) == 0.1
    assert sibling(random, 0.0, 0.5) == 0.0
