"""Two leaders at once: what a stalled one may still write after its successor has decided otherwise.

The nasty case is the one in which the successor finds the cluster as it wants it, and so would have nothing to write
that makes the late write collide.
"""

from __future__ import annotations

from tests.sim import rules
from tests.sim.executor import Steps, one_pass
from tests.sim.world import RELEASE, World, weights_of


def work(world: World, ticks: int) -> None:
    """Time passes under a healthy operator."""
    for _ in range(ticks):
        world.tick()
        work_off(world)


def finish(steps: Steps, world: World) -> bool:
    """Run a pass to its end; whether it wrote."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            rules.judge(world)
            return bool(end.value)


def stall_before_route(world: World) -> Steps:
    """Time passes until a pass has recorded another weight; it stalls before it writes anything."""
    for _ in range(60):
        world.tick()
        leader, before = one_pass(world), world.status.traffic
        for step in leader:
            if step == "recorded" and world.status.traffic != before:
                return leader
        work_off(world)
    raise AssertionError("no weight was ever recorded")


def work_off(world: World) -> None:
    """Passes until one writes nothing."""
    while finish(one_pass(world), world):
        pass


def test_a_leader_that_stalled_before_it_raised_a_weight_does_not_raise_it_after_a_rollback() -> None:
    world = World()
    work(world, 12)
    world.edit(version="2")
    stalled = stall_before_route(world)
    candidate = world.status.candidate
    assert candidate is not None
    world.command = f"abort@{candidate.revision}-1"
    work_off(world)
    finish(stalled, world)
    route = world.children["HTTPRoute", RELEASE]
    assert weights_of(route.body)[candidate.slot] == 0


def test_a_leader_that_stalled_before_it_dropped_pods_does_not_drop_those_of_the_next_attempt() -> None:
    world = World()
    work(world, 12)
    world.edit(version="2")
    work(world, 1)
    candidate = world.status.candidate
    assert candidate is not None
    world.edit(version="1")
    stalled = one_pass(world)
    assert [next(stalled), next(stalled)] == ["observed", "recorded"]
    assert world.status.candidate is None
    world.edit(version="2")
    world.now += rules.DRAIN / 1000
    work_off(world)
    finish(stalled, world)
    assert ("Deployment", f"{RELEASE}-{candidate.revision}") in world.children
