"""How others judge the same traffic, written anew from their documented behaviour, to be run side by side.

Fixed thresholds as Argo Rollouts and Flagger count failures, a z test looked at every poll, a judge in the manner of
Kayenta's NetflixACAJudge, and the best a test with one look could do (the yardstick for sample sizes). Each rule
returns the poll at which it would roll back, counted from 1, or NEVER.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln  # type: ignore[import-untyped]
from scipy.stats import binom, norm  # type: ignore[import-untyped]

from bench.traffic import NEVER, Array, Traffic
from modelrelease.core.evidence import Margin

KAYENTA_CONFIDENCE = 0.98
KAYENTA_TOLERANCE = 0.25
KAYENTA_ALLOWED_INCREASE = 1.0


def _first(hits: NDArray[np.bool_]) -> Array:
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, NEVER)


def _failures(traffic: Traffic, threshold: float) -> Array:
    """Failed measurements so far: the canary's bad share of this poll against a fixed number; an empty poll is none."""
    share = np.divide(traffic.canary_bad, traffic.canary, out=np.zeros_like(traffic.canary), where=traffic.canary > 0)
    return np.cumsum(share > threshold, axis=1).astype(float)


def argo(traffic: Traffic, threshold: float, failure_limit: int) -> Array:
    """Argo Rollouts: abort once more than `failureLimit` measurements failed; successes do not clear them."""
    return _first(_failures(traffic, threshold) > failure_limit)


def flagger(traffic: Traffic, threshold: float, failed_checks: int) -> Array:
    """Flagger: the counter of failed checks is tested against `threshold` on the tick after the failing one."""
    late = np.zeros(traffic.shape, dtype=bool)
    late[:, 1:] = _failures(traffic, threshold)[:, :-1] >= failed_checks
    return _first(late)


def peeked_z(traffic: Traffic, alpha: float = 0.05) -> Array:
    """A one-sided pooled z test of all counts so far at level `alpha`, looked at after every poll."""
    n_c, x_c, n_s, x_s = (
        np.cumsum(part, axis=1) for part in (traffic.canary, traffic.canary_bad, traffic.stable, traffic.stable_bad)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (x_c + x_s) / (n_c + n_s)
        z = (x_c / n_c - x_s / n_s) / np.sqrt(pooled * (1 - pooled) * (1 / n_c + 1 / n_s))
    return _first(np.nan_to_num(z, nan=0.0, posinf=0.0, neginf=0.0) > norm.isf(alpha))


def kayenta(traffic: Traffic, every: int = 10) -> Array:
    """A Mann-Whitney judge over the series of shares so far, every `every` polls, at Kayenta's default settings.

    Rolls back when the lower end of the 98 % confidence interval of the Hodges-Lehmann shift is above a quarter of the
    shift and the means' ratio is at least 1. Polls without traffic are dropped. The interval is by order statistics of
    the pairwise differences with the normal approximation.
    """
    runs, polls = traffic.shape
    result = np.full(runs, NEVER)
    z = norm.isf((1 - KAYENTA_CONFIDENCE) / 2)
    for run in range(runs):
        some_c, some_s = traffic.canary[run] > 0, traffic.stable[run] > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            canary, stable = (
                traffic.canary_bad[run] / traffic.canary[run],
                traffic.stable_bad[run] / traffic.stable[run],
            )
        for poll in range(every, polls + 1, every):
            experiment, control = canary[:poll][some_c[:poll]], stable[:poll][some_s[:poll]]
            sizes = experiment.size * control.size
            if not sizes or np.unique(np.concatenate([experiment, control])).size == 1:
                continue
            spread = np.sqrt(sizes * (experiment.size + control.size + 1) / 12)
            rank = int(sizes / 2 - z * spread)
            if rank < 0:
                continue
            differences = np.subtract.outer(experiment, control).ravel()
            ordered = np.partition(differences, (rank, (sizes - 1) // 2, sizes // 2))
            shift = (ordered[(sizes - 1) // 2] + ordered[sizes // 2]) / 2
            mean = control.mean()
            increased = mean == 0 or experiment.mean() / mean >= KAYENTA_ALLOWED_INCREASE
            if ordered[rank] > KAYENTA_TOLERANCE * abs(shift) and increased:
                result[run] = poll
                break
    return result


def exact_requests(
    canary_rate: float, stable_rate: float, stable_per_canary: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Canary requests with which Fisher's exact test, looked at once, finds a higher rate with this power.

    The conditional test: the usual choice that holds its level at every stable rate. Power is summed exactly.
    """

    def found(requests: int) -> float:
        stable = round(requests * stable_per_canary)
        x_c = np.arange(int(binom.isf(1e-9, requests, canary_rate)) + 1)
        x_s = np.arange(int(binom.isf(1e-9, stable, stable_rate)) + 1)
        bad, k = np.arange(x_c[-1] + x_s[-1] + 1)[:, None], np.arange(x_c[-1] + x_s[-1] + 1)[None, :]
        with np.errstate(invalid="ignore"):
            log_pmf = _log_choose(requests, k) + _log_choose(stable, bad - k) - _log_choose(requests + stable, bad)
        pmf = np.where((k <= bad) & (k <= requests) & (bad - k <= stable), np.exp(log_pmf), 0.0)
        tail = np.cumsum(pmf[:, ::-1], axis=1)[:, ::-1]
        rejected = tail[x_c[:, None] + x_s[None, :], x_c[:, None]] <= alpha
        chances = binom.pmf(x_c, requests, canary_rate), binom.pmf(x_s, stable, stable_rate)
        return float(chances[0] @ rejected @ chances[1])

    return _smallest(found, power)


def score_requests(
    rng: np.random.Generator,
    margin: Margin,
    canary_rate: float,
    stable_rate: float,
    stable_per_canary: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    runs: int = 10_000,
) -> int:
    """Canary requests with which a score test at the margin, looked at once, finds the regression with this power.

    The score test (Miettinen & Nurminen 1985, Farrington & Manning 1990) takes its variance from the rates nearest to
    the data on the margin. Its critical value holds `alpha` on the margin at every stable rate from a tenth to ten
    times the true one, by simulation: with few errors the asymptotic value is exceeded too often. Noise about 2 %.
    """
    possible = np.geomspace(stable_rate / 10, min(10 * stable_rate, 0.5), 9)

    def scores(requests: int, rate: float, stable_rate: float) -> Array:
        stable = round(requests * stable_per_canary)
        x_c = rng.binomial(requests, rate, runs).astype(float)
        x_s = rng.binomial(stable, stable_rate, runs).astype(float)
        low, high = np.zeros(runs), np.full(runs, min(1.0, (1 - margin.absolute) / margin.relative))
        with np.errstate(divide="ignore", invalid="ignore"):
            for _ in range(30):
                p_s = (low + high) / 2
                p_c = margin.relative * p_s + margin.absolute
                slope = margin.relative * (x_c / p_c - (requests - x_c) / (1 - p_c))
                slope += x_s / p_s - (stable - x_s) / (1 - p_s)
                low, high = np.where(slope > 0, p_s, low), np.where(slope > 0, high, p_s)
            variance = p_c * (1 - p_c) / requests + margin.relative**2 * p_s * (1 - p_s) / stable
            z = (x_c / requests - margin.relative * x_s / stable - margin.absolute) / np.sqrt(variance)
        return np.asarray(np.nan_to_num(z))

    def found(requests: int) -> float:
        nulls = (scores(requests, margin.relative * rate + margin.absolute, rate) for rate in possible)
        critical = max(float(np.sort(null)[::-1][int(alpha * runs)]) for null in nulls)
        return float(np.mean(scores(requests, canary_rate, stable_rate) > critical))

    return _smallest(found, power)


def _log_choose(n: int | NDArray[np.int64], k: NDArray[np.int64]) -> Array:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _smallest(found: Callable[[int], float], power: float) -> int:
    low, high = 1, 2
    while found(high) < power:
        low, high = high, high * 2
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if found(middle) < power else (low, middle)
    return high
