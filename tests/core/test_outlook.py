"""What a phase will be able to show, said once before it starts, and what its metrics never show."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.api.status import Stage
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import Samples, Unavailable
from tests.core.builders import HEALTHY, NOW, Release, polls, release, spec


def starting(stable: Counts, number: int = 6, **rollout: Any) -> Release:
    """The first phase is about to begin: stable has all traffic, the candidate warms up."""
    case = release(0, Stage.STARTING, of=spec(rollout=rollout) if rollout else None)
    samples = polls(Counts(0, 0), stable, number)
    held = replace(case, status=case.status.model_copy(update={"evidence": None}))
    return held.see(samples=samples, pods={"8": 0}).later(5 * number)


def forecast(case: Release) -> tuple[str, bool | None]:
    step = case.status.step
    assert step is not None
    return step.forecast, step.decides


def test_before_a_phase_its_smallest_regression_and_its_requests_are_said() -> None:
    case = starting(Counts(100, 1)).decided()
    assert forecast(case) == (
        "phase canary finds errors from 3.8% (stable 1%); a Pass needs about 1,400 requests, about 6m at the present "
        "traffic",
        True,
    )


def test_a_phase_that_cannot_decide_in_its_timeout_warns_once() -> None:
    case = starting(Counts(10, 0))
    first = case.announced()
    assert [event.type for event in first if event.reason is Reason.PHASE_UNDECIDABLE] == ["Warning"]
    words, decides = forecast(case.decided())
    assert words.startswith("phase canary cannot decide errors within its timeout of 10m: a Pass needs about ")
    assert decides is False
    later = case.decided().later(60)
    assert not [event for event in later.announced() if event.reason is Reason.PHASE_UNDECIDABLE]


def test_a_forecast_is_told_as_an_event_and_does_not_change_with_the_traffic() -> None:
    case = starting(Counts(100, 1))
    told = [event for event in case.announced() if event.reason is Reason.PHASE_FORECAST]
    assert [event.type for event in told] == ["Normal"]
    recorded = case.decided()
    busier = recorded.see(samples=polls(Counts(0, 0), Counts(900, 9), 12)).later(60).decided()
    assert forecast(busier) == forecast(recorded)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_nothing_is_said_before_the_traffic_is_known(number: int) -> None:
    assert forecast(starting(Counts(100, 1), number).decided()) == ("", None)


def test_the_next_phase_is_told_from_what_was_watched_under_the_last_weight() -> None:
    case = release(0).see(samples=HEALTHY).later(60).decided()
    assert case.status.step is not None
    assert case.status.step.name == "half"
    assert case.status.step.forecast.startswith("phase half finds errors from ")
    assert case.status.step.decides is True


# -- what is said of the evidence --
def evidence_of(case: Release) -> str:
    return next(item.message for item in case.status.conditions if item.type == "EvidenceAvailable")


def test_what_the_runtime_cannot_see_is_said_beside_the_evidence_and_not_in_the_message() -> None:
    case = release(0).see(samples=HEALTHY).later(30).decided()
    assert evidence_of(case) == "metrics of runtime http do not show wrong answers that are sent with status 200"
    assert "status 200" not in case.status.message


def test_an_outage_says_what_and_since_when_whatever_it_turns_into() -> None:
    def away(reason: Reason, words: str, seconds: int) -> Samples:
        return Samples((), Unavailable(reason, words, NOW + timedelta(seconds=seconds)))

    case = release(0).see(samples=away(Reason.PROMETHEUS_UNREACHABLE, "no answer", 5)).later(10).decided()
    assert evidence_of(case) == "no answer; no evidence since 2026-01-01 12:00:05 UTC"
    again = case.later(30).decided()
    assert evidence_of(again) == evidence_of(case)
    turned = case.see(samples=away(Reason.PROMETHEUS_ERROR, "answers 500", 200)).later(210).decided()
    assert evidence_of(turned) == "answers 500; no evidence since 2026-01-01 12:00:10 UTC"


@pytest.mark.parametrize(
    ("holdback", "words"),
    [
        (
            0,
            "v8 has full weight; with nothing left to compare with, only absolute limits and failing pods take it back",
        ),
        (10, "v8 has 90% and is compared with v7, which keeps the rest and stays warm"),
    ],
)
def test_a_bake_says_what_is_still_judged(holdback: int, words: str) -> None:
    case = release(2, Stage.BAKING, of=spec(rollout={"bake": {"duration": "5m", "holdback": holdback}}))
    assert case.status.traffic is not None
    weights = {"a": holdback, "b": 100 - holdback}
    status = case.status.model_copy(update={"traffic": case.status.traffic.model_copy(update=weights)})
    assert case.obs.route is not None
    route = replace(case.obs.route, weights=weights)
    baking = replace(case, status=status).see(route=route).later(10).decided()
    assert baking.status.message.startswith(words)
