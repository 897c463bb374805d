"""Flux waits for a release, fails with it and is not fooled by a stale status: kstatus over every phase."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelrelease.api.reasons import Phase
from modelrelease.api.status import Stage
from modelrelease.core.observation import RegistryView
from tests.core.builders import FAILING, SILENT, Release, idle, release
from tests.core.test_argocd import blocked, resource, rolled_back
from tests.docs.kstatus import Status, status_of

Made = Callable[[], Release]
CASES: list[tuple[Made, Phase, Status]] = [
    (lambda: idle().decided(), Phase.PROMOTED, "Current"),
    (lambda: idle(version=8).see(registry=RegistryView()).decided(), Phase.GATING, "InProgress"),
    (lambda: idle(version=8, suspend=True).decided(), Phase.PENDING, "InProgress"),
    (blocked, Phase.BLOCKED, "Failed"),
    (lambda: release(step=0).decided(), Phase.PROGRESSING, "InProgress"),
    (lambda: release(step=0).see(samples=SILENT).later(90).decided(), Phase.HELD, "InProgress"),
    (lambda: release(step=0).say("pause").decided(), Phase.HELD, "InProgress"),
    (lambda: release(stage=Stage.BAKING, step=2).decided(), Phase.BAKING, "InProgress"),
    (lambda: release(step=1).see(samples=FAILING).decided(), Phase.ROLLING_BACK, "InProgress"),
    (rolled_back, Phase.ROLLED_BACK, "Failed"),
    (lambda: idle().broken().decided(), Phase.INVALID, "Failed"),
]


@pytest.mark.parametrize(("made", "phase", "expected"), CASES, ids=[f"{case[1]} is {case[2]}" for case in CASES])
def test_kstatus_of_every_phase(made: Made, phase: Phase, expected: Status) -> None:
    case = made()
    assert case.status.phase == phase
    assert status_of(resource(case)) == expected, case.status.message


def test_every_phase_is_among_the_cases() -> None:
    assert {phase for _, phase, _ in CASES} == set(Phase)


def test_a_promoted_release_without_a_ready_pod_is_not_current() -> None:
    assert status_of(resource(idle().see(pods={"7": 0}).decided())) == "InProgress"


def test_a_change_that_the_operator_has_not_seen_is_in_progress() -> None:
    assert status_of(resource(idle().decided(), generation=99)) == "InProgress"


def test_a_release_that_is_being_deleted_is_terminating() -> None:
    assert status_of(resource(idle().decided(), deletionTimestamp="2026-01-01T00:00:00Z")) == "Terminating"
