"""A release at a chosen point of its rollout, as values: spec, status and what is seen; changed by small words.

    release(step=1).see(pods={"8": 0}).later(5).decided().status.phase

Version 7 serves, version 8 is the candidate. Everything is healthy unless it is said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.reasons import Reason
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import (
    CandidateStatus,
    ModelReleaseStatus,
    Slot,
    StableStatus,
    Stage,
    TrafficStatus,
)
from modelrelease.core.announce import Announcement, announce
from modelrelease.core.decide import Decision, decide
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import (
    AliasTarget,
    Command,
    Lookup,
    MetricValue,
    ModelVersion,
    Observation,
    PodFault,
    PodPoll,
    Poll,
    RegistryView,
    RouteView,
    Samples,
    SlotView,
    TemplateVerdict,
    Unavailable,
    Workload,
)
from modelrelease.core.revision import Revision, desired
from tests.api import builders as api

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
POLL = timedelta(seconds=5)
PHASES = [
    {"name": "canary", "weight": 20, "duration": "1m", "timeout": "10m"},
    {"name": "half", "weight": 50, "duration": "1m", "timeout": "10m"},
    {"name": "full", "weight": 100, "duration": "1m", "timeout": "10m"},
]
GATE = {"name": "auc", "metric": {"name": "auc", "min": 0.8}}
ERRORS = {"name": "errors", "errorRate": {}}
LIMIT = {"name": "limit", "errorRate": {"max": 0.05}}
SILENT = Samples((), Unavailable(Reason.PROMETHEUS_UNREACHABLE, "Prometheus does not answer"))


def spec(version: int = 8, *, rollout: dict[str, Any] | None = None, **changes: Any) -> ModelReleaseSpec:
    """A spec with three phases, one gate and one check, changed in top-level fields or in those of `rollout`."""
    fields: dict[str, Any] = {
        "model": {"name": "churn", "version": version},
        "gates": [GATE],
        "checks": [ERRORS],
        "rollout": {"phases": PHASES, "bake": {"duration": "5m"}, "progressDeadline": "10m", **(rollout or {})},
    }
    return ModelReleaseSpec.model_validate(api.spec(**(fields | changes)))


def revision(
    version: str = "8", of: ModelReleaseSpec | None = None, policy: ReleasePolicySpec | None = None
) -> Revision:
    """The stored revision of a version under a spec."""
    return desired("churn", of or spec(int(version)), policy, version, uri=f"models:/m-{version}")


def model(version: str, auc: float = 0.9) -> ModelVersion:
    """A version in the registry."""
    return ModelVersion(
        "churn", version, f"models:/m-{version}", "READY", NOW, f"run{version}", (MetricValue("auc", auc),)
    )


def arm(pod: str = "pod", **counts: Counts) -> dict[str, PodPoll]:
    """One pod's counts by check."""
    return {pod: PodPoll({check: (count,) for check, count in counts.items()})}


def polls(canary: Counts, stable: Counts, number: int = 12, check: str = "errors", since: datetime = NOW) -> Samples:
    """So many equal polls, one every five seconds after `since`."""
    arms = {revision("8").revision: arm(**{check: canary}), revision("7").revision: arm(**{check: stable})}
    return Samples(tuple(Poll(since + (at + 1) * POLL, arms) for at in range(number)))


HEALTHY = polls(Counts(1000, 2), Counts(4000, 8))
FAILING = polls(Counts(1000, 500), Counts(4000, 8))


@dataclass(frozen=True, slots=True)
class Release:
    """One release and its world; every word returns another one."""

    spec: ModelReleaseSpec | None
    status: ModelReleaseStatus
    obs: Observation
    now: datetime = NOW

    def edit(self, version: int = 8, **changes: Any) -> Release:
        """Another spec."""
        asked = spec(version, **changes)
        obs = replace(self.obs, generation=self.obs.generation + 1)
        return replace(self, spec=asked, obs=_templated(obs, asked))

    def broken(self) -> Release:
        """A spec that cannot be read."""
        return replace(self, spec=None, obs=replace(self.obs, spec_error="spec.workload: broken"))

    def say(self, verb: str, version: str = "8", nonce: int = 1, by: str = "") -> Release:
        """A command for the revision of a version."""
        return self.see(command=Command(f"{verb}@{revision(version).revision}-{nonce}", by))

    def see(self, *, pods: dict[str, int] | None = None, **changes: Any) -> Release:
        """Other observations; pods: ready pods by version."""
        obs = replace(self.obs, **changes)
        for version, ready in (pods or {}).items():
            obs = with_pods(obs, version, ready)
        return replace(self, obs=obs)

    def fault(self, fault: PodFault, version: str = "8", ready: int = 0, crashes: int = 0) -> Release:
        """Pods of a version with a fault."""
        digest = revision(version).revision
        replicas = self.obs.workloads[digest].replicas
        pods = Workload(digest, replicas, ready, crashes=crashes, fault=fault, fault_message=f"{fault}")
        return self.see(workloads={**self.obs.workloads, digest: pods})

    def later(self, seconds: float) -> Release:
        """Time passes."""
        return replace(self, now=self.now + timedelta(seconds=seconds))

    def decision(self) -> Decision:
        """One decision."""
        return decide(self.spec, self.status, self.obs, self.now)

    def decided(self) -> Release:
        """One decision, recorded and applied: the route, the slots and the store say what was decided."""
        decision = self.decision()
        stored = {**self.obs.revisions, **{item.key: item for item in decision.store}}
        obs = replace(self.obs, revisions=stored, command=None)
        return replace(self, status=decision.status, obs=_applied(obs, decision.status))

    def announced(self) -> tuple[Announcement, ...]:
        """The Events of one decision."""
        return announce(self.status, self.decision().status)

    @property
    def weight(self) -> int:
        """Percent that the candidate, or else stable, is given."""
        role = self.status.candidate or self.status.stable
        traffic = self.status.traffic
        assert role is not None
        return 0 if traffic is None else traffic.a if role.slot == "a" else traffic.b

    @property
    def reason(self) -> str:
        """Reason of the condition Progressing."""
        return next(item.reason for item in self.status.conditions if item.type == "Progressing")

    @property
    def rest(self) -> tuple[str, str]:
        """Phase and reason."""
        return (self.status.phase, self.reason)


def fresh(version: int = 8, **changes: Any) -> Release:
    """A release that has never run anything; the registry knows versions 7, 8 and 9."""
    asked = spec(version, **changes)
    return Release(asked, ModelReleaseStatus(), _templated(observation(), asked))


def idle(version: int = 7, **changes: Any) -> Release:
    """Version 7 serves; the spec may ask for another one."""
    asked = spec(version, **changes)
    status = ModelReleaseStatus(
        sequence=9, stable=_stable(), traffic=TrafficStatus(a=100, b=0, set_at=NOW, confirmed_at=NOW)
    )
    obs = _applied(with_pods(observation(revision("7")), "7", 2), status)
    return Release(asked, status, _templated(replace(obs, promoted=(revision("7").key,)), asked))


def release(
    step: int = 0, stage: Stage = Stage.SHIFTING, of: ModelReleaseSpec | None = None, **candidate: Any
) -> Release:
    """Version 8 at a step of its rollout, with its pods ready and its weight confirmed."""
    asked = of or spec()
    runs = revision("8", asked)
    began = {Stage.STARTING: step - 1, Stage.SHIFTING: step, Stage.BAKING: 2}.get(stage, -1)
    weight = runs.phases[began].weight if began >= 0 else 0
    pods = {Stage.GATING: 0}.get(stage, 2)
    fields: dict[str, Any] = {"carries": pods if weight else 0, "exposed": weight > 0, "replicas": pods}
    fields |= {"clock_runs": True, "waited_until": NOW} | candidate
    status = ModelReleaseStatus(
        sequence=12,
        stable=_stable(),
        candidate=CandidateStatus(
            revision=runs.revision,
            rules=runs.rules,
            version="8",
            slot="b",
            ready=pods,
            stage=stage,
            step=step,
            started_at=NOW,
            stage_since=NOW,
            ready_since=NOW - timedelta(minutes=1),
            **fields,
        ),
        traffic=TrafficStatus(a=100 - weight, b=weight, set_at=NOW, confirmed_at=NOW),
    )
    obs = observation(revision("7"), runs)
    obs = with_pods(with_pods(obs, "7", 2), "8", pods)
    obs = replace(obs, samples=Samples(), promoted=(revision("7").key,))
    return Release(asked, status, _templated(_applied(obs, status), asked))


def observation(*stored: Revision) -> Observation:
    """A world without pods, with these revisions stored and a registry that knows versions 7, 8 and 9."""
    versions: dict[str, Lookup] = {version: model(version) for version in ("7", "8", "9")}
    return Observation(
        "churn",
        "crm",
        1,
        revisions={item.key: item for item in stored},
        registry=RegistryView(versions, {"champion": AliasTarget("7", NOW)}),
    )


def with_pods(obs: Observation, version: str, ready: int, replicas: int | None = None) -> Observation:
    """So many ready pods of a version, and endpoints to them."""
    digest = revision(version).revision
    held = obs.workloads.get(digest)
    size = replicas if replicas is not None else max(ready, held.replicas if held else 0)
    slots = {
        slot: replace(view, ready_endpoints=ready) if view.revision == digest else view
        for slot, view in obs.slots.items()
    }
    return replace(obs, workloads={**obs.workloads, digest: Workload(digest, size, ready)}, slots=slots)


def _stable() -> StableStatus:
    runs = revision("7")
    return StableStatus(
        revision=runs.revision, rules=runs.rules, version="7", slot="a", replicas=2, ready=2, promoted_at=NOW
    )


def _applied(obs: Observation, status: ModelReleaseStatus) -> Observation:
    """The route has the weights of the status, the Services select its roles, as many endpoints are ready as pods."""
    slots: dict[Slot, str] = {}
    for role in (status.previous, status.stable, status.candidate):
        if role is not None:
            slots[role.slot] = role.revision
    views: dict[str, SlotView] = {}
    for slot, digest in slots.items():
        pods = obs.workloads.get(digest)
        views[slot] = SlotView(digest, pods.ready if pods else 0)
    traffic = status.traffic
    route = RouteView({"a": traffic.a, "b": traffic.b}, True) if traffic else obs.route
    return replace(obs, slots=views, route=route)


def _templated(obs: Observation, asked: ModelReleaseSpec) -> Observation:
    if asked.model.version is None:
        return obs
    target = desired("churn", asked, obs.policy, str(asked.model.version))
    return replace(obs, template=TemplateVerdict(target.revision, None))
