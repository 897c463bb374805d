"""Simulated canary traffic, and the evidence core run over many rollouts at once with numpy.

`Rollouts` restates `core.evidence.observe` in arrays, for speed only: the benchmark checks on random rollouts that both
stop at the same polls. Counts are arrays of shape (runs, polls); polls without traffic hold zeros.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from modelrelease.core.evidence import EARLY_STAKE, REGRESSION_BETS, SAFETY_BETS, WEALTH_LIMIT, TestPlan

Array = NDArray[np.float64]

NEVER = np.inf


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests and bad requests of both arms, poll by poll, of many rollouts; arrays of shape (runs, polls)."""

    canary: Array
    canary_bad: Array
    stable: Array
    stable_bad: Array

    @classmethod
    def poisson(
        cls,
        rng: np.random.Generator,
        shape: tuple[int, int],
        requests: float | Array,
        canary_rate: float | Array,
        stable_rate: float | Array,
        stable_per_canary: float | Array = 9.0,
    ) -> Self:
        """Independent requests; numbers may be arrays over polls."""
        canary = rng.poisson(np.broadcast_to(requests, shape))
        stable = rng.poisson(np.broadcast_to(np.asarray(requests) * stable_per_canary, shape))
        return cls(
            canary.astype(float),
            rng.binomial(canary, np.broadcast_to(canary_rate, shape)).astype(float),
            stable.astype(float),
            rng.binomial(stable, np.broadcast_to(stable_rate, shape)).astype(float),
        )

    @classmethod
    def of_pods(
        cls,
        rng: np.random.Generator,
        shape: tuple[int, int],
        requests_per_pod: int,
        rate: float,
        correlation: float,
        *,
        canary_pods: int = 1,
        stable_pods: int = 9,
        persistent: bool = False,
    ) -> Self:
        """Pods whose bad share is Beta distributed around `rate`, drawn anew each poll or, persistent, once a rollout.

        `correlation` is that between two requests of one pod (ICC).
        """
        runs, polls = shape
        a, b = rate * (1 - correlation) / correlation, (1 - rate) * (1 - correlation) / correlation

        def arm(pods: int) -> tuple[Array, Array]:
            requests = rng.poisson(requests_per_pod, (runs, polls, pods))
            rates = rng.beta(a, b, (runs, 1 if persistent else polls, pods))
            bad = rng.binomial(requests, np.broadcast_to(rates, requests.shape))
            return requests.sum(axis=2).astype(float), bad.sum(axis=2).astype(float)

        return cls(*arm(canary_pods), *arm(stable_pods))

    def poll(self, number: int) -> tuple[Array, Array, Array, Array]:
        """The columns of one poll."""
        return (
            self.canary[:, number],
            self.canary_bad[:, number],
            self.stable[:, number],
            self.stable_bad[:, number],
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Runs and polls."""
        runs, polls = self.canary.shape
        return runs, polls


class Rollouts:
    """The wealth of one check in many rollouts, with the arithmetic of `core.evidence.observe` (without the pivot)."""

    def __init__(self, plan: TestPlan, runs: int) -> None:
        assert not plan.pivot
        self._plan = plan
        self._bets = np.array(REGRESSION_BETS + SAFETY_BETS)
        self._regression = np.zeros((runs, len(REGRESSION_BETS)))
        self._safety = np.ones((runs, len(SAFETY_BETS)))
        self._cash = np.ones(runs)
        self._polls = np.zeros(runs)

    def observe(
        self, canary: Array, canary_bad: Array, stable: Array, stable_bad: Array, tempering: Array | None = None
    ) -> None:
        """One poll of every run; arrays of shape (runs,). tempering: of each run, of the plan where it is not given."""
        margin, plan = self._plan.margin, self._plan
        active = (canary > 0) & ((stable > 0) | (margin.relative == 0))
        kappa = np.zeros_like(canary)
        np.divide(margin.relative * canary, stable, out=kappa, where=stable > 0)
        kappa = kappa[:, None]
        u = (self._bets - 1) / (1 + kappa * self._bets)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(canary_bad[:, None] > 0, canary_bad[:, None] * np.log1p(u), 0.0)
        log_e = gain - canary[:, None] * np.log1p(margin.absolute * u)
        if margin.relative:
            log_e += stable_bad[:, None] * np.log1p(-kappa * u / (1 + margin.absolute * u))
        divided = log_e / (plan.tempering if tempering is None else tempering[:, None])
        e = np.exp(np.minimum(divided, plan.log_cap))
        e[~active] = 1.0
        later = (1 - EARLY_STAKE) / plan.planned_polls
        stake = np.minimum(np.where(self._polls == 0, later + EARLY_STAKE, later), self._cash) * active
        bets = len(REGRESSION_BETS)
        self._regression = np.where(
            active[:, None], _single((self._regression + stake[:, None]) * e[:, :bets]), self._regression
        )
        self._safety = np.where(active[:, None], _single(self._safety * e[:, bets:]), self._safety)
        self._cash -= stake
        self._polls += active

    @property
    def regression(self) -> Array:
        """W of every run."""
        return np.asarray(self._regression.mean(axis=1) + self._cash)

    @property
    def safety(self) -> Array:
        """S of every run."""
        return np.asarray(self._safety.mean(axis=1))


def _single(wealth: Array) -> Array:
    """As `core.evidence.single` keeps them."""
    return (np.minimum(wealth, WEALTH_LIMIT) * (1 - 2.0**-23)).astype(np.float32).astype(float)


def stopping_polls(plan: TestPlan, *checks: Traffic) -> tuple[Array, Array]:
    """The poll of rollback (mean of W) and of Pass (every S) in each run, counted from 1, or NEVER."""
    runs, polls = checks[0].shape
    wealths = [Rollouts(plan, runs) for _ in checks]
    rollback, passed = np.full(runs, NEVER), np.full(runs, NEVER)
    for number in range(polls):
        for wealth, traffic in zip(wealths, checks, strict=True):
            wealth.observe(*traffic.poll(number))
        worse = np.mean([wealth.regression for wealth in wealths], axis=0) >= 1 / plan.alpha
        safe = np.min([wealth.safety for wealth in wealths], axis=0) >= 1 / plan.alpha_safe
        rollback[worse & np.isinf(rollback)] = number + 1
        passed[safe & np.isinf(passed)] = number + 1
    return rollback, passed
