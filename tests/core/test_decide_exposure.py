"""A canary whose requests do not arrive retreats and is tried again; one whose engine hangs is taken back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.api.status import ModelReleaseStatus, Stage
from modelrelease.core import checks
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodFacts, PodFault, PodPoll, Poll, Samples, Unavailable
from tests.core.builders import NOW, POLL, SILENT, Release, release, revision

CANARY, STABLE = revision("8").revision, revision("7").revision
HEALTHY = PodPoll({"errors": (Counts(40, 0),)}, in_flight=1, progress=40)
UNREACHED = PodPoll({"errors": (Counts(0, 0),)}, in_flight=0, progress=0)
HANGS = PodPoll({"errors": (Counts(0, 0),)}, in_flight=5, progress=0)


def sampled(case: Release, canary: dict[str, PodPoll], seconds: int) -> Release:
    """Time passes, and every five seconds one poll comes in, each decided upon and recorded by the operator's rules."""
    for _ in range(seconds // 5):
        case = case.later(5)
        since = _evidence_at(case)
        poll = Poll(case.now, {CANARY: canary, STABLE: {"s": PodPoll({"errors": (Counts(160, 0),)})}})
        kept = tuple(item for item in (*case.obs.samples.polls, poll) if item.at > since)
        case = case.see(samples=Samples(kept)).decided()
    return case


def _evidence_at(case: Release) -> datetime:
    held = checks.decode(case.status.evidence, revision("8"))
    return held.at if held else NOW


def retreated(case: Release) -> Release:
    while case.weight and case.now < NOW + timedelta(hours=3):
        case = sampled(case, {"a": UNREACHED}, 5)
    return case


def test_a_canary_whose_requests_do_not_arrive_retreats_after_two_minutes() -> None:
    case = sampled(release(0), {"a": UNREACHED}, 115)
    assert case.weight == 20
    case = sampled(case, {"a": UNREACHED}, 10)
    assert (case.weight, case.rest, case.status.quarantine) == (0, ("Held", "TrafficMissing"), ())
    assert case.status.candidate is not None
    assert (case.status.candidate.stage, case.status.candidate.replicas) == (Stage.STARTING, 2)
    assert case.status.message == (
        "v8 finished 0 of about 736 requests expected at 20% within 2m: the gateway does not send them or the server "
        "does not count them; it is tried again after 1m"
    )


def test_the_event_says_what_was_seen_against_what_was_expected() -> None:
    case = sampled(release(0), {"a": UNREACHED}, 115)
    while case.weight:
        before, case = case, sampled(case, {"a": UNREACHED}, 5)
    events = before.later(5).see(samples=_next(before)).announced()
    assert [(event.type, event.reason) for event in events if event.reason is not Reason.WEIGHT_CHANGED] == [
        ("Warning", Reason.TRAFFIC_MISSING)
    ]


def _next(case: Release) -> Samples:
    stable = {"s": PodPoll({"errors": (Counts(160, 0),)})}
    return Samples((*case.obs.samples.polls, Poll(case.now + POLL, {CANARY: {"a": UNREACHED}, STABLE: stable})))


def test_it_is_tried_again_after_a_pause_that_doubles() -> None:
    case = release(0, of=None)
    for minutes in (1, 2, 4):
        case = retreated(case)
        waiting = case.see(samples=Samples()).later(60 * minutes - 1).decided()
        assert (waiting.weight, waiting.reason) == (0, "TrafficMissing")
        assert waiting.decision().wake_at == waiting.now + timedelta(seconds=1)
        case = waiting.later(1).decided()
        assert case.weight == 20
    assert case.status.quarantine == ()


def test_requests_that_arrive_again_let_the_rollout_go_on_and_forget_the_pause() -> None:
    case = retreated(release(0)).see(samples=Samples()).later(60).decided()
    case = sampled(case, {"a": HEALTHY}, 120)
    assert case.weight == 50
    assert case.status.candidate is not None
    assert case.status.candidate.retreat is None


def test_a_person_who_promotes_ends_the_pause() -> None:
    case = retreated(release(0)).see(samples=Samples()).say("promote").later(1).decided()
    assert case.later(5).decided().weight == 20


def test_prometheus_being_away_is_no_missing_traffic() -> None:
    case = sampled(release(0), {"a": UNREACHED}, 60)
    case = case.see(samples=replace(SILENT, polls=case.obs.samples.polls))
    for _ in range(60):
        case = case.later(5).decided()
    assert (case.weight, case.rest) == (20, ("Held", "PrometheusUnreachable"))


def test_a_canary_that_is_not_scraped_is_no_missing_traffic() -> None:
    assert sampled(release(0), {}, 300).weight == 20


@pytest.mark.parametrize("killed_after", [5, 30, 65, 100])
def test_a_restart_changes_nothing_about_when_it_retreats(killed_after: int) -> None:
    whole = retreated(release(0))
    case = sampled(release(0), {"a": UNREACHED}, killed_after)
    reread = ModelReleaseStatus.model_validate_json(case.status.model_dump_json(by_alias=True))
    assert retreated(replace(case, status=reread)).now == whole.now


# -- hung engines --
def with_nodes(case: Release, *names: str) -> Release:
    held = case.obs.workloads[CANARY]
    pods = {name: PodFacts(f"node-{name}", "", NOW, NOW) for name in names}
    return case.see(workloads={**case.obs.workloads, CANARY: replace(held, pods=pods)})


def hung(case: Release, canary: dict[str, PodPoll]) -> Release:
    while case.weight and case.now < NOW + timedelta(minutes=10):
        case = sampled(case, canary, 5)
    return case


def test_an_engine_that_hangs_is_taken_back_and_named() -> None:
    case = hung(with_nodes(release(0), "a", "b"), {"a": HANGS, "b": HEALTHY})
    assert (case.weight, case.rest) == (0, ("RollingBack", "EngineHung"))
    assert case.status.quarantine[0].reason == "EngineHung"
    assert case.status.message.startswith(
        "pod a on node node-a has had requests in flight and worked off nothing for a minute; the other 1 of v8 go on"
    )
    assert case.now - NOW == timedelta(seconds=65)


def test_an_engine_that_hangs_while_it_bakes_is_taken_back() -> None:
    case = hung(release(2, Stage.BAKING), {"a": HANGS})
    assert case.rest == ("RollingBack", "EngineHung")


def test_a_hang_is_found_before_anybody_calls_its_requests_missing() -> None:
    assert hung(release(0), {"a": HANGS}).reason == "EngineHung"


def test_a_pass_is_asked_for_while_an_engine_seems_to_hang() -> None:
    case = sampled(release(0), {"a": HANGS}, 10)
    wake_at = case.decision().wake_at
    assert wake_at is not None
    assert wake_at <= case.now + timedelta(seconds=5)


@pytest.mark.parametrize("killed_after", [5, 30, 60])
def test_a_restart_changes_nothing_about_when_a_hang_is_found(killed_after: int) -> None:
    case = sampled(release(0), {"a": HANGS}, killed_after)
    reread = ModelReleaseStatus.model_validate_json(case.status.model_dump_json(by_alias=True))
    assert hung(replace(case, status=reread), {"a": HANGS}).now - NOW == timedelta(seconds=65)


# -- what the cluster shows needs no Prometheus --
@pytest.mark.parametrize("problem", ["PrometheusUnreachable", "PrometheusError", "NoData"])
@pytest.mark.parametrize("fault", [PodFault.CRASH_LOOP, PodFault.OOM_KILLED])
@pytest.mark.parametrize(("step", "stage"), [(0, Stage.SHIFTING), (2, Stage.SHIFTING), (2, Stage.BAKING)])
def test_a_canary_that_crashes_while_prometheus_is_away_is_taken_back(
    step: int, stage: Stage, fault: PodFault, problem: str
) -> None:
    away = Samples((), Unavailable(Reason(problem), "no answer", NOW - timedelta(minutes=5)))
    held = release(step, stage).see(samples=away).later(30).decided()
    assert held.status.phase == "Held"
    back = held.fault(fault, crashes=1).later(5).decided()
    assert (back.weight, back.rest) == (0, ("RollingBack", fault.value))


def test_a_word_of_a_newer_operator_in_status_is_no_obstacle() -> None:
    case = release(0).see(samples=Samples())
    status = hung(release(0), {"a": HANGS}).status
    newer = status.model_dump_json(by_alias=True).replace("EngineHung", "SomethingNew")
    downgraded = replace(case, status=ModelReleaseStatus.model_validate_json(newer)).later(300)
    assert downgraded.decided().rest == ("RollingBack", "Unknown")
    downgraded.announced()
