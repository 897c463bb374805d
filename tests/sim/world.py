"""A small world in memory: a cluster, a gateway, a registry, Prometheus and people, all of them unreliable.

Truth lives here, what the operator believes does not: pods become ready late or crash, the gateway takes weights when
it likes, counts follow the weights that the gateway really has. Time only passes in `tick`. Every write that reaches
the world is kept in `changes` and `writes`, for the rules to judge (`tests.sim.rules`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from modelrelease.api.base import REVISION_LABEL
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.reasons import Reason
from modelrelease.api.record import ReleaseRecordSpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.core.decide import target_of
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import (
    AliasTarget,
    Command,
    Lookup,
    MetricValue,
    Missing,
    ModelVersion,
    Observation,
    PodFault,
    PodPoll,
    Poll,
    RegistryView,
    RouteView,
    Samples,
    SlotView,
    TagWritten,
    TemplateVerdict,
    Unavailable,
    Workload,
)
from modelrelease.core.render import Child
from modelrelease.core.revision import Revision
from modelrelease.core.slots import service_name
from modelrelease.core.wants import Wants

RELEASE, NAMESPACE, MODEL = "churn", "crm", "churn"
START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=5)
REQUESTS_PER_TICK = 2000
POLLS_KEPT = 400
HEALTHY, INCIDENT, HARMFUL = 0.002, 0.15, 0.5
ACCURACY = {"1": 0.90, "2": 0.91, "3": 0.80, "4": 0.92}  # version 3 fails every gate below
GATES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "none": (),
    "floor": ({"name": "floor", "metric": {"name": "accuracy", "min": 0.85}},),
    "revocable": ({"name": "floor", "metric": {"name": "accuracy", "min": 0.85}, "onRevoked": "Rollback"},),
    "champion": (
        {"name": "floor", "metric": {"name": "accuracy", "min": 0.5}},
        {"name": "drop", "metric": {"name": "accuracy", "champion": {"maxDrop": 0.02}}},
    ),
}
CHECKS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "relative": ({"name": "errors", "errorRate": {"margin": {"relative": 1.25, "absolute": 0.01}}},),
    "absolute": (
        {"name": "errors", "errorRate": {"margin": {"relative": 1.25, "absolute": 0.01}}},
        {"name": "tripwire", "errorRate": {"max": 0.3, "minPolls": 1}},
    ),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the people write: the spec in the few dimensions that are varied."""

    version: str | None = "1"
    alias: str | None = None
    replicas: int = 2
    gates: str = "floor"
    checks: str = "relative"
    weights: tuple[int, ...] = (20, 60, 100)
    holdback: int = 0
    suspend: bool = False
    policy: bool = False
    on_inconclusive: str = "Hold"
    set_alias: bool = False
    broken: bool = False


@cache
def _arm(counts: Counts, in_flight: float = 0, progress: float = 0) -> dict[str, PodPoll]:
    return {"pods": PodPoll({"*": (counts,)}, in_flight=in_flight, progress=progress)}


def spec_of(wish: Wish) -> ModelReleaseSpec:
    """The wish as a spec."""
    model = {"name": MODEL, "alias": wish.alias} if wish.alias else {"name": MODEL, "version": int(wish.version or 0)}
    phases = [{"name": f"p{weight}", "weight": weight, "duration": "20s", "timeout": "5m"} for weight in wish.weights]
    return ModelReleaseSpec.model_validate(
        {
            "model": model,
            "policyRef": {"name": "house"} if wish.policy else None,
            "traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["churn.example"]}},
            "workload": {
                "replicas": wish.replicas,
                "drainTimeout": "30s",
                "template": {"spec": {"containers": [{"name": "server", "image": "registry.example/server:1"}]}},
            },
            "gates": list(GATES[wish.gates]),
            "checks": list(CHECKS[wish.checks]),
            "rollout": {
                "phases": phases,
                "bake": {"duration": "30s", "holdback": wish.holdback},
                "progressDeadline": "2m",
                "onInconclusive": wish.on_inconclusive,
            },
            "registry": {"setAlias": "champion"} if wish.set_alias else None,
            "suspend": wish.suspend,
        }
    )


@dataclass(slots=True)
class Pod:
    """One pod: placed on a node or not, ready from `ready_at` on."""

    placed: bool = False
    ready_at: datetime | None = None
    crashes: int = 0
    ready: bool = False


@dataclass(slots=True)
class Stored:
    """A live child with what the API server keeps of it."""

    body: Mapping[str, Any]
    sequence: int
    resource_version: int
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One status that was recorded, with all that the decision saw."""

    spec: ModelReleaseSpec | None
    before: ModelReleaseStatus
    after: ModelReleaseStatus
    obs: Observation
    now: datetime
    route: Stored | None


@dataclass(frozen=True, slots=True)
class Write:
    """One child that the operator wrote, under `status`; new None is a deletion.

    carried: when its revision last had users' traffic, for a Deployment. latest: the status as recorded by then.
    """

    kind: str
    name: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    status: ModelReleaseStatus
    latest: ModelReleaseStatus
    carried: datetime | None
    now: datetime


@dataclass(slots=True)
class Faults:
    """What is broken at the moment."""

    prometheus: bool = False
    no_samples: bool = False
    registry: bool = False
    gateway_refuses: bool = False
    gateway_slow: bool = False
    no_capacity: bool = False
    incident: bool = False
    stale_reads: bool = False
    no_records: bool = False
    unreached: bool = False  # the gateway sends the candidate nothing, whatever its weight


@dataclass(slots=True)
class World:
    """Everything but the operator."""

    now: datetime = START
    wish: Wish = Wish()
    generation: int = 1
    status: ModelReleaseStatus = field(default_factory=ModelReleaseStatus)
    status_version: int = 1
    command: str | None = None
    policy: ReleasePolicySpec = field(default_factory=ReleasePolicySpec)
    faults: Faults = field(default_factory=Faults)
    # the cluster
    revisions: dict[str, Revision] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    children: dict[tuple[str, str], Stored] = field(default_factory=dict)
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    pod_modes: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    programmed: tuple[int, dict[str, int]] = (0, {})  # generation and weights that the gateway really has
    version_counter: int = 1
    # the registry and Prometheus
    accuracy: dict[str, float] = field(default_factory=lambda: dict(ACCURACY))
    missing: set[str] = field(default_factory=set)
    alias: str = "1"
    aliases_written: dict[str, str] = field(default_factory=dict)
    records: dict[str, ReleaseRecordSpec] = field(default_factory=dict)
    harmful: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    polls: list[Poll] = field(default_factory=list)
    # what the operator's process holds in memory
    wants: Wants = field(default_factory=Wants)
    view: RegistryView = field(default_factory=RegistryView)
    seen: set[str] = field(default_factory=set)  # records that this process knows to exist
    # ghosts: what the rules remember
    carried: dict[str, datetime] = field(default_factory=dict)  # when a weight of the operator's last gave it users
    by_hand: set[int] = field(default_factory=set)  # generations of the route; users of those nobody can count on
    harm_seen: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)  # names of the records that ended rollouts should have
    hang_seen: set[str] = field(default_factory=set)
    decisions: list[Change] = field(default_factory=list)  # of every pass, whether it was recorded or not
    changes: list[Change] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    # -- people ------------------------------------------------------------------------------------------------------
    def edit(self, **fields: Any) -> None:
        """Change the spec."""
        wish = replace(self.wish, **fields)
        if wish != self.wish:
            self.wish = wish
            self.generation += 1

    def set_policy(self, gates: str) -> None:
        """Change the policy, which a wish may or may not name."""
        self.policy = ReleasePolicySpec.model_validate({"gates": list(GATES[gates])})

    def edit_route(self, weights: Mapping[str, int]) -> None:
        """Change the live weights by hand."""
        route = self.children.get(("HTTPRoute", RELEASE))
        if route is not None:
            body = copy.deepcopy(dict(route.body))
            for backend in body["spec"]["rules"][0]["backendRefs"]:
                backend["weight"] = weights[backend["name"][-1]]
            self.write_child(Child("HTTPRoute", RELEASE, body), route.sequence, self.status, by_operator=False)
            self.by_hand.add(self.children["HTTPRoute", RELEASE].generation)

    @property
    def spec(self) -> ModelReleaseSpec | None:
        """The spec as the operator can read it."""
        return None if self.wish.broken else spec_of(self.wish)

    # -- time --------------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Let five seconds pass: pods, gateway, then users' requests and their counts."""
        self.now += TICK
        for (kind, name), item in list(self.children.items()):
            if kind == "Deployment":
                self._run_pods(name.removeprefix(f"{RELEASE}-"), item.body["spec"]["replicas"])
        for revision in [key for key in self.pods if ("Deployment", f"{RELEASE}-{key}") not in self.children]:
            del self.pods[revision]
        if not self.faults.gateway_slow:
            self.program()
        self._count()

    def _run_pods(self, revision: str, replicas: int) -> None:
        pods = self.pods.setdefault(revision, [])
        pods.sort(key=lambda pod: not pod.ready)
        del pods[replicas:]
        pods.extend(Pod() for _ in range(replicas - len(pods)))
        mode = self.mode(revision)
        for number, pod in enumerate(pods):
            if not pod.placed and not self.faults.no_capacity:
                pod.placed, pod.ready_at = True, self.now + (1 + number % 2) * TICK
            if mode in ("crash", "oom") and pod.placed:
                pod.crashes = min(pod.crashes + 1, 9)
                pod.ready_at = self.now + TICK
            pod.ready = mode == "fine" and pod.ready_at is not None and pod.ready_at <= self.now
        if all(pod.ready for pod in pods):
            self.lost.discard(revision)

    def mode(self, revision: str) -> str:
        """How pods of a revision behave."""
        return self.pod_modes.get(self.version_of(revision), "fine")

    def version_of(self, revision: str) -> str:
        """The model version that a revision runs."""
        return next((item.version for item in self.revisions.values() if item.revision == revision), "?")

    def lose_pods(self, revision: str, count: int) -> None:
        """Evict ready pods; their replacements have to be placed anew."""
        pods = self.pods.get(revision, [])
        for pod in [pod for pod in pods if pod.ready][:count]:
            pods.remove(pod)
            pods.append(Pod())
            self.lost.add(revision)

    def program(self) -> None:
        """The gateway takes over the route as it stands, unless it refuses it."""
        route = self.children.get(("HTTPRoute", RELEASE))
        if route is None:
            self.programmed = (0, {})
        elif not self.faults.gateway_refuses:
            self.programmed = (route.generation, weights_of(route.body))

    def traffic(self) -> dict[str, int]:
        """Percent of users' requests that each revision really gets."""
        out: dict[str, int] = {}
        for slot, weight in self.programmed[1].items():
            service = self.children.get(("Service", service_name(RELEASE, "a" if slot == "a" else "b")))
            if service is not None and weight > 0:
                revision = service.body["spec"]["selector"][REVISION_LABEL]
                out[revision] = out.get(revision, 0) + weight
        return out

    def _count(self) -> None:
        shares = self.traffic()
        idle = {revision for revision, pods in self.pods.items() if any(pod.ready for pod in pods)}
        arms = {revision: _arm(Counts(0.0, 0.0)) for revision in idle}
        for revision, share in shares.items():
            if self.programmed[0] not in self.by_hand:
                self.carried[revision] = self.now
            rate = INCIDENT if self.faults.incident else HEALTHY
            if self.version_of(revision) in self.harmful:
                rate = HARMFUL
            total = float(REQUESTS_PER_TICK * share // 100)
            candidate = self.status.candidate
            if self.faults.unreached and candidate is not None and candidate.revision == revision:
                arms[revision] = _arm(Counts(0.0, 0.0))
            elif self.version_of(revision) in self.hanging:
                arms[revision] = _arm(Counts(0.0, 0.0), in_flight=5)
                self.hang_seen.add(revision)
            else:
                arms[revision] = _arm(Counts(total, round(total * rate)), in_flight=1, progress=total)
        self.harm_seen |= {item for item in shares if self.version_of(item) in self.harmful}
        if not self.faults.no_samples:
            self.polls.append(Poll(self.now, arms))
            del self.polls[:-POLLS_KEPT]

    def harmful_for(self, revision: str, stable: str) -> timedelta:
        """How long without a break the counts have shown a revision at its worst and the other one well."""
        since = self.now
        for poll in reversed(self.polls):
            canary, other = poll.counts(revision, "*"), poll.counts(stable, "*")
            if not canary or not other or poll.at != since:
                break
            (seen,), (beside,) = canary, other
            if (
                seen.total < 50
                or seen.bad < HARMFUL * seen.total
                or beside.total < 50
                or beside.bad > beside.total / 50
            ):
                break
            since -= TICK
        return self.now - since

    def hung_for(self, revision: str) -> timedelta:
        """How long without a break a revision has had requests in flight and worked nothing off, and nobody else so."""
        return self._for(
            lambda poll: (
                all(_hangs(pods) == (digest == revision) for digest, pods in poll.arms.items())
                and revision in poll.arms
            )
        )

    def unreached_for(self, revision: str, stable: str) -> timedelta:
        """How long without a break a revision has finished nothing, while the other one had many requests."""

        def one(poll: Poll) -> bool:
            own, other = poll.counts(revision, "*"), poll.counts(stable, "*")
            return bool(own) and bool(other) and own[0].total == 0 and other[0].total >= REQUESTS_PER_TICK / 10

        return self._for(one)

    def _for(self, so: Callable[[Poll], bool]) -> timedelta:
        since = self.now
        for poll in reversed(self.polls):
            if poll.at != since or not so(poll):
                break
            since -= TICK
        return self.now - since

    # -- what can be seen --------------------------------------------------------------------------------------------
    def observe(self, *, fresh: bool = True) -> Observation:
        """All that one pass sees. The cluster is read anew; registry and samples are what the refreshers hold."""
        if fresh and not self.faults.stale_reads:
            self.refresh()
        spec = self.spec
        route = self.children.get(("HTTPRoute", RELEASE))
        obs = Observation(
            release=RELEASE,
            namespace=NAMESPACE,
            generation=self.generation,
            policy=self.policy if self.wish.policy else None,
            revisions=dict(self.revisions),
            promoted=self._with_outcome("Promoted"),
            quarantined=self._with_outcome("Quarantined"),
            recorded=frozenset(self.seen),
            registry=self.view,
            workloads={revision: self.workload(revision) for revision in self._deployed()},
            route=RouteView(
                weights_of(route.body),
                self.programmed == (route.generation, weights_of(route.body)) and not self.faults.gateway_refuses,
                "the gateway refuses the route" if self.faults.gateway_refuses else "",
            )
            if route
            else None,
            slots=self._slots(),
            samples=self._samples(),
            command=Command(self.command) if self.command else None,
            spec_error="spec.model: broken" if spec is None else None,
            fence=max((item.sequence for item in self.children.values()), default=0),
        )
        target = target_of(spec, obs)
        if isinstance(target, Revision):
            obs = replace(obs, template=TemplateVerdict(target.revision, None))
        return obs

    def _deployed(self) -> list[str]:
        return [name.removeprefix(f"{RELEASE}-") for kind, name in self.children if kind == "Deployment"]

    def _with_outcome(self, outcome: str) -> tuple[str, ...]:
        return tuple(key for key in reversed(self.revisions) if self.outcomes.get(key) == outcome)

    def workload(self, revision: str) -> Workload:
        """The Deployment of a revision, as its pods look now."""
        item = self.children[("Deployment", f"{RELEASE}-{revision}")]
        pods, mode = self.pods.get(revision, []), self.mode(revision)
        ready = sum(pod.ready for pod in pods)
        fault = None
        if mode in ("crash", "oom") and any(pod.placed for pod in pods):
            fault = PodFault.CRASH_LOOP if mode == "crash" else PodFault.OOM_KILLED
        elif any(not pod.placed for pod in pods):
            fault = PodFault.UNSCHEDULABLE
        elif revision in self.lost:
            fault = PodFault.PODS_LOST
        loading = any(pod.placed and pod.ready_at is not None and pod.ready_at > self.now for pod in pods)
        return Workload(
            revision,
            item.body["spec"]["replicas"],
            ready,
            crashes=sum(pod.crashes for pod in pods),
            loading=loading and mode == "fine",
            fault=fault,
            fault_message=str(fault) if fault else "",
        )

    def _slots(self) -> dict[str, SlotView]:
        out = {}
        for slot in ("a", "b"):
            service = self.children.get(("Service", f"{RELEASE}-{slot}"))
            if service is not None:
                revision = service.body["spec"]["selector"][REVISION_LABEL]
                out[slot] = SlotView(revision, sum(pod.ready for pod in self.pods.get(revision, [])))
        return out

    def refresh(self) -> None:
        """The registry refresher stores the latest answer to what is wanted."""
        want = self.wants.registry
        if want is None:
            return
        if want.write is not None and not self.faults.registry:
            held = self.aliases_written.get(want.write.alias)
            if want.write.only_from in (None, held) and want.write.version is not None:
                self.aliases_written[want.write.alias] = want.write.version
        down = Unavailable(Reason.REGISTRY_UNREACHABLE, "the registry does not answer")
        versions: dict[str, Lookup] = {}
        for version in want.versions:
            versions[version] = down if self.faults.registry else self._lookup(version)
        aliases: dict[str, AliasTarget | Missing | Unavailable] = {}
        for alias in want.aliases:
            target = self.alias if alias == "next" else self.aliases_written.get(alias)
            gone = Missing(Reason.ALIAS_NOT_FOUND, f"alias {alias} does not exist")
            aliases[alias] = down if self.faults.registry else AliasTarget(target, self.now) if target else gone
        tags: dict[str, TagWritten | Missing | Unavailable] = {}
        for tag in want.tags:
            tags[tag.version] = down if self.faults.registry else TagWritten(tag.value)
        self.view = RegistryView(versions, aliases, tags=tags)

    def _lookup(self, version: str) -> Lookup:
        if version in self.missing or version not in self.accuracy:
            return Missing(Reason.VERSION_NOT_FOUND, f"version {version} does not exist")
        metrics = (MetricValue("accuracy", self.accuracy[version]),)
        return ModelVersion(MODEL, version, f"models:/m-{version}", "READY", self.now, "run", metrics)

    def _samples(self) -> Samples:
        want = self.wants.samples
        if self.faults.prometheus:
            return Samples((), Unavailable(Reason.PROMETHEUS_UNREACHABLE, "Prometheus does not answer"))
        if want is None:
            return Samples((), Unavailable(Reason.NO_DATA, "nothing has been read yet"))
        polls = []
        for poll in self.polls:
            if poll.at > want.since:
                arms = {
                    revision: {
                        "pod": replace(
                            poll.arms[revision]["pods"],
                            counts={measure.check: poll.counts(revision, "*") for measure in measures},
                        )
                    }
                    for revision, measures in want.arms.items()
                    if revision in poll.arms
                }
                polls.append(Poll(poll.at, arms))
        recent = [poll for poll in self.polls if poll.at > self.now - 4 * TICK]
        seen = set().union(*(poll.arms for poll in recent)) if recent else set()
        problem = None if set(want.arms) <= seen else Unavailable(Reason.NO_DATA, "no samples of one arm")
        return Samples(tuple(polls), problem)

    # -- the API server ----------------------------------------------------------------------------------------------
    def write_child(self, child: Child, sequence: int, status: ModelReleaseStatus, *, by_operator: bool = True) -> None:
        """Create or replace a child."""
        key = (child.kind, child.name)
        old = self.children.get(key)
        self.version_counter += 1
        same = old is not None and old.body["spec"] == child.body["spec"]
        generation = 1 if old is None else old.generation + (0 if same else 1)
        self.children[key] = Stored(child.body, sequence, self.version_counter, generation)
        if by_operator:
            self._remember(key, old.body if old else None, child.body, status)

    def delete_child(self, key: tuple[str, str], status: ModelReleaseStatus | None) -> None:
        """Delete a child; status None when a person does it."""
        old = self.children.pop(key, None)
        if old is not None and status is not None:
            self._remember(key, old.body, None, status)

    def _remember(
        self,
        key: tuple[str, str],
        old: Mapping[str, Any] | None,
        new: Mapping[str, Any] | None,
        status: ModelReleaseStatus,
    ) -> None:
        carried = self.carried.get(key[1].removeprefix(f"{RELEASE}-"))
        self.writes.append(Write(*key, old, new, status, self.status, carried, self.now))


def _hangs(pods: Mapping[str, PodPoll]) -> bool:
    return any((pod.in_flight or 0) > 0 and not pod.progress for pod in pods.values())


def weights_of(body: Mapping[str, Any]) -> dict[str, int]:
    """Weights of a route by slot."""
    backends = body["spec"]["rules"][0]["backendRefs"]
    return {ref["name"][-1]: ref["weight"] for ref in backends}
