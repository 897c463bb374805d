"""What stops a candidate: harm that ends it, and everything that keeps its weight from rising.

Each function answers one question with a value, None meaning "nothing in the way". The order of the questions is the
order of what a person should be told first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from modelrelease.api.checks import Check
from modelrelease.api.gates import Gate, OnRevoked
from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import ArtifactPin, GateStatus, Outcome, QuarantineEntry, Stage

from . import approvals, exposure, gates, parity, plan
from .draft import Draft, Harm, Why
from .lineage import lineage_of, recorded, was_read
from .observation import Approvals, Missing, ModelVersion, Unavailable
from .revision import Revision

Target = Revision | Why
PATIENT = frozenset({Reason.WAITING_FOR_EVIDENCE, Reason.PARITY_OWED})
"""Waits that time or requests may end, and that onInconclusive ends where they do not."""
FRESH = timedelta(minutes=2)
"""Age of the last poll up to which a weight may rise: twice the longest usual scrape interval."""
LOOK_AGAIN = timedelta(seconds=5)
NO_DATA_PATIENCE = timedelta(seconds=20)
"""How long a ready server may show no request before it is told; until then the phase simply has not passed yet."""


def quarantined(draft: Draft, target: Revision) -> QuarantineEntry | None:
    """Why this revision is not tried again: it failed under the same gates and checks, in whatever phases."""
    for entry in draft.status.quarantine:
        failed = draft.revision(entry.key)
        if entry.key == target.key or (failed is not None and _tried(failed) == _tried(target)):
            return entry
    return None


def _tried(revision: Revision) -> tuple[object, ...]:
    return (revision.revision, revision.gates, revision.checks)


def promoted_before(draft: Draft, target: Revision) -> Revision | None:
    """The stored revision, if this release has promoted just that workload before and it has not failed since."""
    failed = {*draft.obs.quarantined, *(entry.key for entry in draft.status.quarantine)}
    for key in draft.obs.promoted:
        stored = draft.obs.revisions.get(key)
        if stored is not None and stored.revision == target.revision and key not in failed:
            return stored
    return None


def wanted(draft: Draft, target: Target) -> bool:
    """Whether the candidate is still what the spec asks for; yes while that cannot be said.

    Once it has pods its rules are pinned: an edited policy applies to the next rollout, edited gates or checks of the
    release itself start another one. A return to a former revision ends first where what serves has failed.
    """
    candidate = draft.candidate
    if isinstance(target, Why) or candidate.key == target.key or _leaves_harm(draft):
        return True
    stored = draft.revision(candidate.key)
    if candidate.revision != target.revision or candidate.stage is Stage.GATING or stored is None:
        return False
    return candidate.fast or _own_rules(stored) == _own_rules(target)


def _leaves_harm(draft: Draft) -> bool:
    """Whether the candidate is a former revision that takes over from one that has failed: the command rollback."""
    stable = draft.status.stable
    return draft.candidate.fast and stable is not None and any(e.key == stable.key for e in draft.status.quarantine)


def _own_rules(revision: Revision) -> tuple[list[Gate], list[Check]]:
    """Gates and checks of the release itself; those of a policy carry its name and a slash."""
    gates = [gate for gate in revision.gates if "/" not in gate.name]
    return gates, [check for check in revision.checks if "/" not in check.name]


def frozen(draft: Draft, target: Target) -> Why | None:
    """A person or a bad spec keeps everything from rising; neither keeps a former revision from taking over."""
    invalid = isinstance(target, Why) and target.phase is Phase.INVALID
    if isinstance(target, Why) and invalid and not (draft.spec and _leaves_harm(draft)):
        return target
    if draft.spec is None or (draft.spec.suspend and not _leaves_harm(draft)):
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
    """Read the gates again, put what they saw into the status, and say which of them is in the way."""
    seen = read_gates(draft)
    if seen is None or isinstance(seen, Why):
        return seen
    bad = [gate for gate in seen if gate.verdict in ("Fail", "InsufficientData") and not gate.advisory]
    if bad:
        revoked = draft.candidate.stage is not Stage.GATING and any(gate.passed for gate in bad)
        words = "; ".join(_refusal(gate) if revoked else f"gate {gate.name}: {gate.message}" for gate in bad[:3])
        if traded := gates.tradeoff(seen):
            words = f"{words}; against the champion: {traded}"
        return Why(Phase.BLOCKED, Reason.GATE_REVOKED if revoked else Reason.GATE_FAILED, words)
    away = [gate for gate in seen if gate.verdict == "Unavailable" and not gate.advisory]
    if away:
        return Why(Phase.GATING, Reason.GATES_UNAVAILABLE, f"gate {away[0].name}: {away[0].message}")
    revision = draft.candidate_revision
    waiting = [gate for gate in seen if gate.verdict == "Waiting" and not gate.advisory]
    for_people = gates.approval.names(revision.gates)
    waits = next((gate for gate in waiting if gate.name not in for_people), None)
    if waits is not None:
        return Why(Phase.PENDING, Reason.WAITING_FOR_RELEASE, f"gate {waits.name}: {waits.message}")
    due = gates.approval.names(revision.gates, revision.phases, approvals.step_of(draft))
    if missing := [gate for gate in waiting if gate.name in due]:
        words = "; ".join(f"gate {gate.name}: {gate.message}" for gate in missing[:3])
        return Why(Phase.HELD, Reason.APPROVAL_MISSING, words)
    return None


def _refusal(gate: GateStatus) -> str:
    """A gate that does not pass any more: what was read, and since when."""
    since = f" since {gate.since:%Y-%m-%d %H:%M:%S} UTC" if gate.passed and gate.since else ""
    return f"gate {gate.name}: {gate.message}{'; it had passed, and does not' if since else ''}{since}"


def _revoked(draft: Draft) -> Harm | None:
    """A gate that had passed, fails now and says `onRevoked: Rollback`; what is unreadable or missing only holds."""
    if draft.candidate.fast:
        return None
    gates_of = draft.candidate_revision.gates
    grave = {gate.name for gate in gates_of if gate.on_revoked is OnRevoked.ROLLBACK and not gate.advisory}
    seen = read_gates(draft) if grave else None
    for gate in seen if isinstance(seen, tuple) else ():
        if gate.name in grave and gate.verdict == "Fail" and gate.passed:
            return Harm(Reason.GATE_REVOKED, f"gate {gate.name}: {gate.message}; it had passed: onRevoked is Rollback")
    return None


def read_gates(draft: Draft) -> tuple[GateStatus, ...] | Why | None:
    """What the gates see now, put into the status; a reason while that cannot be said, None where none are asked."""
    candidate, stable = draft.candidate, draft.status.stable
    if candidate.fast:
        return None
    revision = draft.candidate_revision
    versions = draft.obs.registry.versions
    if draft.spec is not None and draft.spec.model.name != revision.model:
        if candidate.stage is Stage.BAKING:
            return None  # the registry is read for the next model now, which waits for the end of this bake
        versions = {}  # the same numbers, of another model
    champion = versions.get(stable.version) if stable else None
    former = draft.revision(stable.key) if stable else None
    if former is not None and former.model != revision.model:
        words = f"v{former.version} of {former.model} serves, another model: its evaluation cannot be compared"
        champion = Missing(Reason.MODEL_NOT_FOUND, words)
    if stable is not None and champion is None and revision.gates:
        return Why(Phase.GATING, Reason.REGISTRY_PENDING, f"reading the champion v{stable.version} from the registry")
    if isinstance(read := versions.get(candidate.version), ModelVersion) and was_read(read):
        draft.put_candidate(lineage=recorded(lineage_of(read)))
    held = {item.source: item.digest for item in candidate.artifact}
    pinned = gates.pin(revision.gates, versions.get(candidate.version), held)
    if pinned != held:
        pins = tuple(ArtifactPin(source=source, digest=digest) for source, digest in pinned.items())
        draft.put_candidate(artifact=pins)
    step, said = approvals.step_of(draft), draft.obs.approvals
    if gates.approval.asks(revision.gates) and said == Approvals():
        draft.wake(draft.now)  # they are read for a candidate that status names
    others = draft.obs.releases
    context = gates.Context(draft.now, revision, former, pinned, others, draft.obs.release, said, step)
    judged = gates.evaluate(revision.gates, versions.get(candidate.version), champion, context)
    seen = gates.dated(draft.status.gates, judged, draft.now)
    if (at := gates.due(revision.gates, context)) is not None:
        draft.wake(at)
    draft.put(gates=seen)
    return seen


def missing_data(draft: Draft) -> Unavailable | None:
    """What is wrong with the evidence, once it is worth telling: a series is born with its first request."""
    problem = draft.obs.samples.problem
    if problem is None or problem.reason is not Reason.NO_DATA:
        return problem
    unexposed = draft.weight(draft.candidate.slot) == 0
    young = problem.since is not None and draft.now - problem.since < NO_DATA_PATIENCE
    told = any(item.type == "EvidenceAvailable" and item.status == "False" for item in draft.status.conditions)
    if problem.since is not None and young:
        draft.wake(problem.since + NO_DATA_PATIENCE)  # no poll will: there are none
    # an outage that was told goes on for a process that has not read anything yet
    return None if unexposed or (young and not told) else problem


def evidence_stop(draft: Draft, *, patient: bool = True) -> Why | None:
    """Missing data: nothing rises, nobody is blamed. Patience is for what is shown; a raise has none."""
    problem = missing_data(draft)
    if not patient and draft.weight(draft.candidate.slot) > 0:
        problem = draft.obs.samples.problem or _stale(draft)
    if problem is None or draft.hurried:
        return None
    return Why(Phase.HELD, problem.reason, f"{problem.message}; the weight is frozen and goes on by itself")


def blind_stop(draft: Draft) -> Why | None:
    """A problem with the evidence of this very moment, however young: an outage may just have begun."""
    problem = draft.obs.samples.problem
    if problem is None or draft.status.stable is None or draft.hurried:
        return None
    return Why(Phase.HELD, problem.reason, f"{problem.message}; the weight is frozen and goes on by itself")


def _stale(draft: Draft) -> Unavailable | None:
    """Nothing new was counted lately under this weight, though nobody says why: nothing may rise on that."""
    traffic = draft.status.traffic
    if not draft.candidate_revision.checks or traffic is None or traffic.confirmed_at is None:
        return None
    draft.weigh()
    assert draft.evidence is not None, "weighed just now"
    polled = draft.evidence.at
    if polled > traffic.confirmed_at and draft.now - polled <= FRESH:
        return None
    return Unavailable(Reason.NO_DATA, f"no requests have been counted since {polled:%H:%M:%S} UTC", polled)


def raise_stop(draft: Draft, target: Target) -> Why | None:
    """Why the weight must not rise now, pods and route aside."""
    stop = frozen(draft, target)
    if stop is None and (stop := gate_stop(draft)) is not None:
        stop = replace(stop, message=f"{stop.message}; the weight does not rise")
    if stop is not None or draft.candidate.fast or draft.status.stable is None:
        return stop
    stop = evidence_stop(draft, patient=False)
    if stop is None and draft.judgement is not None and draft.judgement.suspicious:
        stop = Why(Phase.HELD, Reason.WAITING_FOR_EVIDENCE, _most_telling(draft))
    return stop


def hold_stop(draft: Draft, target: Target, *, evidence_needed: bool) -> Why | None:
    """Why a phase that has had its time must not end; those of PATIENT are what a timeout ends."""
    stop = frozen(draft, target) or evidence_stop(draft)
    if stop is not None:
        return stop
    judgement = draft.judgement or draft.weigh()
    if judgement.suspicious:
        return Why(Phase.HELD, Reason.WAITING_FOR_EVIDENCE, _most_telling(draft))
    if draft.watched is not None and (pod := exposure.hanging(draft.watched)) is not None:
        words = f"pod {pod} has requests in flight and works nothing off; a minute of that is harm"
        return Why(Phase.HELD, Reason.WAITING_FOR_EVIDENCE, words)
    if evidence_needed and not judgement.passed and not draft.hurried:
        waiting = judgement.waits_for
        return Why(
            Phase.HELD, Reason.WAITING_FOR_EVIDENCE, waiting.message if waiting else "checks have not passed yet"
        )
    return None if draft.hurried else _parity_stop(draft, judgement.parity_owed)


def _parity_stop(draft: Draft, owed: Sequence[str]) -> Why | None:
    """Before all traffic: latency that was never compared under like load has not been compared."""
    candidate, revision = draft.candidate, draft.candidate_revision
    if not owed or draft.spec is None or candidate.step != plan.last_step(revision) - 1:
        return None
    size, weight = plan.replicas(draft.spec), draft.weight(candidate.slot)
    many = f"check {owed[0]} has" if len(owed) == 1 else f"checks {', '.join(owed)} have"
    words = f"{many} not passed under like load, within a quarter of what a pod of stable carries"
    if abs(parity.load(weight, candidate.replicas, size) - 1) <= parity.NEAR:
        return Why(Phase.HELD, Reason.PARITY_OWED, f"{words}; the load is alike now, more requests are needed")
    pods = "1 pod" if candidate.replicas == 1 else f"{candidate.replicas} pods"
    seen = f"{weight}% on {pods} beside {size} of stable are not"
    helps = "a phase with parity: true, or other replicas of the phase, brings that about; command promote does without"
    return Why(Phase.HELD, Reason.PARITY_OWED, f"{words}; {seen}: {helps}")


def left_behind(draft: Draft, target: Target) -> bool:
    """Deal with all that ends or interrupts a candidate with pods: True when nothing is left to do in this state.

    In this order: it is no longer wanted, its pods crash, its checks fail, its engine hangs, a gate is revoked, its
    pods are lost, none of its requests arrive, the spec is unreadable.
    """
    if _unwanted(draft, target):
        return True
    draft.grow()
    harm = draft.pod_harm() or _failing(draft) or _hanging(draft) or _revoked(draft)
    if harm is not None:
        draft.give_back(Outcome.ROLLED_BACK, harm)
        return True
    candidate = draft.candidate
    if draft.status.stable is not None and draft.pods_lost():
        draft.retreat()
        if candidate.stage is not Stage.STARTING:
            return True
    elif draft.status.stable is not None and (missed := _missed(draft)) is not None:
        draft.retreat_unreached(missed)
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
    if candidate.stage is Stage.BAKING and stable is not None and not back_to_stable:
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


def _hanging(draft: Draft) -> Harm | None:
    """Requests in flight that never end: completion counters stand still then, and look well."""
    candidate = draft.candidate
    if not _serves(draft):
        return None
    watched = draft.watch()
    if watched.stuck:
        draft.wake(draft.now + LOOK_AGAIN)  # no request may end any more that would wake anybody
    hung = exposure.hung(watched)
    if not hung:
        return None
    words = exposure.hung_in_words(candidate.version, hung, draft.workload(candidate.revision).pods)
    return Harm(Reason.ENGINE_HUNG, words)


def _missed(draft: Draft) -> exposure.Missed | None:
    ready = draft.candidate.ready > 0 and not draft.pods_lost()
    if not ready or not _serves(draft):
        return None
    return exposure.missed(draft.watch(), draft.weight(draft.candidate.slot))


def _serves(draft: Draft) -> bool:
    candidate = draft.candidate
    return candidate.stage in (Stage.SHIFTING, Stage.BAKING) and not candidate.fast and draft.weight(candidate.slot) > 0


def unreached(draft: Draft) -> Why | None:
    """The pause after a weight that brought no requests; a person who promotes or skips ends it."""
    retreat = draft.candidate.retreat
    if retreat is None or draft.now >= retreat.until or draft.hurried:
        return None
    draft.wake(retreat.until)
    return Why(Phase.HELD, Reason.read(retreat.reason), retreat.message)


def _most_telling(draft: Draft) -> str:
    assert draft.judgement is not None, "judged before"
    item = max(draft.judgement.checks, key=lambda check: check.evidence_percent)
    return f"{item.message}; the weight does not rise"
