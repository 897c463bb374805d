"""The kinds of checks beside errors: latency over several bounds, scores, win rates, gauges; forecasts and queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from modelrelease.api.status import CheckStatus
from modelrelease.core import evidence as e
from modelrelease.core.checks import advance, begin, begin_phase, forecast, judge, plan
from modelrelease.core.checks.memory import Shares
from modelrelease.core.checks.queries import query_of
from modelrelease.core.evidence import Counts
from modelrelease.core.measures import measures
from modelrelease.core.observation import PodPoll, Poll, Samples
from modelrelease.core.revision import Revision
from tests.core.builders import ERRORS, LIMIT, NOW, POLL, SILENT, revision, spec

CANARY, STABLE = revision("8").revision, revision("7").revision
THREE = {"name": "slow", "latency": {"slowerThan": "500ms", "alsoSlowerThan": ["1s", "2s"]}}
GAUGE = {"name": "cache", "gauge": {"metric": "cache_use", "tolerance": 0.1, "polls": 3}}
SCORE = {"name": "confidence", "score": {"metric": "confidence"}}
WINS = {"name": "preferred", "winRate": {"wins": "wins_total", "judgements": "judged_total"}}


def made(*checks: Mapping[str, object]) -> Revision:
    return revision("8", spec(checks=list(checks)))


def fed(asked: Revision, *pods: tuple[PodPoll | None, PodPoll | None]) -> CheckStatus:
    """The first check after these polls of the canary's and of stable's only pod; None: no sample of it."""
    polls = []
    for number, (canary, stable) in enumerate(pods):
        arms = {CANARY: {"c": canary}, STABLE: {"s": stable}}
        polls.append(
            Poll(
                NOW + (number + 1) * POLL,
                {one: {name: pod for name, pod in arm.items() if pod is not None} for one, arm in arms.items()},
            )
        )
    held = advance(begin(asked, NOW), asked, polls, STABLE)
    return judge(held, asked, Samples(), has_stable=True).checks[0]


def slow(total: int, *bad: int) -> PodPoll:
    return PodPoll({"slow": tuple(Counts(total, part) for part in bad)})


def cache(value: float) -> PodPoll:
    return PodPoll(gauges={"cache": value})


# -- several bounds ----------------------------------------------------------------------------------------------------
STEADY = slow(1000, 200, 60, 10)


def test_a_latency_passes_only_when_every_bound_does() -> None:
    assert fed(made(THREE), *[(STEADY, STEADY)] * 12).verdict == "Pass"
    edge = fed(made(THREE), *[(slow(1000, 200, 60, 32), STEADY)] * 12)
    assert (edge.verdict, edge.bound) == ("Waiting", 2)
    assert edge.message.startswith("slow (slower than 2s) 3.2% (384 of 12,000) against 1%, allowed 3.2%")


def test_the_evidence_of_a_latency_is_the_mean_over_its_bounds() -> None:
    asked = made(THREE)
    pods = {CANARY: {"c": slow(100, 20, 6, 9)}, STABLE: {"s": slow(100, 20, 6, 1)}}
    held = advance(begin(asked, NOW), asked, [Poll(NOW + POLL, pods)], STABLE)
    memory = held.checks["slow"]
    assert isinstance(memory, Shares)
    test = plan(asked, asked.checks[0])
    singly = [
        e.regression(e.observe(e.start(test), test, Counts(100, bad), Counts(100, other)))
        for bad, other in ((20, 20), (6, 6), (9, 1))
    ]
    assert [e.regression(wealth) for wealth in memory.wealths] == singly
    status = judge(held, asked, Samples(), has_stable=True).checks[0]
    assert status.evidence_percent == int(e.evidence_percent(sum(singly) / 3, 0.05))


def test_a_longer_tail_alone_fails_and_its_bound_is_shown() -> None:
    failed = fed(made(THREE), *[(slow(1000, 200, 60, 50), STEADY)] * 40)
    assert (failed.verdict, failed.bound) == ("Fail", 2)
    assert failed.message == "slow (slower than 2s) 5% (2,000 of 40,000) against 1%, allowed 3.2%"


def test_bounds_share_the_cap_of_one_check() -> None:
    test = plan(made(THREE, ERRORS), made(THREE).checks[0])
    assert (test.metrics, test.min_polls) == (6, 3)


def test_counts_of_another_number_of_bounds_are_no_evidence() -> None:
    assert fed(made(THREE), *[(slow(1000, 900), STEADY)] * 12).verdict == "Waiting"


# -- gauges ------------------------------------------------------------------------------------------------------------
HIGH, EVEN = (cache(0.9), cache(0.5)), (cache(0.55), cache(0.5))
GAUGES: dict[str, tuple[Sequence[tuple[PodPoll | None, PodPoll | None]], str]] = {
    "three polls in a row beyond the tolerance fail": ([HIGH] * 3, "Fail"),
    "and stay failed when a later poll is fine": ([HIGH] * 3 + [EVEN], "Fail"),
    "two of them do not": ([HIGH, HIGH, EVEN, HIGH], "Pass"),
    "three within it pass": ([EVEN] * 3, "Pass"),
    "two within it are too few": ([EVEN] * 2, "Waiting"),
    "a poll that misses neither counts nor breaks the row": ([HIGH, HIGH, (None, cache(0.5)), HIGH], "Fail"),
    "what is not a number misses": ([HIGH, HIGH, (cache(float("nan")), cache(0.5)), HIGH], "Fail"),
    "nothing seen is no verdict": ([], "Waiting"),
}


@pytest.mark.parametrize("case", GAUGES.values(), ids=GAUGES.keys())
def test_a_gauge(case: tuple[Sequence[tuple[PodPoll | None, PodPoll | None]], str]) -> None:
    polls, verdict = case
    assert fed(made(GAUGE), *polls).verdict == verdict


def test_a_gauge_says_how_far_it_is() -> None:
    assert fed(made(GAUGE), HIGH, HIGH).message == (
        "cache 0.9 against 0.5, allowed 0.1 above: beyond it in 2 polls in a row, fails at 3"
    )


def test_a_gauge_may_be_worse_when_it_is_lower() -> None:
    lower = {"name": "cache", "gauge": {**GAUGE["gauge"], "worse": "lower"}}  # type: ignore[dict-item]
    assert fed(made(lower), *[HIGH] * 3).verdict == "Pass"
    assert fed(made(lower), *[(cache(0.1), cache(0.5))] * 3).verdict == "Fail"


def test_a_gauge_of_several_pods_is_their_mean() -> None:
    asked = made(GAUGE)
    arms = {CANARY: {"a": cache(0.9), "b": cache(0.1)}, STABLE: {"s": cache(0.5)}}
    held = advance(begin(asked, NOW), asked, [Poll(NOW + (at + 1) * POLL, arms) for at in range(3)], STABLE)
    assert judge(held, asked, Samples(), has_stable=True).passed


def test_a_gauge_must_pass_anew_in_each_phase_and_takes_no_part_in_the_mean_of_evidence() -> None:
    asked = made(GAUGE, ERRORS)
    assert plan(asked, asked.checks[1]).metrics == 1
    arms = {CANARY: {"a": cache(0.5)}, STABLE: {"s": cache(0.5)}}
    held = advance(begin(asked, NOW), asked, [Poll(NOW + (at + 1) * POLL, arms) for at in range(3)], STABLE)
    assert judge(held, asked, Samples(), has_stable=True).checks[0].verdict == "Pass"
    assert judge(begin_phase(held, held.at), asked, SILENT, has_stable=True).checks[0].verdict == "Unavailable"
    assert judge(held, asked, Samples(), has_stable=False).checks[0].reason == "NoChampion"


# -- scores and win rates ----------------------------------------------------------------------------------------------
def test_a_score_is_told_as_its_mean() -> None:
    pod, worse = PodPoll({"confidence": (Counts(1000, 100.0),)}), PodPoll({"confidence": (Counts(1000, 300.5),)})
    passed, failed = fed(made(SCORE), *[(pod, pod)] * 30), fed(made(SCORE), *[(worse, pod)] * 30)
    assert (passed.verdict, failed.verdict) == ("Pass", "Fail")
    assert failed.message == "confidence 0.7 (mean of 30,000) against 0.9, at least 0.88"


@pytest.mark.parametrize(("wins", "verdict"), [(0.6, "Pass"), (0.3, "Fail"), (0.47, "Waiting")])
def test_a_win_rate_passes_once_it_is_shown_to_be_above_its_minimum(wins: float, verdict: str) -> None:
    pod = PodPoll({"preferred": (Counts(50, 50 * (1 - wins)),)})
    status = fed(made(WINS), *[(pod, None)] * 20)
    assert status.verdict == verdict
    assert status.message.startswith(f"preferred wins {wins:.0%} of 1,000, needs more than 47%")


# -- forecasts ---------------------------------------------------------------------------------------------------------
def test_a_forecast_says_what_a_phase_can_find() -> None:
    asked = made(ERRORS)
    said = forecast(asked, asked.checks[0], 0.01, 4.0, 20.0, within=timedelta(minutes=10))
    assert said.decides
    assert said.requests is not None
    assert said.seconds is not None
    assert said.detectable is not None
    assert 0.0225 < said.detectable < 0.05
    assert said.seconds == pytest.approx(said.requests / 20.0, rel=0.01)


def test_a_forecast_warns_where_the_traffic_is_too_little() -> None:
    asked = made(ERRORS)
    said = forecast(asked, asked.checks[0], 0.01, 4.0, 0.1, within=timedelta(minutes=10))
    assert (said.decides, said.detectable is not None and said.detectable > 0.1) == (False, True)
    none = forecast(asked, asked.checks[0], 0.01, 4.0, 0.0, within=timedelta(minutes=10))
    assert (none.decides, none.seconds, none.detectable) == (False, None, None)


def test_a_forecast_warns_where_the_margin_leaves_nothing_to_show() -> None:
    asked = made({"name": "errors", "errorRate": {"margin": {"relative": 1, "absolute": 0}}})
    said = forecast(asked, asked.checks[0], 0.01, 4.0, 100.0, within=timedelta(hours=10))
    assert (said.requests, said.decides) == (None, False)


def test_a_forecast_of_an_absolute_limit_needs_no_stable_and_of_a_gauge_no_requests() -> None:
    asked = made(LIMIT, GAUGE)
    limit, gauge = (forecast(asked, check, 0.01, 0.0, 20.0, within=timedelta(minutes=10)) for check in asked.checks)
    assert (limit.decides, gauge.decides, gauge.seconds) == (True, True, 15.0)
    relative = made(ERRORS)
    assert not forecast(relative, relative.checks[0], 0.01, 0.0, 20.0, within=timedelta(minutes=10)).decides


# -- queries -----------------------------------------------------------------------------------------------------------
def test_a_check_comes_with_the_query_that_shows_its_counters() -> None:
    asked = made(ERRORS, GAUGE, WINS)
    errors, gauge, wins = (query_of(measure, ["b", "a"]) for measure in measures(asked, asked))
    of = 'modelrelease_dev_revision=~"a|b"'
    assert errors.startswith('sum by (modelrelease_dev_revision) (http_requests_total{handler!~"')
    assert f'code=~"5..", {of}}} or http_requests_total' in errors
    assert gauge == f"avg by (modelrelease_dev_revision) (cache_use{{{of}}})"
    assert wins == (
        f"sum by (modelrelease_dev_revision) (judged_total{{{of}}})"
        f" - sum by (modelrelease_dev_revision) (wins_total{{{of}}})"
    )


def test_the_query_of_a_latency_is_of_the_bound_that_is_shown() -> None:
    asked = made(THREE)
    (measure,) = measures(asked, asked)
    assert 'le=~"0[.]5|[+]Inf"' in query_of(measure, ["a"])
    assert 'le=~"2([.]0)?|[+]Inf"' in query_of(measure, ["a"], 2)


def test_a_query_that_is_too_long_is_left_out() -> None:
    asked = made(ERRORS)
    assert query_of(measures(asked, asked)[0], ["a" * 400]) == ""
