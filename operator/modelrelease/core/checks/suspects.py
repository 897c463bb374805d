"""One bad pod or a bad model: what the totals of the canary's pods say when a check leans to a rollback.

It explains, it decides nothing: a rollback is the same whoever is to blame, but a person looks at a node or at a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelrelease.core.evidence import Counts

SURE = 1e-3
"""Probability below which a pod's bad requests are no chance, had it the rate of its siblings."""


def standing_out(pods: Sequence[Counts], arm: Counts, allowed: float) -> int | None:
    """The place of the pod that is bad beyond chance while its siblings together are within `allowed`.

    pods: totals of those that are known, arm: of all pods of the canary. None where there is no such pod.
    """
    found: list[tuple[float, int]] = []
    for place, pod in enumerate(pods):
        siblings = _without(arm, pod)
        if pod.total <= 0 or siblings.total <= 0 or pod.bad / pod.total <= allowed:
            continue
        if siblings.bad / siblings.total <= allowed and _tail(pod, siblings) < SURE / len(pods):
            found.append((pod.bad / pod.total, place))
    return max(found)[1] if found else None


def alike(pods: Sequence[Counts], arm: Counts, allowed: float) -> bool:
    """Whether at least two pods had enough requests to be told apart, all are past `allowed`, and none is far off."""
    active = [pod for pod in pods if pod.total > 0]
    if len(active) < 2 or not all(pod.bad > allowed * pod.total for pod in active):
        return False
    return all(_tail(pod, _without(arm, pod)) >= SURE / len(active) for pod in active)


def binomial_tail(bad: float, total: float, rate: float) -> float:
    """Probability of at least `bad` of `total` when each is bad with probability `rate`, summed exactly."""
    first, n = math.ceil(bad), math.ceil(total)
    if first <= 0 or rate >= 1.0:
        return 1.0
    if rate <= 0.0 or first > n:
        return 0.0
    if first <= n * rate:
        return 1.0 - _sum(n, first - 1, rate, -1)
    return _sum(n, first, rate, 1)


def _sum(n: int, start: int, rate: float, step: int) -> float:
    """The binomial probabilities from `start` away from the mean, until they no longer count."""
    log_term = (
        math.lgamma(n + 1) - math.lgamma(start + 1) - math.lgamma(n - start + 1)
        + start * math.log(rate) + (n - start) * math.log1p(-rate)
    )  # fmt: skip
    term = whole = math.exp(log_term)
    odds, k = rate / (1.0 - rate), start
    while 0 <= k + step <= n and term > whole * 1e-12:
        term *= (n - k) / (k + 1) * odds if step > 0 else k / (n - k + 1) / odds
        whole, k = whole + term, k + step
    return min(1.0, whole)


def _tail(pod: Counts, siblings: Counts) -> float:
    """How likely the pod is at its siblings' rate; these are given one bad request more than they had."""
    return binomial_tail(pod.bad, pod.total, (siblings.bad + 1.0) / (siblings.total + 2.0))


def _without(arm: Counts, pod: Counts) -> Counts:
    total = max(0.0, arm.total - pod.total)
    return Counts(total, min(total, max(0.0, arm.bad - pod.bad)))
