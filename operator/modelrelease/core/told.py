"""What a status tells, read out of it, and the words for times and shares in which people are told. Pure.

No judgement here: that is `core.explain` (is anyone hurt, what next) and `core.openings` (what would move it).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from modelrelease.api.base import format_duration
from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import CandidateStatus, CheckStatus, Condition, ModelReleaseStatus, RevisionStatus

LEANING = 50
"""Percent of the evidence for a rollback from which a check is worth a word."""


# -- reading a status -------------------------------------------------------------------------------------------------
def condition(status: ModelReleaseStatus, kind: str) -> Condition | None:
    """A condition by its type."""
    return next((item for item in status.conditions if item.type == kind), None)


def reason_of(status: ModelReleaseStatus) -> Reason:
    """Why it rests where it rests; UNKNOWN for a status that says nothing."""
    found = condition(status, "Progressing")
    return Reason.read(found.reason) if found else Reason.UNKNOWN


def phase_of(status: ModelReleaseStatus) -> Phase:
    """Its phase."""
    return Phase(status.phase)


def weight(status: ModelReleaseStatus, role: RevisionStatus | None) -> int:
    """Percent that the route is told for a role."""
    traffic = status.traffic
    if role is None or traffic is None:
        return 0
    return traffic.a if role.slot == "a" else traffic.b


def deciding(status: ModelReleaseStatus) -> CheckStatus | None:
    """The check to show first: one that failed, else the one nearest to a rollback, else the one waited for longest."""
    failed = [item for item in status.checks if item.verdict == "Fail"]
    leaning = [item for item in status.checks if item.evidence_percent >= LEANING]
    if failed or leaning:
        return max(failed or leaning, key=lambda item: item.evidence_percent)
    waiting = [item for item in status.checks if item.verdict != "Pass"]
    return max(waiting or status.checks, key=lambda item: item.requests_needed or 0, default=None)


def exposed_since(status: ModelReleaseStatus) -> datetime | None:
    """When the candidate first had traffic: evidence begins there."""
    candidate = status.candidate
    if candidate is None:
        return None
    return next((item.at for item in candidate.timeline if item.event == "Set" and item.weight > 0), None)


def evidence_at(status: ModelReleaseStatus) -> datetime | None:
    """Up to when the recorded evidence was counted; it is recorded at verdicts, and about once a minute."""
    if not status.evidence:
        return None
    try:
        return datetime.fromtimestamp(float(json.loads(status.evidence)["at"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def waited(candidate: CandidateStatus, now: datetime) -> timedelta:
    """How much of the present stage or phase has counted until now."""
    running = candidate.clock_runs and candidate.waited_until is not None
    since = (now - candidate.waited_until) if running and candidate.waited_until else timedelta()
    return timedelta(seconds=candidate.waited_seconds) + max(since, timedelta())


def takes(status: ModelReleaseStatus, check: CheckStatus, now: datetime) -> timedelta | None:
    """About how long the requests that a check still needs take to come; None where that cannot be said.

    From the requests counted so far, for each percent and second of traffic that the candidate has had.
    """
    candidate = status.candidate
    if candidate is None or check.canary is None or not check.canary.total or not check.requests_needed:
        return None
    upto = evidence_at(status) or now
    share, held, before = 0.0, 0, candidate.stage_since
    for item in candidate.timeline:
        if item.event in ("Set", "Retreated", "Returning"):
            share += held * max((min(item.at, upto) - before).total_seconds(), 0.0)
            held, before = item.weight, item.at
    share += held * max((upto - before).total_seconds(), 0.0)
    present = weight(status, candidate)
    if share <= 0 or present == 0:
        return None
    return timedelta(seconds=check.requests_needed * share / check.canary.total / present)


# -- words ------------------------------------------------------------------------------------------------------------
def clock(at: datetime, now: datetime) -> str:
    """A time of day in UTC, with its date where that is not today's."""
    at = at.astimezone(UTC)
    same = at.date() == now.astimezone(UTC).date()
    return f"{at:%H:%M:%SZ}" if same else f"{at:%Y-%m-%d %H:%MZ}"


def span(length: timedelta) -> str:
    """A duration as people say it, whole seconds, two units: 9m52s."""
    return (
        format_duration(timedelta(seconds=max(0, round(length.total_seconds()))))
        if length >= timedelta(seconds=1)
        else "0s"
    )


def roughly(length: timedelta) -> str:
    """A duration that pretends no more than it knows: one unit from two of it on."""
    seconds = max(length.total_seconds(), 1.0)
    for unit in (86400, 3600, 60):
        if seconds >= 2 * unit:
            return format_duration(timedelta(seconds=round(seconds / unit) * unit))
    return format_duration(timedelta(seconds=round(seconds)))


def until(at: datetime, now: datetime) -> str:
    """A time ahead: `12:10:00Z, in 4m10s`; `any moment` once it has passed."""
    return f"{clock(at, now)}, in {span(at - now)}" if at > now else "any moment now"


def percent(rate: float) -> str:
    """A share with two significant digits below ten percent, as the operator writes it."""
    value = rate * 100
    return f"{value:.0f}%" if value >= 10 or value == 0 else f"{value:.2g}%"
