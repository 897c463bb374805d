"""What a pass takes over from the cluster and the registry before it decides anything.

Confirmed weights, ready and drained pods, users who reach the candidate, a record that is gone, where the alias stands.
The rule it keeps: it records what was seen, starts nothing and raises nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from modelrelease.api.reasons import Reason
from modelrelease.api.status import AliasStatus, Outcome, Stage

from . import plan, tags
from .draft import PREVIOUS_KEPT, Draft, Harm
from .observation import AliasTarget, Missing, Unavailable


def take_over(draft: Draft) -> None:
    """Take over what the cluster and the registry show: confirmed weights, ready pods, drained pods, the alias."""
    status, now = draft.status, draft.now
    if status.traffic is not None:
        holds = draft.route_holds(status.traffic.a, status.traffic.b)
        at = (status.traffic.confirmed_at or now) if holds else None
        if holds and status.traffic.confirmed_at is None and status.candidate is not None and status.candidate.timeline:
            draft.note("Confirmed")
        draft.put(traffic=status.traffic.model_copy(update={"confirmed_at": at}))
    size = plan.replicas(draft.spec) if draft.spec else None
    if status.stable is not None:
        stable = status.stable
        ready = draft.workload(stable.revision).ready
        draft.put(stable=stable.model_copy(update={"replicas": size or stable.replicas, "ready": ready}))
    if status.candidate is not None:
        _candidate(draft)
        _record(draft)
    drain_previous(draft)
    _alias(draft)
    tags.take_over(draft)
    waiting = tuple(item for item in draft.status.endings if item.name not in draft.obs.recorded)
    if len(waiting) < len(draft.status.endings):
        draft.put(endings=waiting)


def _candidate(draft: Draft) -> None:
    """Its ready pods, and whether users have reached it: also by a weight that somebody set by hand."""
    candidate = draft.candidate
    reached = candidate.exposed or draft.reached(candidate.slot, candidate.revision)
    draft.put_candidate(ready=draft.workload(candidate.revision).ready, exposed=reached)


def _record(draft: Draft) -> None:
    """Without its ControllerRevision nobody knows any more what the candidate runs or how it is judged."""
    candidate = draft.candidate
    if candidate.stage is not Stage.RETURNING and draft.revision(candidate.key) is None:
        words = (
            f"the ControllerRevision of v{candidate.version} was deleted or cannot be read; the rollout starts again"
        )
        draft.give_back(Outcome.SUPERSEDED, Harm(Reason.STATUS_REBUILT, words))


def drain_previous(draft: Draft) -> None:
    """The former revision keeps its pods until its requests had their time, and its record for a day."""
    previous, traffic, now = draft.status.previous, draft.status.traffic, draft.now
    if previous is None or traffic is None:
        return
    if previous.drained_at is None and draft.weight(previous.slot) == 0 and traffic.confirmed_at is not None:
        revision = draft.revision(previous.key)
        over = traffic.confirmed_at + (revision.drain_timeout if revision else timedelta())
        if now >= over:
            draft.put(previous=previous.model_copy(update={"drained_at": now, "replicas": 0, "ready": 0}))
        else:
            draft.wake(over)
    elif previous.drained_at is not None and now >= previous.replaced_at + PREVIOUS_KEPT:
        draft.put(previous=None)


def _alias(draft: Draft) -> None:
    """Whether the registry's alias stands where it was to be moved, or what keeps it from being moved."""
    alias = draft.status.alias
    if alias is None or alias.state not in ("Pending", "Restoring"):
        return
    if draft.spec is None or not plan.serves_model(draft.spec, draft.status, draft.obs):
        return
    held, words, reason = draft.obs.registry.aliases.get(alias.alias), "", ""
    state: str = alias.state
    match held:
        case Missing() if held.reason is Reason.ALIAS_NOT_FOUND:
            state = "Lost" if alias.state == "Restoring" else alias.state
        case Missing() | Unavailable():
            words, reason = held.message, held.reason.value
        case AliasTarget() if held.read_at < _last_promotion(draft):
            pass
        case AliasTarget() if held.version == alias.version:
            state = "Written" if alias.state == "Pending" else "Restored"
        case AliasTarget() if alias.state == "Restoring" and held.version != alias.former:
            state = "Lost"
    if (state, words) != (alias.state, alias.message):
        changed = {"state": state, "message": words, "reason": reason}
        draft.put(alias=AliasStatus.model_validate({**alias.model_dump(), **changed}))


def _last_promotion(draft: Draft) -> datetime:
    return draft.status.stable.promoted_at if draft.status.stable else draft.now
