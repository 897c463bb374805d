"""A lost status (prune and recreate, restore, rebuilt cluster) is drafted anew from what is stored in the cluster.

From ControllerRevisions with their recorded outcomes, the Services' selectors and the route's weights. A release is
"first" only when none of these exist. Whatever was half-way is sent back to the revision that was promoted last.
"""

from __future__ import annotations

from datetime import datetime

from modelrelease.api.reasons import Reason
from modelrelease.api.status import (
    CandidateStatus,
    ModelReleaseStatus,
    Outcome,
    QuarantineEntry,
    ReturnStatus,
    Slot,
    StableStatus,
    Stage,
    TrafficStatus,
)

from .observation import Observation
from .revision import Revision
from .slots import SLOTS

_UNTRUSTED = 2


def rebuild(status: ModelReleaseStatus, obs: Observation, now: datetime) -> ModelReleaseStatus:
    """The status as it is, or a new one where it was lost although revisions exist."""
    if status.sequence > 0 or not obs.revisions:
        return status
    status = status.model_copy(update={"quarantine": _quarantine(obs, now)})
    serving = _serving(obs)
    if not serving:
        return status
    slot, _, revision = serving[0]
    stable = StableStatus(**_role(revision, slot, obs), promoted_at=now)
    update: dict[str, object] = {"stable": stable}
    live = obs.route.weights if obs.route else {}
    update["traffic"] = TrafficStatus(a=live.get("a", 0), b=live.get("b", 0), set_at=now)
    for other_slot, _, other in serving[1:]:
        back = ReturnStatus(
            outcome=Outcome.SUPERSEDED,
            reason=Reason.STATUS_REBUILT,
            message="the status was lost in mid-rollout; the rollout starts again",
            since=now,
        )
        update["candidate"] = CandidateStatus(
            **_role(other, other_slot, obs),
            stage=Stage.RETURNING,
            started_at=now,
            stage_since=now,
            exposed=True,
            returning=back,
        )
    return status.model_copy(update=update)


def _serving(obs: Observation) -> list[tuple[Slot, int, Revision]]:
    """Slots that may have users, the one to trust first.

    A slot without weight counts while its Deployment has pods: a former revision that is still warm or has yet to
    drain. What was promoted serves even where nothing of it is left to be seen.
    """
    weights = obs.route.weights if obs.route else {}
    found: list[tuple[Slot, int, Revision]] = []
    for slot in sorted(SLOTS, key=lambda slot: -weights.get(slot, 0)):
        revision, weight = _behind(obs, slot), weights.get(slot, 0)
        pods = obs.workloads.get(revision.revision) if revision else None
        known = [held for _, _, held in found]
        if revision is not None and revision not in known and (weight > 0 or (pods is not None and pods.replicas > 0)):
            found.append((slot, weight, revision))
    found.sort(key=lambda item: (_rank(obs, item[1], item[2]), item[2].key in obs.quarantined, -item[1]))
    if found and _rank(obs, *found[0][1:]) < _UNTRUSTED:
        return found
    promoted = next((obs.revisions[key] for key in obs.promoted if key in obs.revisions), None)
    if promoted is None:
        return []
    others = [item for item in found if item[2].revision != promoted.revision][:1]
    taken = {slot for slot, _, _ in others}
    return [(next(slot for slot in SLOTS if slot not in taken), 0, promoted), *others]


def _rank(obs: Observation, weight: int, revision: Revision) -> int:
    """0 for what was promoted and can serve, 1 for what serves, else untrusted."""
    pods = obs.workloads.get(revision.revision)
    if revision.key in obs.promoted and (weight > 0 or (pods is not None and pods.ready > 0)):
        return 0
    return 1 if weight > 0 else _UNTRUSTED


def _behind(obs: Observation, slot: Slot) -> Revision | None:
    """The revision that a slot selects; where its Service is gone, one that has pods and no other slot."""
    view = obs.slots.get(slot)
    if view is not None:
        return _newest(obs, view.revision)
    selected = {item.revision for item in obs.slots.values()}
    left = [item for item in obs.revisions.values() if item.revision in obs.workloads]
    left = [item for item in left if item.revision not in selected]
    left.sort(key=lambda item: (obs.workloads[item.revision].ready == 0, item.key not in obs.promoted))
    return left[0] if left else None


def _newest(obs: Observation, revision: str) -> Revision | None:
    """The stored record of this workload, a promoted one first."""
    found = [item for item in obs.revisions.values() if item.revision == revision]
    found.sort(key=lambda item: item.key not in obs.promoted)
    return found[0] if found else None


def _role(revision: Revision, slot: Slot, obs: Observation) -> dict[str, object]:
    pods = obs.workloads.get(revision.revision)
    return {
        "revision": revision.revision,
        "rules": revision.rules,
        "version": revision.version,
        "model": revision.model,
        "slot": slot,
        "replicas": pods.replicas if pods else 0,
        "ready": pods.ready if pods else 0,
    }


def _quarantine(obs: Observation, now: datetime) -> tuple[QuarantineEntry, ...]:
    words = "rolled back before the status was lost"
    return tuple(
        QuarantineEntry(
            key=key,
            version=obs.revisions[key].version,
            outcome="RolledBack",
            reason=Reason.QUARANTINED,
            message=f"v{obs.revisions[key].version} was {words}",
            since=now,
        )
        for key in obs.quarantined
        if key in obs.revisions
    )
