"""Load parity: which weight and how many pods make a pod of the canary carry as much as a pod of stable."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import Stage
from modelrelease.core import parity, plan
from modelrelease.core.checks import Judgement
from modelrelease.core.draft import Draft, Why
from modelrelease.core.evidence import Counts
from modelrelease.core.stops import hold_stop
from tests.api.builders import workload
from tests.core.builders import ERRORS, HEALTHY, Release, polls, release, revision, spec

LATENCY = {"name": "latency", "latency": {"slowerThan": "1s"}}
WITH_PARITY = [
    {"name": "canary", "weight": 5, "duration": "1m"},
    {"name": "parity", "weight": 50, "parity": True, "duration": "1m"},
    {"name": "full", "weight": 100},
]


def sized(replicas: int, **changes: Any) -> ModelReleaseSpec:
    return spec(workload={**workload(), "replicas": replicas}, **changes)


@pytest.mark.parametrize(
    ("replicas", "pods", "weight"),
    [(1, 1, 50), (2, 1, 33), (4, 1, 20), (10, 1, 9), (20, 1, 5), (30, 2, 6), (100, 5, 5), (1000, 50, 5)],
)
def test_the_default_phases_reach_parity_at_every_size(replicas: int, pods: int, weight: int) -> None:
    asked = sized(replicas, rollout={"phases": []})
    runs = revision("8", asked)
    assert [phase.name for phase in runs.phases] == ["canary", "parity", "half", "full"]
    assert (plan.pods_needed(asked, runs, 1, first=False), plan.weight_of(asked, runs, 1)) == (pods, weight)


@pytest.mark.parametrize("floor", [0, 1, 2, 5])
def test_parity_is_near_and_never_asks_for_fewer_pods_than_the_weights_share(floor: int) -> None:
    for stable in range(1, 400):
        least = max(1, math.ceil(floor * stable / 100))
        pods = parity.pods_for(stable, least=least, floor=floor, limit=50)
        weight = parity.weight_for(pods, stable, floor=floor, limit=50)
        assert 0.85 <= parity.load(weight, pods, stable) <= 1.15, (stable, pods, weight)
        assert least <= pods <= stable
        assert pods >= weight * stable / 100


def test_a_scale_is_no_other_revision() -> None:
    small, large = (sized(replicas, rollout={"phases": WITH_PARITY}) for replicas in (2, 20))
    assert revision("8", small).key == revision("8", large).key
    assert plan.weight_of(small, revision("8", small), 1) != plan.weight_of(large, revision("8", large), 1)


def test_the_weight_never_passes_its_limit_nor_falls_below_the_phase_before() -> None:
    phases = [{"name": "a", "weight": 10}, {"name": "b", "weight": 20, "parity": True}, {"name": "c", "weight": 100}]
    assert plan.weight_of(sized(1), revision("8", sized(1, rollout={"phases": phases})), 1) == 20
    assert plan.weight_of(sized(100), revision("8", sized(100, rollout={"phases": phases})), 1, pods=1) == 10


def test_a_phase_without_parity_has_the_digest_that_it_always_had() -> None:
    said = [{**phase, "parity": False} for phase in WITH_PARITY]
    silent = [{key: value for key, value in phase.items() if key != "parity"} for phase in WITH_PARITY]
    assert revision("8", spec(rollout={"phases": said})).rules == revision("8", spec(rollout={"phases": silent})).rules


@pytest.mark.parametrize(
    ("checks", "weights", "pods"),
    [
        pytest.param([ERRORS], (20, 50, 100), 1, id="without latency the weight's share"),
        pytest.param([ERRORS, LATENCY], (20, 50, 100), 2, id="with latency as many as stable at 50 %"),
        pytest.param([LATENCY], (20, 33, 100), 1, id="one beside two at a third"),
        pytest.param([LATENCY], (20, 80, 100), 2, id="never more than all"),
        pytest.param(
            [{"name": "slow", "latency": {"slowerThan": "1s", "max": 0.1}}],
            (20, 50, 100),
            1,
            id="an absolute limit compares with nothing",
        ),
    ],
)
def test_the_last_phase_below_100_comes_near_parity_by_itself(
    checks: list[dict[str, Any]], weights: tuple[int, ...], pods: int
) -> None:
    phases = [{"name": f"p{weight}", "weight": weight} for weight in weights]
    asked = spec(checks=checks, rollout={"phases": phases})
    assert plan.pods_needed(asked, revision("8", asked), 1, first=False) == pods
    assert plan.pods_needed(asked, revision("8", asked), 0, first=False) == 1


# -- in a rollout --
def in_parity(replicas: int = 2) -> Release:
    """The phase parity begins: one pod ready, at a weight of 5 %."""
    case = release(1, Stage.STARTING, of=sized(replicas, rollout={"phases": WITH_PARITY}), replicas=1)
    counted = polls(Counts(100, 0), Counts(1900, 0), number=1)
    return case.see(pods={"7": replicas, "8": 1}, samples=counted).later(10).decided()


def test_a_parity_phase_takes_the_weight_at_which_the_load_is_alike() -> None:
    case = in_parity()
    assert case.weight == 33
    assert case.status.step is not None
    assert (case.status.step.name, case.status.step.weight) == ("parity", 33)


def test_a_parity_phase_follows_a_scale_of_the_release() -> None:
    case = in_parity()
    larger = replace(case, spec=sized(8, rollout={"phases": WITH_PARITY})).see(pods={"7": 8}).later(5).decided()
    assert (larger.weight, larger.status.step.weight if larger.status.step else None) == (11, 11)
    larger = larger.later(5).decided()
    counted = polls(Counts(100, 0), Counts(1900, 0), number=1, since=larger.now)
    again = replace(larger, spec=case.spec).see(pods={"7": 2}, samples=counted).later(10).decided()
    assert again.weight == 33


def test_a_parity_phase_does_not_rise_after_a_scale_while_people_say_no() -> None:
    case = in_parity(8).see(pods={"8": 1}).later(5).decided()
    paused = replace(case, spec=sized(2, rollout={"phases": WITH_PARITY}, suspend=True)).later(5).decided()
    assert (case.weight, paused.weight) == (11, 11)


def owing(step: int, of: ModelReleaseSpec, **candidate: Any) -> Why | None:
    case = release(step, of=of, **candidate).see(samples=HEALTHY)
    judgement = Judgement((), None, passed=True, suspicious=False, parity_owed=("latency",))
    draft = Draft(case.spec, case.status, case.obs, case.now, judgement=judgement)
    assert case.spec is not None
    return hold_stop(draft, revision("8", case.spec), evidence_needed=True)


def test_all_traffic_waits_for_latency_that_was_never_compared_under_like_load() -> None:
    assert owing(0, spec()) is None
    stop = owing(1, spec(), replicas=1)
    assert stop is not None
    assert stop.reason == "ParityOwed"
    assert stop.message == (
        "check latency has not passed under like load, within a quarter of what a pod of stable carries; "
        "50% on 1 pod beside 2 of stable are not: a phase with parity: true, or other replicas of the phase, "
        "brings that about; command promote does without"
    )


def test_where_the_load_is_alike_it_is_requests_that_are_waited_for() -> None:
    stop = owing(1, spec())
    assert stop is not None
    assert stop.message.endswith("the load is alike now, more requests are needed")


def test_a_person_may_do_without_the_comparison() -> None:
    assert owing(1, spec(), hurried=True) is None


def test_phases_without_parity_and_without_latency_go_on_as_ever() -> None:
    case = release(1).see(samples=polls(Counts(1000, 2), Counts(1000, 2))).later(61).decided()
    assert (case.weight, case.status.candidate.stage if case.status.candidate else None) == (100, Stage.SHIFTING)
