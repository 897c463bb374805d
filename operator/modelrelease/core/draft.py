"""The status as it is being drafted in one pass: the few changes that states may make to it.

`decide` says when, this module how: every change of a weight, every start, return and end of a rollout is one function
here, so that each invariant has one place. The draft is the only mutable value in `core` and never leaves a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from modelrelease.api.base import format_duration, parse_duration
from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import (
    AliasStatus,
    CandidateStatus,
    HistoryEntry,
    ModelReleaseStatus,
    Outcome,
    PreviousStatus,
    QuarantineEntry,
    RetreatStatus,
    ReturnStatus,
    RollbackStatus,
    Slot,
    StableStatus,
    Stage,
    TimelineEntry,
    TrafficStatus,
)

from . import checks, exposure, plan, record
from .measures import measures
from .observation import CRASHES, AliasTarget, Observation, Workload
from .revision import Revision
from .shared_route import carrier
from .wants import Measure

HISTORY, QUARANTINE, COMMANDS = 10, 20, 20
ENDINGS = 3  # ended rollouts that wait for their ReleaseRecord; with more the oldest goes without one
PREVIOUS_KEPT = timedelta(hours=24)
CRASHES_ALLOWED = 3  # of pods without traffic: a server may fail once or twice while what it needs comes up


@dataclass(frozen=True, slots=True)
class Why:
    """Where a release rests after a pass, and what it says about it."""

    phase: Phase
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Harm:
    """Something that only a return of traffic answers."""

    reason: Reason
    message: str


@dataclass(slots=True)
class Draft:
    """One pass over one release. `spec` is None while it cannot be read; what serves goes on serving then."""

    spec: ModelReleaseSpec | None
    status: ModelReleaseStatus
    obs: Observation
    now: datetime
    why: Why = Why(Phase.PENDING, Reason.STARTING, "")
    store: list[Revision] = field(default_factory=list)
    wake_at: list[datetime] = field(default_factory=list)
    evidence: checks.Evidence | None = None
    judgement: checks.Judgement | None = None
    watched: exposure.Exposure | None = None

    # -- reading ---------------------------------------------------------------------------------------------------
    @property
    def candidate(self) -> CandidateStatus:
        """The candidate; only for states that have one."""
        assert self.status.candidate is not None, "this state has a candidate"
        return self.status.candidate

    def revision(self, key: str) -> Revision | None:
        """A stored revision, or one that this pass stores."""
        return self.obs.revisions.get(key) or next((item for item in self.store if item.key == key), None)

    @property
    def hurried(self) -> bool:
        """Whether a person has ended the waits for time and evidence: all of them, or those of the present phase.

        What a skipped phase waits for lasts until the next one has its weight.
        """
        candidate = self.candidate
        if candidate.hurried or candidate.skipped is None:
            return candidate.hurried
        leads_there = candidate.stage is Stage.STARTING and candidate.step == candidate.skipped + 1
        return leads_there or candidate.skipped == plan.phase_index(candidate)

    @property
    def candidate_revision(self) -> Revision:
        """What the candidate runs and how it is judged; only for states that cannot be without."""
        revision = self.revision(self.candidate.key)
        assert revision is not None, "status names only stored revisions"
        return revision

    def workload(self, revision: str) -> Workload:
        """Its pods; none while the Deployment does not exist."""
        return self.obs.workloads.get(revision) or Workload(revision, 0, 0)

    def weight(self, slot: Slot) -> int:
        """Percent that the route is told for a slot."""
        traffic = self.status.traffic
        return 0 if traffic is None else traffic.a if slot == "a" else traffic.b

    def reached(self, slot: Slot, revision: str) -> bool:
        """Whether the live route and Service send users to this revision beside stable, whoever has set them so."""
        view, route = self.obs.slots.get(slot), self.obs.route
        behind = view is not None and view.revision == revision and self.status.stable is not None
        return behind and route is not None and route.weights.get(slot, 0) > 0

    @property
    def confirmed(self) -> bool:
        """Whether the gateway has accepted the weights that status names."""
        return self.status.traffic is not None and self.status.traffic.confirmed_at is not None

    @property
    def route_problem(self) -> str:
        """What a gateway says when it refuses the route as it stands, empty while none does."""
        return self.obs.route.problem if self.obs.route else ""

    # -- small changes ---------------------------------------------------------------------------------------------
    def put(self, **fields: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=fields)

    def put_candidate(self, **fields: Any) -> None:
        """Change fields of the candidate."""
        self.put(candidate=self.candidate.model_copy(update=fields))

    def rest(self, phase: Phase, reason: Reason, message: str) -> None:
        """Say where this pass leaves the release."""
        self.why = Why(phase, reason, message)

    def wake(self, at: datetime) -> None:
        """Ask to be called again at this time."""
        self.wake_at.append(at)

    def clock(self, *, runs: bool) -> float:
        """Let the stage's clock run or stop from now on; returns the seconds that have counted so far."""
        candidate = self.candidate
        waited = candidate.waited_seconds
        if candidate.clock_runs and candidate.waited_until is not None:
            waited += max(0.0, (self.now - candidate.waited_until).total_seconds())
        self.put_candidate(clock_runs=runs, waited_seconds=round(waited, 3), waited_until=self.now)
        return waited

    def enter(self, stage: Stage, **fields: Any) -> None:
        """Begin a stage (or the next phase): its clock starts at zero."""
        clock = {"clock_runs": False, "waited_seconds": 0.0, "waited_until": None}
        self.put_candidate(stage=stage, stage_since=self.now, **{**clock, **fields})

    def grow(self) -> None:
        """Size the candidate for its phase, scales of the release included; with traffic it does not shrink."""
        candidate = self.candidate
        revision = self.revision(candidate.key)
        if self.spec is not None and revision is not None:
            need = plan.pods_needed(self.spec, revision, candidate.step, first=self.status.stable is None)
            self.put_candidate(replicas=max(need, candidate.replicas) if candidate.exposed else need)

    def set_weights(self, slot: Slot, weight: int) -> None:
        """Tell the route `weight` percent for this slot and the rest for the other; nothing happens if it is so."""
        a, b = (weight, 100 - weight) if slot == "a" else (100 - weight, weight)
        traffic = self.status.traffic
        shared = carrier(self.spec, traffic)
        route, rule = (shared.route, shared.rule) if shared else (None, None)
        if traffic is None or (traffic.a, traffic.b, traffic.route, traffic.rule) != (a, b, route, rule):
            at = self.now if self.route_holds(a, b) else None
            self.put(traffic=TrafficStatus(a=a, b=b, set_at=self.now, confirmed_at=at, route=route, rule=rule))

    def route_holds(self, a: int, b: int) -> bool:
        """Whether the live route has just these weights and the gateway has taken them."""
        live = self.obs.route
        return live is not None and live.current and dict(live.weights) == {"a": a, "b": b}

    # -- evidence --------------------------------------------------------------------------------------------------
    def weigh(self) -> checks.Judgement:
        """Feed the new polls into the evidence and read the verdicts; stores both in the draft."""
        revision, stable = self.candidate_revision, self.status.stable
        held = self.evidence or checks.decode(self.status.evidence, revision)
        held = held or self._no_evidence(revision, self.candidate.stage_since)
        fleet = self.fleet
        if self.evidence is None:
            digest = stable.revision if stable else None
            held = checks.advance(held, revision, self.obs.samples.polls, digest, fleet)
        self.evidence = held
        has_stable = stable is not None
        self.judgement = checks.judge(
            held, revision, self.obs.samples, has_stable=has_stable, fleet=fleet, measures=self._measures(revision)
        )
        return self.judgement

    @property
    def fleet(self) -> checks.Fleet:
        """What is known of the pods of both revisions, and how long they take to warm up."""
        roles = [role for role in (self.candidate, self.status.stable) if role is not None]
        stored = [self.revision(role.key) for role in roles]
        return checks.Fleet(
            {role.revision: self.workload(role.revision).pods for role in roles},
            {item.revision: item.preset.warm_up for item in stored if item is not None},
        )

    def _measures(self, revision: Revision) -> dict[str, Measure]:
        """By check how it is counted: on the candidate, or on stable where that one's runtime cannot tell."""
        stable = self.status.stable
        former = self.revision(stable.key) if stable else None
        counted = {measure.check: measure for measure in measures(revision, revision)}
        lacking = {item.check: item for item in (measures(revision, former) if former else ()) if item.lacks}
        return counted | lacking

    def _no_evidence(self, revision: Revision, at: datetime) -> checks.Evidence:
        """Evidence that begins now; a bake counts among its polls where a holdback lets the comparison go on."""
        bake = self.spec.rollout.bake if self.spec is not None else None
        compares = bake is not None and bake.holdback > 0 and self.status.stable is not None
        whole = parse_duration(bake.duration) if bake is not None and compares else timedelta()
        return checks.begin(revision, at, checks.planned_polls(revision, whole))

    def watch(self) -> exposure.Exposure:
        """Watch the new polls for requests that do not arrive or never end. Only for a candidate with traffic."""
        candidate, stable, traffic = self.candidate, self.status.stable, self.status.traffic
        if self.watched is None:
            revision = self.candidate_revision
            since = (traffic.confirmed_at if traffic else None) or self.now
            held = exposure.decode(candidate.exposure)
            if held is None:
                counted = checks.decode(self.status.evidence, revision)
                held = exposure.begin(min(counted.at, since) if counted else since)
            if held.since < since:
                held = exposure.reweighed(held, since)
            polls, arm = self.obs.samples.polls, stable.revision if stable else None
            self.watched = exposure.watch(held, revision, polls, arm)
        self.put_candidate(exposure=exposure.encode(self.watched))
        return self.watched

    # -- the life of a rollout -------------------------------------------------------------------------------------
    def begin(self, revision: Revision, *, fast: bool) -> None:
        """Make `revision` the candidate; its ControllerRevision is stored before status names it."""
        stable = self.status.stable
        slot = plan.other_slot(stable.slot) if stable else "a"
        if self.obs.revisions.get(revision.key) is None:
            self.store.append(revision)
        self.put(
            candidate=CandidateStatus(
                revision=revision.revision,
                rules=revision.rules,
                version=revision.version,
                model=revision.model,
                slot=slot,
                ready=self.workload(revision.revision).ready,
                exposed=self.reached(slot, revision.revision),
                stage=Stage.STARTING if fast else Stage.GATING,
                step=plan.last_step(revision) if fast else 0,
                started_at=self.now,
                stage_since=self.now,
                fast=fast,
                generation=self.obs.generation,
                spec_digest=record.spec_digest(self.spec),
            ),
            evidence=None,
            paused=False,
            gates=(),
            checks=(),
        )
        self.evidence = self.judgement = None

    def raise_weight(self, weight: int) -> None:
        """Give the candidate this weight. The caller has shown that every condition for a raise holds."""
        candidate, revision = self.candidate, self.candidate_revision
        held = self.evidence or checks.decode(self.status.evidence, revision)
        known = checks.begin_phase(held, self.now) if held else self._no_evidence(revision, self.now)
        self.evidence = known
        self.set_weights(candidate.slot, weight)
        self.note("Set")
        self.enter(Stage.SHIFTING, exposed=True, carries=candidate.replicas)
        self.watched = None
        self.put(evidence=checks.encode(known))

    def retreat(self) -> None:
        """Take the traffic back without blame: the candidate is kept and resumes when its pods are back."""
        candidate = self.candidate
        self.set_weights(candidate.slot, 0)
        self.note("Retreated")
        again = candidate.retreats + 1
        self.enter(Stage.STARTING, ready_since=None, carries=0, retreats=again, exposure=None, skipped=None)
        self.watched = None

    def retreat_unreached(self, missed: exposure.Missed) -> None:
        """Take back a weight that brings the candidate no requests; it is tried again after a pause that doubles."""
        candidate, weight = self.candidate, self.weight(self.candidate.slot)
        count = candidate.retreat.count + 1 if candidate.retreat else 1
        pause = exposure.pause(count)
        seen = f"v{candidate.version} finished {missed.seen} of about {missed.expected} requests expected at {weight}%"
        cause = "the gateway does not send them or the server does not count them"
        again = f"it is tried again after {format_duration(pause)}"
        words = f"{seen} within {format_duration(exposure.WINDOW)}: {cause}; {again}"
        self.retreat()
        self.put_candidate(
            retreat=RetreatStatus(reason=Reason.TRAFFIC_MISSING, message=words, until=self.now + pause, count=count)
        )

    def give_back(self, outcome: Outcome, harm: Harm) -> None:
        """Send all traffic back to stable, first of all; what becomes of the candidate follows when it has drained.

        Where nothing else serves, traffic is left alone: an exposed candidate goes on serving as stable.
        """
        candidate = self.candidate
        message = harm.message
        if self.status.stable is None and candidate.exposed:
            if outcome is Outcome.ROLLED_BACK:
                self.quarantine(candidate.key, candidate.version, "Blocked", harm.reason, message)
            self._serve(outcome="Blocked" if outcome is Outcome.ROLLED_BACK else outcome.value, harm=harm)
            return
        if self.status.stable is not None:
            self.set_weights(candidate.slot, 0)
        match outcome:
            case Outcome.ROLLED_BACK:
                kind = "RolledBack" if self.status.stable else "Blocked"
                self.quarantine(candidate.key, candidate.version, kind, harm.reason, message)
                if candidate.exposed:
                    rollback = RollbackStatus(
                        version=candidate.version,
                        revision=candidate.revision,
                        reason=harm.reason,
                        message=message,
                        decided_at=self.now,
                    )
                    self.put(last_rollback=rollback)
            case Outcome.SUPERSEDED | Outcome.DROPPED:
                pass
            case _ as unreachable:
                assert_never(unreachable)
        self.note("Returning", harm.reason)
        back = ReturnStatus(outcome=outcome, reason=harm.reason, message=message, since=self.now)
        self.enter(Stage.RETURNING, returning=back)

    def end(self) -> None:
        """Drop a candidate that has returned its traffic and drained."""
        candidate = self.candidate
        assert candidate.returning is not None, "only a returning candidate ends"
        back = candidate.returning
        self._remember(candidate, back.outcome.value, back.reason, back.message)
        self.put(candidate=None, step=None, evidence=None, paused=False)
        self.evidence = self.judgement = None

    def promote(self) -> None:
        """Make the candidate stable, and move the alias to it."""
        alias = self._alias(self.candidate, self.status.stable)
        self._serve(outcome="Promoted", harm=Harm(Reason.PROMOTED, ""))
        self.put(alias=alias)

    def _serve(self, *, outcome: str, harm: Harm) -> None:
        """Swap the roles: the candidate is stable, the former stable is previous and drains. Nothing restarts."""
        candidate, former = self.candidate, self.status.stable
        if self.weight(candidate.slot) != 100:
            self.set_weights(candidate.slot, 100)
            self.note("Set")
        else:
            self.set_weights(candidate.slot, 100)
        previous = None
        if former is not None:
            previous = PreviousStatus(**_common(former), replaced_at=self.now)
        self._remember(candidate, outcome, harm.reason, harm.message)
        size = plan.replicas(self.spec) if self.spec is not None else candidate.replicas
        self.put(
            stable=StableStatus(
                **{**_common(candidate), "replicas": size}, promoted_at=self.now, artifact=candidate.artifact
            ),
            previous=previous,
            candidate=None,
            step=None,
            evidence=None,
            paused=False,
        )
        self.evidence = self.judgement = None

    def quarantine(self, key: str, version: str, outcome: str, reason: Reason, message: str) -> None:
        """Remember that this revision under these rules is not to be tried again."""
        kept = tuple(entry for entry in self.status.quarantine if entry.key != key)
        entry = QuarantineEntry.model_validate(
            {
                "key": key,
                "version": version,
                "outcome": outcome,
                "reason": reason,
                "message": message,
                "since": self.now,
            }
        )
        self.put(quarantine=(entry, *kept)[:QUARANTINE])

    def _alias(self, candidate: CandidateStatus, former: StableStatus | None) -> AliasStatus | None:
        """The alias to move on promotion; a return to a former revision gives it back only if it is still ours."""
        alias = self.spec.registry.set_alias if self.spec and self.spec.registry else None
        if alias is None:
            return None
        if candidate.fast and former is not None:
            return AliasStatus(alias=alias, version=candidate.version, former=former.version, state="Restoring")
        held = self.obs.registry.aliases.get(alias)
        holder = held.version if isinstance(held, AliasTarget) else None
        return AliasStatus(alias=alias, version=candidate.version, former=holder, state="Pending")

    def _remember(self, candidate: CandidateStatus, outcome: str, reason: str, message: str) -> None:
        entry = HistoryEntry(
            version=candidate.version,
            revision=candidate.revision,
            outcome=outcome,
            reason=reason,
            message=message,
            started_at=candidate.started_at,
            ended_at=self.now,
        )
        self.put(history=(entry, *self.status.history)[:HISTORY])
        self.conclude(outcome, reason, message)

    def conclude(self, outcome: str, reason: str, message: str) -> None:
        """Order the ReleaseRecord of this rollout, once; the status keeps what it will say until it has been seen."""
        candidate, stable = self.candidate, self.status.stable
        if candidate.recorded:
            return
        if outcome == Outcome.ROLLED_BACK.value and stable is None:
            outcome = "Blocked"  # there is nothing to go back to
        seen = record.Seen(
            gates=self.status.gates,
            checks=self.judgement.checks if self.judgement else self.status.checks,
            evidence=checks.encode(self.evidence) if self.evidence else self.status.evidence,
            commands=self.status.commands,
            approvals=candidate.approvals,
            champion=stable.version if stable else None,
            lineage=candidate.lineage,
        )
        revision = self.revision(candidate.key)
        release = self.obs.release
        item = record.ending(release, candidate, revision, outcome, reason, message, seen, self.now)
        waiting = (*self.status.endings, item)
        dropped = self.status.records_dropped + max(0, len(waiting) - ENDINGS)
        self.put(endings=waiting[-ENDINGS:], records_dropped=dropped)
        self.put_candidate(recorded=True)

    def note(self, event: str, reason: str = "") -> None:
        """Put into the timeline what has become of the candidate's weight."""
        candidate = self.candidate
        revision = self.revision(candidate.key)
        entry = TimelineEntry.model_validate(
            {
                "at": self.now,
                "event": event,
                "phase": plan.phase_of(revision, candidate.step).name if revision else "",
                "weight": self.weight(candidate.slot),
                "reason": str(reason),
            }
        )
        self.put_candidate(timeline=record.noted(candidate.timeline, entry))

    # -- what the cluster shows -------------------------------------------------------------------------------------
    def pod_harm(self) -> Harm | None:
        """Pods crash of themselves: at once harm where they carry traffic, else when it happens again and again.

        Crashes that were got over are none, nor are pods that are lost or cannot be placed (`pods_lost`).
        """
        candidate = self.candidate
        pods = self.workload(candidate.revision)
        if pods.fault not in CRASHES or pods.crashes == 0:
            return None
        if pods.ready < candidate.carries or (pods.crashes >= CRASHES_ALLOWED and pods.ready < candidate.replicas):
            words = f"pods of v{candidate.version} crash: {pods.fault_message or f'{pods.crashes} crashes'}"
            return Harm(Reason(pods.fault.value), words)
        return None

    def pods_lost(self) -> bool:
        """Fewer than half of the pods that the weight needs are ready, and nothing says that the model did it."""
        candidate = self.candidate
        return 2 * self.workload(candidate.revision).ready < candidate.carries


def _common(item: CandidateStatus | StableStatus) -> dict[str, Any]:
    return {
        name: getattr(item, name)
        for name in ("revision", "rules", "version", "model", "slot", "replicas", "ready", "started_at")
    }


def with_uri(target: Revision, uri: str) -> Revision:
    """The revision with its model's source, as it is stored."""
    return replace(target, uri=uri)


def slots_of(status: ModelReleaseStatus) -> Mapping[Slot, str]:
    """Which revision each Service selects: the roles in status, the slot of a revision that drains included."""
    candidate = status.candidate if status.candidate and status.candidate.stage is not Stage.GATING else None
    roles = (status.previous, status.stable, candidate)
    return {item.slot: item.revision for item in roles if item is not None}
