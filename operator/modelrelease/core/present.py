"""From a finished draft to the status that people and machines read: phase, columns, conditions, step, checks.

Also whether it is worth a write: counts and texts alone are written at most once a minute.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from modelrelease.api.base import GROUP, PARAGRAPH_MAX, clip
from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import CheckStatus, Condition, ModelReleaseStatus, Stage, StepStatus, Summary

from . import checks, plan
from .draft import Draft, Why
from .fit import fit
from .gates import approval, tradeoff
from .observation import Unavailable
from .outlook import outlook
from .stops import missing_data

REFRESH_EVERY = timedelta(seconds=60)
_WHY_LIMIT = 96
_BAD_SPEC = (Reason.INVALID_SPEC, Reason.TEMPLATE_REFUSED, Reason.NAME_CONFLICT)
_STALLED = (Phase.BLOCKED, Phase.ROLLED_BACK, Phase.INVALID)
_WITH_PODS = (Stage.STARTING, Stage.SHIFTING, Stage.BAKING)

Truth = Literal["True", "False", "Unknown"]


def present(draft: Draft) -> ModelReleaseStatus:
    """The status of this pass, complete but for its sequence."""
    why = draft.why
    _put_checks(draft)
    status = draft.status
    stable = status.stable
    changed = status.phase != why.phase or _reason_of(status) != why.reason
    since = draft.now if changed or status.summary.since is None else status.summary.since
    presented = status.model_copy(
        update={
            "observed_generation": draft.obs.generation,
            "phase": why.phase.value,
            "message": clip(why.message, PARAGRAPH_MAX),
            "step": _step(draft),
            "summary": Summary(
                serving=f"{stable.version} {stable.ready}/{stable.replicas}" if stable else "-",
                candidate=_candidate_column(draft),
                step=_step_column(draft),
                weight=f"{draft.weight(status.candidate.slot)}%" if status.candidate else "-",
                why=clip(why.message, _WHY_LIMIT),
                since=since,
            ),
            "replicas": stable.ready if stable else 0,
            "selector": f"{GROUP}/name={draft.obs.release},{GROUP}/revision={stable.revision}" if stable else "",
            "conditions": _conditions(draft, why),
        }
    )
    return fit(presented)


def worth_writing(before: ModelReleaseStatus, after: ModelReleaseStatus, draft: Draft) -> ModelReleaseStatus:
    """`before` itself when nothing but counts and texts changed within the last minute, else `after`, one sequence on.

    A status that was lost goes on behind the sequence that its children carry.
    """
    if _significant(before) == _significant(after) and not draft.store:
        last = before.refreshed_at
        if _volatile(before) == _volatile(after):
            return before
        if last is not None and draft.now - last < REFRESH_EVERY:
            draft.wake(last + REFRESH_EVERY)  # nobody else might: the last requests of a canary may be the last of all
            return before
    return after.model_copy(update={"sequence": max(before.sequence, draft.obs.fence) + 1, "refreshed_at": draft.now})


def _significant(status: ModelReleaseStatus) -> ModelReleaseStatus:
    candidate = status.candidate
    if candidate is not None:
        candidate = candidate.model_copy(update={"waited_seconds": 0.0, "waited_until": None, "exposure": None})
    summary = status.summary.model_copy(update={"why": ""})
    conditions = tuple(item.model_copy(update={"message": ""}) for item in status.conditions)
    verdicts = tuple(CheckStatus(name=item.name, verdict=item.verdict, message="") for item in status.checks)
    unread = {"message": "", "value": None, "champion": None, "read_at": None}
    gates = tuple(item.model_copy(update=unread) for item in status.gates)
    return status.model_copy(
        update={
            "candidate": candidate,
            "summary": summary,
            "conditions": conditions,
            "checks": verdicts,
            "gates": gates,
            "message": "",
            "evidence": None,
            "refreshed_at": None,
            "sequence": 0,
        }
    )


def _volatile(status: ModelReleaseStatus) -> tuple[object, ...]:
    """What alone is worth a write now and then; a clock that runs is not, its start and rate are known."""
    gates = tuple(item.model_copy(update={"read_at": None}) for item in status.gates)
    watched = status.candidate.exposure if status.candidate else None
    return (status.message, status.evidence, watched, status.checks, gates, status.conditions)


def _reason_of(status: ModelReleaseStatus) -> str:
    return next((item.reason for item in status.conditions if item.type == "Progressing"), "")


def _put_checks(draft: Draft) -> None:
    if draft.judgement is not None:
        draft.put(checks=draft.judgement.checks)
    if draft.evidence is not None and draft.status.candidate is not None:
        draft.put(evidence=checks.encode(draft.evidence))


def _step(draft: Draft) -> StepStatus | None:
    candidate = draft.status.candidate
    revision = draft.revision(candidate.key) if candidate else None
    if candidate is None or revision is None or candidate.stage not in _WITH_PODS or draft.spec is None:
        return draft.status.step if candidate else None
    phase = plan.phase_of(revision, candidate.step)
    shifting = candidate.stage is Stage.SHIFTING
    asked = plan.weight_of(draft.spec, revision, candidate.step, candidate.replicas)
    traffic, former = draft.status.traffic, draft.status.step
    told = former if former is not None and former.number == candidate.step + 1 and former.forecast else None
    ahead = outlook(draft) if told is None else None
    return StepStatus(
        name=phase.name,
        number=candidate.step + 1,
        of=len(revision.phases),
        weight=draft.weight(candidate.slot) if shifting and draft.status.stable else asked,
        since=traffic.confirmed_at if traffic and candidate.stage is not Stage.STARTING else None,
        forecast=told.forecast if told else ahead.message if ahead else "",
        decides=told.decides if told else ahead.decides if ahead else None,
    )


def _candidate_column(draft: Draft) -> str:
    candidate = draft.status.candidate
    if candidate is None:
        entry = draft.status.quarantine[0] if draft.status.quarantine else None
        rests = draft.why.phase in (Phase.ROLLED_BACK, Phase.BLOCKED) and entry is not None
        return f"{entry.version} -" if rests and entry else "-"
    if candidate.stage is Stage.GATING:
        return f"{candidate.version} -"
    return f"{candidate.version} {candidate.ready}/{candidate.replicas}"


def _step_column(draft: Draft) -> str:
    candidate, step = draft.status.candidate, _step(draft)
    if candidate is None:
        return "-"
    if candidate.stage is Stage.GATING:
        return "gates"
    return f"{step.number}/{step.of} {step.name}" if step else "-"


def _conditions(draft: Draft, why: Why) -> tuple[Condition, ...]:
    former = {item.type: item for item in draft.status.conditions}
    out = []
    for kind, truth, reason, message in _facts(draft, why):
        known = former.get(kind)
        since = known.last_transition_time if known and known.status == truth else draft.now
        out.append(
            Condition(
                type=kind,
                status=truth,
                reason=reason,
                message=message,
                observed_generation=draft.obs.generation,
                last_transition_time=since,
            )
        )
    return tuple(out)


def _facts(draft: Draft, why: Why) -> list[tuple[str, Truth, Reason, str]]:
    status = draft.status
    candidate = status.candidate
    accepted = why.reason not in _BAD_SPEC
    facts: list[tuple[str, Truth, Reason, str]] = [
        (
            "Accepted",
            "True" if accepted else "False",
            Reason.ACCEPTED if accepted else why.reason,
            "" if accepted else why.message,
        )
    ]
    facts.append(_serving(draft))
    facts.append(_gates_passed(draft, why))
    if candidate is not None and candidate.stage is not Stage.GATING:
        ready = candidate.replicas > 0 and candidate.ready >= candidate.replicas
        words = f"{candidate.ready} of {candidate.replicas} pods of v{candidate.version} ready"
        pods = draft.workload(candidate.revision)
        reason = Reason.CANDIDATE_READY if ready else Reason(pods.fault.value) if pods.fault else Reason.STARTING
        facts.append(("CandidateReady", "True" if ready else "False", reason, pods.fault_message or words))
    facts.append(_evidence(draft))
    moving = why.phase in (Phase.GATING, Phase.PROGRESSING, Phase.HELD, Phase.BAKING, Phase.ROLLING_BACK, Phase.PENDING)
    facts.append(("Progressing", "True" if moving else "False", why.reason, why.message))
    stalled = why.phase in _STALLED
    facts.append(("Stalled", "True" if stalled else "False", why.reason, why.message if stalled else ""))
    facts.append(_ready(draft, why))
    return facts


def _ready(draft: Draft, why: Why) -> tuple[str, Truth, Reason, str]:
    """Is what was asked for there: promoted, with all its pods, and reached by users."""
    stable = draft.status.stable
    if why.phase is not Phase.PROMOTED or stable is None or why.reason not in (Reason.PROMOTED, Reason.DRAINING):
        return ("Ready", "False", why.reason, why.message)
    if stable.ready < stable.replicas:
        words = f"{stable.ready} of {stable.replicas} pods of v{stable.version} ready"
        return ("Ready", "False", Reason.STARTING, words)
    return ("Ready", "True", why.reason, why.message)


def _serving(draft: Draft) -> tuple[str, Truth, Reason, str]:
    """Are users served: a ready pod behind every slot that has weight, over a route that no gateway refuses."""
    stable, candidate = draft.status.stable, draft.status.candidate
    roles = [role for role in (stable, candidate) if role is not None and draft.weight(role.slot) > 0]
    if not roles:
        return ("Serving", "False", Reason.NOTHING_SERVES, "no revision has traffic yet")
    for role in roles:
        if role.ready == 0:
            words = f"v{role.version} has {draft.weight(role.slot)}% of traffic and no ready pod"
            return ("Serving", "False", Reason.NOT_SERVING, words)
    if draft.route_problem:
        return ("Serving", "Unknown", Reason.ROUTE_NOT_ACCEPTED, draft.route_problem)
    shares = " and ".join(f"{draft.weight(role.slot)}% on v{role.version}" for role in roles)
    return ("Serving", "True", Reason.SERVING, shares)


def _gates_passed(draft: Draft, why: Why) -> tuple[str, Truth, Reason, str]:
    seen = [gate for gate in draft.status.gates if not gate.advisory]
    traded = tradeoff(draft.status.gates)
    traded = f"; against the champion: {traded}" if traded else ""
    noted = [gate.name for gate in draft.status.gates if gate.advisory and gate.verdict != "Pass"]
    traded += f"; advisory and not passed: {', '.join(noted)}" if noted else ""
    bad = next((gate for gate in seen if gate.verdict in ("Fail", "InsufficientData")), None)
    if bad is not None:
        stable = draft.status.stable
        serves = draft.status.candidate is None and stable is not None and stable.no_longer_passes
        reason = Reason.SERVING_NO_LONGER_PASSES if serves else Reason.GATE_FAILED
        return ("GatesPassed", "False", reason, f"gate {bad.name}: {bad.message}{traded}")
    away = next((gate for gate in seen if gate.verdict == "Unavailable"), None)
    if away is not None:
        return ("GatesPassed", "Unknown", Reason.GATES_UNAVAILABLE, f"gate {away.name}: {away.message}")
    if why.reason is Reason.APPROVAL_MISSING:
        return ("GatesPassed", "False", why.reason, why.message)
    candidate = draft.status.candidate
    runs = draft.revision(candidate.key) if candidate else None
    for_people = approval.names(runs.gates) if runs else frozenset()
    waits = next((gate for gate in seen if gate.verdict == "Waiting" and gate.name not in for_people), None)
    if waits is not None:
        return ("GatesPassed", "False", Reason.WAITING_FOR_RELEASE, f"gate {waits.name}: {waits.message}")
    if draft.status.candidate is None and why.phase is Phase.GATING:
        return ("GatesPassed", "Unknown", why.reason, why.message)
    passed = ", ".join(gate.name for gate in seen if gate.verdict == "Pass") or "none"
    later = [gate.name for gate in seen if gate.verdict == "Waiting"]
    traded += f"; for a later phase: {', '.join(later)}" if later else ""
    return ("GatesPassed", "True", Reason.GATES_PASSED, f"passed: {passed}{traded}" if seen else "no gates")


def _evidence(draft: Draft) -> tuple[str, Truth, Reason, str]:
    candidate = draft.status.candidate
    if candidate is None or candidate.stage not in (Stage.STARTING, Stage.SHIFTING, Stage.BAKING):
        return ("EvidenceAvailable", "Unknown", Reason.EVIDENCE_NOT_NEEDED, "no canary is being compared")
    if (problem := missing_data(draft)) is not None:
        return ("EvidenceAvailable", "False", problem.reason, _since_when(draft, problem))
    revision = draft.revision(candidate.key)
    blind = revision.preset.cannot_see if revision else ""
    words = f"metrics of runtime {revision.runtime} do not show {blind}" if revision and blind else ""
    return ("EvidenceAvailable", "True", Reason.EVIDENCE_AVAILABLE, words)


def _since_when(draft: Draft, problem: Unavailable) -> str:
    """The problem of now, and since when there is no evidence: an outage may begin with one problem and go on with
    another, and outlive the process that saw its beginning."""
    known = next((item for item in draft.status.conditions if item.type == "EvidenceAvailable"), None)
    times = [problem.since] if problem.since else []
    if known is not None and known.status == "False":
        times.append(known.last_transition_time)
    if not times:
        return problem.message
    return f"{problem.message}; no evidence since {min(times):%Y-%m-%d %H:%M:%S} UTC"
