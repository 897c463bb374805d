"""A gate that passed and does not any more, in mid-rollout: the weight is held, or goes back where the gate says so."""

from __future__ import annotations

from typing import Any

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.api.status import Stage
from modelrelease.core.observation import Lookup, Missing, ModelVersion, RegistryView, Unavailable
from tests.core.builders import GATE, HEALTHY, NOW, Release, model, release, spec

DOWN = Unavailable(Reason.REGISTRY_UNREACHABLE, "the registry does not answer")
UNLOGGED = ModelVersion("churn", "8", "models:/m-8", "READY", NOW)


def at(stage: Stage, step: int = 0, **rules: Any) -> Release:
    """Version 8 has passed its gate a moment ago."""
    began = release(step, stage, spec(gates=[{**GATE, **rules}])).see(samples=HEALTHY)
    passed = release(stage=Stage.GATING, of=began.spec).decided().status.gates
    return Release(began.spec, began.status.model_copy(update={"gates": passed}), began.obs, began.now)


def says(case: Release, found: Lookup) -> Release:
    """The registry says this of version 8 by now."""
    return case.see(registry=RegistryView({"7": model("7"), "8": found}))


REVOKED: dict[str, tuple[dict[str, Any], Lookup, str]] = {
    "it fails and says nothing": ({}, model("8", 0.7), "Held"),
    "it fails and says Hold": ({"onRevoked": "Hold"}, model("8", 0.7), "Held"),
    "it fails and says Rollback": ({"onRevoked": "Rollback"}, model("8", 0.7), "RollingBack"),
    "its figure is gone": ({"onRevoked": "Rollback"}, UNLOGGED, "Held"),
    "the registry is away": ({"onRevoked": "Rollback"}, DOWN, "Held"),
    "the version is gone": (
        {"onRevoked": "Rollback"},
        Missing(Reason.VERSION_NOT_FOUND, "churn has no version 8"),
        "Held",
    ),
    "it is advisory": ({"onRevoked": "Rollback", "advisory": True}, model("8", 0.7), "Progressing"),
}


@pytest.mark.parametrize(("rules", "found", "phase"), REVOKED.values(), ids=REVOKED.keys())
def test_before_a_raise_only_a_gate_that_says_rollback_is_harm(
    rules: dict[str, Any], found: Lookup, phase: str
) -> None:
    case = says(at(Stage.STARTING, step=1, **rules), found).later(120)
    after = case.decided()
    assert after.status.phase == phase
    assert bool(after.status.quarantine) is (phase == "RollingBack")
    if phase == "Held":
        assert after.weight == 20, "neither more nor less"


def test_a_held_weight_says_what_was_read_and_since_when_and_the_words_do_not_change() -> None:
    held = says(at(Stage.STARTING, step=1), model("8", 0.7)).later(60).decided()
    words = (
        "gate auc: auc: 0.7, needs 0.8; it had passed, and does not since 2026-01-01 12:01:00 UTC; "
        "the weight does not rise"
    )

    assert held.rest == ("Held", "GateRevoked")
    assert held.status.message == words
    assert held.later(300).decided().status.message == words
    assert held.later(300).announced() == ()
    condition = next(item for item in held.status.conditions if item.type == "GatesPassed")
    assert (condition.status, condition.message) == ("False", "gate auc: auc: 0.7, needs 0.8")


def test_a_gate_that_passes_again_lets_the_weight_rise() -> None:
    held = says(at(Stage.STARTING, step=1), model("8", 0.7)).later(60).decided()
    gone_on = says(held, model("8")).later(5)
    assert gone_on.decided().weight == 50


@pytest.mark.parametrize("stage", [Stage.SHIFTING, Stage.BAKING])
def test_a_gate_that_says_rollback_is_answered_at_once_at_every_weight(stage: Stage) -> None:
    case = at(stage, step=2 if stage is Stage.BAKING else 0, onRevoked="Rollback")
    before, back = case.later(5).decided(), says(case, model("8", 0.7)).later(5)

    assert before.weight > 0
    assert back.decided().weight == 0
    assert back.decided().status.quarantine[0].reason == "GateRevoked"
    (told, *_) = [item for item in back.announced() if item.reason is Reason.GATE_REVOKED]
    assert told.type == "Warning"
    assert told.note == (
        "gate auc: auc: 0.7, needs 0.8; it had passed: onRevoked is Rollback. Sending traffic back to v7."
    )


@pytest.mark.parametrize("found", [DOWN, UNLOGGED], ids=["unreadable", "not logged"])
@pytest.mark.parametrize("stage", [Stage.SHIFTING, Stage.BAKING])
def test_what_cannot_be_read_takes_nothing_back(stage: Stage, found: Lookup) -> None:
    case = at(stage, step=2 if stage is Stage.BAKING else 0, onRevoked="Rollback")
    after = says(case, found).later(5).decided()
    assert after.weight == case.weight
    assert after.status.quarantine == ()


def test_a_gate_that_says_rollback_blocks_without_blame_before_it_has_passed() -> None:
    case = says(release(stage=Stage.GATING, of=spec(gates=[{**GATE, "onRevoked": "Rollback"}])), model("8", 0.7))
    after = case.decided()
    assert after.rest == ("Blocked", "GateFailed")
    assert after.status.quarantine == ()


def test_the_next_rollout_begins_with_nothing_passed() -> None:
    back = says(at(Stage.SHIFTING, onRevoked="Rollback"), model("8", 0.7)).later(5).decided()
    back = back.later(5).decided().later(3600).decided()
    assert back.status.phase == "RolledBack"
    again = back.say("retry").decided()
    assert again.status.candidate is not None
    assert again.rest == ("Blocked", "GateFailed")
    assert not any(gate.passed for gate in again.status.gates)
