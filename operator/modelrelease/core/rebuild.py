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

_SLOTS: tuple[Slot, ...] = ("a", "b")


def rebuild(status: ModelReleaseStatus, obs: Observation, now: datetime) -> ModelReleaseStatus:
    """The status as it is, or a new one where it was lost although revisions exist."""
    if status.sequence > 0 or not obs.revisions:
        return status
    status = status.model_copy(update={"quarantine": _quarantine(obs, now)})
    serving = _serving(obs)
    if not serving:
        return status
    slot, weight, revision = serving[0]
    stable = StableStatus(**_role(revision, slot, obs), promoted_at=now)
    update: dict[str, object] = {"stable": stable}
    live = obs.route.weights if obs.route else {}
    update["traffic"] = TrafficStatus(a=live.get("a", 0), b=live.get("b", 0), set_at=now)
    for other_slot, other_weight, other in serving[1:]:
        if other_weight > 0 or weight < 100:
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
    """Slots with weight, the one to trust first: promoted before the others, then by weight."""
    weights = obs.route.weights if obs.route else {}
    found: list[tuple[Slot, int, Revision]] = []
    for slot in _SLOTS:
        view, weight = obs.slots.get(slot), weights.get(slot, 0)
        revision = _newest(obs, view.revision) if view else None
        if revision is not None and weight > 0:
            found.append((slot, weight, revision))
    return sorted(found, key=lambda item: (item[2].key not in obs.promoted, -item[1]))


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
