"""Judges stored evidence again, and says what carries it and what would have turned it.

    replay(revision, evidence, recorded, has_stable=...) -> Replay

The evidence holds wealths and totals, not polls. A verdict is therefore read off it exactly; what another count or
margin would have done is computed from the totals, as if all had come at the present shares, and is said as "about".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from modelrelease.api.checks import Check
from modelrelease.api.reasons import Reason
from modelrelease.api.status import CheckStatus
from modelrelease.core import checks
from modelrelease.core.checks.feed import regression
from modelrelease.core.checks.memory import Shares
from modelrelease.core.checks.words import share
from modelrelease.core.evidence import (
    REGRESSION_BETS,
    SAFETY_BETS,
    Counts,
    Margin,
    TestPlan,
    Wealth,
    log_e_value,
    safety,
)
from modelrelease.core.observation import Samples, Unavailable
from modelrelease.core.revision import Revision

NEEDED = 1 / checks.ALPHA
_CARRIES = 0.1  # of a wealth: a bet with less is not worth a word
_STEPS = 60
_MOST = 700.0  # exp() of more overflows


@dataclass(frozen=True, slots=True)
class Bet:
    """One bet of a wealth: how bad it takes the canary to be, for one that is allowed, and its part of the wealth."""

    times: float
    part: float


@dataclass(frozen=True, slots=True)
class Explained:
    """One check. recorded: its verdict in status, None where that has none.

    wealth: the evidence of harm, which the check alone would need `needed` of, as the others stand. safe: the weakest
    evidence that it is within its margin; both need 1/alpha. harm_bets, safe_bets: what carries them, largest first.
    turns: what would have made another verdict, a sentence each.
    """

    check: str
    verdict: str
    recorded: str | None
    message: str
    canary: Counts
    stable: Counts | None
    allowed: float | None
    margin: Margin
    wealth: float
    needed: float
    safe: float
    harm_bets: tuple[Bet, ...]
    safe_bets: tuple[Bet, ...]
    turns: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether status says something else."""
        return self.recorded is not None and self.recorded != self.verdict


@dataclass(frozen=True, slots=True)
class Replay:
    """All checks of a rollout. combined: the mean of the wealths, which a rollback needs 1/alpha of.

    failed: the check that was blamed when it was first reached. others: gauges and what else has no wealth.
    """

    checks: tuple[Explained, ...]
    others: tuple[tuple[str, str, str | None], ...]
    combined: float
    failed: str | None

    @property
    def differs(self) -> bool:
        """Whether any verdict is another one than the recorded one."""
        return any(item.differs for item in self.checks) or any(
            recorded is not None and recorded != verdict for _, verdict, recorded in self.others
        )


def replay(
    revision: Revision, evidence: checks.Evidence, recorded: Sequence[CheckStatus], *, has_stable: bool
) -> Replay:
    """Judge again. Where data was missing when the verdicts were recorded, it is missing again."""
    samples = Samples((), _missing(recorded))
    judgement = checks.judge(evidence, revision, samples, has_stable=has_stable)
    held = {item.name: item.verdict for item in recorded}
    wealths = {name: regression(memory) for name, memory in evidence.checks.items() if isinstance(memory, Shares)}
    whole = math.fsum(wealths.values())
    explained: list[Explained] = []
    others: list[tuple[str, str, str | None]] = []
    for check, status in zip(revision.checks, judgement.checks, strict=True):
        memory = evidence.checks[check.name]
        if isinstance(memory, Shares):
            needed = max(NEEDED * len(wealths) - (whole - wealths[check.name]), 1.0)
            plan = checks.plan(revision, check, evidence.planned_polls)
            place = status.bound or 0
            told = _explain(check, status, held.get(check.name), plan, memory, place, needed)
            over = evidence.failed is not None and status.verdict != "Fail"  # nothing is asked of it any more
            explained.append(replace(told, turns=()) if over else told)
        else:
            others.append((status.message, status.verdict, held.get(check.name)))
    combined = whole / len(wealths) if wealths else 1.0
    return Replay(tuple(explained), tuple(others), combined, evidence.failed)


def _missing(recorded: Sequence[CheckStatus]) -> Unavailable | None:
    """What was wrong with the evidence when the verdicts were recorded, as far as they tell."""
    for item in recorded:
        if item.verdict == "Unavailable":
            return Unavailable(Reason(item.reason) if item.reason else Reason.PROMETHEUS_UNREACHABLE, "as recorded")
        if item.verdict == "NoData" and item.reason == Reason.NO_DATA:
            return Unavailable(Reason.NO_DATA, "as recorded")
    return None


def _explain(
    check: Check,
    status: CheckStatus,
    recorded: str | None,
    plan: TestPlan,
    memory: Shares,
    place: int,
    needed: float,
) -> Explained:
    wealth = memory.wealths[place]
    relative = plan.margin.relative > 0.0
    stable = wealth.rollout_stable if relative else None
    turns = _turns(check, status, plan, wealth, regression(memory), needed)
    return Explained(
        check=check.name,
        verdict=status.verdict,
        recorded=recorded,
        message=status.message,
        canary=wealth.rollout_canary,
        stable=stable,
        allowed=status.allowed,
        margin=plan.margin,
        wealth=regression(memory),
        needed=needed,
        safe=min(safety(item) for item in memory.wealths),
        harm_bets=_bets(REGRESSION_BETS, wealth.regression, wealth.cash * len(REGRESSION_BETS)),
        safe_bets=_bets(SAFETY_BETS, wealth.safety, 0.0),
        turns=tuple(turns),
    )


def _bets(times: Sequence[float], held: Sequence[float], cash: float) -> tuple[Bet, ...]:
    whole = math.fsum(held) + cash
    parts = [Bet(bet, value / whole) for bet, value in zip(times, held, strict=True)] if whole > 0 else []
    return tuple(sorted((bet for bet in parts if bet.part >= _CARRIES), key=lambda bet: -bet.part))


def _turns(check: Check, status: CheckStatus, plan: TestPlan, wealth: Wealth, harm: float, needed: float) -> list[str]:
    canary, stable = wealth.rollout_canary, wealth.rollout_stable
    if canary.total <= 0 or (plan.margin.relative and stable.total <= 0):
        return []
    # Only totals are kept: what they would give in one step, shifted to what the polls gave.
    shift = _log(harm) - _pooled(REGRESSION_BETS, plan, plan.margin, canary, stable)

    def harmful(bad: float, margin: Margin = plan.margin) -> bool:
        value = _pooled(REGRESSION_BETS, plan, margin, replace(canary, bad=bad), stable) + shift
        return value >= _log(needed)

    if status.verdict == "Fail":
        return _unfailed(plan, canary, harmful)
    turns = []
    if status.verdict in ("Waiting", "Unavailable", "NoData") and status.requests_needed is not None:
        turns.append(f"with about {status.requests_needed:,} more requests, as good as stable's, it would pass")
    elif status.verdict == "Waiting" and not status.reason:
        turns.append("with a larger margin it could pass; at this one even a canary like stable gains no evidence")
    if harmful(canary.total):
        worse = math.ceil(_edge(harmful, canary.bad, canary.total)) - math.floor(canary.bad)
        turns.append(f"with about {max(worse, 1):,} more bad requests among the {canary.total:,.0f} it would fail")
    return turns


def _unfailed(plan: TestPlan, canary: Counts, harmful: Callable[..., bool]) -> list[str]:
    turns = []
    if not harmful(0.0) and harmful(canary.bad):
        most = min(math.floor(_edge(harmful, 0.0, canary.bad)), int(canary.bad) - 1)
        turns.append(f"with {most:,} bad requests or fewer, not {canary.bad:,.0f}, it would not fail")
    wide = 0.999
    if harmful(canary.bad) and not harmful(canary.bad, Margin(plan.margin.relative, wide)):
        tight = plan.margin.absolute
        for _ in range(_STEPS):
            middle = (tight + wide) / 2
            if harmful(canary.bad, Margin(plan.margin.relative, middle)):
                tight = middle
            else:
                wide = middle
        turns.append(
            f"with an absolute margin of about {share(wide)}, not {share(plan.margin.absolute)}, it would not fail"
        )
    return turns


def _edge(harmful: Callable[..., bool], low: float, high: float) -> float:
    """The smallest number of bad requests between the two that is harmful."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if harmful(middle) else (middle, high)
    return high


def _pooled(bets: Sequence[float], plan: TestPlan, margin: Margin, canary: Counts, stable: Counts) -> float:
    """Logarithm of the wealth that the totals would give in one step."""
    logs = [log_e_value(bet, margin, canary, stable, tempering=plan.tempering) for bet in bets]
    top = max(logs)
    return top + math.log(math.fsum(math.exp(max(value - top, -_MOST)) for value in logs) / len(logs))


def _log(value: float) -> float:
    return math.log(max(value, 1e-300))
