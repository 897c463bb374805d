"""Like with like, through the operator's own checks poll by poll: hardware that the arms have in other shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from bench.evidence_tables import Bench, Section, render
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.core import checks
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodFacts, PodPoll, Poll, Samples
from modelrelease.core.revision import Revision, desired

START, STEP, POLLS = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=5), 100
STABLE = "stable"


@dataclass(frozen=True, slots=True)
class World:
    """By hardware: requests a poll of the canary and of stable, and the bad share of each."""

    name: str
    arms: dict[str, tuple[int, int, float, float]]


WORLDS = (
    World("both arms half on each, canary as good", {"A100": (50, 450, 0.01, 0.01), "L4": (50, 450, 0.10, 0.10)}),
    World("canary 90 % on L4, stable 10 %, as good", {"A100": (10, 810, 0.01, 0.01), "L4": (90, 90, 0.10, 0.10)}),
    World("canary 90 % on L4, worse there: 10 → 25 %", {"A100": (10, 810, 0.01, 0.01), "L4": (90, 90, 0.25, 0.10)}),
    World("canary on L4 only, stable on A100 only", {"A100": (0, 900, 0.0, 0.01), "L4": (100, 0, 0.10, 0.0)}),
)


def hardware(bench: Bench) -> Section:
    """The same polls, judged with and without knowing what pods run on."""
    release, rows = release_of({"name": "errors", "errorRate": {}}), []
    runs = bench.runs(200)
    for i, world in enumerate(WORLDS):
        seen = _fleet(release, world)
        ends = {fleet: [0, 0] for fleet in ("pooled", "like")}
        for run in range(runs):
            polls = _polls(bench.rng(13, i, run), release, world)
            for name, fleet in (("pooled", checks.NOBODY), ("like", seen)):
                held = checks.advance(checks.begin(release, START), release, polls, STABLE, fleet)
                judged = checks.judge(held, release, Samples(), has_stable=True, fleet=fleet)
                ends[name][0] += judged.failed is not None
                ends[name][1] += judged.passed
        shares = {name: [f"{number / runs:.2f}" for number in end] for name, end in ends.items()}
        pooled, like = shares["pooled"], shares["like"]
        rows.append((world.name, pooled[0], f"**{like[0]}**", pooled[1], f"**{like[1]}**"))
    note = (
        "A hundred polls of errors, 100 canary requests and 900 of stable each, through the operator's own checks:"
        " share of rollouts rolled back, and of those that have passed at the end.\n\n"
    )
    headings = ("world", "rolled back, pooled", "**like with like**", "passed, pooled", "**like with like**")
    return Section("Unlike hardware", note + render(headings, rows))


def release_of(*asked: dict[str, object]) -> Revision:
    """A candidate with these checks, and phases of ten minutes."""
    spec = {
        "model": {"name": "churn", "version": 2},
        "traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["churn.example"]}},
        "workload": {"template": {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}},
        "checks": list(asked),
    }
    return desired("churn", ModelReleaseSpec.model_validate(spec), None, "2")


def _fleet(release: Revision, world: World) -> checks.Fleet:
    facts = {kind: PodFacts("", kind, None, None) for kind in world.arms}
    arms = ((release.revision, 0), (STABLE, 1))
    return checks.Fleet(
        {arm: {kind: facts[kind] for kind, seen in world.arms.items() if seen[place]} for arm, place in arms}
    )


def _polls(rng: np.random.Generator, release: Revision, world: World) -> list[Poll]:
    """One pod of each arm on each hardware, named after it."""
    arms: list[dict[str, dict[str, PodPoll]]] = [{release.revision: {}, STABLE: {}} for _ in range(POLLS)]
    for kind, (canary, stable, canary_rate, stable_rate) in world.arms.items():
        for arm, requests, rate in ((release.revision, canary, canary_rate), (STABLE, stable, stable_rate)):
            if not requests:
                continue
            totals = rng.poisson(requests, POLLS)
            bad = rng.binomial(totals, rate)
            for number in range(POLLS):
                counts = Counts(float(totals[number]), float(bad[number]))
                arms[number][arm][kind] = PodPoll({"errors": (counts,)})
    return [Poll(START + (number + 1) * STEP, seen) for number, seen in enumerate(arms)]
