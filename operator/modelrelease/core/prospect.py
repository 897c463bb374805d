"""What a command of a person will do, said before it is given: one or two sentences from the live status.

Here: which revision a verb is meant for, and the words. Not here: the doing (`core.commands`). The rule: what a command
cannot overrule is said with it, and where it would do nothing, that is said instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelrelease.api.status import CandidateStatus, ModelReleaseStatus, QuarantineEntry, Stage

HOLDING = "A failing check, a gate or an approval still holds it"


@dataclass(frozen=True, slots=True)
class Prospect:
    """What will happen. revision: the one that the command names."""

    revision: str
    message: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """Why there is nothing to do."""

    message: str


def prospect(verb: str, what: str, status: ModelReleaseStatus, version: str | int | None) -> Prospect | Nothing:
    """Of one verb. what: `namespace/name`; version: of the model that the spec asks for, for retry."""
    if verb == "retry":
        return _retry(what, status, str(version) if version is not None else None)
    if verb == "rollback" and status.candidate is None:
        return _former(what, status)
    candidate = status.candidate
    if candidate is None:
        return Nothing(f"{_serves(status)} in {what} and no rollout is under way")
    if candidate.returning is not None:
        return Nothing(f"v{candidate.version} of {what} is already returning its traffic")
    found = _WITH_CANDIDATE[verb](what, status, candidate)
    return found if isinstance(found, Nothing) else Prospect(candidate.revision, found)


def _promote(what: str, status: ModelReleaseStatus, candidate: CandidateStatus) -> str:
    return (
        f"Promotes v{candidate.version} of {what}, which has {_standing(status, candidate)}: the remaining phases and "
        f"the bake do not wait for time or evidence any more. {_cannot(status)}."
    )


def _skip(what: str, status: ModelReleaseStatus, candidate: CandidateStatus) -> str | Nothing:
    if candidate.stage is Stage.GATING:
        return Nothing(f"no phase of v{candidate.version} has begun in {what}, and gates are not skipped")
    if candidate.fast:
        return Nothing(f"v{candidate.version} of {what} returns without phases")
    after = "then it is promoted" if candidate.stage is Stage.BAKING else "the next phase waits again"
    return (
        f"Skips the rest of {_phase(status, candidate)} of v{candidate.version} of {what}, which has "
        f"{_weight(status, candidate)}% of traffic: it is not waited for time or evidence; {after}. {_cannot(status)}."
    )


def _pause(what: str, status: ModelReleaseStatus, candidate: CandidateStatus) -> str | Nothing:
    if status.paused:
        return Nothing(f"v{candidate.version} of {what} is paused already")
    return (
        f"Pauses v{candidate.version} of {what}: its weight stays at {_weight(status, candidate)}% until resume. "
        "Failing checks and failing pods still take its traffic back."
    )


def _resume(what: str, status: ModelReleaseStatus, candidate: CandidateStatus) -> str | Nothing:
    if not status.paused:
        return Nothing(f"v{candidate.version} of {what} is not paused")
    return f"Lets v{candidate.version} of {what} go on from {_standing(status, candidate)}. {_cannot(status)}."


def _abort(what: str, status: ModelReleaseStatus, candidate: CandidateStatus) -> str:
    name, stable, weight = f"v{candidate.version} of {what}", status.stable, _weight(status, candidate)
    if stable is None:
        if candidate.exposed:
            return (
                f"Ends the rollout of {name}. Nothing else can serve: its traffic is left alone, and it is marked as "
                "failed, so that the next version takes over."
            )
        return f"Ends the rollout of {name} before it has traffic. It is quarantined: retry tries it again."
    back = f"all traffic goes back to v{stable.version} ({stable.ready}/{stable.replicas} ready) at once"
    if weight == 0:
        back = f"it has no traffic, v{stable.version} goes on serving"
    return f"Aborts {name}: {back}. v{candidate.version} is quarantined; only retry or an edit tries it again."


def _rollback(what: str, status: ModelReleaseStatus, candidate: CandidateStatus) -> str:
    return _abort(what, status, candidate)


_WITH_CANDIDATE: Mapping[str, Callable[[str, ModelReleaseStatus, CandidateStatus], str | Nothing]] = {
    "promote": _promote,
    "skip": _skip,
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "rollback": _rollback,
}


def _former(what: str, status: ModelReleaseStatus) -> Prospect | Nothing:
    stable, previous = status.stable, status.previous
    if stable is None:
        return Nothing(f"nothing serves in {what}")
    if previous is None:
        return Nothing(f"no version is kept that {what} served before v{stable.version} (they are, for 24 hours)")
    when = "at once" if previous.drained_at is None else f"when {previous.replicas} pods of it are ready"
    return Prospect(
        stable.revision,
        f"Returns {what} from v{stable.version} to v{previous.version}, which served until "
        f"{previous.replaced_at:%d %b %H:%M} UTC: it gets all traffic {when}, without phases and checks. "
        f"v{stable.version} is quarantined; only retry or an edit tries it again.",
    )


def _retry(what: str, status: ModelReleaseStatus, version: str | None) -> Prospect | Nothing:
    meant = [entry for entry in status.quarantine if version is None or entry.version == version]
    if not meant:
        held = ", ".join(f"v{entry.version}" for entry in status.quarantine)
        return Nothing(f"v{version} of {what} is not in quarantine" + (f" ({held} is)" if held else ""))
    entry = meant[0]
    return Prospect(
        entry.key.split("-")[0],
        f"Lifts the quarantine of v{entry.version} of {what}, which is there since {entry.since:%d %b %H:%M} UTC "
        f"({_cause(entry)}). Where the spec asks for v{entry.version}, its rollout begins anew, gates first.",
    )


def _cause(entry: QuarantineEntry) -> str:
    return f"{entry.reason}: {entry.message}".rstrip(": ")


# -- words -----------------------------------------------------------------------------------------------------------
def _serves(status: ModelReleaseStatus) -> str:
    return f"v{status.stable.version} serves" if status.stable else "nothing serves"


def _weight(status: ModelReleaseStatus, candidate: CandidateStatus) -> int:
    return 0 if status.traffic is None else status.traffic.a if candidate.slot == "a" else status.traffic.b


def _phase(status: ModelReleaseStatus, candidate: CandidateStatus) -> str:
    if candidate.stage is Stage.BAKING:
        return "the bake"
    return f"phase {status.step.name} ({status.step.number} of {status.step.of})" if status.step else "its phase"


def _standing(status: ModelReleaseStatus, candidate: CandidateStatus) -> str:
    if candidate.stage is Stage.GATING:
        return "no traffic yet: its gates are being read"
    rest = f", beside v{status.stable.version}" if status.stable else ""
    return f"{_weight(status, candidate)}% of traffic in {_phase(status, candidate)}{rest}"


def _cannot(status: ModelReleaseStatus) -> str:
    """What keeps holding it, by name where something does now."""
    gates = [gate.name for gate in status.gates if gate.verdict != "Pass" and not gate.advisory]
    checks = [check.name for check in status.checks if check.verdict == "Fail"]
    holds = [*(f"gate {name}" for name in gates), *(f"check {name}" for name in checks)]
    if not holds:
        return HOLDING
    verb = "does" if len(holds) == 1 else "do"
    return f"{HOLDING}: {', '.join(holds[:3])} {verb} now"
