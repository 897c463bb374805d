"""Approvals within a pass: which of them count is noted, and the next phase waits for those that it needs.

The verdict of one gate is in `core.gates.approval`. The rule: what status names as given is what counted at that time,
so that a record tells who said yes even after the admission policy is gone.
"""

from __future__ import annotations

from datetime import timedelta

from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import GateStatus, Stage

from . import gates, plan
from .draft import Draft, Why
from .gates import Context, approval
from .revision import Revision

LOOK_AGAIN = timedelta(seconds=60)
"""How soon a repaired admission policy is noticed, which wakes nobody."""


def take_over(draft: Draft) -> None:
    """Note who has approved the candidate, and what its approval gates say now."""
    revision = _asking(draft)
    if revision is None:
        return
    if draft.obs.approvals.problem is not None:
        draft.wake(draft.now + LOOK_AGAIN)
    elif draft.obs.approvals.given is not None:
        draft.put_candidate(approvals=approval.recorded(revision, draft.obs.approvals))
    _look(draft, revision, step_of(draft))


def step_of(draft: Draft) -> int:
    """Index of the phase whose weight is to be given next; -1 before any pod, behind the last one for a promotion."""
    match draft.candidate.stage:
        case Stage.GATING:
            return -1
        case Stage.BAKING:
            return plan.last_step(draft.candidate_revision) + 1
        case _ if draft.status.stable is None:
            return plan.last_step(draft.candidate_revision)  # a first release has all traffic at once
        case _:
            return draft.candidate.step


def next_phase_stop(draft: Draft) -> Why | None:
    """Why pods for the next phase must not be started yet: people who have to approve it have not."""
    revision = _asking(draft)
    if revision is None or draft.candidate.fast:
        return None
    step = draft.candidate.step + 1
    seen = _look(draft, revision, step)
    due = approval.names(revision.gates, revision.phases, step)
    blocking = [gate for gate in seen if gate.name in due and not gate.advisory]
    for verdict, reason in (
        ("Fail", Reason.GATE_FAILED),
        ("Unavailable", Reason.GATES_UNAVAILABLE),
        ("Waiting", Reason.APPROVAL_MISSING),
    ):
        if found := [gate for gate in blocking if gate.verdict == verdict]:
            words = "; ".join(f"gate {gate.name}: {gate.message}" for gate in found[:3])
            return Why(Phase.HELD, reason, f"{words}; the weight does not rise")
    return None


def _asking(draft: Draft) -> Revision | None:
    """The candidate's revision, where one of its gates asks people."""
    candidate = draft.status.candidate
    revision = draft.revision(candidate.key) if candidate and candidate.stage is not Stage.RETURNING else None
    return revision if revision is not None and approval.asks(revision.gates) else None


def _look(draft: Draft, revision: Revision, step: int) -> tuple[GateStatus, ...]:
    """Judge the approval gates and put them in place of what status says of them."""
    context = Context(draft.now, revision, release=draft.obs.release, approvals=draft.obs.approvals, step=step)
    held = {gate.name: gate for gate in draft.status.gates}
    asked = [gate for gate in revision.gates if gate.approval is not None]
    seen = gates.dated(draft.status.gates, gates.evaluate(asked, None, None, context), draft.now)
    fresh = {gate.name: gate for gate in seen}
    if any(name in held and held[name].message != gate.message for name, gate in fresh.items()):
        draft.wake(draft.now + LOOK_AGAIN)  # words alone may not be worth a write yet, and nobody else would wake it
    if fresh.keys() <= held.keys():
        draft.put(gates=tuple(fresh.get(name, gate) for name, gate in held.items()))
    return seen
