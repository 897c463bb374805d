"""Tags on model versions in the registry: where each one runs, and how its rollout ended.

    modelrelease.dev/<namespace>.<release> = "promoted since 2026-01-01T12:00:00.000Z"

What a tag should say follows from the status; what has been written, and what may not be, stands in `status.tags`. The
rule: one write for each change, none repeated at every pass, and nothing waits for it. Only versions of the model that
the spec names are tagged, as with aliases.
"""

from __future__ import annotations

from datetime import datetime

from modelrelease.api.base import format_time
from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import Stage, TagStatus

from .draft import Draft
from .observation import Missing, Observation, TagWritten, Unavailable

KEPT = 4
_DENIED = (Reason.REGISTRY_UNAUTHORIZED, Reason.REGISTRY_NOT_ALLOWED, Reason.ALIAS_WRITE_NOT_ALLOWED)


def take_over(draft: Draft) -> None:
    """What the registry says of tags that were to be written."""
    out = tuple(_answered(item, draft.obs) for item in draft.status.tags)
    if out != draft.status.tags:
        draft.put(tags=out)


def _answered(item: TagStatus, obs: Observation) -> TagStatus:
    if item.state != "Pending":
        return item
    match obs.registry.tags.get(item.version):
        case TagWritten(value=value) if value == item.value:
            return item.model_copy(update={"state": "Written", "message": ""})
        case Missing(message=words):
            return item.model_copy(update={"state": "Denied", "message": words})
        case Unavailable(reason=reason, message=words) if reason in _DENIED:
            return item.model_copy(update={"state": "Denied", "message": words})
    return item


def mark(draft: Draft) -> None:
    """Order the tags that say something else now than was written."""
    if draft.spec is None:
        return
    held = {item.version: item for item in draft.status.tags}
    values = _values(draft)
    refused = next((item.message for item in held.values() if item.message), "")  # told already, until one is written
    for version, value in values.items():
        if version not in held or held[version].value != value:
            held[version] = TagStatus(version=version, value=value, state="Pending", message=refused)
    named = [held[version] for version in values]
    others = [item for version, item in held.items() if version not in values]
    kept = (*others[max(0, len(others) + len(named) - KEPT) :], *named)
    if kept != draft.status.tags:
        draft.put(tags=kept)


def _values(draft: Draft) -> dict[str, str]:
    """What the tag of each version should say; least important first."""
    status, out = draft.status, dict[str, str]()
    last, previous, stable, candidate = status.history[:1], status.previous, status.stable, status.candidate
    for entry in last:
        if entry.outcome != "Promoted" and _known(draft, entry.revision):
            out[entry.version] = _since(_OUTCOMES.get(entry.outcome, entry.outcome), entry.ended_at)
    if previous is not None and _known(draft, previous.revision):
        out[previous.version] = _since("replaced", previous.replaced_at)
    if candidate is not None and _known(draft, candidate.revision):
        out[candidate.version] = _since("progressing", candidate.started_at)
        if candidate.returning is not None:
            out[candidate.version] = _since("returning", candidate.returning.since)
        elif candidate.stage is Stage.GATING and draft.why.phase is Phase.BLOCKED:
            out[candidate.version] = _since("blocked", candidate.started_at)
        elif candidate.stage is Stage.GATING:
            del out[candidate.version]
    if stable is not None and _known(draft, stable.revision):
        bad = any(entry.key == stable.key and entry.outcome == "Blocked" for entry in status.quarantine)
        out[stable.version] = _since("blocked, and serves" if bad else "promoted", stable.promoted_at)
    return out


_OUTCOMES = {"RolledBack": "rolled back", "Superseded": "superseded", "Dropped": "dropped", "Blocked": "blocked"}


def _since(word: str, at: datetime) -> str:
    return f"{word} since {format_time(at)}"


def _known(draft: Draft, revision: str) -> bool:
    """Whether this revision runs a version of the model that the spec names."""
    assert draft.spec is not None, "marked with a spec only"
    known = [*draft.obs.revisions.values(), *draft.store]
    return any(item.revision == revision and item.model == draft.spec.model.name for item in known)
