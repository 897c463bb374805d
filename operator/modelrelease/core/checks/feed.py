"""From polls to evidence: which counts of which pods are compared, and what a poll may count for.

The rules: like is compared with like (hardware, warm pods, load); what a poll may count for is decided by pods and
numbers of requests, never by how many of them were bad; and the same polls give the same evidence however they are
split between passes. What the evidence amounts to is in `verdicts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from modelrelease.api.checks import Check, GaugeCheck, LatencyCheck
from modelrelease.core import evidence as e
from modelrelease.core.observation import PodFacts, PodPoll, Poll
from modelrelease.core.revision import Revision

from .memory import PODS_KEPT, Evidence, Memory, Shares, Streak
from .plans import ALPHA, NEAR_PARITY, bounds_of, load_matters, plan

_NO_PODS: Mapping[str, PodPoll] = {}


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of the pods of both arms, by revision, as they are now.

    A pod without facts is taken to run on what its siblings run on, and to be warm. warm_up: how long latencies of a
    pod do not count after it became ready; the candidate's own is its runtime's where it is not given.
    """

    pods: Mapping[str, Mapping[str, PodFacts]] = field(default_factory=dict)
    warm_up: Mapping[str, timedelta] = field(default_factory=dict)

    def hardware(self, revision: str) -> Mapping[str, str]:
        """By pod; under the empty name what a pod without facts is taken to run on."""
        known = {name: facts.hardware for name, facts in self.pods.get(revision, {}).items()}
        kinds = set(known.values())
        return {**known, "": kinds.pop() if len(kinds) == 1 else ""}

    def described(self, candidate: str) -> str:
        """On what the pods of both arms run, for people."""

        def kinds(revisions: Iterable[str]) -> str:
            found = {facts.hardware for revision in revisions for facts in self.pods.get(revision, {}).values()}
            return ", ".join(sorted(kind or "no known accelerator" for kind in found)) or "unknown hardware"

        return f"the candidate on {kinds([candidate])}, stable on {kinds(self.pods.keys() - {candidate})}"

    def node(self, revision: str, pod: str) -> str:
        """Where a pod runs, empty where that is not known."""
        facts = self.pods.get(revision, {}).get(pod)
        return facts.node if facts else ""


NOBODY = Fleet()


@dataclass(frozen=True, slots=True)
class _Arm:
    """One revision: its digest, the hardware of its pods, and until when each of them is warming up."""

    revision: str
    hardware: Mapping[str, str]
    cold_until: Mapping[str, datetime]

    def kind(self, pod: str) -> str:
        return self.hardware.get(pod, self.hardware[""])


@dataclass(frozen=True, slots=True)
class _Rule:
    """One check as a poll needs it: plans of its bounds, and what it compares."""

    check: Check
    place: int
    test: e.TestPlan | None
    relative: bool
    warm_only: bool
    load_matters: bool


def advance(
    evidence: Evidence, revision: Revision, polls: Sequence[Poll], stable: str | None, fleet: Fleet = NOBODY
) -> Evidence:
    """Feed in the polls after `evidence.at`, in order. stable: digest of the other arm, None when nothing serves."""
    fresh = [poll for poll in polls if poll.at > evidence.at]
    if not fresh:
        return evidence
    rules = [_rule(revision, check, place, evidence.planned_polls) for place, check in enumerate(revision.checks)]
    canary = _arm(revision.revision, fleet, revision.preset.warm_up)
    other = _arm(stable, fleet, timedelta()) if stable is not None else None
    alike = other is None or _alike(canary, other)
    memories, at, failed = dict(evidence.checks), evidence.at, evidence.failed
    pods = _pods_of(evidence)
    for poll in fresh:
        if poll.at <= at:
            continue
        ours = poll.arms.get(canary.revision, _NO_PODS)
        theirs = poll.arms.get(other.revision, _NO_PODS) if other else _NO_PODS
        for rule in rules:
            name, memory = rule.check.name, memories[rule.check.name]
            if isinstance(memory, Shares):
                memories[name] = _weigh(memory, rule, ours, theirs, canary, other, at, alike=alike)
            else:
                memories[name] = _step(memory, rule, ours, theirs, canary, other, alike=alike)
        _remember(pods, rules, ours)
        at = poll.at
        if failed is None:
            failed = _blamed(rules, memories)
    return _with_pods(replace(evidence, at=at, failed=failed), memories, pods)


def regression(memory: Shares) -> float:
    """The evidence of one check against the canary: the mean over its bounds, as it counts in the mean over checks."""
    return math.fsum(e.regression(wealth) for wealth in memory.wealths) / len(memory.wealths)


def is_safe(memory: Shares) -> bool:
    """Whether every bound has shown the canary to be within its margin in this phase."""
    return all(e.safety(wealth) >= 1 / ALPHA for wealth in memory.wealths)


def is_light(memory: Shares) -> bool:
    """Whether a canary pod got so much less than a stable pod in this phase that its latency proves nothing good."""
    return memory.load is not None and memory.load < 1 / NEAR_PARITY


def is_heavy(memory: Shares) -> bool:
    """Whether it got so much more that its latency proves nothing bad."""
    return memory.load is not None and memory.load > NEAR_PARITY


def _rule(revision: Revision, check: Check, place: int, planned: int) -> _Rule:
    test = plan(revision, check, planned) if bounds_of(check) else None
    relative = test is None or test.margin.relative > 0.0
    return _Rule(check, place, test, relative, isinstance(check.part, LatencyCheck), load_matters(check) and relative)


def _arm(revision: str, fleet: Fleet, warm_up: timedelta) -> _Arm:
    warm_up = fleet.warm_up.get(revision, warm_up)
    facts = fleet.pods.get(revision, {})
    cold = {name: pod.ready_since + warm_up for name, pod in facts.items() if pod.ready_since is not None}
    return _Arm(revision, fleet.hardware(revision), cold)


def _alike(canary: _Arm, other: _Arm) -> bool:
    """Whether all pods of both arms run on the same, or nothing is known of one arm."""
    kinds = {*canary.hardware.values(), *other.hardware.values()}
    return len(kinds) == 1 or not all(len(arm.hardware) > 1 for arm in (canary, other))


def _weigh(
    memory: Shares,
    rule: _Rule,
    ours: Mapping[str, PodPoll],
    theirs: Mapping[str, PodPoll],
    canary: _Arm,
    other: _Arm | None,
    since: datetime,
    *,
    alike: bool,
) -> Shares:
    """The check after one poll, which began at `since`."""
    assert rule.test is not None, "only a check with a test has shares"
    bounds, name = len(memory.wealths), rule.check.name
    seen = _counted(ours, name, bounds, canary, since if rule.warm_only else None)
    if not seen:
        return memory
    if not rule.relative:
        return _observed(memory, rule.test, [(_sums(seen, bounds), None)])
    if other is None:
        return memory
    beside = _counted(theirs, name, bounds, other, since if rule.warm_only else None)
    if not beside:
        return memory
    if alike:
        memory = replace(memory, apart=False) if memory.apart else memory
        pairs = [(_sums(seen, bounds), _sums(beside, bounds))]
    else:
        split, split_beside = _by_hardware(seen, canary), _by_hardware(beside, other)
        common = sorted(split.keys() & split_beside.keys())
        canary_out, stable_out = memory.left_out
        canary_out += math.fsum(c[0].total for kind in split.keys() - set(common) for _, c in split[kind])
        stable_out += math.fsum(c[0].total for kind in split_beside.keys() - set(common) for _, c in split_beside[kind])
        memory = replace(memory, apart=not common, left_out=(e.kept(canary_out), e.kept(stable_out)))
        if not common:
            return memory
        seen = [item for kind in common for item in split[kind]]
        beside = [item for kind in common for item in split_beside[kind]]
        pairs = [(_sums(split[kind], bounds), _sums(split_beside[kind], bounds)) for kind in common]
    if not rule.load_matters:
        return _observed(memory, rule.test, pairs)
    load = math.fsum(counts[0].total for _, counts in seen) / len(seen)
    load_beside = math.fsum(counts[0].total for _, counts in beside) / len(beside)
    loads = (e.kept(memory.loads[0] + load), e.kept(memory.loads[1] + load_beside))
    memory = replace(memory, loads=loads)
    light, heavy = is_light(memory), is_heavy(memory)
    memory = _observed(memory, rule.test, pairs, harm=not heavy, good=not light)
    if not (light or heavy or memory.at_parity) and is_safe(memory):
        memory = replace(memory, at_parity=True)
    return memory


def _observed(
    memory: Shares,
    test: e.TestPlan,
    pairs: Sequence[tuple[Sequence[e.Counts], Sequence[e.Counts] | None]],
    *,
    harm: bool = True,
    good: bool = True,
) -> Shares:
    wealths = tuple(
        e.observe_strata(
            wealth,
            test,
            [(seen[bound], beside[bound] if beside is not None else None) for seen, beside in pairs],
            harm=harm,
            good=good,
        )
        for bound, wealth in enumerate(memory.wealths)
    )
    return Shares(wealths, memory.loads, memory.apart, memory.left_out, memory.at_parity, memory.pods)


def _counted(
    pods: Mapping[str, PodPoll], check: str, bounds: int, arm: _Arm, since: datetime | None
) -> list[tuple[str, tuple[e.Counts, ...]]]:
    """The pods whose counts count: usable, and warm at `since` where that is given."""
    found = []
    for name, pod in pods.items():
        counts = pod.counts.get(check)
        if counts is None or len(counts) != bounds:
            continue
        if since is not None and name in arm.cold_until and since < arm.cold_until[name]:
            continue
        found.append((name, counts))
    return found


def _by_hardware(
    pods: Iterable[tuple[str, tuple[e.Counts, ...]]], arm: _Arm
) -> dict[str, list[tuple[str, tuple[e.Counts, ...]]]]:
    split: dict[str, list[tuple[str, tuple[e.Counts, ...]]]] = {}
    for name, counts in pods:
        split.setdefault(arm.kind(name), []).append((name, counts))
    return split


def _sums(pods: Sequence[tuple[str, tuple[e.Counts, ...]]], bounds: int) -> tuple[e.Counts, ...]:
    """All these pods together, one Counts a bound."""
    if len(pods) == 1:
        return pods[0][1]
    return tuple(
        e.Counts(
            math.fsum([counts[bound].total for _, counts in pods]), math.fsum([counts[bound].bad for _, counts in pods])
        )
        for bound in range(bounds)
    )


def _step(
    memory: Streak,
    rule: _Rule,
    ours: Mapping[str, PodPoll],
    theirs: Mapping[str, PodPoll],
    canary: _Arm,
    other: _Arm | None,
    *,
    alike: bool,
) -> Streak:
    """A gauge after one poll; one that misses in either arm neither counts nor breaks a row."""
    part = rule.check.part
    assert isinstance(part, GaugeCheck), "only a gauge has a streak"
    if other is None:
        return memory
    seen, beside = _gauges(ours, rule.check.name), _gauges(theirs, rule.check.name)
    if not alike:
        common = {canary.kind(pod) for pod in seen} & {other.kind(pod) for pod in beside}
        seen = {pod: value for pod, value in seen.items() if canary.kind(pod) in common}
        beside = {pod: value for pod, value in beside.items() if other.kind(pod) in common}
    if not seen or not beside:
        return memory
    mean, mean_beside = math.fsum(seen.values()) / len(seen), math.fsum(beside.values()) / len(beside)
    excess = mean - mean_beside if part.worse == "higher" else mean_beside - mean
    run = memory.run + 1 if excess > part.tolerance else 0
    return Streak(run, max(memory.longest, run), memory.polls + 1, mean, mean_beside)


def _gauges(pods: Mapping[str, PodPoll], check: str) -> dict[str, float]:
    found = {name: pod.gauges.get(check, math.nan) for name, pod in pods.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _blamed(rules: Sequence[_Rule], memories: Mapping[str, Memory]) -> str | None:
    """The check to blame where the evidence of all together now suffices for a rollback."""
    worst, most, whole, tested = None, 0.0, 0.0, 0
    for rule in rules:
        memory = memories[rule.check.name]
        if isinstance(memory, Streak):
            assert isinstance(rule.check.part, GaugeCheck), "only a gauge has a streak"
            if memory.run >= rule.check.part.polls:
                return rule.check.name
            continue
        wealth = regression(memory)
        whole, tested = whole + wealth, tested + 1
        if worst is None or wealth > most:
            worst, most = rule.check.name, wealth
    return worst if tested and whole / tested >= 1 / ALPHA else None


Totals = dict[str, list[float]]


def _pods_of(evidence: Evidence) -> Totals:
    """Totals of the canary's pods as numbers to add to: total and bad of each check in turn."""
    out: Totals = {}
    for place, name in enumerate(evidence.pods):
        out[name] = []
        for memory in evidence.checks.values():
            counts = memory.pods[place] if isinstance(memory, Shares) else e.Counts(0.0, 0.0)
            out[name] += (counts.total, counts.bad)
    return out


def _remember(pods: Totals, rules: Sequence[_Rule], ours: Mapping[str, PodPoll]) -> None:
    """Add a poll to the pods' totals, of the first bound, and keep those that stand out most."""
    for name, pod in ours.items():
        totals = pods.get(name)
        if totals is None:
            totals = pods[name] = [0.0] * (2 * len(rules))
        for rule in rules:
            counts = pod.counts.get(rule.check.name)
            if counts:
                first, at = counts[0], 2 * rule.place
                totals[at] = e.kept(totals[at] + first.total)
                totals[at + 1] = e.kept(totals[at + 1] + min(first.bad, first.total))
    if len(pods) > PODS_KEPT:
        arm = [math.fsum(column) for column in zip(*pods.values(), strict=True)]
        kept = sorted(pods, key=lambda name: (-_standing(pods[name], arm), name))[:PODS_KEPT]
        for name in pods.keys() - set(kept):
            del pods[name]


def _standing(totals: Sequence[float], arm: Sequence[float]) -> float:
    """How far a pod's bad requests are beyond those of an average pod, in standard deviations, in its worst check."""
    worst = 0.0
    for total, bad, arm_total, arm_bad in zip(totals[::2], totals[1::2], arm[::2], arm[1::2], strict=True):
        expected = total * arm_bad / arm_total if arm_total > 0 else 0.0
        worst = max(worst, (bad - expected) / math.sqrt(max(expected, 1.0)))
    return worst


def _with_pods(evidence: Evidence, memories: Mapping[str, Memory], pods: Totals) -> Evidence:
    names = tuple(sorted(pods))
    checks: dict[str, Memory] = {}
    for place, (check, memory) in enumerate(memories.items()):
        if isinstance(memory, Shares):
            totals = tuple(e.Counts(*pods[name][2 * place : 2 * place + 2]) for name in names)
            checks[check] = replace(memory, pods=totals)
        else:
            checks[check] = memory
    return replace(evidence, checks=checks, pods=names)
