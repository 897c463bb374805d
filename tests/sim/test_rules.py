"""Hypothesis drives the real core through everything that people, clusters and outages do, and checks the rules.

Passes may crash between any two steps, and stall and go on later as a second leader would. After every step all rules
of `tests.sim.rules` are held against what was recorded and written. At the end faults stop, and the release must come
to rest (rule 9).
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from modelrelease.api.reasons import Phase
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.core.observation import RegistryView
from modelrelease.core.wants import Wants
from tests.sim import counting, rules
from tests.sim.executor import Steps, one_pass
from tests.sim.world import ACCURACY, CHECKS, GATES, RELEASE, Faults, World

VERSIONS = st.sampled_from(sorted(ACCURACY))
RESTING = (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.BLOCKED, Phase.HELD)
PASSES_TO_REST = 800  # more than an hour: requests that did not arrive may keep a candidate waiting for half of one
FAULTS = st.sampled_from(list(Faults.__dataclass_fields__))


class ReleaseMachine(RuleBasedStateMachine):
    """One release; `nonce` makes every command another one. A status is lost once at most, or nothing would get far."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.stalled: list[Steps] = []
        self.nonce = 0
        self.lost_before = False

    # -- the operator ------------------------------------------------------------------------------------------------
    def work(self) -> bool:
        """Passes until one changes nothing; whether the first did."""
        wrote = self.drive(one_pass(self.world))
        for _ in range(20):
            if not self.drive(one_pass(self.world)):
                return wrote
        raise AssertionError("passes never stop writing")

    def drive(self, steps: Steps, most: int = 1000) -> bool:
        """Run a pass, with every rule checked after every effect; True if it wrote, or has not ended."""
        for _ in range(most):
            try:
                next(steps)
            except StopIteration as end:
                rules.judge(self.world)
                return bool(end.value)
            rules.judge(self.world)
        return True

    @initialize(
        gates=st.sampled_from(sorted(GATES)),
        checks=st.sampled_from(sorted(CHECKS)),
        serving=st.booleans(),
        harmful=st.booleans(),
        ticks=st.integers(0, 24),
    )
    def first(self, gates: str, checks: str, serving: bool, harmful: bool, ticks: int) -> None:
        """A first release that has not begun, or a rollout from version 1 to 2 somewhere on its way."""
        self.world.edit(gates=gates, checks=checks)
        if serving:
            self.time_passes(8)
            self.world.edit(version="2")
            self.world.harmful |= {"2"} if harmful else set()
            self.time_passes(ticks)

    @rule(ticks=st.integers(1, 12))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            self.world.tick()
            self.work()

    @rule(ticks=st.integers(4, 24))
    def much_time_passes(self, ticks: int) -> None:
        self.time_passes(ticks)

    @rule(ticks=st.integers(1, 3))
    def some_time_passes(self, ticks: int) -> None:
        self.time_passes(ticks)

    @rule(ticks=st.integers(1, 6))
    def time_passes_without_operator(self, ticks: int) -> None:
        for _ in range(ticks):
            self.world.tick()

    @rule(ticks=st.integers(0, 2), steps=st.integers(1, 8))
    def operator_is_killed(self, ticks: int, steps: int) -> None:
        for _ in range(ticks):
            self.world.tick()
        self.drive(one_pass(self.world), steps)
        self.world.wants, self.world.view = Wants(), RegistryView()
        self.world.seen.clear()

    @rule(ticks=st.integers(0, 2), steps=st.integers(1, 4))
    def leader_stalls(self, ticks: int, steps: int) -> None:
        for _ in range(ticks):
            self.world.tick()
        leader = one_pass(self.world)
        if self.drive(leader, steps):
            self.stalled.append(leader)

    @precondition(lambda self: self.stalled)
    @rule()
    def stalled_leader_goes_on(self) -> None:
        self.drive(self.stalled.pop(0))

    @precondition(lambda self: not self.lost_before)
    @precondition(lambda self: ("HTTPRoute", RELEASE) in self.world.children or not self.world.status.stable)
    @rule()
    def status_is_lost(self) -> None:
        self.work()
        # what waits for its record is lost with the status; what is blocked and on record begins anew
        self.world.ended = set(self.world.records)
        self.world.status = ModelReleaseStatus()
        self.world.status_version += 1
        self.lost_before = True

    # -- people ------------------------------------------------------------------------------------------------------
    @rule(version=VERSIONS)
    def version_is_edited(self, version: str) -> None:
        self.world.edit(version=version, alias=None)

    @rule(version=VERSIONS)
    def alias_is_followed_and_moved(self, version: str) -> None:
        self.world.edit(version=None, alias="next")
        self.world.alias = version

    @rule(
        change=st.one_of(
            st.fixed_dictionaries({"replicas": st.integers(1, 5)}),
            st.fixed_dictionaries({"gates": st.sampled_from(sorted(GATES))}),
            st.fixed_dictionaries({"checks": st.sampled_from(sorted(CHECKS))}),
            st.fixed_dictionaries({"weights": st.sampled_from([(20, 60, 100), (5, 100), (100,)])}),
            st.fixed_dictionaries({"holdback": st.sampled_from([0, 10, 50])}),
            st.fixed_dictionaries({"suspend": st.sampled_from([False, False, True])}),
            st.fixed_dictionaries({"policy": st.booleans()}),
            st.fixed_dictionaries({"set_alias": st.booleans()}),
            st.fixed_dictionaries({"broken": st.sampled_from([False, False, True])}),
            st.fixed_dictionaries({"on_inconclusive": st.sampled_from(["Hold", "Rollback", "Promote"])}),
        )
    )
    def spec_is_edited(self, change: dict[str, Any]) -> None:
        self.world.edit(**change)

    @rule(gates=st.sampled_from(sorted(GATES)))
    def policy_is_edited(self, gates: str) -> None:
        self.world.set_policy(gates)

    @rule(
        verb=st.sampled_from(["promote", "abort", "pause", "resume", "skip", "retry", "rollback", "dance"]),
        meant=st.sampled_from(["candidate", "stable", "quarantined", "nobody"]),
    )
    def command_is_given(self, verb: str, meant: str) -> None:
        status = self.world.status
        revision = "0" * 10
        if meant == "candidate" and status.candidate:
            revision = status.candidate.revision
        elif meant == "stable" and status.stable:
            revision = status.stable.revision
        elif meant == "quarantined" and status.quarantine:
            revision = status.quarantine[0].key.split("-")[0]
        self.nonce += 1
        self.world.command = f"{verb}@{revision}-{self.nonce}"

    @rule(ticks=st.integers(2, 12))
    def people_suspend_for_a_while(self, ticks: int) -> None:
        self.world.edit(suspend=True)
        self.time_passes(ticks)
        self.world.edit(suspend=False)

    @rule(accuracy=st.sampled_from([0.4, 0.8, 0.9]), ticks=st.integers(2, 12))
    def evaluation_of_the_candidate_changes(self, accuracy: float, ticks: int) -> None:
        candidate = self.world.status.candidate
        if candidate is not None:
            self.world.accuracy[candidate.version] = accuracy
            self.time_passes(ticks)

    @rule(ticks=st.integers(2, 12), heals=st.booleans())
    def prometheus_is_away(self, ticks: int, heals: bool) -> None:
        self.world.faults.prometheus = True
        self.time_passes(ticks)
        self.world.faults.prometheus = not heals

    @rule(mode=st.sampled_from(["crash", "oom", "never"]), ticks=st.integers(0, 12))
    def pods_of_the_candidate_behave(self, mode: str, ticks: int) -> None:
        candidate = self.world.status.candidate
        if candidate is not None:
            self.world.pod_modes[candidate.version] = mode
            self.time_passes(ticks)
            self.world.pod_modes.clear()

    # -- faults ------------------------------------------------------------------------------------------------------
    @rule(fault=FAULTS, ticks=st.integers(0, 6))
    def something_breaks(self, fault: str, ticks: int) -> None:
        setattr(self.world.faults, fault, True)
        self.time_passes(ticks)

    @rule()
    def everything_heals(self) -> None:
        self.world.faults = Faults()

    @rule(version=VERSIONS, mode=st.sampled_from(["fine", "fine", "fine", "crash", "oom", "never"]))
    def pods_behave(self, version: str, mode: str) -> None:
        self.world.pod_modes[version] = mode

    @rule(version=VERSIONS, harmful=st.booleans())
    def model_turns_out(self, version: str, harmful: bool) -> None:
        (self.world.harmful.add if harmful else self.world.harmful.discard)(version)

    @rule(ticks=st.integers(8, 20))
    def engine_of_the_candidate_hangs(self, ticks: int) -> None:
        candidate = self.world.status.candidate
        if candidate is not None:
            self.world.hanging.add(candidate.version)
            self.time_passes(ticks)
            self.world.hanging.clear()

    @rule(ticks=st.integers(20, 60), heals=st.booleans())
    def requests_of_the_candidate_do_not_arrive(self, ticks: int, heals: bool) -> None:
        self.world.faults.unreached = True
        self.time_passes(ticks)
        self.world.faults.unreached = not heals

    @rule(data=st.data(), count=st.integers(1, 3))
    def pods_are_lost(self, data: st.DataObject, count: int) -> None:
        if self.world.pods:
            self.world.lose_pods(data.draw(st.sampled_from(sorted(self.world.pods))), count)

    @rule(version=VERSIONS, accuracy=st.sampled_from([0.4, 0.8, 0.9, None]))
    def registry_changes(self, version: str, accuracy: float | None) -> None:
        self.world.missing.discard(version)
        if accuracy is None:
            self.world.missing.add(version)
        else:
            self.world.accuracy[version] = accuracy

    @rule(a=st.sampled_from([0, 30, 100]), taken=st.booleans())
    def route_is_edited_by_hand(self, a: int, taken: bool) -> None:
        self.world.edit_route({"a": a, "b": 100 - a})
        if taken:
            self.world.program()

    @rule(kind=st.sampled_from(["HTTPRoute", "Service"]), slot=st.sampled_from(["a", "b"]))
    def child_is_deleted_by_hand(self, kind: str, slot: str) -> None:
        self.world.delete_child((kind, RELEASE if kind == "HTTPRoute" else f"{RELEASE}-{slot}"), None)

    def check_invariants(self, *args: Any) -> None:
        """Called after every step; the rules themselves are held after every effect within a step (`drive`)."""
        counting.STEPS += 1
        super().check_invariants(*args)

    # -- rule 9 ------------------------------------------------------------------------------------------------------
    def teardown(self) -> None:
        """Rule 9: once faults stop the release reaches a resting phase, and then nothing is written any more."""
        world = self.world
        for leader in self.stalled:
            self.drive(leader)
        world.faults = Faults()
        world.pod_modes.clear()
        world.missing.clear()
        world.edit(broken=False, suspend=False)
        dropped = world.status.records_dropped
        resting = 0
        for _ in range(PASSES_TO_REST):
            world.tick()
            resting = 0 if self.work() else resting + 1
            if resting >= 2 and (world.status.phase in RESTING and not self.clock_runs()):
                break
        else:
            raise AssertionError(f"no rest: {world.status.phase}: {world.status.message}")
        assert world.status.endings == ()
        assert len(world.ended - world.records.keys()) <= dropped

    def clock_runs(self) -> bool:
        """Whether time alone will change something soon: a wait for evidence or a phase's end is no rest yet."""
        candidate = self.world.status.candidate
        if candidate is None:
            return False
        paused = candidate.retreat is not None and candidate.retreat.until > self.world.now
        return paused or (candidate.clock_runs and candidate.waited_seconds < 300)


TestRules = ReleaseMachine.TestCase
