"""The decision: from spec, status and what was seen, to the next status. One short function a state, and a table.

    decide(spec, status, observation, now) -> Decision

The rules it keeps (docs/design.md, section 4): only harm takes traffic back; missing data freezes; a weight rises only
when gates, checks, pods and the route allow it; status is the only memory. A state's function either rests (says why)
or moves on along an edge of TRANSITIONS; several edges may be walked in one pass. The documentation's diagram is drawn
from the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from modelrelease.api.base import format_duration, parse_duration
from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import ModelReleaseStatus, Outcome, StableStatus, Stage

from . import approvals, commands, gates, measures, notice, parity, plan, policies, rebuild, serving, tags
from .draft import Draft, Harm, Why, with_uri
from .observation import CAPACITY, AliasTarget, Missing, ModelVersion, Observation, Unavailable
from .present import present, worth_writing
from .revision import Revision, desired
from .stops import (
    PATIENT,
    Target,
    blind_stop,
    evidence_stop,
    frozen,
    gate_stop,
    hold_stop,
    left_behind,
    promoted_before,
    quarantined,
    raise_stop,
    slot_busy,
    unreached,
    wanted,
)
from .wants import Wants


class State(StrEnum):
    """Where a release stands: at rest, or the stage of its candidate."""

    IDLE = "Idle"
    GATING = "Gating"
    STARTING = "Starting"
    SHIFTING = "Shifting"
    BAKING = "Baking"
    RETURNING = "Returning"


TRANSITIONS: Mapping[tuple[State, State], str] = {
    (State.IDLE, State.GATING): "another revision is wanted and the registry knows it",
    (State.IDLE, State.STARTING): "a revision promoted before is wanted again, or a person rolls back",
    (State.GATING, State.IDLE): "something else is wanted, or a person aborts",
    (State.GATING, State.STARTING): "every gate passes",
    (State.STARTING, State.SHIFTING): "enough pods are ready and warm; the weight rises",
    (
        State.STARTING,
        State.RETURNING,
    ): "pods crash or never become ready, a check fails, a person aborts, or something else is wanted",
    (
        State.SHIFTING,
        State.STARTING,
    ): "the phase passed: pods for the next; or pods were lost, or no requests arrive: weight 0",
    (
        State.SHIFTING,
        State.BAKING,
    ): "the last phase, of full weight, passed; a first release needs only the weight confirmed",
    (State.SHIFTING, State.RETURNING): "a check fails, pods crash, a person aborts, or something else is wanted",
    (State.SHIFTING, State.IDLE): "a former revision has all traffic again; or harm, and nothing else serves",
    (State.BAKING, State.IDLE): "the bake ends: promoted; or harm, and nothing else serves",
    (State.BAKING, State.STARTING): "pods were lost, or no requests arrive: weight 0",
    (State.BAKING, State.RETURNING): "a check fails, pods crash, a person aborts, or the spec went back to stable",
    (State.RETURNING, State.IDLE): "requests in flight had their time",
}

_WALK = 8  # more edges than any pass can walk


@dataclass(frozen=True, slots=True)
class Decision:
    """What one pass decided.

    status: to be recorded before anything else changes; the same object as before when nothing is worth a write.
    store: revisions to create before that. wake_at: when to look again without being woken, None for never.
    """

    status: ModelReleaseStatus
    store: tuple[Revision, ...]
    wants: Wants
    wake_at: datetime | None


def decide(spec: ModelReleaseSpec | None, status: ModelReleaseStatus, obs: Observation, now: datetime) -> Decision:
    """Decide the next status. spec is None where it cannot be read (`obs.spec_error` says why)."""
    before = status
    draft = Draft(spec, rebuild.rebuild(status, obs, now), obs, now)
    notice.take_over(draft)
    approvals.take_over(draft)
    target = target_of(spec, obs)
    commands.obey(draft, target)
    for _ in range(_WALK):
        state = state_of(draft.status)
        _STATES[state](draft, target)
        moved = state_of(draft.status)
        if moved is state:
            break
        if (state, moved) not in TRANSITIONS:
            raise AssertionError(f"no transition from {state} to {moved}")
    if draft.status.candidate is not None and draft.why.phase is Phase.HELD:
        draft.note("Held", draft.why.reason)
    tags.mark(draft)
    recorded = worth_writing(before, present(draft), draft)
    # from what is recorded: the next pass starts from its evidence, and needs every poll since then again
    wanted = plan.wants(spec, recorded, obs, target if isinstance(target, Revision) else None)
    return Decision(recorded, tuple(draft.store), wanted, min(draft.wake_at, default=None))


def state_of(status: ModelReleaseStatus) -> State:
    """The state that a status is in."""
    return State(status.candidate.stage.value) if status.candidate else State.IDLE


def target_of(spec: ModelReleaseSpec | None, obs: Observation) -> Target:
    """The revision that the spec asks for, or why that cannot be said."""
    if spec is None:
        words = obs.spec_error or "the spec cannot be read"
        return Why(Phase.INVALID, Reason.INVALID_SPEC, f"{words}; what serves goes on serving; correct the spec")
    if obs.conflicts:
        words = f"{', '.join(obs.conflicts)} exists and does not belong to this release; delete or rename it"
        return Why(Phase.INVALID, Reason.NAME_CONFLICT, words)
    if obs.route_missing:
        return Why(Phase.PENDING, Reason.ROUTE_NOT_FOUND, f"{obs.route_missing}; what serves goes on serving")
    if obs.policy_missing:
        words = f"ReleasePolicy {obs.policy_missing} does not exist; create it or remove spec.policyRef"
        return Why(Phase.PENDING, Reason.POLICY_NOT_FOUND, words)
    if obs.policies_unread:
        words = f"{obs.policies_unread}; what serves goes on serving, and no rollout begins"
        return Why(Phase.PENDING, Reason.POLICY_UNREADABLE, words)
    if wrong := policies.too_many(policies.rules(spec, obs.policy, obs.enforced)):
        return Why(Phase.INVALID, Reason.INVALID_SPEC, f"{wrong}; what serves goes on serving; take some away")
    if wrong := measures.refused(spec, policies.applying(spec, obs.policy, obs.enforced)):
        return Why(Phase.INVALID, Reason.INVALID_SPEC, f"{wrong}; what serves goes on serving; correct it")
    if wrong := measures.forbidden_query(spec, obs.policy):
        return Why(Phase.INVALID, Reason.CUSTOM_QUERIES_NOT_ALLOWED, f"{wrong}; what serves goes on serving")
    version = str(spec.model.version)
    if spec.model.alias is not None:
        held = obs.registry.aliases.get(spec.model.alias)
        if not isinstance(held, AliasTarget):
            return _unread(held, f"alias {spec.model.alias} of {spec.model.name}")
        version = held.version
    found = desired(obs.release, spec, obs.policy, version, enforced=obs.enforced)
    if wrong := gates.approval.unknown_phase(found):
        return Why(Phase.INVALID, Reason.INVALID_SPEC, f"{wrong}; what serves goes on serving; correct it")
    return found


def _unread(held: Unavailable | Missing | None, what: str) -> Why:
    if held is None:
        return Why(Phase.GATING, Reason.REGISTRY_PENDING, f"reading {what} from the registry")
    return Why(Phase.GATING, held.reason, held.message)


# -- the states -------------------------------------------------------------------------------------------------------
def _idle(draft: Draft, target: Target) -> None:
    notice.drain_previous(draft)
    status = draft.status
    if status.stable is not None:
        draft.set_weights(status.stable.slot, 100)
    if isinstance(target, Why):
        draft.rest(target.phase, target.reason, target.message)
        return
    stable, entry = status.stable, quarantined(draft, target)
    if stable is not None and stable.revision == target.revision:
        if entry is not None and entry.outcome == "Blocked":
            draft.rest(
                Phase.BLOCKED,
                Reason.read(entry.reason),
                f"{entry.message}; nothing else can serve, traffic is left alone",
            )
        else:
            _rest_promoted(draft, stable)
            serving.reread(draft, stable)
        return
    if entry is not None:
        phase = Phase.BLOCKED if entry.outcome == "Blocked" else Phase.ROLLED_BACK
        serves = f"v{stable.version} serves" if stable else "nothing serves"
        way_out = f"release another version, or command retry@{target.revision}-<nonce>"
        words = f"{entry.message}; {serves}; v{entry.version} is quarantined: {way_out}"
        draft.rest(phase, Reason.read(entry.reason), words)
        return
    assert draft.spec is not None, "a target needs a spec"
    if draft.spec.suspend:
        draft.rest(Phase.PENDING, Reason.SUSPENDED, f"v{target.version} waits: spec.suspend is true")
        return
    before = promoted_before(draft, target)
    if before is not None and stable is not None:
        if (busy := slot_busy(draft, target.revision)) is not None:
            draft.rest(busy.phase, busy.reason, busy.message)
            return
        draft.begin(before, fast=True)
        return
    _begin_new(draft, target)


def _rest_promoted(draft: Draft, stable: StableStatus) -> None:
    """Steady, unless pods or the gateway let down what was promoted: nothing can be decided then, but told."""
    words, reason = f"v{stable.version} serves all traffic", Reason.PROMOTED
    if draft.route_problem:
        words, reason = f"users may not reach v{stable.version}: {draft.route_problem}", Reason.ROUTE_NOT_ACCEPTED
    elif stable.ready == 0:
        seen = draft.workload(stable.revision).fault_message
        words = f"v{stable.version} has all traffic and no ready pod{f': {seen}' if seen else ''}"
        reason = Reason.NOT_SERVING
    draft.rest(Phase.PROMOTED, reason, words)


def _begin_new(draft: Draft, target: Revision) -> None:
    """Start gating, once the registry knows the version and the API server accepts the pod template."""
    obs = draft.obs
    verdict = obs.template
    if verdict is not None and verdict.revision == target.revision and verdict.refused is not None:
        words = f"the API server refuses the Deployment of v{target.version}: {verdict.refused}"
        draft.rest(Phase.INVALID, Reason.TEMPLATE_REFUSED, f"{words}; what serves goes on serving")
        return
    stored = obs.revisions.get(target.key)
    if stored is not None:
        draft.begin(stored, fast=False)
        return
    held = obs.registry.versions.get(target.version)
    if not isinstance(held, ModelVersion):
        why = _unread(held, f"{target.model} v{target.version}")
        draft.rest(why.phase, why.reason, why.message)
    elif held.status != "READY":
        words = f"{target.model} v{target.version} is {held.status} in the registry; waiting until it is READY"
        draft.rest(Phase.GATING, Reason.VERSION_NOT_READY, words)
    elif verdict is None or verdict.revision != target.revision:
        draft.rest(Phase.GATING, Reason.REGISTRY_PENDING, f"checking the pod template of v{target.version}")
        draft.wake(draft.now)
    else:
        draft.begin(with_uri(target, held.source), fast=False)


def _gating(draft: Draft, target: Target) -> None:
    if not wanted(draft, target):
        assert isinstance(target, Revision), "it is wanted while that cannot be said"
        back = draft.status.stable is not None and draft.status.stable.revision == target.revision
        outcome = Outcome.DROPPED if back else Outcome.SUPERSEDED
        draft.conclude(outcome, Reason(outcome), f"v{target.version} is wanted instead; nothing was deployed")
        draft.put(candidate=None, gates=(), evidence=None)
        return
    stop = gate_stop(draft)
    if stop is not None:
        words = stop.message
        if stop.reason is Reason.GATE_FAILED:
            draft.conclude("Blocked", stop.reason, words)
            words += "; nothing was deployed; register a better version or edit spec.gates"
        draft.rest(stop.phase, stop.reason, words)
        return
    unread = target if isinstance(target, Why) and target.reason is Reason.POLICY_UNREADABLE else None
    if (held := unread or frozen(draft, target) or slot_busy(draft, draft.candidate.revision)) is not None:
        draft.rest(held.phase, held.reason, held.message)
        return
    if draft.candidate.recorded:  # as Blocked; a corrected evaluation begins another rollout, with a record of its own
        draft.put_candidate(started_at=draft.now, recorded=False)
    draft.enter(Stage.STARTING)


def _starting(draft: Draft, target: Target) -> None:
    """Pods for the current phase, then its weight."""
    if left_behind(draft, target):
        return
    assert draft.spec is not None, "left_behind rests without a spec"
    candidate, revision, first = draft.candidate, draft.candidate_revision, draft.status.stable is None
    need = plan.pods_needed(draft.spec, revision, candidate.step, first=first)
    if not _pods_ready(draft, need, parse_duration(draft.spec.rollout.progress_deadline)):
        if isinstance(target, Why) and target.reason is Reason.NAME_CONFLICT and draft.candidate.returning is None:
            draft.rest(Phase.HELD, target.reason, target.message)  # perhaps it is what keeps the pods away
        return
    since = candidate.ready_since or draft.now
    draft.put_candidate(ready_since=since)
    warm = since + revision.preset.warm_up
    if draft.now < warm:
        words = f"v{candidate.version}: {need} pod{'s' if need > 1 else ''} ready, warming up"
        draft.rest(Phase.PROGRESSING, Reason.CANDIDATE_READY, words)
        draft.wake(warm)
    elif (pause := unreached(draft)) is not None:
        draft.rest(pause.phase, pause.reason, pause.message)
    elif (stop := raise_stop(draft, target)) is not None:
        draft.rest(Phase.HELD, stop.reason, stop.message)
    else:
        carrying = max(need, min(draft.workload(candidate.revision).ready, draft.candidate.replicas))
        draft.raise_weight(100 if first else plan.weight_of(draft.spec, revision, candidate.step, carrying))


def _pods_ready(draft: Draft, need: int, deadline: timedelta) -> bool:
    """Whether so many pods are ready behind the candidate's Service; past the deadline that is harm.

    The clock stands still while a node, a quota, an image or the model is waited for, and starts anew when all are
    ready.
    """
    candidate = draft.candidate
    pods, slot = draft.workload(candidate.revision), draft.obs.slots.get(candidate.slot)
    reachable = slot.ready_endpoints if slot is not None and slot.revision == candidate.revision else 0
    ready = min(pods.ready, reachable)
    if ready >= need:
        draft.put_candidate(clock_runs=False, waited_seconds=0.0, waited_until=None)
        return True
    draft.put_candidate(ready_since=None)
    excused = pods.fault in CAPACITY or pods.loading
    waited = draft.clock(runs=not excused)
    seen = f": {pods.fault_message}" if pods.fault_message else ""
    if waited >= deadline.total_seconds() and not excused:
        reason = Reason(pods.fault.value) if pods.fault else Reason.NEVER_READY
        words = f"v{candidate.version} has {ready} of {need} pods ready after {format_duration(deadline)}{seen}"
        draft.give_back(Outcome.ROLLED_BACK, Harm(reason, words))
        return False
    reason = Reason(pods.fault.value) if pods.fault else Reason.RETREATED if candidate.retreats else Reason.STARTING
    phase = Phase.PENDING if pods.fault in CAPACITY else Phase.PROGRESSING
    draft.rest(phase, reason, f"v{candidate.version}: {ready} of {need} pods ready{seen}")
    if not excused:
        draft.wake(draft.now + deadline - timedelta(seconds=waited))
    return False


def _shifting(draft: Draft, target: Target) -> None:
    """The candidate has its phase's weight: wait for the route, the time and the evidence."""
    if left_behind(draft, target):
        return
    assert draft.spec is not None, "left_behind rests without a spec"
    candidate, revision = draft.candidate, draft.candidate_revision
    if not draft.confirmed:
        draft.clock(runs=False)
        _rest_unconfirmed(draft, Phase.PROGRESSING)
        return
    if draft.status.stable is None:
        draft.enter(Stage.BAKING)
        return
    if candidate.fast:
        draft.promote()
        return
    phase = plan.phase_of(revision, candidate.step)
    if phase.parity and _follow_parity(draft, target):
        return
    is_last = candidate.step >= plan.last_step(revision)
    stop = hold_stop(draft, target, evidence_needed=not is_last)
    waited = draft.clock(runs=stop is None or stop.reason in PATIENT)
    duration, timeout = parse_duration(phase.duration), parse_duration(phase.timeout)
    timed = draft.hurried or waited >= duration.total_seconds()
    if stop is not None and stop.reason in PATIENT and not timed:
        stop = None
    if stop is not None and stop.reason in PATIENT and waited >= timeout.total_seconds():
        match draft.spec.rollout.on_inconclusive:
            case "Rollback":
                words = f"phase {phase.name} timed out after {format_duration(timeout)} without enough evidence"
                draft.give_back(Outcome.ROLLED_BACK, Harm(Reason.INCONCLUSIVE, f"{words}: {stop.message}"))
                return
            case "Promote":
                stop = None
            case "Hold":
                stop = Why(
                    Phase.HELD, Reason.INCONCLUSIVE, f"{stop.message}; command promote to go on, abort to go back"
                )
    if stop is not None:
        draft.rest(Phase.HELD, stop.reason, stop.message)
        if draft.candidate.clock_runs and waited < timeout.total_seconds():
            draft.wake(draft.now + timeout - timedelta(seconds=waited))
    elif not timed:
        left = duration - timedelta(seconds=waited)
        words = f"v{candidate.version} has {draft.weight(candidate.slot)}% in phase {phase.name}"
        draft.rest(Phase.PROGRESSING, Reason.PHASE_RUNNING, f"{words} for {phase.duration} at least")
        draft.wake(draft.now + left)
    elif (stop := approvals.next_phase_stop(draft)) is not None:
        draft.rest(stop.phase, stop.reason, stop.message)
    elif is_last:
        draft.enter(Stage.BAKING)
    else:
        draft.enter(Stage.STARTING, step=candidate.step + 1, retreat=None)


def _follow_parity(draft: Draft, target: Target) -> bool:
    """After a scale of the release another weight makes the load alike; True where it was set, and has to be taken."""
    assert draft.spec is not None, "left_behind rests without a spec"
    candidate, held = draft.candidate, draft.weight(draft.candidate.slot)
    even = plan.weight_of(draft.spec, draft.candidate_revision, candidate.step, candidate.replicas)
    if abs(even - held) <= parity.NEAR * held:
        return False
    if even > held and (candidate.ready < candidate.replicas or raise_stop(draft, target) is not None):
        return False
    draft.set_weights(candidate.slot, even)
    draft.note("Set")
    draft.put_candidate(carries=candidate.replicas)
    _rest_unconfirmed(draft, Phase.PROGRESSING)
    return True


def _rest_unconfirmed(draft: Draft, phase: Phase) -> None:
    """The gateway has not taken the weights that it was told: no clock runs until it has."""
    candidate, problem = draft.candidate, draft.route_problem
    share = f"v{candidate.version} waits for its {draft.weight(candidate.slot)}% of traffic"
    if problem:
        draft.rest(phase, Reason.ROUTE_NOT_ACCEPTED, f"{problem}; {share} until the gateway accepts the route")
    else:
        draft.rest(phase, Reason.ROUTE_PENDING, f"{share}: the gateway has yet to take the weights")


def _baking(draft: Draft, target: Target) -> None:
    """The candidate has full weight; the former revision stays warm until the bake ends."""
    if left_behind(draft, target):
        return
    assert draft.spec is not None, "left_behind rests without a spec"
    candidate, stable = draft.candidate, draft.status.stable
    duration = parse_duration(draft.spec.rollout.bake.duration)
    judgement = draft.judgement or draft.weigh()
    absolute = [item for item in judgement.checks if item.stable is None]
    if stable is None and (draft.hurried or all(item.verdict == "Pass" for item in absolute)):
        draft.promote()
        return
    # a first release takes traffic from nobody: it waits for its checks, which may have no request to look at yet
    stop = None if stable is None else evidence_stop(draft) or frozen(draft, target)
    waited = draft.clock(runs=stop is None and draft.confirmed)
    over = draft.hurried or waited >= duration.total_seconds()
    if stop is not None:
        draft.rest(Phase.HELD, stop.reason, f"{stop.message}; the bake's clock is stopped")
    elif not draft.confirmed:
        _rest_unconfirmed(draft, Phase.BAKING)
    elif not over:
        words = f"v{candidate.version} serves; its first checks run"
        if stable is not None:
            words = _bakes(draft, candidate.version, stable.version)
        draft.rest(Phase.BAKING, Reason.BAKING, f"{words} for {format_duration(duration)}")
        draft.wake(draft.now + duration - timedelta(seconds=waited))
    elif (stop := _promotion_stop(draft, target)) is not None:
        draft.rest(stop.phase, stop.reason, stop.message)
    else:
        draft.promote()


def _bakes(draft: Draft, version: str, former: str) -> str:
    """What is still judged: without a holdback nothing is left to compare with."""
    weight = draft.weight(draft.candidate.slot)
    if weight < 100:
        return f"v{version} has {weight}% and is compared with v{former}, which keeps the rest and stays warm"
    judged = "with nothing left to compare with, only absolute limits and failing pods take it back"
    return f"v{version} has full weight; {judged}; v{former} stays warm"


def _promotion_stop(draft: Draft, target: Target) -> Why | None:
    """The former revision goes only when all pods of the new one are there, gates still pass and Prometheus answers; a
    holdback's share rises as any weight."""
    candidate = draft.candidate
    ready = draft.workload(candidate.revision).ready
    if ready < candidate.replicas:
        words = (
            f"v{candidate.version}: {ready} of {candidate.replicas} pods ready; the former revision stays until all are"
        )
        return Why(Phase.BAKING, Reason.STARTING, words)
    stop = raise_stop(draft, target) if draft.weight(candidate.slot) < 100 else gate_stop(draft) or blind_stop(draft)
    return Why(Phase.HELD, stop.reason, stop.message) if stop is not None else None


def _returning(draft: Draft, _: Target) -> None:
    """Traffic goes back first; then requests in flight have their time; then the candidate ends."""
    candidate = draft.candidate
    back = candidate.returning
    assert back is not None, "this state has a return"
    if draft.status.stable is None or not candidate.exposed:
        draft.end()
        return
    draft.set_weights(candidate.slot, 0)
    if (back.confirmed_at is not None) != draft.confirmed:  # a weight edited by hand makes the drain start again
        back = back.model_copy(update={"confirmed_at": draft.now if draft.confirmed else None})
        draft.put_candidate(returning=back)
        rollback = draft.status.last_rollback
        fresh = rollback is not None and rollback.routed_at is None
        if draft.confirmed and fresh and back.outcome is Outcome.ROLLED_BACK:
            assert rollback is not None, "it is fresh"
            seconds = round((draft.now - rollback.decided_at).total_seconds(), 3)
            draft.put(last_rollback=rollback.model_copy(update={"routed_at": draft.now, "seconds": seconds}))
    revision = draft.revision(candidate.key)
    drain = revision.drain_timeout if revision else timedelta()
    if back.confirmed_at is not None and draft.now >= back.confirmed_at + drain:
        draft.end()
        return
    if back.confirmed_at is not None:
        draft.wake(back.confirmed_at + drain)
    gone = back.confirmed_at is not None
    if gone and back.outcome is not Outcome.ROLLED_BACK:
        serves = f"v{draft.status.stable.version} serves all traffic; v{candidate.version} drains"
        draft.rest(Phase.PROMOTED if back.outcome is Outcome.DROPPED else Phase.PROGRESSING, Reason.DRAINING, serves)
        return
    words = (
        f"all traffic is back on v{draft.status.stable.version}; requests in flight have up to {format_duration(drain)}"
    )
    going = f"sending traffic back to v{draft.status.stable.version}"
    if draft.route_problem:
        going += f", which the gateway does not take: {draft.route_problem}"
    draft.rest(Phase.ROLLING_BACK, Reason.read(back.reason), f"{back.message}; {words if gone else going}")


_STATES: Mapping[State, Callable[[Draft, Target], None]] = {
    State.IDLE: _idle,
    State.GATING: _gating,
    State.STARTING: _starting,
    State.SHIFTING: _shifting,
    State.BAKING: _baking,
    State.RETURNING: _returning,
}
