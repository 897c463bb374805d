"""One rollout played to its end: the real `decide` in a world that answers it at once, with counts drawn at random.

    play(subject, Truth(...), ...) -> Run

The world is benign where nothing is said (pods start, the gateway obeys) and statistical where it matters: the counts
of every pod at every poll. Time jumps from event to event. Where a poll is all that happened, only the evidence is
advanced, by the function that `decide` itself uses; it is judged where a verdict may have changed, and `decide` is
asked where one has; `every_poll=True` asks it every time, and tests show that both end at the same poll the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from modelrelease.api.reasons import Reason
from modelrelease.api.status import ModelReleaseStatus, Outcome, StableStatus, Stage, TrafficStatus
from modelrelease.core import checks
from modelrelease.core.checks.feed import regression
from modelrelease.core.checks.memory import Shares
from modelrelease.core.decide import Decision, decide
from modelrelease.core.draft import slots_of
from modelrelease.core.evidence import evidence_percent
from modelrelease.core.observation import (
    ModelVersion,
    Observation,
    PodFacts,
    Poll,
    RegistryView,
    RouteView,
    Samples,
    SlotView,
    TemplateVerdict,
    Unavailable,
    Workload,
)

from . import shortcut
from .scenario import Truth
from .subject import Subject
from .users import Users, canary_pod

START = datetime(2026, 1, 1, tzinfo=UTC)
_COMPARED = (Stage.STARTING, Stage.SHIFTING, Stage.BAKING)
_SETTLE = 8  # passes at one instant; more would be a decision that never rests
_OLD = PodFacts("", "", START - timedelta(days=7), START - timedelta(days=7))
_AWAY = Unavailable(Reason.PROMETHEUS_UNREACHABLE, "Prometheus does not answer", START)
_NOT_YET = Unavailable(Reason.NO_DATA, "no samples of the candidate yet", START)


@dataclass(frozen=True, slots=True)
class Run:
    """How one rollout went; times in seconds since it began.

    outcome: Promoted, RolledBack, or Held where nothing had ended it at the horizon. check: the one that took the
    traffic back, empty where another reason did. harmed_s: when users first met a canary with the rates of `canary`,
    None where they never did. decided_s: when promotion or rollback was decided. ended_s: when the route had followed.
    lost: by check, requests expected to be bad because of the canary, until the traffic was back. why: what held it,
    or why it went back.
    """

    outcome: str
    reason: str
    check: str
    why: str
    harmed_s: float | None
    decided_s: float
    ended_s: float
    lost: Mapping[str, float]
    canary_requests: float
    polls: int
    passes: int
    trace: Trace | None = None


@dataclass(slots=True)
class Trace:
    """More of one run: weight and phase by time, evidence percent by check and time, the last status with evidence."""

    weights: list[tuple[float, int]] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)
    evidence: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    status: ModelReleaseStatus | None = None


def play(subject: Subject, truth: Truth, *, every_poll: bool = False, trace: bool = False) -> Run:
    """Play one rollout until its traffic has gone where it ends, or to the truth's horizon."""
    world = _World(subject, truth, every_poll, Trace() if trace else None)
    world.begin()
    while not world.over:
        world.step()
    return world.run()


class _World:
    """Everything but the decisions."""

    def __init__(self, subject: Subject, truth: Truth, every_poll: bool, trace: Trace | None) -> None:
        self._subject, self._truth, self._every_poll, self._trace = subject, truth, every_poll, trace
        self._scenario, self._horizon = truth.scenario, truth.horizon_s
        self._poll_s = self._lag_s = truth.scenario.poll_s
        self._now = 0.0
        self._wake: float | None = 0.0
        self._next_poll = 1
        self._pods: list[float] = []  # when each pod of the candidate is ready
        self._users = Users(subject, truth)
        self._programming: tuple[float, int, int] | None = None
        self._edges = sorted(
            edge + self._lag_s
            for item in truth.scenario.outages
            for edge in (item.start_s, item.start_s + item.length_s + self._poll_s)
        )
        self._problem: Unavailable | None = _NOT_YET
        self._polls: list[Poll] = []
        self._held: checks.Evidence | None = None
        self._signs: object = None  # of the evidence: while they stay, so does every verdict
        self._read: object = None  # what the last judgement said, as far as decisions depend on it
        self._ended: tuple[str, float] | None = None
        self._decided: float | None = None
        self._check = ""
        self._passes = self._counted = 0
        runs, stable = subject.candidate, subject.stable
        self._fleet = checks.NOBODY
        self._warm_up = {item.revision: item.preset.warm_up for item in (runs, stable)}
        self._status = ModelReleaseStatus(
            sequence=1,
            stable=StableStatus(
                revision=stable.revision,
                rules=stable.rules,
                version=stable.version,
                slot="a",
                replicas=subject.replicas,
                ready=subject.replicas,
                promoted_at=START - timedelta(days=7),
            ),
            traffic=TrafficStatus(a=100, b=0, set_at=START, confirmed_at=START),
        )
        answer = ModelVersion(runs.model, runs.version, runs.uri, "READY", START)
        former = ModelVersion(runs.model, stable.version, stable.uri, "READY", START)
        self._obs = Observation(
            release=subject.name,
            namespace=subject.namespace,
            generation=1,
            policy=subject.policy,
            revisions={stable.key: stable, runs.key: runs},
            promoted=(stable.key,),
            registry=RegistryView({runs.version: answer, stable.version: former}, model=runs.model),
            route=RouteView({"a": 100, "b": 0}, True),
            template=TemplateVerdict(runs.revision, None),
        )

    # -- time --------------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """The rollout starts."""
        self._decide()

    @property
    def over(self) -> bool:
        """Whether the rollout has ended, or the horizon has come."""
        return self._ended is not None or self._now >= self._horizon

    def step(self) -> None:
        """Go to the next event and answer it."""
        arrives = self._next_poll * self._poll_s + self._lag_s
        others = [self._horizon, *(at for at in self._pods if at > self._now)]
        others += self._edges[:1]
        if self._wake is not None:
            others.append(max(self._wake, self._now))
        if self._programming is not None:
            others.append(self._programming[0])
        event = min(others)
        self._now = min(arrives, event)
        if self._now >= self._horizon:
            self._decide()  # to say what it waits for
            return
        if arrives <= self._now:
            self._poll(alone=event > arrives)
            if event > arrives:
                return
        if self._edges and self._edges[0] <= self._now:
            self._edges.pop(0)
            self._problem = self._trouble()
        if self._programming is not None and self._programming[0] <= self._now:
            self._program()
        self._decide()

    def _poll(self, *, alone: bool) -> None:
        """A poll arrives. alone: nothing else happens at this moment, so that only evidence may have moved."""
        poll = self._count(self._next_poll * self._poll_s)
        self._next_poll += 1
        problem = self._problem
        self._problem = self._trouble(poll)
        if poll is not None and self._comparing:
            self._polls.append(poll)
        if self._every_poll:
            if alone:
                self._decide()
            return
        moved = self._problem is not problem
        if poll is not None and self._comparing:
            moved = self._weigh(poll) or moved
        if moved and alone:
            self._decide()

    def _weigh(self, poll: Poll) -> bool:
        """Feed the poll into the evidence; whether a decision could now be another one."""
        if self._held is None:
            return True
        revision, stable = self._subject.candidate, self._subject.stable.revision
        advanced = checks.advance(self._held, revision, (poll,), stable, self._fleet)
        self._note(advanced)
        signs = shortcut.signs(advanced, revision)
        if signs != self._signs:
            self._signs = signs
            samples = Samples((poll,), self._problem)
            read = shortcut.read(checks.judge(advanced, revision, samples, has_stable=True, fleet=self._fleet))
            if read != self._read:
                self._read = read
                return True  # decide feeds the poll in by itself
        self._held = advanced
        self._polls.clear()
        return False

    # -- the decision ------------------------------------------------------------------------------------------------
    def _decide(self) -> None:
        for _ in range(_SETTLE):
            self._checkpoint()
            before = self._status
            decision = self._pass()
            self._apply(before, decision)
            wake = decision.wake_at
            self._wake = None if wake is None else (wake - START).total_seconds()
            settled = decision.status is before or decision.status.model_copy(update={"sequence": 0}) == before
            if settled or self._ended is not None:
                return

    def _checkpoint(self) -> None:
        """Status may hold the evidence of any earlier poll; the newer it is, the less has to be fed in again."""
        if self._held is not None and self._comparing and not self._every_poll:
            self._status = self._status.model_copy(update={"evidence": checks.encode(self._held)})

    def _pass(self) -> Decision:
        self._passes += 1
        workloads = self._workloads()
        self._fleet = checks.Fleet({name: pods.pods for name, pods in workloads.items()}, self._warm_up)
        obs = replace(
            self._obs,
            workloads=workloads,
            slots=self._slots(),
            samples=Samples(tuple(self._polls), self._problem),
        )
        return decide(self._subject.spec, self._status, obs, START + timedelta(seconds=self._now))

    def _apply(self, before: ModelReleaseStatus, decision: Decision) -> None:
        status = self._status = decision.status
        candidate, traffic = status.candidate, status.traffic
        if candidate is not None:
            start = self._now + self._scenario.pod_start_s
            self._pods.extend(start for _ in range(candidate.replicas - len(self._pods)))
            if self._trace is not None:
                self._trace_phase()
        if traffic is not None and (before.traffic is None or (traffic.a, traffic.b) != _weights(before)):
            self._obs = replace(self._obs, route=RouteView({"a": traffic.a, "b": traffic.b}, False))
            self._programming = (self._now + self._scenario.gateway_s, traffic.a, traffic.b)
        evidence = checks.decode(status.evidence, self._subject.candidate) if self._comparing else None
        if evidence is not None:
            fresh = [poll for poll in self._polls if poll.at > evidence.at]
            if self._every_poll:
                self._polls = fresh
            else:
                stable = self._subject.stable.revision
                self._held = checks.advance(evidence, self._subject.candidate, fresh, stable, self._fleet)
                self._polls.clear()
        else:
            self._held = None
            self._polls.clear()
        if evidence is not None:
            self._note(evidence)
        self._end(before)

    def _end(self, before: ModelReleaseStatus) -> None:
        if self._trace is not None and self._decided is None and before.evidence is not None:
            self._trace.status = self._status if self._status.evidence is not None else before
        status, candidate = self._status, self._status.candidate
        back = candidate.returning if candidate is not None else None
        if back is not None and self._decided is None:
            self._decided = self._now
            failed = next((item.name for item in before.checks if item.verdict == "Fail"), "")
            failed = next((item.name for item in status.checks if item.verdict == "Fail"), failed)
            self._check = failed if back.reason == Reason.CHECK_FAILED else ""
        if back is not None and back.confirmed_at is not None:
            outcome = back.outcome.value if back.outcome is Outcome.ROLLED_BACK else "Held"
            self._ended = (outcome, self._now)
        elif candidate is None and before.candidate is not None:
            self._decided = self._decided if self._decided is not None else self._now
            self._ended = (status.history[0].outcome if status.history else "Held", self._now)

    # -- the cluster -------------------------------------------------------------------------------------------------
    @property
    def _comparing(self) -> bool:
        candidate, traffic = self._status.candidate, self._status.traffic
        exposed = candidate is not None and traffic is not None and traffic.b > 0
        return exposed and candidate is not None and candidate.stage in _COMPARED

    def _program(self) -> None:
        assert self._programming is not None, "the gateway has something to take"
        _, a, b = self._programming
        self._programming = None
        self._obs = replace(self._obs, route=RouteView({"a": a, "b": b}, True))
        self._users.send(self._now, b / 100)
        if self._trace is not None:
            self._trace.weights.append((self._now, b))

    def _workloads(self) -> dict[str, Workload]:
        stable, canary = self._subject.stable.revision, self._subject.candidate.revision
        old = dict.fromkeys(self._users.stable_pods, _OLD)
        out = {stable: Workload(stable, len(old), len(old), pods=old)}
        if self._pods:
            facts = {}
            for number, at in enumerate(self._pods):
                since = START + timedelta(seconds=at)
                born = since - timedelta(seconds=self._scenario.pod_start_s)
                facts[canary_pod(number)] = PodFacts("", "", since if at <= self._now else None, born)
            out[canary] = Workload(canary, len(self._pods), self._ready(self._now), pods=facts)
        return out

    def _slots(self) -> dict[str, SlotView]:
        ready = {self._subject.stable.revision: self._subject.replicas}
        ready[self._subject.candidate.revision] = self._ready(self._now)
        return {slot: SlotView(item, ready[item]) for slot, item in slots_of(self._status).items()}

    def _ready(self, at: float) -> int:
        return sum(ready_at <= at for ready_at in self._pods)

    # -- Prometheus --------------------------------------------------------------------------------------------------
    def _trouble(self, poll: Poll | None = None) -> Unavailable | None:
        """What keeps samples away now. A poll that begins or ends in an outage is lost."""
        if self._away(self._now - self._lag_s):
            return _AWAY
        if poll is None:
            return self._problem if self._problem is not _AWAY else _NOT_YET
        return None if poll.arms.get(self._subject.candidate.revision) else _NOT_YET

    def _away(self, end: float) -> bool:
        begin = end - self._poll_s
        return any(item.start_s < end and begin < item.start_s + item.length_s for item in self._scenario.outages)

    def _count(self, end: float) -> Poll | None:
        """Let the users of one interval come; returns what Prometheus saw of it, None where it was away."""
        lost = self._away(end) or self._status.candidate is None
        seen = self._users.come(end - self._poll_s, end, canary_pods=self._ready(end), counted=not lost)
        if seen is None:
            return None
        self._counted += 1
        runs, stable = self._subject.candidate.revision, self._subject.stable.revision
        arms = {stable: seen.stable, runs: seen.canary} if seen.canary else {stable: seen.stable}
        return Poll(START + timedelta(seconds=end), arms)

    # -- what is told ------------------------------------------------------------------------------------------------
    def _note(self, evidence: checks.Evidence) -> None:
        if self._trace is not None:
            for name, memory in evidence.checks.items():
                percent = int(evidence_percent(regression(memory), checks.ALPHA)) if isinstance(memory, Shares) else 0
                self._trace.evidence.setdefault(name, []).append(((evidence.at - START).total_seconds(), percent))

    def _trace_phase(self) -> None:
        assert self._trace is not None, "only traced runs have phases"
        candidate, step = self._status.candidate, self._status.step
        if candidate is None or step is None:
            return
        stage = candidate.stage
        name = "bake" if stage is Stage.BAKING else "return" if stage is Stage.RETURNING else step.name
        if not self._trace.phases or self._trace.phases[-1][1] != name:
            self._trace.phases.append((self._now, name))

    def run(self) -> Run:
        """What became of it."""
        outcome, ended = self._ended or ("Held", min(self._now, self._horizon))
        self._users.come(
            (self._next_poll - 1) * self._poll_s, ended, canary_pods=0, counted=False
        )  # since the last poll
        status = self._status
        back = status.candidate.returning if status.candidate else None
        return Run(
            outcome=outcome,
            reason=back.reason if back else next((i.reason for i in status.conditions if i.type == "Progressing"), ""),
            check=self._check,
            why=back.message if back else status.message,
            harmed_s=self._users.harmed_s,
            decided_s=self._decided if self._decided is not None else ended,
            ended_s=ended,
            lost=dict(self._users.lost),
            canary_requests=self._users.canary_requests,
            polls=self._counted,
            passes=self._passes,
            trace=self._trace,
        )


def _weights(status: ModelReleaseStatus) -> tuple[int, int]:
    assert status.traffic is not None, "asked only where there is one"
    return status.traffic.a, status.traffic.b
