"""Sizes, weights and wants that follow from a revision's phases: arithmetic shared by the states of `decide`."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

from modelrelease.api.base import GROUP
from modelrelease.api.phases import Phase
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import CandidateStatus, ModelReleaseStatus, Slot, StableStatus, Stage

from . import checks, endpoints, gates, parity
from .measures import measures
from .observation import Observation
from .revision import Revision
from .version_facts import Part
from .wants import AliasWrite, RegistryWant, SampleWant, TagWrite, Wants

DEFAULT_REPLICAS = 2
REGISTRY_MAX_AGE = timedelta(seconds=60)
"""How long an answer of the registry is believed. It is read again at half of it: a followed alias is seen by then."""


def replicas(spec: ModelReleaseSpec) -> int:
    """Pods of a fully rolled out revision."""
    return spec.workload.replicas if spec.workload.replicas is not None else DEFAULT_REPLICAS


def phase_of(revision: Revision, step: int) -> Phase:
    """The phase at `step`; the last one for steps beyond it."""
    return revision.phases[min(step, len(revision.phases) - 1)]


def phase_index(candidate: CandidateStatus) -> int:
    """Index of the phase that the candidate is in; the bake is the one after its last."""
    return candidate.step + (1 if candidate.stage is Stage.BAKING else 0)


def last_step(revision: Revision) -> int:
    """Index of the phase with weight 100."""
    return len(revision.phases) - 1


def weight_of(spec: ModelReleaseSpec, revision: Revision, step: int, pods: int | None = None) -> int:
    """Percent of traffic that the phase gives the candidate; a holdback is kept on stable until promotion.

    pods: of the candidate, as many as the phase needs where it is not said. With parity the weight follows from these
    and the present size of the release, which is no part of a revision.
    """
    phase, most = phase_of(revision, step), 100 - spec.rollout.bake.holdback
    if not phase.parity:
        return min(phase.weight, most)
    own = pods or pods_needed(spec, revision, step, first=False)
    floor = weight_of(spec, revision, step - 1) if step else 0
    return min(most, parity.weight_for(own, replicas(spec), floor=floor, limit=phase.weight))


def pods_needed(spec: ModelReleaseSpec, revision: Revision, step: int, *, first: bool) -> int:
    """Ready pods that the phase's weight needs: as asked for, else the weight's share of replicas, rounded up.

    With parity: those of the phase before, or more where whole percents need them. Where latency is compared and no
    phase has parity, the last phase below 100 has as many as come nearest to it.
    """
    whole = replicas(spec)
    phase = phase_of(revision, step)
    if first or phase.weight == 100:
        return whole
    if phase.replicas:
        return phase.replicas
    if phase.parity:
        before = pods_needed(spec, revision, step - 1, first=False) if step else 1
        floor = weight_of(spec, revision, step - 1) if step else 0
        return parity.pods_for(whole, least=before, floor=floor, limit=phase.weight)
    share = max(1, math.ceil(phase.weight * whole / 100))
    if step == last_step(revision) - 1 and _needs_parity(revision) and not has_parity(revision):
        return parity.pods_at(phase.weight, whole, least=share)
    return share


def has_parity(revision: Revision) -> bool:
    """Whether some phase is there to compare under like load."""
    return any(phase.parity for phase in revision.phases)


def _needs_parity(revision: Revision) -> bool:
    return any(check.latency is not None and check.latency.max is None for check in revision.checks)


def other_slot(slot: Slot) -> Slot:
    """The slot that is not this one."""
    return "b" if slot == "a" else "a"


def wants(
    spec: ModelReleaseSpec | None, status: ModelReleaseStatus, obs: Observation, target: Revision | None
) -> Wants:
    """What this release needs read next. Of what it rests on only what its gates ask for, about daily."""
    registry = _registry(spec, status, obs, target) if spec is not None else None
    samples = _samples(status, obs)  # a rollback needs them, however bad the spec
    return Wants(
        replace(registry, endpoint=endpoints.registry(spec, obs)) if registry else None,
        replace(samples, endpoint=endpoints.prometheus(spec, obs)) if samples else None,
    )


def serves_model(spec: ModelReleaseSpec, status: ModelReleaseStatus, obs: Observation) -> bool:
    """Whether what serves is a version of the model that the spec names: only then are its aliases ours to move."""
    runs = obs.revisions.get(status.stable.key) if status.stable else None
    return runs is not None and runs.model == spec.model.name


def _registry(
    spec: ModelReleaseSpec, status: ModelReleaseStatus, obs: Observation, target: Revision | None
) -> RegistryWant | None:
    aliases = {spec.model.alias} if spec.model.alias else set()
    versions: set[str] = set()
    judged: Revision | None = None
    candidate, stable, alias = status.candidate, status.stable, status.alias
    quarantined = target is not None and any(entry.key == target.key for entry in status.quarantine)
    if candidate is not None and not candidate.fast and candidate.stage is not Stage.RETURNING:
        versions.add(candidate.version)
        begun = target if target is not None and target.key == candidate.key else None  # in this pass
        judged = obs.revisions.get(candidate.key, begun)
    elif candidate is not None and candidate.fast:
        pass  # what was promoted before needs nobody's word
    elif target is not None and not quarantined and (stable is None or stable.revision != target.revision):
        versions.add(target.version)
        judged = target
    if versions and stable is not None:
        versions.add(stable.version)
    parts: dict[str, frozenset[Part]] = {}
    serves = obs.revisions.get(stable.key) if stable is not None else None
    sources = {serves.version: serves.uri} if serves is not None and serves.model == spec.model.name else {}
    if judged is not None:
        of_candidate, of_champion = gates.wanted(judged.gates)
        parts = dict.fromkeys(versions, of_champion) | {judged.version: of_candidate}
    rests = None if versions or candidate is not None or quarantined else _rests(spec, stable, obs, target)
    write = None
    set_alias = spec.registry.set_alias if spec.registry else None
    if set_alias and versions:
        aliases.add(set_alias)  # the former holder is remembered at promotion
    if alias is not None and alias.state in ("Pending", "Restoring") and serves_model(spec, status, obs):
        aliases.add(alias.alias)
        only_from = alias.former if alias.state == "Restoring" else None
        write = AliasWrite(spec.model.name, alias.alias, alias.version, only_from)
    marks = _tags(spec.model.name, status, obs)
    if rests is not None:
        versions, parts = {rests.version}, {rests.version: gates.wanted(rests.gates)[0]}
    if not versions and not aliases and not marks:
        return None
    named, moved = frozenset(versions), frozenset(aliases)
    rarely = named if rests is not None else frozenset[str]()
    return RegistryWant(
        spec.model.name, named, moved, REGISTRY_MAX_AGE, write, parts=parts, tags=marks, rarely=rarely, sources=sources
    )


def _rests(
    spec: ModelReleaseSpec, stable: StableStatus | None, obs: Observation, target: Revision | None
) -> Revision | None:
    """What serves and is what was asked for, where the registry still has a say in it: it is read about daily."""
    runs = obs.revisions.get(stable.key) if stable is not None else None
    if runs is None or target is None or runs.revision != target.revision or runs.model != spec.model.name:
        return None
    return runs if gates.asks_registry(runs.gates) else None


def tag_key(namespace: str, release: str) -> str:
    """The tag of one release, on every model version that it has to do with."""
    return f"{GROUP}/{namespace}.{release}"


def _tags(model: str, status: ModelReleaseStatus, obs: Observation) -> tuple[TagWrite, ...]:
    key = tag_key(obs.namespace, obs.release)
    return tuple(TagWrite(model, item.version, key, item.value) for item in status.tags if item.state == "Pending")


def _samples(status: ModelReleaseStatus, obs: Observation) -> SampleWant | None:
    candidate, stable = status.candidate, status.stable
    if candidate is None or candidate.stage not in (Stage.STARTING, Stage.SHIFTING, Stage.BAKING):
        return None
    revision = obs.revisions.get(candidate.key)
    if revision is None or not revision.checks:
        return None
    former = obs.revisions.get(stable.key) if stable else None
    arms = [revision] if former is None else [revision, former]
    evidence = checks.decode(status.evidence, revision)
    since = evidence.at if evidence else candidate.stage_since
    return SampleWant(
        obs.namespace,
        obs.release,
        {arm.revision: measures(revision, arm) for arm in arms},
        since,
        in_flight={arm.revision: arm.preset.in_flight for arm in arms},
        progress={arm.revision: arm.preset.progress for arm in arms},
    )
