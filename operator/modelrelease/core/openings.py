"""What would move a release: each condition that is still open, what is seen against what is needed, how long it likely
takes, and what a person could do about it. Pure, for the verb `explain`.

The order is that in which they must end. Nothing is decided here: `core.decide` asks its own questions, and this module
only tells what status says of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import CandidateStatus, CheckStatus, ModelReleaseStatus, Stage

from .explain import Known, explain
from .told import LEANING, clock, condition, phase_of, reason_of, roughly, span, takes, until, waited, weight

_PATIENT_VERDICTS = ("Waiting", "NoData", "Unavailable")
_NO_SKIP = "command promote ends this wait and all others, skip those of this phase; no failing check or gate"


@dataclass(frozen=True, slots=True)
class Opening:
    """One open condition. likely: when it will be met, where that can be said; could: what a person could do."""

    what: str
    seen: str
    needed: str
    likely: str = ""
    could: str = ""


def openings(status: ModelReleaseStatus, known: Known, now: datetime) -> tuple[Opening, ...]:
    """All that keeps a release from its next step; empty where nothing does."""
    candidate = status.candidate
    if candidate is None:
        return _at_rest(status, known, now)
    if candidate.stage is Stage.RETURNING:
        return _returning(status, candidate, known, now)
    out = [*_people(status, known), *_gates(status), *_pods(status, candidate, known, now), *_route(status, now)]
    if candidate.stage in (Stage.SHIFTING, Stage.BAKING):
        out += _evidence(status)
        out += [found for check in status.checks if (found := _check(status, check, now)) is not None]
        out += _time(status, candidate, known, now)
    return tuple(out) or _unnamed(status, known, now)


def _at_rest(status: ModelReleaseStatus, known: Known, now: datetime) -> tuple[Opening, ...]:
    if phase_of(status) is Phase.PROMOTED and reason_of(status) in (Reason.PROMOTED, Reason.DRAINING):
        return ()
    failed = status.quarantine[0] if status.quarantine else None
    retry = f"kubectl modelrelease retry {known.name} -n {known.namespace}"
    if phase_of(status) in (Phase.ROLLED_BACK, Phase.BLOCKED) and failed is not None:
        return (
            Opening(
                "another version",
                f"v{failed.version} failed {clock(failed.since, now)}: {failed.message}",
                f"a version other than v{failed.version}, or other rules, or its quarantine lifted",
                could=f"set spec.model.version, or try it again: {retry}",
            ),
        )
    return _unnamed(status, known, now)


def _unnamed(status: ModelReleaseStatus, known: Known, now: datetime) -> tuple[Opening, ...]:
    """What is only told by its reason."""
    told, seen = explain(status, known, now), condition(status, "Progressing")
    if seen is None or (phase_of(status) in (Phase.PROGRESSING, Phase.BAKING) and told.do == "nothing"):
        return ()
    could = f"{told.do}: {told.command}" if told.command else told.do
    return (Opening(seen.reason, seen.message, "that this ends", could="" if told.do == "nothing" else could),)


def _people(status: ModelReleaseStatus, known: Known) -> list[Opening]:
    out = []
    if status.paused:
        resume = f"let it go on: kubectl modelrelease resume {known.name} -n {known.namespace}"
        out.append(Opening("a person", "paused by command", "resumed", could=resume))
    if known.suspend:
        could = "set spec.suspend to false"
        out.append(Opening("a person", "spec.suspend is true", "false", could=could))
    return out


def _gates(status: ModelReleaseStatus) -> list[Opening]:
    out = []
    for gate in status.gates:
        if gate.verdict == "Pass" or gate.advisory:
            continue
        could = "register a better version, or edit spec.gates" if gate.verdict == "Fail" else ""
        likely = "read again by itself" if gate.verdict == "Unavailable" else ""
        out.append(Opening(f"gate {gate.name}", gate.message, "Pass", likely, could))
    return out


def _pods(status: ModelReleaseStatus, candidate: CandidateStatus, known: Known, now: datetime) -> list[Opening]:
    retreat = candidate.retreat
    out = []
    if candidate.stage is Stage.STARTING and retreat is not None and retreat.until > now:
        out.append(Opening("a pause", retreat.message, "its end", until(retreat.until, now)))
    if candidate.stage is Stage.STARTING and candidate.ready < candidate.replicas:
        likely, deadline = "", known.deadline
        if deadline is not None and candidate.clock_runs:
            likely = f"rolled back if not by {until(now + deadline - waited(candidate, now), now)}"
        found = condition(status, "CandidateReady")
        fault = found.message if found is not None and found.status == "False" else ""
        seen = f"{candidate.ready} of {candidate.replicas} ready" + (
            f": {fault}" if fault and "ready" not in fault else ""
        )
        could = (
            f"look closer: kubectl describe pods -n {known.namespace} -l modelrelease.dev/revision={candidate.revision}"
        )
        out.append(Opening(f"pods of v{candidate.version}", seen, f"{candidate.replicas} ready", likely, could))
    return out


def _route(status: ModelReleaseStatus, now: datetime) -> list[Opening]:
    traffic = status.traffic
    if traffic is None or traffic.confirmed_at is not None:
        return []
    refused = reason_of(status) is Reason.ROUTE_NOT_ACCEPTED
    seen = status.message if refused else f"weights {traffic.a}/{traffic.b} set {span(now - traffic.set_at)} ago"
    return [Opening("the gateway", seen, "that it takes the weights", "" if refused else "usually within seconds")]


def _evidence(status: ModelReleaseStatus) -> list[Opening]:
    found = condition(status, "EvidenceAvailable")
    if found is None or found.status != "False":
        return []
    return [Opening("evidence", found.message, "counts of both revisions", "goes on by itself once they are read")]


def _check(status: ModelReleaseStatus, check: CheckStatus, now: datetime) -> Opening | None:
    if check.verdict not in _PATIENT_VERDICTS and check.evidence_percent < LEANING:
        return None
    if check.evidence_percent >= LEANING:
        needed = f"less than {LEANING}% of the evidence for a rollback; at 100% it is rolled back"
        return Opening(f"check {check.name}", check.message, needed)
    if check.reason in (Reason.NO_CHAMPION, Reason.DIFFERENT_HARDWARE):
        return None  # judged by nobody: the other checks go on
    needed = f"about {check.requests_needed:,} more requests" if check.requests_needed else "a Pass"
    long = takes(status, check, now)
    likely = f"about {roughly(long)} at the present traffic" if long is not None else ""
    return Opening(f"check {check.name}", check.message, needed, likely, _NO_SKIP if check.verdict == "Waiting" else "")


def _time(status: ModelReleaseStatus, candidate: CandidateStatus, known: Known, now: datetime) -> list[Opening]:
    """What is left of the phase's least time, or of the bake."""
    if candidate.hurried:
        return []
    passed = waited(candidate, now)
    leg = known.leg(candidate.step)
    if candidate.stage is Stage.BAKING and known.bake is not None:
        what, whole = "the bake", known.bake
    elif candidate.stage is Stage.SHIFTING and leg is not None:
        what, whole = f"phase {leg.name}", leg.duration
    else:
        return []
    left = whole - passed
    if left <= timedelta():
        return []
    stands = "" if candidate.clock_runs else ", and the clock stands still"
    seen = f"{span(passed)} at {weight(status, candidate)}%{stands}"
    return [Opening(what, seen, f"{span(whole)} at least", until(now + left, now) if candidate.clock_runs else "")]


def _returning(
    status: ModelReleaseStatus, candidate: CandidateStatus, known: Known, now: datetime
) -> tuple[Opening, ...]:
    back = candidate.returning
    if back is None or back.confirmed_at is None:
        return tuple(_route(status, now))
    if known.drain is None:
        return (Opening("requests in flight", "they may end", "the drain's end"),)
    at = back.confirmed_at + known.drain
    whole = span(known.drain)
    return (Opening("requests in flight", f"may end since {clock(back.confirmed_at, now)}", whole, until(at, now)),)
