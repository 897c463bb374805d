"""What the evidence benchmark's tables are made of: bars, sections, random streams and the formatting of numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.traffic import NEVER, Array, Traffic
from modelrelease.core.evidence import Margin, TestPlan

POLLS = 200
DEFAULT, ZERO = Margin(1.25, 0.01), Margin(1.0, 0.0)
PLAN = TestPlan(DEFAULT, POLLS)
RATES = (0.001, 0.01, 0.05)
SIZES = (1, 10, 100, 1000)
CHANGES = (
    (0.001, 0.002),
    (0.001, 0.005),
    (0.001, 0.101),
    (0.01, 0.02),
    (0.01, 0.05),
    (0.01, 0.11),
    (0.05, 0.10),
    (0.05, 0.15),
    (0.05, 0.25),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise: what was asked, what was measured, and whether it is kept."""

    number: int
    what: str
    asked: str
    measured: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Section:
    """One table with its title and notes, and the bars that it proves."""

    title: str
    table: str
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """Where randomness comes from, and how many runs a cell gets."""

    seed: int
    scale: float

    def rng(self, *cell: int) -> np.random.Generator:
        """A stream for each cell, so that no cell depends on the order or the size of others."""
        return np.random.default_rng([self.seed, *cell])

    def runs(self, usual: int) -> int:
        return int(usual * self.scale)


def share_stopped(polls: Array) -> float:
    return float(np.mean(np.isfinite(polls)))


def show_share(polls: Array) -> str:
    share = share_stopped(polls)
    return "0" if share == 0 else f"{share:.4f}" if share < 0.01 else f"{share:.2f}"


def quantile(polls: Array, share: float) -> float:
    return float(np.sort(polls)[math.ceil(share * polls.size) - 1])


def show_found(polls: Array) -> str:
    half = quantile(polls, 0.5)
    return f"{share_stopped(polls):.2f} / {half:g}" if half < NEVER else f"{share_stopped(polls):.2f} / –"


def first_runs(traffic: Traffic, runs: int) -> Traffic:
    return Traffic(traffic.canary[:runs], traffic.canary_bad[:runs], traffic.stable[:runs], traffic.stable_bad[:runs])


def render(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
