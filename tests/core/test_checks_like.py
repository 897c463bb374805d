"""Like with like: hardware, warm pods and load decide what a poll may count for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from modelrelease.core.checks import Fleet, Judgement, advance, begin, begin_phase, judge
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodFacts, PodPoll, Poll, Samples
from modelrelease.core.revision import Revision
from tests.core.builders import ERRORS, LIMIT, NOW, POLL, arm, revision, spec

CANARY, STABLE = revision("8").revision, revision("7").revision
SLOW = {"name": "slow", "latency": {"slowerThan": "500ms"}}
SLOW_MAX = {"name": "slow", "latency": {"slowerThan": "500ms", "max": 0.2}}
GOOD, STABLE_GOOD = Counts(1000, 20), Counts(1000, 20)
BAD = Counts(1000, 500)


def made(*checks: Mapping[str, object]) -> Revision:
    return revision("8", spec(checks=list(checks)))


def facts(hardware: str = "", ready: timedelta = timedelta(hours=-1), node: str = "node") -> PodFacts:
    """Of a pod that became ready so long after NOW."""
    return PodFacts(node, hardware, NOW + ready, NOW - timedelta(hours=2))


def fed(
    asked: Revision,
    canary: Mapping[str, PodPoll],
    stable: Mapping[str, PodPoll],
    fleet: Fleet = Fleet(),  # noqa: B008
    number: int = 12,
) -> Judgement:
    """What is said after so many polls of these pods."""
    polls = [Poll(NOW + (at + 1) * POLL, {CANARY: canary, STABLE: stable}) for at in range(number)]
    held = advance(begin(asked, NOW), asked, polls, STABLE, fleet)
    return judge(held, asked, Samples(tuple(polls)), has_stable=True, fleet=fleet)


def on(canary: Mapping[str, PodFacts], stable: Mapping[str, PodFacts], warm_up: int = 60) -> Fleet:
    """The fleet of these pods."""
    wait = timedelta(seconds=warm_up)
    return Fleet({CANARY: canary, STABLE: stable}, {CANARY: wait, STABLE: wait})


# -- hardware ----------------------------------------------------------------------------------------------------------
def test_arms_on_different_hardware_are_not_compared_and_absolute_checks_go_on() -> None:
    asked = made(ERRORS, LIMIT)
    fleet = on({"c": facts("L4")}, {"s": facts("A100")})
    healthy = fed(asked, arm("c", errors=GOOD, limit=GOOD), arm("s", errors=STABLE_GOOD), fleet)
    relative, absolute = healthy.checks
    assert (relative.verdict, relative.reason, absolute.verdict) == ("NoData", "DifferentHardware", "Pass")
    assert relative.message == ("errors: the candidate on L4, stable on A100: not comparable; absolute checks go on")
    assert not healthy.passed
    failing = fed(asked, arm("c", errors=BAD, limit=BAD), arm("s", errors=STABLE_GOOD), fleet)
    assert failing.failed is not None
    assert failing.failed.name == "limit"


def test_pods_on_hardware_that_the_other_arm_lacks_are_left_out() -> None:
    fleet = on({"c1": facts("A100"), "c2": facts("L4")}, {"s": facts("A100")})
    canary = arm("c1", errors=Counts(500, 5)) | arm("c2", errors=Counts(1500, 1000))
    (status,) = fed(made(ERRORS), canary, arm("s", errors=Counts(2000, 20)), fleet).checks
    assert (status.verdict, status.left_out) == ("Pass", 0.75)
    assert status.canary is not None
    assert (status.canary.total, status.canary.bad) == (6000, 60)


def test_hardware_that_both_arms_have_is_compared_class_by_class() -> None:
    """On each class the canary is as stable is; pooled it looks far worse, since most of it is on the slow class."""
    fleet = on({"c1": facts("A100"), "c2": facts("L4")}, {"s1": facts("A100"), "s2": facts("L4")})
    canary = arm("c1", errors=Counts(100, 1)) | arm("c2", errors=Counts(900, 180))
    stable = arm("s1", errors=Counts(900, 9)) | arm("s2", errors=Counts(100, 20))
    apart = fed(made(ERRORS), canary, stable, fleet, number=60)
    assert apart.failed is None
    assert apart.checks[0].evidence_percent == 0
    assert fed(made(ERRORS), canary, stable, number=60).failed is not None


def test_a_regression_on_one_class_of_hardware_is_found() -> None:
    fleet = on({"c1": facts("A100"), "c2": facts("L4")}, {"s1": facts("A100"), "s2": facts("L4")})
    canary = arm("c1", errors=Counts(100, 1)) | arm("c2", errors=Counts(100, 60))
    stable = arm("s1", errors=Counts(400, 4)) | arm("s2", errors=Counts(400, 4))
    assert fed(made(ERRORS), canary, stable, fleet).failed is not None


UNKNOWN = {
    "nothing is known of one arm": on({}, {"s": facts("A100")}),
    "nothing is known at all": on({}, {}),
    "no pod holds an accelerator": on({"c": facts()}, {"s": facts()}),
    "a vanished pod ran where its siblings run": on({"other": facts("L4")}, {"s": facts("L4")}),
}


@pytest.mark.parametrize("fleet", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_arms_are_compared_where(fleet: Fleet) -> None:
    assert fed(made(ERRORS), arm("c", errors=GOOD), arm("s", errors=STABLE_GOOD), fleet).passed


def test_hardware_that_becomes_alike_is_compared_from_then_on() -> None:
    asked = made(ERRORS)
    polls = [
        Poll(NOW + (at + 1) * POLL, {CANARY: arm("c", errors=GOOD), STABLE: arm("s", errors=STABLE_GOOD)})
        for at in range(24)
    ]
    held = advance(begin(asked, NOW), asked, polls[:12], STABLE, on({"c": facts("L4")}, {"s": facts("A100")}))
    held = advance(held, asked, polls[12:], STABLE, on({"c": facts("A100")}, {"s": facts("A100")}))
    assert judge(held, asked, Samples(), has_stable=True).passed


# -- warm-up -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cold", ["c", "s"])
def test_latencies_of_a_pod_that_warms_up_do_not_count_and_its_errors_do(cold: str) -> None:
    asked = made(SLOW, ERRORS)
    pods = {"c": facts(), "s": facts(), cold: facts(ready=timedelta(seconds=0))}
    fleet = on({"c": pods["c"]}, {"s": pods["s"]})
    canary, stable = arm("c", slow=BAD, errors=GOOD), arm("s", slow=STABLE_GOOD, errors=STABLE_GOOD)
    slow, errors = fed(asked, canary, stable, fleet).checks
    assert (slow.message, errors.verdict) == (
        "slow (slower than 500ms): no requests of the candidate counted yet",
        "Pass",
    )
    late = fed(asked, canary, stable, fleet, number=20).failed
    assert late is not None
    assert late.name == "slow"


def test_a_pod_that_joins_later_warms_up_beside_those_that_count() -> None:
    fleet = on({"c1": facts(), "c2": facts(ready=timedelta(seconds=10))}, {"s": facts()}, warm_up=600)
    canary = arm("c1", slow=Counts(1000, 20)) | arm("c2", slow=Counts(1000, 1000))
    judged = fed(made(SLOW), canary, arm("s", slow=Counts(1000, 20)), fleet)
    assert judged.passed
    assert judged.checks[0].canary is not None
    assert judged.checks[0].canary.total == 12_000


# -- load --------------------------------------------------------------------------------------------------------------
LOADS = {
    "a canary under parity may fail": (200, 100, 1000, "Fail"),
    "and does not pass": (200, 4, 1000, "Waiting"),
    "a canary over parity passes": (1000, 20, 200, "Pass"),
    "and does not fail": (1000, 500, 200, "Waiting"),
    "near parity it passes": (1000, 20, 900, "Pass"),
    "or fails": (1000, 500, 900, "Fail"),
}


@pytest.mark.parametrize(("canary", "bad", "stable", "verdict"), LOADS.values(), ids=LOADS.keys())
def test_latency_by_load(canary: int, bad: int, stable: int, verdict: str) -> None:
    arms = arm("c", slow=Counts(canary, bad)), arm("s", slow=Counts(stable, stable / 50))
    assert fed(made(SLOW), *arms, number=60).checks[0].verdict == verdict


def test_load_is_of_a_pod_and_not_of_an_arm() -> None:
    stable = {name: pod for one in "abcd" for name, pod in arm(one, slow=Counts(1000, 20)).items()}
    judged = fed(made(SLOW), arm("c", slow=Counts(1000, 20)), stable)
    assert (judged.passed, judged.checks[0].load, judged.parity_owed) == (True, 1.0, ())


def test_a_light_canary_is_not_waited_for_and_still_owes_parity() -> None:
    judged = fed(made(SLOW, ERRORS), arm("c", slow=Counts(100, 0), errors=GOOD), arm("s", slow=GOOD, errors=GOOD))
    assert (judged.passed, judged.parity_owed) == (True, ("slow",))
    assert judged.checks[0].reason == "UnequalLoad"
    assert judged.checks[0].message == (
        "slow (slower than 500ms) 0% (0 of 1,200) against 2%, allowed 4.5%: its pods get 0.1 times the load of "
        "stable's, so it can fail here, not pass; it must pass at 0.8 to 1.25 times before weight 100"
    )


def test_what_a_phase_waits_for_is_the_first_check_that_it_needs() -> None:
    few = Counts(10, 0)
    judged = fed(made(SLOW, ERRORS), arm("c", slow=Counts(1, 0), errors=few), arm("s", slow=GOOD, errors=few))
    assert judged.waits_for is not None
    assert judged.waits_for.name == "errors"
    apart = fed(made(ERRORS), arm("c", errors=GOOD), arm("s", errors=GOOD), on({"c": facts("L4")}, {"s": facts("T4")}))
    assert apart.waits_for is not None
    assert apart.waits_for.reason == "DifferentHardware"


def test_a_light_canary_is_waited_for_until_it_had_its_polls() -> None:
    assert not fed(made(SLOW), arm("c", slow=Counts(100, 0)), arm("s", slow=GOOD), number=2).passed


def test_a_pass_over_parity_still_owes_one_near_it() -> None:
    judged = fed(made(SLOW), arm("c", slow=Counts(2000, 40)), arm("s", slow=Counts(1000, 20)))
    assert (judged.passed, judged.parity_owed) == (True, ("slow",))


def test_a_pass_near_parity_is_remembered_in_later_phases() -> None:
    asked = made(SLOW)
    polls = [
        Poll(NOW + (at + 1) * POLL, {CANARY: arm("c", slow=GOOD), STABLE: arm("s", slow=GOOD)}) for at in range(12)
    ]
    held = advance(begin(asked, NOW), asked, polls, STABLE)
    later = begin_phase(held, held.at)
    assert judge(later, asked, Samples(), has_stable=True).parity_owed == ()


def test_errors_and_absolute_limits_do_not_mind_the_load() -> None:
    judged = fed(made(ERRORS, SLOW_MAX), arm("c", errors=Counts(100, 0), slow=GOOD), arm("s", errors=GOOD))
    assert (judged.passed, judged.parity_owed) == (True, ())


def test_without_a_stable_revision_no_parity_is_owed() -> None:
    asked = made(SLOW)
    assert judge(begin(asked, NOW), asked, Samples(), has_stable=False).parity_owed == ()
