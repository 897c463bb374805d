"""What can be said of each phase before anything is played: requests that come, requests needed, what would be seen.

Arithmetic on the forecasts of `core.evidence`, with the traffic and rates of a scenario. A phase of full weight leaves
stable no traffic: there only absolute checks go on.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelrelease.api.base import parse_duration
from modelrelease.api.checks import Check
from modelrelease.core import checks, parity, plan
from modelrelease.core.checks.plans import NEAR_PARITY
from modelrelease.core.evidence import requests_expected, smallest_detectable
from modelrelease.core.revision import margin_of

from .scenario import Scenario, bad_shares
from .subject import Subject


@dataclass(frozen=True, slots=True)
class CheckForecast:
    """One check in one phase.

    needed: canary requests until it passes, if the canary is as good as stable; None where its margin cannot be
    decided. smallest: the smallest bad share that the requests of the phase's duration reveal with about 80 %
    probability; None where none is. compared: False where there is nothing to compare with. excused: no pass is asked
    for in this phase, as it is the last one, or its pods get so little load that their latency proves nothing good.
    """

    check: str
    compared: bool
    excused: bool
    needed: float | None
    smallest: float | None


@dataclass(frozen=True, slots=True)
class PhaseForecast:
    """One phase. requests: of the canary within its duration. waits_s: how long beyond it evidence is waited for.

    decides: False where the timeout ends first, or a margin cannot be decided.
    """

    name: str
    weight: int
    pods: int
    duration_s: float
    timeout_s: float
    requests: float
    checks: tuple[CheckForecast, ...]
    waits_s: float
    decides: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How the canary of a scenario stands to one check, at the bound where it is worst, disturbances aside."""

    check: str
    what: str
    stable: float
    canary: float
    allowed: float
    relative: float
    absolute: float

    @property
    def strain(self) -> float:
        """The canary's share for each part that is allowed: above 1 it is worse than it may be."""
        return self.canary / max(self.allowed, 1e-9)

    @property
    def within(self) -> bool:
        """Whether the canary may be like this."""
        return self.canary <= self.allowed * (1 + 1e-9)


def standings(subject: Subject, scenario: Scenario) -> tuple[Standing, ...]:
    """How the canary stands to every check that counts."""
    return tuple(_standing(check, scenario) for check in subject.checks)


def forecasts(subject: Subject, scenario: Scenario) -> tuple[PhaseForecast, ...]:
    """All phases, in order."""
    return tuple(_phase(subject, scenario, step) for step in range(len(subject.candidate.phases)))


def _standing(check: Check, scenario: Scenario) -> Standing:
    margin = margin_of(check)
    assert margin is not None, "only gauges have no margin"
    stable, canary = (bad_shares(check, laws[check.name]) for laws in (scenario.stable, scenario.canary))
    factor = max(1.0, scenario.drift.factor) if scenario.drift else 1.0
    rows = []
    for number, (good, bad) in enumerate(zip(stable, canary, strict=True)):
        drifted, own = min(good * factor, 1.0), min(bad * factor, 1.0)
        allowed = margin.relative * drifted + margin.absolute
        rows.append(Standing(check.name, what(check, number), drifted, own, allowed, margin.relative, margin.absolute))
    return max(rows, key=lambda row: row.strain)


def stable_per_canary(weight: int) -> float:
    """Requests of stable for one of the canary; 1 at full weight, where only absolute checks go on and none counts."""
    return (100 - weight) / weight if weight < 100 else 1.0


def what(check: Check, bound: int = 0) -> str:
    """What is bad about the requests that a check counts, in two or three words."""
    if check.latency is not None:
        return f"slower than {(check.latency.slower_than, *check.latency.also_slower_than)[bound]}"
    if check.error_rate is not None:
        return "refused as wrong" if check.error_rate.of == "client" else "failed"
    return {"win_rate": "not won", "score": "short of a full score"}.get(check.kind, "bad")


def _phase(subject: Subject, scenario: Scenario, step: int) -> PhaseForecast:
    revision = subject.candidate
    phase = plan.phase_of(revision, step)
    weight = plan.weight_of(subject.spec, revision, step)
    duration, timeout = (parse_duration(text).total_seconds() for text in (phase.duration, phase.timeout))
    per_s = scenario.traffic_per_s * weight / 100
    is_last = step == plan.last_step(revision)
    pods = plan.pods_needed(subject.spec, revision, step, first=False)
    light = parity.load(weight, pods, subject.replicas) < 1 / NEAR_PARITY
    found = tuple(
        _check(
            subject,
            check,
            scenario,
            weight,
            per_s * duration,
            excused=is_last or (light and checks.load_matters(check)),
        )
        for check in subject.checks
    )
    waiting = [item for item in found if item.compared and not item.excused]
    longest = max((item.needed or 0.0 for item in waiting), default=0.0) / per_s if per_s > 0 else 0.0
    decides = all(item.needed is not None for item in waiting) and longest <= timeout
    return PhaseForecast(
        name=phase.name,
        weight=weight,
        pods=pods,
        duration_s=duration,
        timeout_s=timeout,
        requests=per_s * duration,
        checks=found,
        waits_s=max(0.0, longest - duration),
        decides=decides,
    )


def _check(
    subject: Subject, check: Check, scenario: Scenario, weight: int, requests: float, *, excused: bool
) -> CheckForecast:
    test = checks.plan(subject.candidate, check)
    relative = test.margin.relative > 0.0
    if relative and weight >= 100:
        return CheckForecast(check.name, False, True, None, None)
    ratio = stable_per_canary(weight)
    needed: list[float | None] = []
    smallest: list[float | None] = []
    for rate in bad_shares(check, scenario.stable[check.name]):
        needed.append(requests_expected(test, rate, ratio))
        smallest.append(smallest_detectable(test, rate, requests, requests * ratio))
    known = [item for item in needed if item is not None]
    seen = [item for item in smallest if item is not None]
    whole = max(known) if len(known) == len(needed) else None
    return CheckForecast(check.name, True, excused, whole, min(seen, default=None))
