"""A release in each phase and each kind of trouble, as the plugin reads it: the statuses are decided, not made up.

`SCENES` gives them by name. Version 7 serves, version 8 is on its way; times are around NOW.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelrelease.api.base import parse_duration
from modelrelease.api.reasons import Reason
from modelrelease.api.record import PreviousRecord
from modelrelease.api.status import CandidateStatus, Stage, TimelineEntry
from modelrelease.cli.changes import changes
from modelrelease.cli.views.values import Pod, Record, Release
from modelrelease.core import record
from modelrelease.core.evidence import Counts
from modelrelease.core.explain import Known, Leg
from modelrelease.core.observation import Lookup, PodFault, RegistryView, RouteView, Samples, Unavailable
from modelrelease.core.revision import Revision, to_data
from tests.core import builders
from tests.core.builders import FAILING, HEALTHY, NOW, SILENT, fresh, idle, model, polls, release

OLD = {"containers": [{"name": "server", "image": "reg.example/churn-server:1", "args": ["--workers=2"]}]}
NEW = {
    "containers": [
        {
            "name": "server",
            "image": "reg.example/churn-server:2",
            "args": ["--workers=4"],
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        }
    ]
}
BEGAN = NOW - timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is seen, and when."""

    release: Release
    now: datetime


def scene(told: builders.Release, *, pods: tuple[Pod, ...] | None = None, seconds: float = 8) -> Scene:
    """The scene of a decided release, looked at some seconds later."""
    status = told.status
    candidate, stable = status.candidate, status.stable
    stored = {**told.obs.revisions}
    tried = candidate.key if candidate else status.quarantine[0].key if status.quarantine else ""
    runs = stored.get(tried)
    former = stored.get(stable.key) if stable else None
    if pods is None:
        pods = _pods(told)
    seen = Release(
        namespace="crm",
        name="churn",
        generation=status.observed_generation,
        status=status,
        known=_known(told, runs if candidate else None),
        pods=pods,
        changes=changes({**to_data(former), "template": {"spec": OLD}}, {**to_data(runs), "template": {"spec": NEW}})
        if runs and former and runs is not former
        else (),
        model="churn",
    )
    return Scene(seen, told.now + timedelta(seconds=seconds))


def _known(told: builders.Release, runs: Revision | None) -> Known:
    """As cli.reading finds it, from a spec and a revision."""
    spec = told.spec
    known = Known("churn", "crm")
    if spec is not None:
        bake, deadline = parse_duration(spec.rollout.bake.duration), parse_duration(spec.rollout.progress_deadline)
        known = replace(known, bake=bake, deadline=deadline, inconclusive=spec.rollout.on_inconclusive)
        known = replace(known, suspend=spec.suspend, asks=str(spec.model.version))
    if runs is not None:
        legs = [
            Leg(item.name, item.weight, parse_duration(item.duration), parse_duration(item.timeout), item.parity)
            for item in runs.phases
        ]
        known = replace(known, legs=tuple(legs), drain=runs.drain_timeout)
    return known


def told_by(scene_name: str) -> Scene:
    """A scene by its name."""
    return SCENES[scene_name]()


def _pods(told: builders.Release) -> tuple[Pod, ...]:
    out = []
    for digest, workload in told.obs.workloads.items():
        if digest not in {role.revision for role in (told.status.stable, told.status.candidate) if role}:
            continue
        old = told.status.stable is not None and digest == told.status.stable.revision
        for number in range(workload.replicas):
            ready = number < workload.ready
            out.append(
                Pod(
                    name=f"churn-{digest}-5d9f{'c' if old else 'd'}7b6-x{number}k2q",
                    revision=digest,
                    state="ready" if ready else "Pending",
                    ready=ready,
                    node=f"node-{14 + len(out)}" if ready else "",
                    hardware="NVIDIA-A100-SXM4-80GB" if ready else "",
                )
            )
    return tuple(out)


def rates(one: Scene, *figures: float) -> Scene:
    """With these rates for the candidate's pods."""
    candidate = one.release.status.candidate
    assert candidate is not None
    mine = [pod for pod in one.release.pods if pod.revision == candidate.revision]
    rated = dict(zip((pod.name for pod in mine), figures, strict=False))
    pods = tuple(replace(pod, rate=rated.get(pod.name)) for pod in one.release.pods)
    return replace(one, release=replace(one.release, pods=pods))


def shifting(step: int = 0, **candidate: object) -> builders.Release:
    """With traffic since some minutes, as its timeline tells."""
    told = release(step=step, **candidate)  # type: ignore[arg-type]
    weights = [(20, "canary"), (50, "half"), (100, "full")][: step + 1]
    line = [
        TimelineEntry(at=BEGAN + timedelta(minutes=place), event="Set", phase=phase, weight=weight)
        for place, (weight, phase) in enumerate(weights)
    ]
    return with_candidate(told, timeline=tuple(line), started_at=BEGAN - timedelta(minutes=1))


def with_candidate(told: builders.Release, **fields: object) -> builders.Release:
    """Other fields of the candidate."""
    candidate = told.status.candidate
    assert isinstance(candidate, CandidateStatus)
    status = told.status.model_copy(update={"candidate": candidate.model_copy(update=fields)})
    return replace(told, status=status)


def unconfirmed(told: builders.Release, problem: str = "") -> builders.Release:
    """The gateway has not taken what status says."""
    traffic = told.status.traffic
    assert traffic is not None
    held = told.obs.route.weights if told.obs.route else {"a": 100, "b": 0}
    route = RouteView(held, False, problem=problem) if problem else RouteView(held, False)
    status = told.status.model_copy(update={"traffic": traffic.model_copy(update={"confirmed_at": None})})
    return replace(told, status=status, obs=replace(told.obs, route=route))


def _rolling_back() -> builders.Release:
    told = shifting(1).see(samples=FAILING)
    return replace(told, status=told.decision().status)


def _returned() -> builders.Release:
    told = shifting(1).see(samples=FAILING).decided()
    return told.later(1.1).decided()


SPARSE = polls(Counts(9, 0), Counts(40, 0))
_NO_DATA = Samples((), Unavailable(Reason.NO_DATA, "no requests of v8 are counted", NOW - timedelta(minutes=2)))


def _registry(candidate: Lookup) -> RegistryView:
    known = builders.observation().registry
    return replace(known, versions={**known.versions, "8": candidate})


def _blocked() -> builders.Release:
    return release(stage=Stage.GATING).see(registry=_registry(model("8", auc=0.71))).decided()


def _first_blocked() -> builders.Release:
    told = shifting(2)
    status = told.status.model_copy(update={"stable": None})
    told = replace(told, status=status)
    return told.fault(PodFault.CRASH_LOOP, crashes=3).decided()


def records() -> tuple[Release, tuple[Record, ...]]:
    """A release that has rolled back twice (a gate, then a check), and its records, oldest first."""
    blocked, returned = _blocked(), _returned().later(3600).decided()
    place = record.Place("crm", "churn", "0b4c9a52-7f0e-4a3c-9a0e-1d6f1c2b3a4d", 1)
    out: list[Record] = []
    for number, told in enumerate((blocked, returned), 1):
        [ending] = told.status.endings[-1:]
        before = None
        if out:
            before = PreviousRecord(name=out[-1].name, digest=record.digest(out[-1].spec))
        spec = record.spec_of(ending, replace(place, sequence=number, previous=before))
        out.append(Record(ending.name, spec, ("rolledback to log: Delivered",)))
    return scene(returned).release, tuple(out)


SCENES: Mapping[str, Callable[[], Scene]] = {
    "pending-unschedulable": lambda: scene(
        release(stage=Stage.STARTING, exposed=False).fault(PodFault.UNSCHEDULABLE).decided()
    ),
    "pending-suspended": lambda: scene(idle(8, suspend=True).decided()),
    "gating-registry-away": lambda: scene(
        release(stage=Stage.GATING)
        .see(registry=_registry(Unavailable(Reason.REGISTRY_UNREACHABLE, "MLflow does not answer")))
        .decided()
    ),
    "blocked": lambda: scene(_blocked()),
    "starting": lambda: scene(release(stage=Stage.STARTING, exposed=False).see(pods={"8": 1}).decided()),
    "progressing-canary": lambda: scene(shifting(0).see(samples=HEALTHY).decided()),
    "progressing-half": lambda: scene(shifting(1).see(samples=HEALTHY).decided()),
    "progressing-unconfirmed": lambda: scene(unconfirmed(shifting(1)).decided()),
    "progressing-route-refused": lambda: scene(
        unconfirmed(shifting(1), "HTTPRoute churn: NotAllowedByListeners").decided()
    ),
    "held-evidence": lambda: scene(shifting(0).see(samples=SPARSE).later(90).decided()),
    "held-no-data": lambda: scene(shifting(0).see(samples=_NO_DATA).later(90).decided()),
    "held-prometheus-away": lambda: scene(shifting(0).see(samples=SILENT).later(90).decided()),
    "held-paused": lambda: scene(shifting(1).see(samples=HEALTHY).say("pause").decided()),
    "held-suspended": lambda: scene(shifting(1).edit(8, suspend=True).see(samples=HEALTHY).decided()),
    "held-inconclusive": lambda: scene(shifting(0).see(samples=SPARSE).later(601).decided()),
    "held-gate-failed": lambda: scene(
        release(step=1, stage=Stage.STARTING, exposed=True)
        .see(registry=_registry(model("8", auc=0.71)), samples=HEALTHY)
        .decided()
    ),
    "retreat": lambda: scene(shifting(1, carries=2).see(pods={"8": 0}).decided()),
    "baking": lambda: scene(shifting(2, stage=Stage.BAKING).see(samples=HEALTHY).decided()),
    "baking-prometheus-away": lambda: scene(shifting(2, stage=Stage.BAKING).see(samples=SILENT).decided()),
    "rolling-back": lambda: rates(scene(_rolling_back(), seconds=1), 0.5, 0.5),
    "rolling-back-draining": lambda: rates(scene(_returned()), 0.5, 0.5),
    "rolled-back": lambda: scene(_returned().later(3600).decided().later(60).decided()),
    "aborted": lambda: scene(shifting(0).see(samples=HEALTHY).say("abort").decided()),
    "promoted": lambda: scene(idle(7).decided()),
    "promoted-short-of-pods": lambda: scene(idle(7).see(pods={"7": 1}).decided()),
    "promoted-no-pods": lambda: scene(idle(7).see(pods={"7": 0}).decided()),
    "invalid": lambda: scene(idle(8).broken().decided()),
    "first-starting": lambda: scene(fresh().decided().decided()),
    "first-blocked": lambda: scene(_first_blocked()),
}
