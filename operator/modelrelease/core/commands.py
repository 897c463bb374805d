"""Commands of people: the annotation modelrelease.dev/command, `<verb>@<revision>-<nonce>`.

A command is obeyed once, for the revision that it names, and remembered in status with who gave it and what became of
it. promote ends waits for time and evidence only, skip those of the present phase; a failing check or gate neither
overrules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from modelrelease.api.reasons import Reason
from modelrelease.api.status import CommandStatus, Outcome, Stage

from . import plan
from .draft import COMMANDS, Draft, Harm, Why
from .stops import Target

UNKNOWN = "unknown user with the right to command"
_FORM = re.compile(r"(?P<verb>[a-z]+)@(?P<revision>[0-9a-f]{10})-(?P<nonce>[A-Za-z0-9][-A-Za-z0-9]{0,39})")
_WITH_PODS = (Stage.STARTING, Stage.SHIFTING, Stage.BAKING)


def obey(draft: Draft, target: Target) -> None:
    """Carry out the command that stands in the annotation, unless it is already remembered."""
    command = draft.obs.command
    if command is None or any(known.command == command.text[:256] for known in draft.status.commands):
        return
    entry = CommandStatus(command=command.text[:256], result="accepted", at=draft.now, by=command.by or UNKNOWN)
    former = draft.status.commands
    draft.put(commands=(entry, *former)[:COMMANDS])  # before it is obeyed: the record of a rollout that it ends has it
    match = _FORM.fullmatch(command.text)
    if match is None:
        result = "ignored: write it as <verb>@<revision>-<nonce>"
    elif match["verb"] not in _VERBS:
        result = f"ignored: unknown verb {match['verb']}; known are {', '.join(_VERBS)}"
    else:
        result = _VERBS[match["verb"]](draft, target, match["revision"])
    draft.put(commands=(entry.model_copy(update={"result": result}), *former)[:COMMANDS])


def _candidate_is(draft: Draft, revision: str) -> str | None:
    candidate = draft.status.candidate
    if candidate is None or candidate.revision != revision:
        named = candidate.revision if candidate else "none"
        return f"ignored: revision {revision} is not the candidate ({named})"
    if candidate.stage is Stage.RETURNING:
        return "ignored: the candidate is already returning its traffic"
    return None


def _promote(draft: Draft, _: Target, revision: str) -> str:
    refused = _candidate_is(draft, revision)
    if refused is None:
        draft.put_candidate(hurried=True)
        draft.put(paused=False)
    return refused or "accepted: waits for time and evidence are over; gates and failing checks still hold"


def _skip(draft: Draft, _: Target, revision: str) -> str:
    refused = _candidate_is(draft, revision)
    if refused is not None:
        return refused
    candidate = draft.candidate
    if candidate.stage is Stage.GATING:
        return "ignored: no phase has begun, and gates are not skipped"
    if candidate.fast:
        return "ignored: a former revision returns without phases"
    draft.put_candidate(skipped=plan.phase_index(candidate))
    name = "the bake" if candidate.stage is Stage.BAKING else f"phase {_phase_name(draft)}"
    paused = "; paused, it goes on after resume" if draft.status.paused else ""
    return f"accepted: {name} waits no longer for time and evidence; gates and failing checks still hold{paused}"


def _phase_name(draft: Draft) -> str:
    return plan.phase_of(draft.candidate_revision, draft.candidate.step).name


def _pause(draft: Draft, _: Target, revision: str) -> str:
    refused = _candidate_is(draft, revision)
    if refused is None:
        draft.put(paused=True)
    return refused or "accepted: the weight does not rise until resume"


def _resume(draft: Draft, _: Target, revision: str) -> str:
    refused = _candidate_is(draft, revision)
    if refused is None:
        draft.put(paused=False)
    return refused or "accepted: goes on"


def _abort(draft: Draft, _: Target, revision: str) -> str:
    refused = _candidate_is(draft, revision)
    if refused is not None:
        return refused
    candidate = draft.candidate
    harm = Harm(Reason.ABORTED, f"v{candidate.version} was aborted by command")
    if candidate.stage in _WITH_PODS:
        draft.give_back(Outcome.ROLLED_BACK, harm)
    else:  # still gating: nothing to give back
        kind = "RolledBack" if draft.status.stable else "Blocked"
        draft.quarantine(candidate.key, candidate.version, kind, harm.reason, harm.message)
        draft.conclude(kind, harm.reason, harm.message)
        draft.put(candidate=None, evidence=None)
        return "accepted: the rollout has ended before it had traffic"
    return "accepted: sending traffic back"


def _rollback(draft: Draft, target: Target, revision: str) -> str:
    candidate, stable, previous = draft.status.candidate, draft.status.stable, draft.status.previous
    if candidate is not None and candidate.revision == revision:
        return _abort(draft, target, revision)
    if stable is None or stable.revision != revision:
        return f"ignored: revision {revision} is not the one that serves ({stable.revision if stable else 'none'})"
    if candidate is not None:
        return "ignored: a rollout is under way; abort it first"
    former = draft.revision(previous.key) if previous else None
    if previous is None or former is None:
        return "ignored: no former revision is kept (they are, for 24 hours)"
    words = f"v{stable.version} was rolled back by command to v{previous.version}"
    draft.quarantine(stable.key, stable.version, "RolledBack", Reason.ROLLBACK_REQUESTED, words)
    if not isinstance(target, Why) and target.revision == stable.revision and target.key != stable.key:
        draft.quarantine(target.key, target.version, "RolledBack", Reason.ROLLBACK_REQUESTED, words)
    draft.begin(former, fast=True)
    if previous.drained_at is None:
        draft.put_candidate(replicas=previous.replicas)
    draft.put(previous=None)
    return f"accepted: returning to v{previous.version}"


def _retry(draft: Draft, _: Target, revision: str) -> str:
    kept = tuple(entry for entry in draft.status.quarantine if not entry.key.startswith(f"{revision}-"))
    if len(kept) == len(draft.status.quarantine):
        return f"ignored: revision {revision} is not in quarantine"
    draft.put(quarantine=kept)
    return "accepted: its quarantine is lifted"


_VERBS: Mapping[str, Callable[[Draft, Target, str], str]] = {
    "promote": _promote,
    "abort": _abort,
    "pause": _pause,
    "resume": _resume,
    "skip": _skip,
    "retry": _retry,
    "rollback": _rollback,
}
