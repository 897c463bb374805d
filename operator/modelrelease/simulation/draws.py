"""Random counts from a seed: Poisson, binomial and the share of one pod among its siblings.

The standard library of Python 3.11 draws none of them. All are exact: inversion where the mean is small, Hörmann's
transformed rejection where it is large (W. Hörmann 1993, "The transformed rejection method for generating Poisson
random variables", and "The generation of binomial random variates", algorithms PTRS and BTRS).
"""

from __future__ import annotations

import math
from random import Random

_INVERSION = 10.0


def poisson(random: Random, mean: float) -> int:
    """How many events a Poisson process has where `mean` are expected; 0 for a mean of 0 or less."""
    if mean <= 0.0:
        return 0
    if mean < _INVERSION:
        left, limit, count = random.random(), math.exp(-mean), 0
        while left > limit:
            left *= random.random()
            count += 1
        return count
    return _poisson_rejection(random, mean)


def _poisson_rejection(random: Random, mean: float) -> int:
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    within = 0.9277 - 3.6224 / (b - 2.0)
    log_mean = math.log(mean)
    while True:
        u, v = random.random() - 0.5, random.random()
        us = 0.5 - abs(u)
        if us <= 0.0:
            continue
        count = math.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= within:
            return count
        if count < 0 or (us < 0.013 and v > us) or v <= 0.0:
            continue
        accepted = math.log(v * inverse_alpha / (a / (us * us) + b))
        if accepted <= count * log_mean - mean - math.lgamma(count + 1.0):
            return count


def binomial(random: Random, trials: int, share: float) -> int:
    """How many of `trials` succeed, each with probability `share`; a share outside [0, 1] is taken as its end."""
    if trials <= 0 or share <= 0.0:
        return 0
    if share >= 1.0:
        return trials
    if share > 0.5:
        return trials - binomial(random, trials, 1.0 - share)
    if trials * share < _INVERSION:
        return _binomial_skips(random, trials, share)
    return _binomial_rejection(random, trials, share)


def _binomial_skips(random: Random, trials: int, share: float) -> int:
    """Skips from success to success: their distances are geometric."""
    scale, place, count = math.log1p(-share), 0, 0
    while True:
        place += int(math.log(1.0 - random.random()) / scale) + 1
        if place > trials:
            return count
        count += 1


def _binomial_rejection(random: Random, trials: int, share: float) -> int:
    spread = math.sqrt(trials * share * (1.0 - share))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * share
    center = trials * share + 0.5
    within = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    odds = math.log(share / (1.0 - share))
    mode = math.floor((trials + 1) * share)
    height = math.lgamma(mode + 1.0) + math.lgamma(trials - mode + 1.0)
    while True:
        u, v = random.random() - 0.5, random.random()
        us = 0.5 - abs(u)
        if us <= 0.0:
            continue
        count = math.floor((2.0 * a / us + b) * u + center)
        if us >= 0.07 and v <= within:
            return count
        if count < 0 or count > trials or v <= 0.0:
            continue
        accepted = math.log(v * alpha / (a / (us * us) + b))
        rest = height - math.lgamma(count + 1.0) - math.lgamma(trials - count + 1.0) + (count - mode) * odds
        if accepted <= rest:
            return count


def sibling(random: Random, share: float, correlation: float) -> float:
    """The bad share of one pod whose siblings have `share` on average: beta, with this correlation within a pod."""
    if correlation <= 0.0 or not 0.0 < share < 1.0:
        return share
    size = (1.0 - correlation) / correlation
    return random.betavariate(share * size, (1.0 - share) * size)
