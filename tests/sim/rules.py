"""The rules that never break (docs/design.md, section 4), one function for each thing that a rule forbids.

They judge what was recorded (`Change`) and written (`Write`) by what the world knows to be true, not by what the core
says about itself. Rule 8 is kept by the API server and tested on a real one (tests/cluster).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from modelrelease.api.base import REVISION_LABEL
from modelrelease.api.gates import OnRevoked
from modelrelease.api.reasons import Reason
from modelrelease.api.status import CandidateStatus, ModelReleaseStatus, Outcome, StableStatus, Stage
from modelrelease.core.decide import decide
from modelrelease.core.observation import CAPACITY, CRASHES, ModelVersion, RegistryView
from modelrelease.core.record import record_name
from modelrelease.core.render import render
from modelrelease.core.revision import Revision
from tests.sim.world import RELEASE, Change, World, Write, weights_of

DRAIN = timedelta(seconds=30)


# -- rule 1: the canary's weight --
def rule_1_the_weight_stays_within_the_phase(change: Change) -> None:
    """Rule 1: never above the current phase's weight."""
    candidate = change.after.candidate
    if candidate is None or change.after.stable is None or candidate.fast:
        return
    phases = revision(change, candidate.key).phases
    held = weight(change.after, candidate)
    assert held <= phases[candidate.step].weight
    if candidate.stage is Stage.STARTING:
        assert held <= (phases[candidate.step - 1].weight if candidate.step else 0)
    if candidate.stage in (Stage.GATING, Stage.RETURNING):
        assert held == 0


def rule_1_nothing_rises_past_a_failing_check_or_missing_data(change: Change) -> None:
    """Rule 1: never on a failing check or on missing data, unless a person promoted."""
    role = risen(change)
    if role is None or change.before.stable is None or fast(change) or hurried(change):
        return
    assert "Fail" not in {check.verdict for check in change.after.checks}
    problem = change.obs.samples.problem
    had = weight_of(change.before, role.revision)
    assert problem is None or (problem.reason is Reason.NO_DATA and had == 0)


def rule_1_nothing_rises_with_a_gate_not_passing(change: Change) -> None:
    """Rule 1: the gates pass by what the registry says now."""
    role = risen(change)
    if role is None or fast(change):
        return
    runs = revision(change, role.key)
    seen = change.obs.registry.versions.get(role.version)
    if not runs.gates:
        return
    assert isinstance(seen, ModelVersion)
    value = seen.metrics[0].value
    for gate in runs.gates:
        assert gate.metric is not None
        assert gate.metric.min is None or value >= gate.metric.min
        if gate.metric.champion is not None and change.before.stable is not None:
            champion = change.obs.registry.versions.get(change.before.stable.version)
            assert isinstance(champion, ModelVersion)
            assert value >= champion.metrics[0].value - (gate.metric.champion.max_drop or 0) - 1e-9


def rule_1_nothing_rises_with_too_few_pods(change: Change) -> None:
    """Rule 1: as many ready pods as the weight's share of replicas, behind the Service that gets it."""
    role = risen(change)
    if role is None or change.spec is None:
        return
    whole = change.spec.workload.replicas or 2
    share = 100 if change.before.stable is None else weight(change.after, role)
    needed = math.ceil(share * whole / 100)
    assert change.obs.workloads[role.revision].ready >= needed
    assert change.obs.slots[role.slot].revision == role.revision


def rule_1_nothing_rises_while_people_say_no(change: Change) -> None:
    """Rule 1 and spec.suspend: neither while suspended, paused or unreadable."""
    role = risen(change)
    if role is not None:
        assert change.spec is not None
        assert not change.spec.suspend or leaves_harm(change)
        assert not change.after.paused


def rule_1_the_route_never_gives_more_than_the_status(write: Write) -> None:
    """Rule 1 and the fence: no writer, however late, gives a candidate more than the latest status allows."""
    candidate = write.latest.candidate
    if write.kind != "HTTPRoute" or write.new is None or candidate is None or write.latest.stable is None:
        return
    assert weights_of(write.new)[candidate.slot] <= weight(write.latest, candidate)


# -- rule 2: only harm rolls back --
def rule_2_only_harm_rolls_back(world: World, change: Change) -> None:
    """Rule 2: a verdict, crashing or never ready pods, or a person."""
    fresh = {entry.key: entry for entry in change.after.quarantine}
    for entry in change.before.quarantine:
        if fresh.get(entry.key) == entry:
            del fresh[entry.key]
    if change.before.sequence == 0:
        return  # rebuilt from what was recorded before
    for key, entry in fresh.items():
        digest, reason = key.split("-")[0], Reason(entry.reason)
        if reason is Reason.CHECK_FAILED:
            assert digest in world.harm_seen
        elif reason is Reason.ENGINE_HUNG:
            assert digest in world.hang_seen
        elif reason in (Reason.ABORTED, Reason.ROLLBACK_REQUESTED):
            assert change.obs.command is not None
        elif reason is Reason.GATE_REVOKED:
            assert _is_revoked(change, key, entry.version)
        elif reason is Reason.INCONCLUSIVE:
            assert change.spec is not None
            assert change.spec.rollout.on_inconclusive == "Rollback"
            assert change.obs.samples.problem is None
        else:
            assert reason is not Reason.TRAFFIC_MISSING
            pods = change.obs.workloads.get(digest)
            never = change.before.candidate is not None and change.before.candidate.stage is Stage.STARTING
            assert pods is None or pods.fault not in CAPACITY
            assert never or (pods is not None and pods.crashes > 0)


def _is_revoked(change: Change, key: str, version: str) -> bool:
    """Whether the registry's present word fails a gate that says so itself; only such a gate is harm."""
    seen = change.obs.registry.versions.get(version)
    assert isinstance(seen, ModelVersion), "what cannot be read harms nobody"
    rules = [gate for gate in change.obs.revisions[key].gates if gate.on_revoked is OnRevoked.ROLLBACK]
    floors = [gate.metric.min for gate in rules if gate.metric is not None and gate.metric.min is not None]
    return any(seen.metrics[0].value < floor for floor in floors)


def rule_2_harm_is_answered(world: World, change: Change) -> None:
    """Rule 2: what crashes under traffic, or has failed users or hung for a minute, loses all traffic.

    So does what no request has reached for two minutes, whoever is to blame.
    """
    candidate, stable = change.before.candidate, change.before.stable
    if candidate is None or stable is None or candidate.returning or not weight(change.before, candidate):
        return
    pods, traffic = change.obs.workloads.get(candidate.revision), change.before.traffic
    crashes = pods is not None and pods.fault in CRASHES and pods.ready < candidate.carries
    failing = hanging = missing = timedelta()
    if change.obs.samples.problem is None and change.now == world.now and traffic is not None and not candidate.fast:
        failing = min(world.harmful_for(candidate.revision, stable.revision), change.now - traffic.set_at)
        missing = min(
            world.unreached_for(candidate.revision, stable.revision), change.now - (traffic.confirmed_at or change.now)
        )
        hanging = min(world.hung_for(candidate.revision), change.now - traffic.set_at)
    if crashes or failing >= timedelta(seconds=60) or hanging >= timedelta(seconds=70):
        assert weight_of(change.after, candidate.revision) == 0
    if missing >= timedelta(seconds=140) and pods is not None and pods.ready >= candidate.carries:
        assert weight_of(change.after, candidate.revision) == 0


def rule_2_missing_data_does_not_promote(change: Change) -> None:
    """Rule 2: an outage of Prometheus never ends in a promotion."""
    before, after = change.before.candidate, change.after.stable
    if before is None or after is None or before.key != after.key or change.before.stable is None:
        return
    if change.before.stable.key != after.key and not before.fast and not hurried(change):
        assert change.obs.samples.problem is None


def rule_2_lost_pods_retreat(change: Change) -> None:
    """Rule 2: weight 0 at once, the candidate kept and not quarantined."""
    before, after = change.before.candidate, change.after.candidate
    if before is None or after is None or before.key != after.key or after.retreats == before.retreats:
        return
    superseded = after.returning is not None and after.returning.outcome is Outcome.SUPERSEDED
    assert after.stage is Stage.STARTING or superseded
    assert weight(change.after, after) == 0
    assert change.after.quarantine == change.before.quarantine


# -- rule 3: traffic first, pods later --
def rule_3_a_return_moves_all_traffic_in_one_write(change: Change) -> None:
    """Rule 3: the very status that decides a return names weight 0 and keeps the pods."""
    before, after = change.before.candidate, change.after.candidate
    if after is None or after.returning is None or change.after.stable is None:
        return
    assert weight(change.after, after) == 0
    assert weight(change.after, change.after.stable) == 100
    if before is not None and before.key == after.key:
        assert after.replicas >= before.replicas


def rule_3_pods_go_only_after_their_requests(write: Write) -> None:
    """Rule 3: a Deployment shrinks or goes only when its last request had its time; a scale of stable is a person's."""
    if write.kind != "Deployment" or write.old is None or write.carried is None:
        return
    shrinks = write.new is None or write.new["spec"]["replicas"] < write.old["spec"]["replicas"]
    roles = [role for role in (write.status.stable, write.status.candidate) if role is not None]
    serves = write.old["metadata"]["labels"][REVISION_LABEL] in {role.revision for role in roles}
    if shrinks and not (serves and write.new is not None):
        since = write.now - write.carried
        assert since >= DRAIN, f"{write.name} had users {since} ago, status {write.status.message}"


# -- rule 4: quarantine --
def rule_4_a_quarantined_revision_gets_no_traffic(change: Change) -> None:
    """Rule 4: the same revision under the same gates and checks is never tried again."""
    candidate = change.after.candidate
    if candidate is None or candidate.returning is not None:
        return
    tried = revision(change, candidate.key)
    for entry in change.after.quarantine:
        failed = change.obs.revisions.get(entry.key, tried if entry.key == candidate.key else None)
        same = failed is not None and (failed.revision, failed.gates, failed.checks) == (
            tried.revision,
            tried.gates,
            tried.checks,
        )
        assert not same, f"{entry.key} is tried again as {candidate.key}"


def rule_4_only_retry_lifts_quarantine(change: Change) -> None:
    """Rule 4: an entry leaves only by the command retry, or as the oldest of more than twenty."""
    if len(change.before.quarantine) >= 20:
        return
    gone = {entry.key for entry in change.before.quarantine} - {entry.key for entry in change.after.quarantine}
    for key in gone:
        command = change.obs.command
        assert command is not None
        assert command.text.startswith(f"retry@{key.split('-')[0]}-")


# -- rule 5: whose objects --
def rule_5_children_are_plainly_ours(write: Write) -> None:
    """Rule 5: only children are written, none with the tracking labels of Argo CD or Helm."""
    assert write.kind in ("Deployment", "Service", "HTTPRoute", "PodMonitor")
    assert write.name == RELEASE or write.name.startswith(f"{RELEASE}-")
    found = (write.new or {}).get("metadata", {}).get("labels", {})
    assert not [key for key in found if "argocd" in key or "helm" in key or key == "app.kubernetes.io/instance"]


# -- rule 6: a kill costs only time --
def rule_6_a_repeated_pass_changes_nothing(change: Change) -> None:
    """Rule 6: whoever repeats a pass that died after it had recorded decides the same."""
    stored = {**change.obs.revisions, **{item.key: item for item in stored_by(change)}}
    again = decide(change.spec, change.after, replace(change.obs, revisions=stored), change.now)
    assert again.status is change.after, difference(change.after, again.status)


def rule_6_a_decision_needs_no_memory(change: Change) -> None:
    """Rule 6: the same inputs give the same status, in whichever process."""
    again = decide(change.spec, change.before, change.obs, change.now)
    assert again.status == change.after


# -- rule 7: no delay from elsewhere --
def rule_7_nothing_unreadable_delays_a_rollback(change: Change) -> None:
    """Rule 7: harm is answered just the same with an unreadable spec and with a registry that says nothing.

    But for the one kind that only the registry tells: a gate that is revoked.
    """
    back = change.after.candidate.returning if change.after.candidate else None
    before = change.before.candidate
    if back is None or before is None or before.returning is not None or change.after.stable is None:
        return
    people = (Reason.INCONCLUSIVE, Reason.ABORTED, Reason.NEVER_READY, Reason.ROLLBACK_REQUESTED, Reason.GATE_REVOKED)
    if back.outcome is not Outcome.ROLLED_BACK or back.reason in people or not before.exposed:
        return
    silent = replace(change.obs, registry=RegistryView(), spec_error="spec: unreadable")
    alone = decide(None, change.before, silent, change.now).status
    assert alone.candidate is not None
    assert weight(alone, alone.candidate) == 0, f"{back.reason} is not answered without a spec"
    live = change.route.body if change.route else None
    children = render(None, alone, change.obs.revisions, RELEASE, live)
    routes = [item for item in children if item.kind == "HTTPRoute"]
    assert [weights_of(item.body)[alone.candidate.slot] for item in routes] == ([0] if live else []), "the route"


# -- always --
def users_reach_a_deployment(world: World) -> None:
    """Rules 3 and 6: whatever has users' traffic exists."""
    for name in world.traffic():
        if name != "none":
            assert ("Deployment", f"{RELEASE}-{name}") in world.children


def status_stays_small(change: Change) -> None:
    """Status: at most 64 KiB."""
    assert len(change.after.model_dump_json(by_alias=True)) < 65536


CHANGE_RULES = (
    rule_1_the_weight_stays_within_the_phase,
    rule_1_nothing_rises_past_a_failing_check_or_missing_data,
    rule_1_nothing_rises_with_a_gate_not_passing,
    rule_1_nothing_rises_with_too_few_pods,
    rule_1_nothing_rises_while_people_say_no,
    rule_2_missing_data_does_not_promote,
    rule_2_lost_pods_retreat,
    rule_3_a_return_moves_all_traffic_in_one_write,
    rule_4_a_quarantined_revision_gets_no_traffic,
    rule_4_only_retry_lifts_quarantine,
    rule_6_a_repeated_pass_changes_nothing,
    rule_6_a_decision_needs_no_memory,
    rule_7_nothing_unreadable_delays_a_rollback,
    status_stays_small,
)
WRITE_RULES = (
    rule_1_the_route_never_gives_more_than_the_status,
    rule_3_pods_go_only_after_their_requests,
    rule_5_children_are_plainly_ours,
)


def judge(world: World) -> None:
    """Hold everything that was recorded and written since the last call against the rules."""
    for change in world.decisions:
        rule_2_harm_is_answered(world, change)
    for change in world.changes:
        for rule in CHANGE_RULES:
            rule(change)
        rule_2_only_harm_rolls_back(world, change)
        an_ended_rollout_is_remembered(world, change)
    every_ended_rollout_leaves_one_record(world)
    for write in world.writes:
        for check in WRITE_RULES:
            check(write)
    world.decisions.clear()
    world.changes.clear()
    world.writes.clear()
    users_reach_a_deployment(world)


# -- the audit trail --
def an_ended_rollout_is_remembered(world: World, change: Change) -> None:
    """A candidate that is not there any more, or began anew after it was blocked, has ended: note what it should leave.

    Two rollouts of one revision never begin in the same millisecond, but here, where a pass takes no time: they count
    as one.
    """
    if change.before.sequence == 0:  # the status was lost: one pass may find a candidate anew and end it
        world.ended |= {item.name for item in change.after.endings}
    before, after = change.before.candidate, change.after.candidate
    if before is None or (after is not None and (after.key, after.started_at) == (before.key, before.started_at)):
        return
    name = record_name(RELEASE, before.started_at, before.revision)
    world.ended.add(name)
    for item in change.after.endings:
        if item.name == name and item.outcome == "Promoted":
            assert change.after.stable is not None
            assert change.after.stable.key == before.key


def every_ended_rollout_leaves_one_record(world: World) -> None:
    """A record, or a place among those that wait for theirs; the few that a full backlog dropped are counted."""
    status = world.status
    waiting = {item.name for item in status.endings}
    lost = world.ended - waiting - world.records.keys()
    assert len(lost) <= status.records_dropped, f"no record, and none is waited for: {lost}"
    candidate = status.candidate
    blocked = {record_name(RELEASE, candidate.started_at, candidate.revision)} if candidate else set()
    assert world.records.keys() <= world.ended | blocked, "a record without a rollout"
    assert all(item.complete for item in world.records.values())


# -- words of the rules --
def weight(status: ModelReleaseStatus, role: CandidateStatus | StableStatus) -> int:
    """Percent that the status gives a role's slot."""
    traffic = status.traffic
    return 0 if traffic is None else traffic.a if role.slot == "a" else traffic.b


def weight_of(status: ModelReleaseStatus, digest: str) -> int:
    """Percent that the status gives a revision."""
    roles = [role for role in (status.stable, status.candidate) if role is not None and role.revision == digest]
    return weight(status, roles[0]) if roles else 0


def risen(change: Change) -> CandidateStatus | StableStatus | None:
    """The role of what was a candidate before or is one now, if its weight has risen."""
    before, after = change.before.candidate, change.after.candidate
    role: CandidateStatus | StableStatus | None = after
    if after is None and before is not None and change.after.stable and change.after.stable.key == before.key:
        role = change.after.stable
    if role is None or weight(change.after, role) <= weight_of(change.before, role.revision):
        return None
    return role if change.before.sequence > 0 else None


def leaves_harm(change: Change) -> bool:
    """The command rollback: a former revision takes over from one that is quarantined."""
    stable, failed = change.before.stable, {entry.key for entry in change.before.quarantine}
    return fast(change) and stable is not None and stable.key in failed


def fast(change: Change) -> bool:
    """A return to what this release promoted before."""
    return any(item is not None and item.fast for item in (change.before.candidate, change.after.candidate))


def hurried(change: Change) -> bool:
    """A person promoted, or skipped the phase that the candidate was in before: a skip lasts no longer."""
    seen = [item for item in (change.before.candidate, change.after.candidate) if item is not None]
    return any(item.hurried for item in seen) or skipped(change)


def skipped(change: Change) -> bool:
    """A skip that was given now, or covers where the candidate stood: its phase, and the way to the next weight."""
    before, command = change.before.candidate, change.obs.command
    if before is None:
        return False
    known = command is None or any(item.command == command.text for item in change.before.commands)
    if command is not None and not known and command.text.startswith(f"skip@{before.revision}-"):
        return True
    here = before.step + 1 if before.stage is Stage.BAKING else before.step
    on_the_way = before.stage is Stage.STARTING and before.skipped == before.step - 1
    return before.skipped == here or on_the_way


def stored_by(change: Change) -> list[Revision]:
    """What the decision stored before it recorded."""
    return list(decide(change.spec, change.before, change.obs, change.now).store)


def revision(change: Change, key: str) -> Revision:
    """A revision that a status names."""
    known = change.obs.revisions.get(key)
    return known or next(item for item in stored_by(change) if item.key == key)


def difference(a: ModelReleaseStatus, b: ModelReleaseStatus) -> str:
    """The fields in which two statuses differ."""
    one, two = flat(a.model_dump()), flat(b.model_dump())
    return "; ".join(f"{key}: {one.get(key)} -> {two.get(key)}" for key in one | two if one.get(key) != two.get(key))


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
