"""The Events of a rollout: which, in what order, and word for word."""

from __future__ import annotations

from dataclasses import replace

from modelrelease.api.status import ModelReleaseStatus, Stage
from modelrelease.core.announce import announce
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodFault, RegistryView, RouteView
from tests.core.builders import FAILING, HEALTHY, LIMIT, SILENT, Release, fresh, idle, model, polls, release, revision


def told(case: Release) -> list[tuple[str, str]]:
    """Reason and words of the Events of one decision."""
    return [(item.reason.value, item.note) for item in case.announced()]


def test_a_rollout_that_starts_says_so_and_what_its_gates_saw() -> None:
    assert told(idle(8)) == [
        ("RolloutStarted", f"v8 (revision {revision('8').revision}); v7 serves"),
        ("GatesPassed", "v8 passed its gates: auc: 0.9, needs 0.8"),
    ]


def test_a_blocked_rollout_says_what_was_seen_and_needed() -> None:
    case = idle(8).see(registry=RegistryView({"7": model("7"), "8": model("8", auc=0.7)}))
    assert told(case)[-1] == (
        "GateFailed",
        "gate auc: auc: 0.7, needs 0.8; nothing was deployed; register a better version or edit spec.gates",
    )


def test_a_weight_that_rises_is_told_with_its_phase() -> None:
    forecast, weight = told(release(0).see(samples=HEALTHY).later(60))
    assert forecast[0] == "PhaseForecast"
    assert forecast[1].startswith("phase half finds errors from ")
    assert weight == ("WeightChanged", "v8 gets 50% of traffic in phase half")


def test_a_first_release_is_in_no_phase_though_it_gets_all_traffic() -> None:
    case = fresh(7).decided().see(pods={"7": 2}).later(5).decided().later(5)
    assert ("WeightChanged", "v7 gets 100% of traffic") in told(case)


def test_a_rollback_says_what_was_seen_and_where_traffic_goes() -> None:
    case = release(0).see(samples=FAILING).later(20)
    words = "errors 50% (6,000 of 12,000) against 0.2%, allowed 1.2%. Sending traffic back to v7."
    assert told(case) == [("CheckFailed", words)]
    assert {item.type for item in case.announced()} == {"Warning"}


def test_a_confirmed_rollback_says_how_long_it_took() -> None:
    case = release(0).see(samples=FAILING).later(20).decided().later(1.5)
    assert told(case) == [("RolledBack", "all traffic is back on v7, 1.5 s after the verdict")]


def test_a_promotion_is_told() -> None:
    assert told(release(2, Stage.BAKING).see(samples=HEALTHY).later(300)) == [("Promoted", "v8 serves all traffic")]


def test_a_retreat_says_that_it_ends_by_itself() -> None:
    assert told(release(1).fault(PodFault.PODS_LOST)) == [
        (
            "Retreated",
            "v8 lost pods; its traffic is back on stable until they are ready: v8: 0 of 1 pods ready: PodsLost",
        ),
        ("WeightChanged", "v8 gets 0% of traffic"),
        ("PodsLost", "v8: 0 of 1 pods ready: PodsLost"),
    ]


def test_frozen_for_want_of_data_is_told_once() -> None:
    case = release(0).see(samples=SILENT).later(5)
    assert [reason for reason, _ in told(case)] == ["PrometheusUnreachable"]
    assert told(case.decided().later(600)) == []


def test_a_weight_edited_by_hand_is_told() -> None:
    case = release(0).see(route=RouteView({"a": 0, "b": 100}, True))
    assert told(case) == [("WeightRestored", "the gateway no longer has the weights 80/20; putting them back")]


def test_a_command_is_told_with_what_became_of_it() -> None:
    said = told(release(0).say("pause", by="ann"))
    assert said[0] == (
        "Paused",
        f"pause@{revision('8').revision}-1: accepted: the weight does not rise until resume (by ann)",
    )
    ignored = release(0).say("pause", "9").announced()[0]
    assert (ignored.type, ignored.reason.value) == ("Warning", "CommandIgnored")


def test_a_first_release_that_fails_its_checks_is_blocked_and_not_called_promoted() -> None:
    case = fresh(8, checks=[LIMIT]).decided().see(pods={"8": 2}).later(5).decided().later(5).decided()
    case = case.see(samples=polls(Counts(1000, 500), Counts(0, 0), check="limit", since=case.now)).later(60)
    assert [reason for reason, _ in told(case)] == ["CheckFailed"]


def test_a_rebuilt_status_is_told() -> None:
    case = replace(idle(7), status=ModelReleaseStatus())
    assert told(case) == [("StatusRebuilt", "the status was lost and has been rebuilt from the cluster")]


def test_nothing_that_changed_is_nothing_told() -> None:
    status = release(1).status
    assert announce(status, status) == ()
