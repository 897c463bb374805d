"""The command skip, and who gave a command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelrelease.api.status import Stage
from modelrelease.core.commands import UNKNOWN
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import Command, RegistryView
from tests.core.builders import FAILING, HEALTHY, SILENT, Release, model, polls, release, revision

INCONCLUSIVE = polls(Counts(3, 0), Counts(12, 0))

SKIP = f"skip@{revision('8').revision}-1"


def test_skip_when_the_phase_waits_for_time_and_evidence_goes_to_the_next_phase() -> None:
    case = release(0).see(samples=INCONCLUSIVE).say("skip").later(5).decided()
    assert case.weight == 50


def test_skip_when_the_next_phase_has_its_weight_waits_there_again() -> None:
    skipped = release(0).see(samples=INCONCLUSIVE).say("skip").later(5).decided()
    for _ in range(5):
        skipped = skipped.later(5).decided()
    assert skipped.weight == 50
    again = skipped.say("skip", nonce=2).decided()
    for _ in range(5):
        again = again.later(5).decided()
    assert again.weight == 100


def test_skip_when_the_last_phase_is_skipped_still_bakes() -> None:
    case = release(2).see(samples=HEALTHY).say("skip").decided().later(5).decided()
    assert case.status.phase == "Baking"


def test_skip_when_baking_promotes_at_once() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY).later(5)
    assert case.decided().status.phase == "Baking"
    assert case.say("skip").decided().status.phase == "Promoted"


def test_skip_when_prometheus_is_away_ends_the_wait_for_it() -> None:
    assert release(0).see(samples=SILENT).say("skip").later(5).decided().weight == 50


def test_skip_when_a_check_fails_does_not_overrule_it() -> None:
    case = release(0).see(samples=FAILING).say("skip").later(20).decided()
    assert case.rest == ("RollingBack", "CheckFailed")


def test_skip_when_a_gate_fails_does_not_overrule_it() -> None:
    revoked = RegistryView({"7": model("7"), "8": model("8", auc=0.5)})
    case = release(0).see(samples=HEALTHY, registry=revoked).say("skip").later(5).decided()
    assert (case.rest, case.weight) == (("Held", "GateFailed"), 20)


def test_skip_when_paused_waits_for_resume() -> None:
    paused = release(0).see(samples=HEALTHY).say("pause").decided().say("skip", nonce=2).decided()
    assert (paused.rest, paused.weight) == (("Held", "Paused"), 20)
    assert paused.status.commands[0].result.endswith("paused, it goes on after resume")
    assert paused.say("resume", nonce=3).later(5).decided().weight == 50


def test_skip_when_pods_are_lost_is_over() -> None:
    skipped = release(0).see(samples=INCONCLUSIVE).say("pause").decided().say("skip", nonce=2).decided()
    assert skipped.status.candidate is not None
    assert skipped.status.candidate.skipped == 0
    lost = skipped.see(pods={"8": 0}).later(5).decided()
    assert lost.status.candidate is not None
    assert (lost.status.candidate.stage, lost.status.candidate.skipped) == (Stage.STARTING, None)


def fast() -> Release:
    case = release(0)
    assert case.status.candidate is not None
    candidate = case.status.candidate.model_copy(update={"fast": True, "stage": Stage.STARTING})
    return replace(case, status=case.status.model_copy(update={"candidate": candidate}))


@pytest.mark.parametrize(
    ("case", "result"),
    [
        pytest.param(
            release(0, Stage.GATING),
            "ignored: no phase has begun, and gates are not skipped",
            id="while gates are read",
        ),
        pytest.param(fast(), "ignored: a former revision returns without phases", id="a former revision"),
        pytest.param(
            release(0),
            "accepted: phase canary waits no longer for time and evidence; gates and failing checks still hold",
            id="a phase",
        ),
        pytest.param(
            release(2, Stage.BAKING),
            "accepted: the bake waits no longer for time and evidence; gates and failing checks still hold",
            id="the bake",
        ),
    ],
)
def test_skip_says_what_it_does(case: Release, result: str) -> None:
    assert case.say("skip").decided().status.commands[0].result == result


@pytest.mark.parametrize(
    ("by", "told"),
    [pytest.param("ann@example.org", "ann@example.org", id="who said so"), pytest.param("", UNKNOWN, id="who did not")],
)
def test_a_command_is_remembered_and_told_with_who_gave_it(by: str, told: str) -> None:
    case = release(0).see(command=Command(SKIP, by))
    assert case.decided().status.commands[0].by == told
    [event] = [item for item in case.announced() if item.note.startswith(f"{SKIP}: accepted")]
    assert event.note.endswith(f"(by {told})")
