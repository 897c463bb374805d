"""The cases of a release's life, each as a sentence: what is wanted, what is seen, where it comes to rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.reasons import Reason
from modelrelease.api.status import ModelReleaseStatus, QuarantineEntry, Stage
from modelrelease.core.decide import TRANSITIONS, State
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import (
    AliasTarget,
    Command,
    Missing,
    PodFault,
    RegistryView,
    RouteView,
    Samples,
    TemplateVerdict,
    Unavailable,
)
from modelrelease.core.revision import desired
from tests.core.builders import (
    ERRORS,
    FAILING,
    GATE,
    HEALTHY,
    LIMIT,
    NOW,
    PHASES,
    SILENT,
    Release,
    fresh,
    idle,
    model,
    polls,
    release,
    revision,
    spec,
)

DOWN = Unavailable(Reason.REGISTRY_UNREACHABLE, "the registry does not answer")
INCONCLUSIVE = polls(Counts(2, 0), Counts(8, 0))


def through(case: Release, *, ready: int = 2) -> Release:
    """Let its pods become ready and warm."""
    started = case.decided()
    version = started.status.candidate.version if started.status.candidate else "8"
    return started.see(pods={version: ready}).later(5).decided().later(5).decided()


def quarantine(case: Release, key: str, outcome: str = "RolledBack") -> Release:
    """A release that remembers a failure."""
    entry = QuarantineEntry.model_validate(
        {"key": key, "version": "8", "outcome": outcome, "reason": "CheckFailed", "message": "errors", "since": NOW}
    )
    return replace(case, status=case.status.model_copy(update={"quarantine": (entry,)}))


def returning() -> Release:
    """A rollback that was decided just now; the gateway takes the weights with the next pass."""
    return release(0).see(samples=FAILING).later(20).decided()


# -- the first release --
def test_a_first_release_gets_all_traffic_when_all_its_pods_are_ready() -> None:
    started = fresh(7).decided()
    assert (started.rest, started.weight) == (("Progressing", "Starting"), 0)
    assert through(fresh(7)).weight == 100


def test_a_first_release_without_absolute_checks_is_promoted_as_soon_as_the_route_is_confirmed() -> None:
    done = through(fresh(7)).decided()
    assert done.rest == ("Promoted", "Promoted")
    assert done.status.stable is not None
    assert done.status.stable.version == "7"


def test_a_first_release_with_a_failing_absolute_check_is_blocked_and_its_traffic_left_alone() -> None:
    case = through(fresh(8, checks=[LIMIT]))
    failing = polls(Counts(1000, 500), Counts(0, 0), check="limit", since=case.now)
    blocked = case.see(samples=failing).later(60).decided()
    assert (blocked.rest, blocked.weight) == (("Blocked", "CheckFailed"), 100)
    assert blocked.status.alias is None
    assert blocked.decided().rest == ("Blocked", "CheckFailed")


def test_a_first_release_that_is_blocked_does_not_move_the_alias() -> None:
    case = through(fresh(8, checks=[LIMIT], registry={"setAlias": "champion"}))
    failing = polls(Counts(1000, 500), Counts(0, 0), check="limit", since=case.now)
    assert case.see(samples=failing).later(60).decided().status.alias is None


def test_a_first_release_whose_gate_fails_creates_nothing() -> None:
    case = fresh(8)
    case = case.see(registry=RegistryView({"8": model("8", auc=0.7)}))
    blocked = case.decided()
    assert blocked.rest == ("Blocked", "GateFailed")
    assert blocked.status.message == (
        "gate auc: auc: 0.7, needs 0.8; nothing was deployed; register a better version or edit spec.gates"
    )
    assert blocked.status.candidate is not None
    assert blocked.status.candidate.stage is Stage.GATING


def test_a_first_release_whose_pods_crash_is_dropped_and_blocked() -> None:
    case = fresh(8).decided().see(pods={"8": 0}).fault(PodFault.CRASH_LOOP, crashes=3).later(30).decided()
    assert case.rest == ("Blocked", "CrashLoop")
    assert case.status.candidate is None


# -- through the phases --
def test_a_phase_ends_when_its_time_is_over_and_every_check_has_passed() -> None:
    case = release(0).see(samples=HEALTHY)
    assert case.later(59).decided().rest == ("Progressing", "PhaseRunning")
    assert case.later(60).decided().weight == 50


def test_a_phase_goes_on_while_a_check_waits_for_requests() -> None:
    case = release(0).see(samples=INCONCLUSIVE).later(61).decided()
    assert (case.rest, case.weight) == (("Held", "WaitingForEvidence"), 20)


def test_a_weight_does_not_rise_before_enough_pods_are_ready() -> None:
    case = release(2, Stage.STARTING).see(pods={"8": 1}).decided()
    assert (case.status.phase, case.weight) == ("Progressing", 50)


def test_growing_for_the_next_phase_is_no_loss_of_pods() -> None:
    case = release(0, of=spec(workload={**spec_workload(), "replicas": 10}), replicas=2).see(samples=HEALTHY)
    grown = case.later(60).decided()
    assert grown.status.candidate is not None
    assert (grown.status.candidate.stage, grown.status.candidate.replicas, grown.weight) == (Stage.STARTING, 5, 20)
    assert grown.later(5).decided().status.candidate.retreats == 0  # type: ignore[union-attr]


def spec_workload() -> dict[str, object]:
    """The workload of the smallest spec."""
    return spec().workload.model_dump(by_alias=True, exclude_none=True)


def test_a_weight_that_the_gateway_has_not_confirmed_counts_no_time() -> None:
    case = release(0).see(samples=HEALTHY, route=RouteView({"a": 80, "b": 20}, False, "no such Gateway"))
    waiting = case.decided().see(route=RouteView({"a": 80, "b": 20}, False, "no such Gateway")).later(600)
    assert waiting.decided().rest == ("Progressing", "RouteNotAccepted")


REFUSED = "Gateway edge: Accepted is False"


@pytest.mark.parametrize(
    ("case", "rest", "message"),
    [
        pytest.param(
            release(0).see(route=RouteView({"a": 80, "b": 20}, False, REFUSED)),
            ("Progressing", "RouteNotAccepted"),
            f"{REFUSED}; v8 waits for its 20% of traffic until the gateway accepts the route",
            id="shifting, refused",
        ),
        pytest.param(
            release(0).see(route=RouteView({"a": 80, "b": 20}, False)),
            ("Progressing", "RoutePending"),
            "v8 waits for its 20% of traffic: the gateway has yet to take the weights",
            id="shifting, not confirmed",
        ),
        pytest.param(
            release(2, Stage.BAKING).see(route=RouteView({"a": 0, "b": 100}, False, REFUSED)),
            ("Baking", "RouteNotAccepted"),
            f"{REFUSED}; v8 waits for its 100% of traffic until the gateway accepts the route",
            id="baking, refused",
        ),
        pytest.param(
            release(0).see(samples=FAILING, route=RouteView({"a": 100, "b": 0}, False, REFUSED)).later(60),
            ("RollingBack", "CheckFailed"),
            "errors 50% (6,000 of 12,000) against 0.2%, allowed 1.2%; sending traffic back to v7, "
            f"which the gateway does not take: {REFUSED}",
            id="rolling back, refused",
        ),
        pytest.param(
            idle(7).see(route=RouteView({"a": 100, "b": 0}, False, REFUSED)),
            ("Promoted", "RouteNotAccepted"),
            f"users may not reach v7: {REFUSED}",
            id="promoted, refused",
        ),
        pytest.param(
            idle(7).see(pods={"7": 0}),
            ("Promoted", "NotServing"),
            "v7 has all traffic and no ready pod",
            id="promoted, without pods",
        ),
    ],
)
def test_what_the_gateway_or_the_pods_do_not_do_is_told(case: Release, rest: tuple[str, str], message: str) -> None:
    decided = case.decided()
    assert (decided.rest, decided.status.message) == (rest, message)


def test_a_weight_edited_by_hand_is_told_again() -> None:
    case = release(0).see(route=RouteView({"a": 0, "b": 100}, True))
    told = case.decided()
    assert told.weight == 20
    assert case.decision().status.traffic.confirmed_at is None  # type: ignore[union-attr]


def test_the_bake_keeps_the_former_revision_and_ends_in_promotion() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY)
    assert case.later(299).decided().rest == ("Baking", "Baking")
    done = case.later(300).decided()
    assert done.rest == ("Promoted", "Promoted")
    assert done.status.previous is not None
    assert done.status.previous.version == "7"


def test_the_bake_does_not_end_on_the_first_answer_without_data() -> None:
    """What is not told yet, as a series may be late, may be the beginning of an outage."""
    case = release(2, Stage.BAKING).see(samples=HEALTHY).later(300)
    away = Unavailable(Reason.NO_DATA, "Prometheus has scraped no pod", case.now - timedelta(seconds=1))
    held = case.see(samples=replace(case.obs.samples, problem=away)).decided()
    assert (held.rest, held.weight) == (("Held", "NoData"), 100)
    assert case.decided().rest == ("Promoted", "Promoted")


def test_the_bake_does_not_end_while_a_pod_of_the_new_revision_is_missing() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY, pods={"8": 1}).later(400).decided()
    assert case.rest == ("Baking", "Starting")


def test_a_holdback_stays_on_stable_until_promotion() -> None:
    asked = spec(rollout={"bake": {"duration": "5m", "holdback": 10}})
    case = release(2, Stage.STARTING, of=asked).see(samples=HEALTHY).decided()
    assert case.weight == 90


def test_the_share_held_back_rises_only_if_the_gates_still_pass() -> None:
    asked = spec(rollout={"bake": {"duration": "5m", "holdback": 10}})
    case = release(2, Stage.BAKING, of=asked)
    traffic = case.status.traffic.model_copy(update={"a": 10, "b": 90})  # type: ignore[union-attr]
    case = replace(case, status=case.status.model_copy(update={"traffic": traffic}))
    samples = polls(Counts(1000, 2), Counts(4000, 8), number=60)
    case = case.see(samples=samples, route=RouteView({"a": 10, "b": 90}, True)).later(300)
    revoked = case.see(registry=RegistryView({"7": model("7"), "8": model("8", auc=0.5)})).decided()
    assert (revoked.rest, revoked.weight) == (("Held", "GateFailed"), 90)
    assert case.decided().rest == ("Promoted", "Promoted")


def test_a_gate_that_is_revoked_freezes_the_weight_and_rolls_nothing_back() -> None:
    case = release(0).see(samples=HEALTHY, registry=RegistryView({"7": model("7"), "8": model("8", auc=0.5)}))
    held = case.later(60).decided()
    assert (held.rest, held.weight) == (("Held", "GateFailed"), 20)


# -- another revision --
def test_a_new_revision_while_progressing_takes_traffic_back_first_and_is_not_quarantined() -> None:
    back = release(1).edit(9).decided()
    assert (back.rest, back.weight) == (("RollingBack", "Superseded"), 0)
    assert back.status.quarantine == ()
    back = back.decided()
    assert back.rest == ("Progressing", "Draining")
    drained = back.later(61).decided()
    assert drained.status.history[0].outcome == "Superseded"
    assert drained.status.candidate is not None
    assert drained.status.candidate.version == "9"


def test_a_new_revision_while_rolling_back_queues() -> None:
    back = returning().edit(9).later(5).decided()
    assert back.status.phase == "RollingBack"
    assert back.status.candidate is not None
    assert back.status.candidate.version == "8"
    assert back.later(61).decided().status.candidate.version == "9"  # type: ignore[union-attr]


def test_a_new_revision_while_baking_queues() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY).edit(9).later(10).decided()
    assert case.rest == ("Baking", "Baking")
    assert case.status.candidate is not None
    assert case.status.candidate.version == "8"


def test_a_revert_to_stable_before_promotion_drops_the_candidate_and_is_promoted_at_once() -> None:
    back = release(1).edit(7).decided()
    assert back.weight == 0
    back = back.decided()
    assert back.rest == ("Promoted", "Draining")
    done = back.later(61).decided()
    assert done.rest == ("Promoted", "Promoted")
    assert done.status.history[0].outcome == "Dropped"
    assert done.status.quarantine == ()


def test_a_revert_to_stable_while_baking_drops_the_candidate() -> None:
    assert release(2, Stage.BAKING).edit(7).decided().weight == 0


def test_going_back_to_a_revision_promoted_before_asks_no_registry_and_skips_phases() -> None:
    case = idle(8).see(
        registry=RegistryView(),
        promoted=(revision("7").key, revision("8").key),
        revisions={revision("7").key: revision("7"), revision("8").key: revision("8")},
    )
    asked = case.decision().wants.registry
    assert asked is not None
    assert (asked.versions, asked.aliases) == (frozenset(), frozenset()), "its tags are written, and nothing is read"
    raised = through(case)
    assert raised.weight == 100
    assert raised.decided().rest == ("Promoted", "Promoted")


def test_a_revision_promoted_before_that_was_rolled_back_by_a_person_goes_through_its_gates_again() -> None:
    case = idle(8, gates=[{"name": "auc", "metric": {"name": "auc", "min": 0.85}}]).see(
        promoted=(revision("7").key, revision("8").key),
        revisions={revision("7").key: revision("7"), revision("8").key: revision("8")},
    )
    case = quarantine(case, revision("8").key).decided()
    assert case.status.candidate is not None
    assert not case.status.candidate.fast


def test_a_policy_edited_in_mid_rollout_applies_to_the_next() -> None:
    stricter = ReleasePolicySpec.model_validate({"gates": [{"name": "top", "metric": {"name": "auc", "min": 0.99}}]})
    asked = spec(policyRef={"name": "house"})
    case = release(1, of=asked).see(policy=stricter, samples=HEALTHY).later(10).decided()
    assert (case.rest, case.weight) == (("Progressing", "PhaseRunning"), 50)


def test_gates_of_the_release_edited_in_mid_rollout_start_another_one() -> None:
    stricter = {"name": "auc", "metric": {"name": "auc", "min": 0.85}}
    back = release(1).edit(8, gates=[stricter]).decided()
    assert (back.weight, back.status.quarantine) == (0, ())


def test_phases_edited_in_mid_rollout_apply_to_the_next() -> None:
    case = release(1).edit(8, rollout={"phases": PHASES[1:]}).see(samples=HEALTHY).later(10).decided()
    assert (case.rest, case.weight) == (("Progressing", "PhaseRunning"), 50)


def test_a_policy_edited_while_a_gate_blocks_is_tried_at_once() -> None:
    strict = {"name": "auc", "metric": {"name": "auc", "min": 0.99}}
    blocked = idle(8, gates=[strict]).decided()
    assert blocked.rest == ("Blocked", "GateFailed")
    assert blocked.edit(8).decided().status.phase == "Progressing"


def test_the_next_rollout_waits_until_the_former_revision_has_drained() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY).later(300).decided()
    previous = case.status.previous
    assert previous is not None
    undrained = previous.model_copy(update={"drained_at": None, "replicas": 2})
    traffic = case.status.traffic.model_copy(update={"confirmed_at": case.now})  # type: ignore[union-attr]
    case = replace(case, status=case.status.model_copy(update={"previous": undrained, "traffic": traffic}))
    waiting = case.edit(9).see(template=TemplateVerdict(revision("9").revision, None)).decided()
    assert waiting.rest == ("Pending", "Draining")
    assert waiting.later(61).decided().status.phase == "Progressing"


# -- harm --
def test_a_failing_check_takes_all_traffic_back_and_quarantines() -> None:
    case = release(0).see(samples=FAILING).later(20).decided()
    assert (case.rest, case.weight) == (("RollingBack", "CheckFailed"), 0)
    assert [entry.key for entry in case.status.quarantine] == [revision("8").key]
    assert case.status.candidate is not None
    assert case.status.candidate.replicas == 2


def test_pods_go_only_after_requests_in_flight_had_their_time() -> None:
    back = returning()
    draining = back.later(59).decided()
    assert draining.status.candidate is not None
    done = back.later(1).decided().later(61).decided()
    assert done.status.candidate is None
    assert done.rest == ("RolledBack", "CheckFailed")


def test_the_time_from_verdict_to_confirmed_route_is_recorded() -> None:
    back = returning().later(0.5).decided()
    assert back.status.last_rollback is not None
    assert back.status.last_rollback.seconds == 0.5


def test_a_weight_edited_by_hand_while_draining_makes_the_drain_start_again() -> None:
    back = returning().later(1).decided()
    edited = back.later(30).see(route=RouteView({"a": 50, "b": 50}, True)).decided()
    assert edited.later(40).decided().status.candidate is not None
    assert edited.later(1).decided().later(61).decided().status.candidate is None


def test_failing_checks_are_found_while_the_route_is_not_confirmed() -> None:
    case = release(0).see(samples=FAILING, route=RouteView({"a": 80, "b": 20}, False)).later(20).decided()
    assert case.rest == ("RollingBack", "CheckFailed")


def test_an_unreadable_spec_does_not_delay_a_rollback() -> None:
    case = release(0).broken().see(samples=FAILING).later(20)
    assert case.decided().rest == ("RollingBack", "CheckFailed")
    assert case.decision().wants.samples is not None or case.decision().status.candidate.returning  # type: ignore[union-attr]


def test_an_unreadable_spec_goes_on_sampling_and_freezes_the_weight() -> None:
    case = release(0).broken().see(samples=HEALTHY).later(600)
    assert case.decided().rest == ("Invalid", "InvalidSpec")
    assert case.decided().weight == 20
    assert case.decision().wants.samples is not None


def test_crashing_pods_with_traffic_are_harm() -> None:
    case = release(1).fault(PodFault.OOM_KILLED, ready=1, crashes=1).decided()
    assert (case.rest, case.weight) == (("RollingBack", "OOMKilled"), 0)


def test_crashes_that_pods_got_over_are_no_harm_when_the_candidate_grows() -> None:
    case = release(1, Stage.STARTING, replicas=1, carries=1)
    digest = revision("8").revision
    pods = replace(case.obs.workloads[digest], replicas=1, ready=1, crashes=5)
    grown = case.see(workloads={**case.obs.workloads, digest: pods}, samples=HEALTHY)
    grown = grown.edit(8, workload={**spec_workload(), "replicas": 8}).later(5).decided()
    assert (grown.status.phase, grown.status.quarantine) == ("Progressing", ())


def test_pods_that_never_become_ready_are_harm_after_the_deadline() -> None:
    case = release(0, Stage.STARTING).see(pods={"8": 0})
    assert case.later(599).decided().rest == ("Progressing", "Starting")
    late = case.later(600).decided()
    assert late.rest == ("RolledBack", "NeverReady")
    assert late.status.message == (
        "v8 has 0 of 1 pods ready after 10m; v7 serves; v8 is quarantined: "
        f"release another version, or command retry@{revision('8').revision}-<nonce>"
    )


def test_the_deadline_does_not_run_while_a_pod_cannot_be_scheduled() -> None:
    case = release(0, Stage.STARTING).fault(PodFault.UNSCHEDULABLE).decided()
    late = case.fault(PodFault.UNSCHEDULABLE).later(86400).decided()
    assert late.rest == ("Pending", "Unschedulable")
    assert late.status.quarantine == ()


def test_the_deadline_does_not_run_while_pods_are_ready_and_something_else_is_waited_for() -> None:
    held = release(0, Stage.STARTING).edit(8, suspend=True).decided().later(86400).decided()
    assert held.see(pods={"8": 0}).later(5).decided().status.quarantine == ()


def test_lost_pods_make_the_candidate_retreat_and_it_returns_by_itself() -> None:
    lost = release(1).fault(PodFault.PODS_LOST).decided()
    assert (lost.weight, lost.status.quarantine) == (0, ())
    assert lost.status.candidate is not None
    assert (lost.status.candidate.stage, lost.status.candidate.retreats) == (Stage.STARTING, 1)
    back = lost.see(pods={"8": 2}).later(5).decided().later(5).decided()
    assert back.weight == 50


# -- missing data --
@pytest.mark.parametrize("seconds", [60, 6000, 86400])
def test_missing_data_freezes_the_weight_however_long(seconds: int) -> None:
    case = release(0).see(samples=SILENT).decided().later(seconds).decided()
    assert (case.rest, case.weight) == (("Held", "PrometheusUnreachable"), 20)
    assert case.status.quarantine == ()


def test_the_clock_of_a_timeout_stops_on_missing_data() -> None:
    case = release(0, of=spec(rollout={"onInconclusive": "Rollback"})).see(samples=SILENT).decided().later(3600)
    waiting = case.see(samples=INCONCLUSIVE).decided()
    assert waiting.status.phase == "Progressing"
    assert waiting.see(samples=INCONCLUSIVE).later(599).decided().rest == ("Held", "WaitingForEvidence")
    assert waiting.see(samples=INCONCLUSIVE).later(600).decided().rest == ("RollingBack", "Inconclusive")


@pytest.mark.parametrize(
    ("choice", "rest", "weight"),
    [
        ("Hold", ("Held", "Inconclusive"), 20),
        ("Rollback", ("RollingBack", "Inconclusive"), 0),
        ("Promote", ("Progressing", "RoutePending"), 50),
    ],
)
def test_a_timeout_without_evidence_does_what_on_inconclusive_says(
    choice: str, rest: tuple[str, str], weight: int
) -> None:
    lately = polls(Counts(0, 0), Counts(8, 0), number=1, since=NOW + timedelta(seconds=590))
    samples = Samples((*INCONCLUSIVE.polls, *lately.polls))
    case = release(0, of=spec(rollout={"onInconclusive": choice})).see(samples=samples).later(601).decided()
    assert (case.rest, case.weight) == (rest, weight)


def test_a_hold_after_a_timeout_asks_for_no_wake_in_the_past() -> None:
    case = release(0).see(samples=INCONCLUSIVE).later(6000)
    assert case.decision().wake_at is None or case.decision().wake_at > case.now  # type: ignore[operator]


def test_a_silent_registry_keeps_the_weight_from_rising() -> None:
    case = release(0).see(samples=HEALTHY, registry=RegistryView({"7": DOWN, "8": DOWN})).later(60).decided()
    assert (case.rest, case.weight) == (("Held", "GatesUnavailable"), 20)


# -- a lost status --
def lost(case: Release) -> Release:
    """Its status was wiped."""
    return replace(case, status=ModelReleaseStatus()).see(fence=40)


def test_a_lost_status_of_an_idle_release_is_rebuilt_without_touching_what_serves() -> None:
    case = lost(idle(7)).decided()
    assert (case.rest, case.weight) == (("Promoted", "Promoted"), 100)


def test_a_rebuilt_status_goes_on_behind_the_fence() -> None:
    assert lost(idle(7)).decided().status.sequence == 41


def test_a_status_lost_in_mid_rollout_sends_traffic_back_and_starts_again() -> None:
    case = lost(release(1)).decided()
    assert case.status.stable is not None
    assert (case.status.stable.version, case.weight) == ("7", 0)
    again = case.decided().later(61).decided()
    assert again.status.candidate is not None
    assert (again.status.candidate.version, again.status.candidate.stage) == ("8", Stage.STARTING)


def test_a_status_lost_while_baking_goes_back_to_the_revision_promoted_last() -> None:
    case = lost(release(2, Stage.BAKING)).decided()
    assert case.status.stable is not None
    assert case.status.stable.version == "7"


def test_a_lost_status_keeps_its_quarantine() -> None:
    case = lost(idle(8))
    case = case.see(
        revisions={**case.obs.revisions, revision("8").key: revision("8")}, quarantined=(revision("8").key,)
    )
    assert case.decided().rest == ("RolledBack", "Quarantined")


# -- quarantine --
FAILED = quarantine(idle(8), revision("8").key).see(
    revisions={revision("7").key: revision("7"), revision("8").key: revision("8")}
)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda case: case.edit(8, workload={**spec_workload(), "replicas": 5}), id="a scale"),
        pytest.param(lambda case: case.edit(8, suspend=True).decided().edit(8), id="suspend and resume"),
        pytest.param(lambda case: case.edit(7).decided().edit(8), id="a revert and back"),
        pytest.param(lambda case: case.edit(8, rollout={"phases": PHASES[1:]}), id="other phases"),
        pytest.param(lambda case: case.decided().decided(), id="a restart"),
        pytest.param(lambda case: case.say("promote"), id="command promote"),
    ],
)
def test_quarantine_survives(change) -> None:  # type: ignore[no-untyped-def]
    case = change(FAILED).decided()
    assert case.status.phase == "RolledBack"
    assert case.status.candidate is None


def test_quarantine_survives_an_alias_that_flaps() -> None:
    case = replace(FAILED, spec=spec(7, model={"name": "churn", "alias": "next"}))
    for version in ("8", "7", "8"):
        aliases = {"next": AliasTarget(version, NOW)}
        case = case.see(registry=RegistryView(case.obs.registry.versions, aliases)).later(5).decided()
    assert case.status.phase == "RolledBack"


def test_quarantine_is_lifted_by_retry() -> None:
    case = FAILED.say("retry").decided()
    assert case.status.quarantine == ()
    assert case.status.candidate is not None


def test_quarantine_is_lifted_by_other_gates() -> None:
    case = FAILED.edit(8, gates=[GATE, {"name": "more", "metric": {"name": "auc", "min": 0.5}}]).decided()
    assert case.status.candidate is not None
    assert len(case.status.quarantine) == 1


def test_quarantine_is_lifted_by_other_checks() -> None:
    assert FAILED.edit(8, checks=[ERRORS, LIMIT]).decided().status.candidate is not None


# -- commands --
def test_promote_ends_the_wait_for_time_and_evidence() -> None:
    case = release(0).see(samples=INCONCLUSIVE).say("promote").later(5).decided()
    assert case.weight == 50


def test_promote_does_not_overrule_a_failing_check() -> None:
    case = release(0).see(samples=FAILING).say("promote").later(20).decided()
    assert case.rest == ("RollingBack", "CheckFailed")


def test_promote_does_not_overrule_a_gate() -> None:
    revoked = RegistryView({"7": model("7"), "8": model("8", auc=0.5)})
    case = release(0).see(samples=HEALTHY, registry=revoked).say("promote").later(5).decided()
    assert (case.rest, case.weight) == (("Held", "GateFailed"), 20)


def test_promote_works_while_prometheus_is_away() -> None:
    assert release(0).see(samples=SILENT).say("promote").later(5).decided().weight == 50


def test_abort_sends_traffic_back_and_quarantines() -> None:
    case = release(1).say("abort").decided()
    assert (case.rest, case.weight) == (("RollingBack", "Aborted"), 0)
    assert [entry.reason for entry in case.status.quarantine] == ["Aborted"]


def test_pause_freezes_the_weight_until_resume() -> None:
    paused = release(0).see(samples=HEALTHY).say("pause").decided().later(600).decided()
    assert (paused.rest, paused.weight) == (("Held", "Paused"), 20)
    resumed = paused.say("resume", nonce=2).decided().see(samples=HEALTHY).later(60).decided()
    assert resumed.weight == 20
    fresh_polls = polls(Counts(1000, 2), Counts(4000, 8), number=1, since=resumed.now)
    assert resumed.see(samples=fresh_polls).later(10).decided().weight == 50


def test_nothing_rises_on_counts_of_long_ago_though_no_problem_is_known() -> None:
    case = release(0).see(samples=HEALTHY)
    assert case.later(180).decided().weight == 50
    held = case.later(181).decided()
    assert (held.rest, held.weight) == (("Held", "NoData"), 20)
    assert held.status.message.startswith("no requests have been counted since 12:01:00 UTC; the weight is frozen")


def test_pause_does_not_stop_a_rollback() -> None:
    paused = release(0).say("pause").decided().see(samples=FAILING).later(20).decided()
    assert paused.rest == ("RollingBack", "CheckFailed")


def test_rollback_returns_to_the_revision_promoted_before() -> None:
    case = with_previous().say("rollback", "8").decided()
    assert case.status.candidate is not None
    assert (case.status.candidate.version, case.status.candidate.fast) == ("7", True)
    done = through(case).decided()
    assert done.status.stable is not None
    assert done.status.stable.version == "7"
    assert done.rest == ("RolledBack", "RollbackRequested")


def with_previous() -> Release:
    """Version 8 was promoted a moment ago, 7 has drained."""
    return release(2, Stage.BAKING).see(samples=HEALTHY).later(300).decided().later(1).decided()


@pytest.mark.parametrize("verb", ["promote", "abort", "pause", "resume", "skip", "retry", "rollback"])
def test_a_command_for_another_revision_is_ignored_and_remembered(verb: str) -> None:
    case = release(0).see(samples=HEALTHY).say(verb, "9").later(5)
    ignored = case.decided()
    assert (ignored.rest, ignored.weight) == (("Progressing", "PhaseRunning"), 20)
    assert ignored.status.commands[0].result.startswith("ignored: revision")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("promote", "ignored: write it as <verb>@<revision>-<nonce>"),
        (
            "dance@0123456789-1",
            "ignored: unknown verb dance; known are promote, abort, pause, resume, skip, retry, rollback",
        ),
    ],
)
def test_a_command_that_cannot_be_read_is_ignored(text: str, result: str) -> None:
    case = release(0)
    said = case.see(command=Command(text)).decided()
    assert said.status.commands[0].result == result


def test_a_command_is_obeyed_once() -> None:
    case = release(0).say("pause").decided().say("resume", nonce=2).decided()
    assert case.say("pause").decided().status.paused is False


# -- people and specs --
def test_suspend_in_mid_rollout_freezes_the_weight_and_not_a_rollback() -> None:
    suspended = release(0).edit(8, suspend=True).see(samples=HEALTHY).later(600).decided()
    assert (suspended.reason, suspended.weight) == ("Suspended", 20)
    assert release(0).edit(8, suspend=True).see(samples=FAILING).later(20).decided().weight == 0


def test_suspend_does_not_keep_a_commanded_rollback_from_happening() -> None:
    suspended = with_previous().edit(8, suspend=True).decided()
    done = through(suspended.say("rollback", "8").decided()).decided()
    assert done.status.stable is not None
    assert (done.status.stable.version, done.rest) == ("7", ("RolledBack", "RollbackRequested"))


def test_a_suspended_return_by_an_edit_waits() -> None:
    case = with_previous().edit(7, suspend=True).decided()
    assert case.rest == ("Pending", "Suspended")


def test_another_model_in_the_spec_does_not_hold_the_bake_of_this_one_for_ever() -> None:
    holding = {"bake": {"duration": "5m", "holdback": 10}}
    case = release(2, Stage.BAKING, of=spec(rollout=holding)).see(samples=HEALTHY, registry=RegistryView())
    queued = case.edit(1, model={"name": "other", "version": 1}, rollout=holding).later(300).decided()
    assert queued.status.stable is not None
    assert (queued.status.stable.version, queued.status.candidate) == ("8", None)


def test_the_gates_of_a_candidate_are_never_read_off_another_model() -> None:
    case = release(0).edit(8, model={"name": "other", "alias": "next"}).see(samples=HEALTHY).later(60).decided()
    assert (case.rest, case.weight) == (("Held", "RegistryPending"), 20)


def test_a_suspended_release_starts_nothing() -> None:
    case = idle(8, suspend=True).decided()
    assert case.rest == ("Pending", "Suspended")
    assert case.status.candidate is None


def test_a_scale_reaches_stable_and_candidate_at_once() -> None:
    case = release(2, Stage.BAKING).edit(8, workload={**spec_workload(), "replicas": 6}).decided()
    assert case.status.stable is not None
    assert case.status.candidate is not None
    assert (case.status.stable.replicas, case.status.candidate.replicas, case.weight) == (6, 6, 100)


def test_a_refused_pod_template_is_invalid_and_changes_nothing() -> None:
    verdict = TemplateVerdict(revision("8").revision, "spec.containers[0].image: Required value")
    case = idle(8).see(template=verdict).decided()
    assert case.rest == ("Invalid", "TemplateRefused")
    assert case.weight == 100


@pytest.mark.parametrize(
    ("seen", "rest"),
    [
        (Missing(Reason.VERSION_NOT_FOUND, "version 8 does not exist"), ("Gating", "VersionNotFound")),
        (Missing(Reason.MODEL_NOT_FOUND, "model churn does not exist"), ("Gating", "ModelNotFound")),
        (DOWN, ("Gating", "RegistryUnreachable")),
        (Unavailable(Reason.REGISTRY_UNAUTHORIZED, "401"), ("Gating", "RegistryUnauthorized")),
    ],
    ids=["missing version", "missing model", "registry down", "wrong credentials"],
)
def test_what_the_registry_does_not_tell_is_said_and_what_serves_goes_on(seen, rest) -> None:  # type: ignore[no-untyped-def]
    case = idle(8).see(registry=RegistryView({"8": seen})).decided()
    assert (case.rest, case.weight) == (rest, 100)


def test_a_foreign_object_of_the_same_name_is_a_conflict() -> None:
    assert idle(8).see(conflicts=("Service churn-a",)).decided().rest == ("Invalid", "NameConflict")


def test_a_champion_of_another_model_cannot_be_compared() -> None:
    champion = {"name": "auc", "metric": {"name": "auc", "champion": {"maxDrop": 0.01}}}
    asked = spec(8, model={"name": "other", "version": 8}, gates=[champion])
    target = desired("churn", asked, None, "8")
    case = replace(idle(7), spec=asked).see(template=TemplateVerdict(target.revision, None)).decided()
    assert case.rest == ("Gating", "GatesUnavailable")
    assert "another model" in case.status.message


# -- the machine itself --
def test_every_state_can_be_left_and_reached() -> None:
    assert {origin for origin, _ in TRANSITIONS} == set(State) == {to for _, to in TRANSITIONS}


def test_a_settled_release_gets_back_the_very_same_status() -> None:
    case = idle(7).decided()
    assert case.later(86400).decision().status is case.status
    assert case.decision().wake_at is None


def test_a_drained_former_revision_is_kept_for_a_day() -> None:
    case = with_previous()
    assert case.status.previous is not None
    assert case.status.previous.replicas == 0
    assert case.later(timedelta(hours=25).total_seconds()).decided().status.previous is None
