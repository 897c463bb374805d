"""Load parity: how many pods and which weight let a pod of the canary carry as much as a pod of stable.

A canary pod that gets less traffic than a stable pod looks faster than it is, one that gets more looks slower. Pure
arithmetic over whole percents and whole pods; `core.plan` asks it, the evidence (`core.checks`) judges what load there
really was.
"""

from __future__ import annotations

import math

NEAR = 0.15
"""How far from parity rounding may take a pod's load; the evidence counts a quarter as near."""


def load(weight: float, pods: int, stable_pods: int) -> float:
    """What a canary pod carries for each request of a stable pod; inf where stable gets nothing."""
    return weight / pods * stable_pods / (100 - weight) if weight < 100 else math.inf


def weight_for(pods: int, stable_pods: int, *, floor: int, limit: int) -> int:
    """The weight at which so many canary pods carry as much as stable's pods each, between floor and limit."""
    even = round(100 * pods / (pods + stable_pods))
    return min(limit, max(even, floor, 1))


def pods_for(stable_pods: int, *, least: int, floor: int, limit: int) -> int:
    """The fewest canary pods, from `least` on, that whole percents between floor and limit bring near parity.

    Never fewer than their weight's share of all pods, and `least` where no number up to stable's comes near.
    """
    for pods in range(least, max(least, stable_pods) + 1):
        weight = weight_for(pods, stable_pods, floor=floor, limit=limit)
        enough = pods >= math.ceil(weight * stable_pods / 100)
        if enough and abs(load(weight, pods, stable_pods) - 1) <= NEAR:
            return pods
    return least


def pods_at(weight: int, stable_pods: int, *, least: int) -> int:
    """How many canary pods a given weight brings nearest to parity: at least `least`, at most as many as stable has."""
    if weight >= 100:
        return max(least, stable_pods)
    even = round(weight * stable_pods / (100 - weight))
    return max(least, min(even, stable_pods))
