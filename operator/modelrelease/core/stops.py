"""What stops a candidate: harm that ends it, and everything that keeps its weight from rising.

Each function answers one question with a value, None meaning "nothing in the way". The order of the questions is the
order of what a person should be told first.
"""

from __future__ import annotations

from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import ModelReleaseStatus, Outcome, QuarantineEntry

from . import gates
from .draft import Draft, Harm, Why
from .observation import Observation
from .revision import Revision

Target = Revision | Why


def quarantined(status: ModelReleaseStatus, key: str) -> QuarantineEntry | None:
    """Why this revision under these rules is not tried again."""
    return next((entry for entry in status.quarantine if entry.key == key), None)


def promoted_before(obs: Observation, target: Revision) -> Revision | None:
    """The stored revision, if this release has promoted just that workload before."""
    for key in obs.promoted:
        stored = obs.revisions.get(key)
        if stored is not None and stored.revision == target.revision and key not in obs.quarantined:
            return stored
    return None


def wanted(draft: Draft, target: Target) -> bool:
    """Whether the candidate is still what the spec asks for; yes while that cannot be said."""
    candidate = draft.candidate
    if isinstance(target, Why) or candidate.key == target.key:
        return True
    if candidate.fast:  # a return to a former revision: the wanted one is out, or it is this one under other rules
        return candidate.revision == target.revision or quarantined(draft.status, target.key) is not None
    return False


def frozen(draft: Draft, target: Target) -> Why | None:
    """A person or a bad spec keeps everything from rising."""
    if isinstance(target, Why) and target.phase is Phase.INVALID:
        return target
    if draft.spec is None or draft.spec.suspend:
        return Why(
            Phase.PENDING, Reason.SUSPENDED, "spec.suspend is true: the weight does not rise, rollbacks still happen"
        )
    if draft.status.paused:
        return Why(Phase.HELD, Reason.PAUSED, "paused by command; command resume goes on")
    return None


def slot_busy(draft: Draft, revision: str) -> Why | None:
    """The slot that the candidate needs still holds a former revision whose last requests have not ended."""
    previous = draft.status.previous
    if previous is None or previous.drained_at is not None or previous.revision == revision:
        return None
    words = f"the next rollout waits until the last requests on v{previous.version} have ended"
    return Why(Phase.PENDING, Reason.DRAINING, words)


def gate_stop(draft: Draft) -> Why | None:
    """Read the gates again and put what they saw into the status."""
    candidate, stable = draft.candidate, draft.status.stable
    if candidate.fast:
        return None
    revision = draft.revision(candidate.key)
    assert revision is not None, "status names only stored revisions"
    versions = draft.obs.registry.versions
    champion = versions.get(stable.version) if stable else None
    if stable is not None and champion is None and revision.gates:
        return Why(Phase.GATING, Reason.REGISTRY_PENDING, f"reading the champion v{stable.version} from the registry")
    seen = gates.evaluate(revision.gates, versions.get(candidate.version), champion)
    draft.put(gates=seen)
    bad = [gate for gate in seen if gate.verdict in ("Fail", "InsufficientData")]
    if bad:
        words = "; ".join(f"gate {gate.name}: {gate.message}" for gate in bad[:3])
        return Why(Phase.BLOCKED, Reason.GATE_FAILED, words)
    away = [gate for gate in seen if gate.verdict == "Unavailable"]
    if away:
        return Why(Phase.GATING, Reason.GATES_UNAVAILABLE, f"gate {away[0].name}: {away[0].message}")
    return None


def evidence_stop(draft: Draft) -> Why | None:
    """Missing data: nothing rises, nobody is blamed."""
    problem = draft.obs.samples.problem
    if problem is None or draft.candidate.hurried:
        return None
    if problem.reason is Reason.NO_DATA and draft.weight(draft.candidate.slot) == 0:
        return None  # without traffic there is nothing to see yet
    return Why(Phase.HELD, problem.reason, f"{problem.message}; the weight is frozen and goes on by itself")


def raise_stop(draft: Draft, target: Target) -> Why | None:
    """Why the weight must not rise now, pods and route aside."""
    stop = frozen(draft, target) or gate_stop(draft)
    if stop is not None or draft.candidate.fast or draft.status.stable is None:
        return stop
    stop = evidence_stop(draft)
    if stop is None and draft.judgement is not None and draft.judgement.suspicious:
        stop = Why(Phase.HELD, Reason.WAITING_FOR_EVIDENCE, _most_telling(draft))
    return stop


def hold_stop(draft: Draft, target: Target, *, evidence_needed: bool) -> Why | None:
    """Why a phase that has had its time must not end; WaitingForEvidence is the one that a timeout ends."""
    stop = frozen(draft, target) or evidence_stop(draft)
    if stop is not None:
        return stop
    judgement = draft.judgement or draft.weigh()
    if judgement.suspicious:
        return Why(Phase.HELD, Reason.WAITING_FOR_EVIDENCE, _most_telling(draft))
    if evidence_needed and not judgement.passed and not draft.candidate.hurried:
        waiting = next((item for item in judgement.checks if item.verdict == "Waiting"), None)
        return Why(
            Phase.HELD, Reason.WAITING_FOR_EVIDENCE, waiting.message if waiting else "checks have not passed yet"
        )
    return None


def left_behind(draft: Draft, target: Target) -> bool:
    """Deal with all that ends or interrupts a candidate with pods: True when nothing is left to do in this state.

    In this order: it is no longer wanted, its pods crash, its checks fail, its pods are lost, the spec is unreadable.
    """
    if _unwanted(draft, target):
        return True
    harm = draft.pod_harm() or _failing(draft)
    if harm is not None:
        draft.give_back(Outcome.ROLLED_BACK, harm)
        return True
    candidate = draft.candidate
    if draft.status.stable is not None and draft.pods_lost():
        pods = draft.workload(candidate.revision)
        draft.retreat()
        seen = pods.fault_message or "they are gone or no longer ready"
        words = f"v{candidate.version} lost pods ({pods.ready} of {candidate.replicas} ready): {seen}; traffic is back on stable"
        draft.rest(Phase.PROGRESSING, Reason.RETREATED, f"{words} and returns when they are ready")
        return True
    if draft.spec is None:
        stop = frozen(draft, target)
        assert stop is not None, "without a spec the target is a reason"
        draft.clock(runs=False)
        draft.rest(stop.phase, stop.reason, stop.message)
        return True
    return False


def _unwanted(draft: Draft, target: Target) -> bool:
    if isinstance(target, Why) or wanted(draft, target):
        return False
    candidate, stable = draft.candidate, draft.status.stable
    back_to_stable = stable is not None and stable.revision == target.revision
    if candidate.stage == "Baking" and stable is not None and not back_to_stable:
        return False  # the next one waits until the bake has ended
    if back_to_stable:
        words = f"the spec went back to v{target.version}"
        draft.give_back(Outcome.DROPPED, Harm(Reason.DROPPED, words))
    else:
        words = f"v{candidate.version} is superseded by v{target.version}"
        draft.give_back(Outcome.SUPERSEDED, Harm(Reason.SUPERSEDED, words))
    return True


def _failing(draft: Draft) -> Harm | None:
    if draft.candidate.fast or draft.weight(draft.candidate.slot) == 0:
        return None
    failed = draft.weigh().failed
    return Harm(Reason.CHECK_FAILED, failed.message) if failed else None


def _most_telling(draft: Draft) -> str:
    assert draft.judgement is not None, "judged before"
    item = max(draft.judgement.checks, key=lambda check: check.evidence_percent)
    return f"{item.message}; too suspicious to raise, not enough for a rollback"
