"""What changed between two statuses, in words for Events and the log. Pure: the same change gives the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import CandidateStatus, ModelReleaseStatus, Outcome, Stage

_NOTE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Announcement:
    """One Event: Normal, or Warning where somebody may have to look."""

    type: Literal["Normal", "Warning"]
    reason: Reason
    note: str


def announce(old: ModelReleaseStatus, new: ModelReleaseStatus) -> tuple[Announcement, ...]:
    """The Events of one recorded decision, in the order in which things happened."""
    out = [
        *_commands(old, new),
        *_approvals(old, new),
        *_rollout(old, new),
        *_outlook(old, new),
        *_traffic(old, new),
        *_phase(old, new),
        *_serving(old, new),
        *_alias(old, new),
        *_tags(old, new),
        *_records(old, new),
    ]
    return tuple(Announcement(item.type, item.reason, item.note[:_NOTE_LIMIT]) for item in out)


def _commands(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    known = {command.command for command in old.commands}
    out = []
    for command in reversed(new.commands):
        if command.command in known:
            continue
        ignored = command.result.startswith("ignored")
        reason = Reason.COMMAND_IGNORED if ignored else _VERBS.get(command.command.split("@")[0], Reason.ACCEPTED)
        by = f" (by {command.by})" if command.by else ""
        words = f"{command.command}: {command.result}{by}"
        out.append(Announcement("Warning" if ignored else "Normal", reason, words))
    return out


_VERBS = {
    "promote": Reason.ACCEPTED,
    "skip": Reason.ACCEPTED,
    "abort": Reason.ABORTED,
    "pause": Reason.PAUSED,
    "resume": Reason.RESUMED,
    "retry": Reason.RETRIED,
    "rollback": Reason.ROLLBACK_REQUESTED,
}


def _approvals(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    """Who approved, denied or took it back, by name; what ends with its rollout is not taken back."""
    if new.candidate is None:
        return []
    same = old.candidate is not None and old.candidate.key == new.candidate.key
    before = {item.name: item for item in old.candidate.approvals} if old.candidate is not None and same else {}
    after = {item.name: item for item in new.candidate.approvals}
    out = []
    for item in new.candidate.approvals:
        if item.name not in before:
            who = f"{item.user} (group {item.group})" if item.group else item.user
            said = f": {item.reason}" if item.reason else ""
            denied = item.decision == "Deny"
            words = f"{who} {'denied' if denied else 'approved'} v{new.candidate.version} at gate {item.gate}{said}"
            reason = Reason.APPROVAL_DENIED if denied else Reason.APPROVAL_GIVEN
            out.append(Announcement("Warning" if denied else "Normal", reason, words))
    for item in before.values():
        if item.name not in after:
            words = f"the word of {item.user} at gate {item.gate} no longer counts: {item.decision} {item.name}"
            out.append(Announcement("Normal", Reason.APPROVAL_WITHDRAWN, words))
    return out


def _rollout(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    out = []
    before, after = old.candidate, new.candidate
    if after is not None and (before is None or before.key != after.key):
        serving = f"; v{new.stable.version} serves" if new.stable else ""
        out.append(
            Announcement("Normal", Reason.ROLLOUT_STARTED, f"v{after.version} (revision {after.revision}){serving}")
        )
    if _passed_gates(before, after):
        out.append(Announcement("Normal", Reason.GATES_PASSED, _gates(new)))
    if after is not None and after.returning is not None and (before is None or before.returning is None):
        harm = after.returning.outcome is Outcome.ROLLED_BACK
        to = f"Sending traffic back to v{new.stable.version}." if new.stable else "Nothing else serves."
        kind: Literal["Normal", "Warning"] = "Warning" if harm else "Normal"
        out.append(Announcement(kind, Reason.read(after.returning.reason), f"{after.returning.message}. {to}"))
    rollback = new.last_rollback
    routed_before = old.last_rollback.routed_at if old.last_rollback else None
    if rollback is not None and rollback.routed_at is not None and rollback.routed_at != routed_before:
        serving = f"v{new.stable.version}" if new.stable else "stable"
        words = f"all traffic is back on {serving}, {rollback.seconds:.1f} s after the verdict"
        out.append(Announcement("Warning", Reason.ROLLED_BACK, words))
    if after is not None and before is not None and after.retreats > before.retreats:
        if after.retreat is not None and after.retreat != before.retreat:
            out.append(Announcement("Warning", Reason.read(after.retreat.reason), after.retreat.message))
        else:
            words = f"v{after.version} lost pods; its traffic is back on stable until they are ready: {new.message}"
            out.append(Announcement("Warning", Reason.RETREATED, words))
    if new.stable is not None and (old.stable is None or old.stable.key != new.stable.key):
        if old.sequence == 0 and old.candidate is None:
            out.append(
                Announcement(
                    "Warning", Reason.STATUS_REBUILT, "the status was lost and has been rebuilt from the cluster"
                )
            )
        elif new.phase != Phase.BLOCKED.value:
            out.append(Announcement("Normal", Reason.PROMOTED, f"v{new.stable.version} serves all traffic"))
    return out


def _outlook(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    """What the phase can show, once for each phase; a Warning where it can not come to a verdict."""
    before, after = old.step, new.step
    if after is None or not after.forecast:
        return []
    same = old.candidate is not None and new.candidate is not None and old.candidate.key == new.candidate.key
    if same and before is not None and before.number == after.number and before.forecast:
        return []
    if after.decides:
        return [Announcement("Normal", Reason.PHASE_FORECAST, after.forecast)]
    return [Announcement("Warning", Reason.PHASE_UNDECIDABLE, after.forecast)]


def _passed_gates(before: CandidateStatus | None, after: CandidateStatus | None) -> bool:
    """Whether the candidate has just left its gates behind; a return to a former revision has none."""
    if after is None or after.stage is Stage.GATING or after.fast or after.returning is not None:
        return False
    return before is None or before.key != after.key or before.stage is Stage.GATING


def _traffic(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    before, after, candidate = old.traffic, new.traffic, new.candidate
    if after is None or candidate is None or candidate.returning is not None:
        pass
    elif before is None or (before.a, before.b) != (after.a, after.b):
        weight = after.a if candidate.slot == "a" else after.b
        step = f" in phase {new.step.name}" if new.step and weight and new.stable else ""
        return [Announcement("Normal", Reason.WEIGHT_CHANGED, f"v{candidate.version} gets {weight}% of traffic{step}")]
    if before is not None and after is not None and (before.a, before.b) == (after.a, after.b):
        if before.confirmed_at is None or after.confirmed_at is not None:
            return []
        words = f"the gateway no longer has the weights {after.a}/{after.b}; putting them back"
        return [Announcement("Warning", Reason.WEIGHT_RESTORED, words)]
    return []


def _phase(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    """Resting places and troubles that no other Event tells: each time the phase or its reason changes."""
    told = (Phase.BLOCKED, Phase.HELD, Phase.INVALID, Phase.PENDING, Phase.GATING)
    if old.phase == new.phase and _reason(old) == _reason(new):
        return []
    reason = Reason.read(_reason(new))
    ill = reason in (Reason.ROUTE_NOT_ACCEPTED, Reason.NOT_SERVING)
    if (new.phase not in told and not ill) or reason in (Reason.REGISTRY_PENDING, Reason.TRAFFIC_MISSING):
        return []
    waits = (Reason.WAITING_FOR_EVIDENCE, Reason.WAITING_FOR_RELEASE, Reason.DRAINING, Reason.APPROVAL_MISSING)
    normal = reason in (Reason.PAUSED, Reason.SUSPENDED, *waits)
    return [Announcement("Normal" if normal else "Warning", reason, new.message)]


def _serving(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    """That what serves would not pass its gates any more; once for each change of which they are."""
    before, after = old.stable, new.stable
    if after is None or not after.no_longer_passes:
        return []
    if before is not None and before.key == after.key and before.no_longer_passes == after.no_longer_passes:
        return []
    failing = [gate for gate in new.gates if gate.verdict in ("Fail", "InsufficientData") and not gate.advisory]
    words = "; ".join(f"gate {gate.name}: {gate.message}" for gate in failing)
    note = f"v{after.version} serves and would not pass its gates now: {words}; it goes on serving"
    return [Announcement("Warning", Reason.SERVING_NO_LONGER_PASSES, note)]


def _alias(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    alias = new.alias
    if alias is None:
        return []
    if alias.message and (old.alias is None or old.alias.message != alias.message):
        words = f"alias {alias.alias} is yet to point at v{alias.version}: {alias.message}; it is tried again"
        denied = alias.reason == Reason.ALIAS_WRITE_NOT_ALLOWED
        return [Announcement("Warning", Reason.ALIAS_WRITE_NOT_ALLOWED if denied else Reason.ALIAS_WRITE_FAILED, words)]
    if old.alias is not None and old.alias.state == alias.state:
        return []
    if alias.state in ("Written", "Restored"):
        return [Announcement("Normal", Reason.ALIAS_WRITTEN, f"alias {alias.alias} points at v{alias.version}")]
    if alias.state == "Lost":
        words = f"alias {alias.alias} was moved or removed by somebody else and is left alone"
        return [Announcement("Warning", Reason.ALIAS_WRITE_FAILED, words)]
    return []


def _tags(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    """That tags are refused is told once, until one can be written again."""
    denied = [item for item in new.tags if item.state == "Denied"]
    if not denied or any(item.message for item in old.tags):
        return []
    words = f"v{denied[-1].version} cannot be tagged in the registry: {denied[-1].message}; nothing else depends on it"
    return [Announcement("Normal", Reason.TAG_WRITE_FAILED, words)]


def _records(old: ModelReleaseStatus, new: ModelReleaseStatus) -> list[Announcement]:
    lost = new.records_dropped - old.records_dropped
    if lost <= 0:
        return []
    words = f"{lost} rollout{'s' if lost > 1 else ''} ended without a ReleaseRecord: none could be created for so long"
    return [Announcement("Warning", Reason.RECORD_DROPPED, f"{words} that {len(new.endings)} others wait already")]


def _gates(new: ModelReleaseStatus) -> str:
    version = new.candidate.version if new.candidate else ""
    if not new.gates:
        return f"v{version}: no gates to pass"
    return f"v{version} passed its gates: " + "; ".join(gate.message for gate in new.gates)


def _reason(status: ModelReleaseStatus) -> str:
    return next((item.reason for item in status.conditions if item.type == "Progressing"), "")
