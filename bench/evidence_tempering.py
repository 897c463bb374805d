"""Would tempering by what stable's pods show help? The measurement behind leaving `tempering` at 1.

Pods differ from each other beyond chance. Stable's pods tell by how much: Pearson's chi-square of their counts within a
poll over its degrees of freedom. The factor for a poll is taken from earlier polls only, so that it is fixed before the
poll. Not part of the operator.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.evidence_tables import (
    PLAN,
    POLLS,
    ZERO,
    Bench,
    Section,
    quantile,
    render,
    share_stopped,
    show_found,
    show_share,
)
from bench.traffic import NEVER, Array, Rollouts
from modelrelease.core.evidence import TestPlan

LEAST_FREEDOM = 20
STABLE_PODS = 9

WORLDS = (
    ("independent requests", 0.0, False, 1),
    ("pods differ each poll, φ = 2", 0.01, False, 1),
    ("pods differ each poll, φ = 6", 0.05, False, 1),
    ("**a bad pod that stays**, 1 canary pod, ICC 0.001", 0.001, True, 1),
    ("**a bad pod that stays**, 1 canary pod, ICC 0.01", 0.01, True, 1),
    ("… 4 canary pods, ICC 0.01", 0.01, True, 4),
)


def tempering(bench: Bench) -> Section:
    """False rollbacks, detection and Pass with a factor of 1 and with one estimated as the rollout goes."""
    rows = []
    for i, (name, correlation, persistent, pods) in enumerate(WORLDS):
        row: list[object] = [name]
        worlds = [
            _pods(bench, (12, i, j), bench.runs(1000), correlation, persistent, pods, canary_rate)
            for j, canary_rate in enumerate((0.01, 0.06))
        ]
        for plan in (PLAN, replace(PLAN, margin=ZERO)):
            for estimated in (False, True):
                harm, _, factor = _stopping(plan, *worlds[0], estimated=estimated)
                row.append(show_share(harm))
        for estimated in (False, True):
            harm, _, _ = _stopping(PLAN, *worlds[1], estimated=estimated)
            row.append(show_found(harm))
        for estimated in (False, True):
            _, passed, factor = _stopping(PLAN, *worlds[0], estimated=estimated)
            row.append(f"{quantile(passed, 0.5):g}" if share_stopped(passed) > 0.5 else "–")
        row.append(f"{factor:.2f}")
        rows.append(tuple(row))
    headings = (
        "world (1 % errors, 100 requests a pod and poll)",
        "false rollback", "… estimated", "margin 0", "… estimated",
        "1 → 6 % found", "… estimated", "polls to Pass", "… estimated", "φ in the end",
    )  # fmt: skip
    return Section("Tempering estimated from stable's pods (measured, not used)", render(headings, rows))


def _pods(
    bench: Bench, cell: tuple[int, ...], runs: int, correlation: float, persistent: bool, pods: int, canary_rate: float
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Requests and bad ones of both arms' pods, shape (runs, polls, pods)."""
    rng = bench.rng(*cell)

    def arm(count: int, rate: float) -> tuple[Array, Array]:
        requests = rng.poisson(100, (runs, POLLS, count))
        if correlation:
            a, b = rate * (1 - correlation) / correlation, (1 - rate) * (1 - correlation) / correlation
            rates = rng.beta(a, b, (runs, 1 if persistent else POLLS, count))
        else:
            rates = np.full((1, 1, 1), rate)
        bad = rng.binomial(requests, np.broadcast_to(rates, requests.shape))
        return requests.astype(float), bad.astype(float)

    return arm(pods, canary_rate), arm(STABLE_PODS, 0.01)


def _stopping(
    plan: TestPlan, canary: tuple[Array, Array], stable: tuple[Array, Array], *, estimated: bool
) -> tuple[Array, Array, float]:
    """Polls of rollback and of Pass, and the median factor at the end."""
    runs = canary[0].shape[0]
    wealth = Rollouts(plan, runs)
    rollback, passed = np.full(runs, NEVER), np.full(runs, NEVER)
    chi, freedom, factor = np.zeros(runs), np.zeros(runs), np.ones(runs)
    for poll in range(POLLS):
        n_c, x_c = (part[:, poll].sum(axis=1) for part in canary)
        n, x = (part[:, poll] for part in stable)
        wealth.observe(n_c, x_c, n.sum(axis=1), x.sum(axis=1), factor if estimated else None)
        rate = x.sum(axis=1) / n.sum(axis=1)
        expected = n * rate[:, None]
        spread = expected * (1 - rate[:, None])
        seen = rate > 0
        chi += np.where(seen, np.divide((x - expected) ** 2, spread, where=spread > 0, out=np.zeros_like(x)).sum(1), 0)
        freedom += np.where(seen, STABLE_PODS - 1, 0)
        enough = freedom >= LEAST_FREEDOM
        factor = np.where(enough, np.maximum(1.0, chi / np.maximum(freedom, 1)), 1.0)
        worse, safe = wealth.regression >= 1 / plan.alpha, wealth.safety >= 1 / plan.alpha_safe
        rollback[worse & np.isinf(rollback)] = poll + 1
        passed[safe & np.isinf(passed)] = poll + 1
    return rollback, passed, float(np.median(factor))
