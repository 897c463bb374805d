"""What several gates together do to a release: advisory ones, the trade-off, what stands in status and conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelrelease.core.observation import MetricValue, ModelVersion, RegistryView
from tests.core.builders import NOW, Release, idle

GOALS: list[dict[str, Any]] = [
    {"name": "helpfulness", "metric": {"name": "helpfulness", "champion": {"maxDrop": 0.01}}},
    {"name": "safety", "metric": {"name": "safety", "champion": {"maxDrop": 0.005}}},
]


def version(number: str, **metrics: float) -> ModelVersion:
    found = tuple(MetricValue(key, value) for key, value in metrics.items())
    return ModelVersion("churn", number, f"models:/m-{number}", "READY", NOW, f"run{number}", found)


def gated(gates: list[dict[str, Any]], **metrics: float) -> Release:
    """Version 7 serves with helpfulness 0.7 and safety 0.9; version 8 was evaluated like this and is wanted."""
    known = RegistryView({"7": version("7", helpfulness=0.7, safety=0.9), "8": version("8", **metrics)})
    asked = idle(8, gates=gates)
    return replace(asked, obs=replace(asked.obs, registry=known)).decided().decided()


def condition(case: Release) -> tuple[str, str]:
    found = next(item for item in case.status.conditions if item.type == "GatesPassed")
    return found.status, found.message


def test_a_failed_objective_blocks_and_the_message_shows_what_would_have_been_gained() -> None:
    case = gated(GOALS, helpfulness=0.721, safety=0.891)
    assert case.rest == ("Blocked", "GateFailed")
    words = "gate safety: safety: 0.891, needs 0.895 (champion 0.9)"
    assert words in case.status.message
    assert "against the champion: helpfulness +3.0 %, safety -1.0 %" in case.status.message
    assert condition(case) == ("False", f"{words}; against the champion: helpfulness +3.0 %, safety -1.0 %")


def test_an_advisory_objective_is_reported_and_does_not_block() -> None:
    case = gated([GOALS[0], GOALS[1] | {"advisory": True}], helpfulness=0.721, safety=0.891)
    assert case.status.phase not in ("Blocked", "Gating")
    assert [(item.name, item.verdict, item.advisory) for item in case.status.gates] == [
        ("helpfulness", "Pass", False),
        ("safety", "Fail", True),
    ]
    assert condition(case) == (
        "True",
        "passed: helpfulness; against the champion: helpfulness +3.0 %, safety -1.0 %; advisory and not passed: safety",
    )


def test_an_advisory_gate_without_data_does_not_block() -> None:
    case = gated([GOALS[0], GOALS[1] | {"advisory": True}], helpfulness=0.721)
    assert case.status.phase not in ("Blocked", "Gating")
    assert case.status.gates[1].verdict == "InsufficientData"


def test_a_registry_that_is_read_again_alone_causes_no_write() -> None:
    case = gated(GOALS, helpfulness=0.721, safety=0.891)
    versions = {"7": version("7", helpfulness=0.7, safety=0.9), "8": version("8", helpfulness=0.721, safety=0.891)}
    assert all(item.read_at == NOW for item in case.status.gates)
    again = case.later(600)
    known = {key: replace(item, read_at=again.now) for key, item in versions.items()}
    again = again.see(registry=RegistryView(known))
    assert again.decision().status is again.status
