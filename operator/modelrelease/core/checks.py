"""Online checks: evidence from polls, verdicts from evidence.

`advance` feeds polls into one wealth a check (`core.evidence`), `judge` reads verdicts off them. A rollback is decided
over all checks together (mean of e-values), a Pass for each check alone. No data is no verdict: it neither passes nor
fails. The accumulated evidence is one compact string in status; polls after its time are fed in again, so that whoever
decides comes to the same verdict at the same poll.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from modelrelease.api.base import parse_duration
from modelrelease.api.checks import Check
from modelrelease.api.status import ArmStatus, CheckStatus

from . import evidence as e
from . import packing
from .observation import Poll, Samples
from .revision import Revision, margin_of

ALPHA = 0.05
POLLS_PLANNED_LEAST, POLLS_PLANNED_MOST = 50, 1000
_PLANNING_TICK = timedelta(seconds=5)
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks of one rollout remember. key: of the revision; at: the last grid point that was fed in."""

    key: str
    at: datetime
    wealths: Mapping[str, e.Wealth]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts of all checks at one moment.

    failed: the check to blame for a rollback. passed: every check that can pass has passed. suspicious: the evidence
    against one check is strong enough to stop raising (a heuristic, statistics.md section 3). parity_owed: latency
    checks that never passed near load parity.
    """

    checks: tuple[CheckStatus, ...]
    failed: CheckStatus | None
    passed: bool
    suspicious: bool
    parity_owed: tuple[str, ...] = ()


def begin(revision: Revision, at: datetime) -> Evidence:
    """No evidence yet; polls after `at` will count."""
    return Evidence(revision.key, at, {check.name: e.start(plan(revision, check)) for check in revision.checks})


def begin_phase(evidence: Evidence, at: datetime) -> Evidence:
    """A new weight: what must be shown per phase starts anew, evidence of harm is kept; polls after `at` count."""
    return Evidence(evidence.key, at, {name: e.start_phase(wealth) for name, wealth in evidence.wealths.items()})


def plan(revision: Revision, check: Check) -> e.TestPlan:
    """The test plan of a check, fixed when the rollout starts."""
    margin = margin_of(check)
    assert margin is not None, "a gauge has no test"
    whole = sum((parse_duration(phase.duration) for phase in revision.phases), start=timedelta())
    polls = math.ceil(whole / _PLANNING_TICK)
    return e.TestPlan(
        margin=e.Margin(margin.relative, margin.absolute),
        planned_polls=min(max(polls, POLLS_PLANNED_LEAST), POLLS_PLANNED_MOST),
        min_polls=check.min_polls,
        metrics=len(revision.checks),
        alpha=ALPHA,
        alpha_safe=ALPHA,
    )


def advance(evidence: Evidence, revision: Revision, polls: Sequence[Poll], stable: str | None) -> Evidence:
    """Feed in the polls after `evidence.at`, in order. stable: digest of the other arm, None when nothing serves."""
    wealths, at = dict(evidence.wealths), evidence.at
    for poll in polls:
        if poll.at <= at:
            continue
        at = poll.at
        for check in revision.checks:
            canary = poll.counts(revision.revision, check.name)
            if not canary:
                continue
            other = poll.counts(stable, check.name) if stable else ()
            wealths[check.name] = e.observe(
                wealths[check.name], plan(revision, check), canary[0], other[0] if other else None
            )
    return replace(evidence, at=at, wealths=wealths)


def judge(evidence: Evidence, revision: Revision, samples: Samples, *, has_stable: bool) -> Judgement:
    """Verdicts now. Checks against stable have none while nothing serves; they neither pass nor block then."""
    if not revision.checks:
        return Judgement((), None, passed=True, suspicious=False)
    plans = {check.name: plan(revision, check) for check in revision.checks}
    harm = e.combined(list(evidence.wealths.values())) >= 1 / ALPHA
    blamed = max(evidence.wealths, key=lambda name: e.regression(evidence.wealths[name])) if harm else None
    statuses: list[CheckStatus] = []
    passed, suspicious = True, False
    for check in revision.checks:
        wealth, test = evidence.wealths[check.name], plans[check.name]
        comparable = has_stable or not test.margin.relative
        status = _status(check, wealth, test, samples, failed=check.name == blamed, comparable=comparable)
        statuses.append(status)
        passed = passed and (e.safety(wealth) >= 1 / test.alpha_safe or not comparable)
        suspicious = suspicious or e.regression(wealth) >= 1 / math.sqrt(ALPHA)
    failed = next((status for status in statuses if status.verdict == "Fail"), None)
    return Judgement(tuple(statuses), failed, passed and failed is None, suspicious)


def encode(evidence: Evidence) -> str:
    """One versioned compact string, for status."""
    wealths = {name: packing.encode(wealth) for name, wealth in evidence.wealths.items()}
    data = {"v": _FORMAT, "key": evidence.key, "at": evidence.at.timestamp(), "checks": wealths}
    return json.dumps(data, separators=(",", ":"))


def decode(text: str | None, revision: Revision) -> Evidence | None:
    """Read it back; None where there is none, or where it belongs to another revision or format."""
    if not text:
        return None
    try:
        data = json.loads(text)
        if data["v"] != _FORMAT or data["key"] != revision.key:
            return None
        wealths = {check.name: packing.decode(data["checks"][check.name]) for check in revision.checks}
        return Evidence(data["key"], datetime.fromtimestamp(data["at"], UTC), wealths)
    except (KeyError, TypeError, ValueError):
        return None


def _status(
    check: Check, wealth: e.Wealth, test: e.TestPlan, samples: Samples, *, failed: bool, comparable: bool
) -> CheckStatus:
    canary, stable = wealth.rollout_canary, wealth.rollout_stable
    relative = test.margin.relative
    allowed = relative * (stable.rate or 0.0) + test.margin.absolute if not relative or stable.total > 0 else None
    percent = int(e.evidence_percent(e.regression(wealth), test.alpha))
    needed: int | None = None
    if failed:
        verdict = "Fail"
    elif not comparable:
        verdict = "NoData"
    elif e.safety(wealth) >= 1 / test.alpha_safe:
        verdict = "Pass"
    elif samples.problem is not None:
        verdict = "NoData" if samples.problem.reason == "NoData" else "Unavailable"
    else:
        verdict = "Waiting"
        forecast = e.requests_needed(wealth, test)
        needed = None if forecast is None else _two_digits(forecast)
    return CheckStatus(
        name=check.name,
        verdict=verdict,
        message=_sentence(check, canary, stable, allowed, verdict, percent, needed, comparable=comparable),
        canary=_arm(canary),
        stable=_arm(stable) if relative else None,
        allowed=round(allowed, 6) if allowed is not None else None,
        evidence_percent=percent,
        requests_needed=needed,
    )


def _sentence(
    check: Check,
    canary: e.Counts,
    stable: e.Counts,
    allowed: float | None,
    verdict: str,
    percent: int,
    needed: int | None,
    *,
    comparable: bool,
) -> str:
    what = (
        check.name
        if check.error_rate
        else f"{check.name} (slower than {check.latency.slower_than})"
        if check.latency
        else ""
    )
    if not comparable:
        return f"{what}: nothing serves yet to compare with"
    if canary.rate is None:
        return f"{what}: no requests of the candidate counted yet"
    against = f" against {share(stable.rate)}" if stable.rate is not None and stable.total > 0 else ""
    limit = f", allowed {share(allowed)}" if allowed is not None else ""
    seen = f"{what} {share(canary.rate)} ({canary.bad:,.0f} of {canary.total:,.0f}){against}{limit}"
    if verdict == "Fail":
        return seen
    leaning = percent >= 50  # towards a rollback: then that is what people should be told
    if verdict == "Waiting" and needed is not None and not leaning:
        return f"{seen}: about {needed:,} more requests needed to pass"
    if verdict == "Waiting" and not leaning:
        return f"{seen}: cannot be decided at this margin"
    return f"{seen}: evidence {percent} % of what a rollback needs"


def share(value: float | None) -> str:
    """A share as percent with two significant digits below ten: 0.42%, 2.9%, 12%."""
    if value is None:
        return "-"
    percent = value * 100
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.2g}%"


def _arm(counts: e.Counts) -> ArmStatus:
    rate = counts.rate
    return ArmStatus(total=int(counts.total), bad=int(counts.bad), rate=round(rate, 6) if rate is not None else None)


def _two_digits(value: float) -> int:
    """Rounded up to two significant digits, so that the number shown does not flicker."""
    if value < 10:
        return math.ceil(value)
    size: int = 10 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / size) * size
