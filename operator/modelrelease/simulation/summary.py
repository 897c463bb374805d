"""What many runs of one scenario come to: probabilities with their intervals, and times as quantiles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .world import Run

_Z = 1.959964  # of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Proportion:
    """So many of so many, with Wilson's 95 % interval (E. B. Wilson 1927)."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """The share, 0 of nothing."""
        return self.count / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """From, to."""
        if not self.of:
            return 0.0, 1.0
        n, p, zz = self.of, self.share, _Z * _Z
        middle = (p + zz / (2 * n)) / (1 + zz / n)
        half = _Z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
        low, high = max(0.0, middle - half), min(1.0, middle + half)
        return (0.0 if self.count == 0 else low), (1.0 if self.count == n else high)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some runs, and what 80 % of them stay within."""

    median: float
    most: float
    of: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All runs of one scenario.

    harmful: whether the canary is past the margin of any check, so that a rollback is right and everything else is not.
    by: what took traffic back, by check or reason. to_detect: seconds from the first users who met the bad canary to
    the verdict; to_promote: from the start of the rollout; cost: by check, bad requests because of the canary.
    """

    runs: int
    harmful: bool
    promoted: Proportion
    rolled_back: Proportion
    held: Proportion
    early: int
    by: Mapping[str, int]
    waited_for: Mapping[str, int]
    to_detect: Spread | None
    to_promote: Spread | None
    to_route: Spread | None
    cost: Mapping[str, Spread]
    simulated_s: float
    polls: int


def summarize(runs: Sequence[Run], *, harmful: bool) -> Summary:
    """Count the runs. early: rollbacks before the canary had become bad, or of one that is within every margin."""

    def having(outcome: str) -> list[Run]:
        return [run for run in runs if run.outcome == outcome]

    back = having("RolledBack")
    late = [run for run in back if run.harmed_s is not None and run.decided_s >= run.harmed_s]
    cost = {name: spread([run.lost[name] for run in runs]) for name in (runs[0].lost if runs else ())}
    return Summary(
        runs=len(runs),
        harmful=harmful,
        promoted=Proportion(len(having("Promoted")), len(runs)),
        rolled_back=Proportion(len(back), len(runs)),
        held=Proportion(len(having("Held")), len(runs)),
        early=len(back) - len(late) if harmful else len(back),
        by=dict(Counter(run.check or run.reason for run in back).most_common()),
        waited_for=dict(Counter(run.reason for run in having("Held")).most_common()),
        to_detect=spread(run.decided_s - (run.harmed_s or 0.0) for run in late) if harmful else None,
        to_promote=spread(run.decided_s for run in having("Promoted")),
        to_route=spread(run.ended_s - run.decided_s for run in back),
        cost={name: found for name, found in cost.items() if found is not None},
        simulated_s=sum(run.ended_s for run in runs),
        polls=sum(run.polls for run in runs),
    )


def spread(values: Iterable[float]) -> Spread | None:
    """Median and 80 % quantile (the nearest value that so many reach); None of nothing."""
    order = sorted(values)
    return Spread(_quantile(order, 0.5), _quantile(order, 0.8), len(order)) if order else None


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values), max(1, math.ceil(share * len(values)))) - 1]


def typical(runs: Sequence[Run]) -> int:
    """The run to show: of the most frequent outcome, the one whose decision came at the median."""
    often = Counter(run.outcome for run in runs).most_common(1)[0][0]
    order = sorted((run.decided_s, number) for number, run in enumerate(runs) if run.outcome == often)
    return order[(len(order) - 1) // 2][1]
