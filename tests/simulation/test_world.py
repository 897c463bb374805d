"""Rollouts played against chance: the fast way decides as the slow one does, and outcomes are what the world makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelrelease.simulation.scenario import Bursts, Drift, Outage
from modelrelease.simulation.summary import summarize
from modelrelease.simulation.world import Run

from .worlds import ERRORS, LATENCY, PHASES, TRIPWIRE, release, run, scenario

ALL = (ERRORS, LATENCY, TRIPWIRE)
GAUGE = {"name": "cache", "gauge": {"metric": "kvCacheUsage", "tolerance": 0.1}}
SHORT = [{**PHASES[0], "timeout": "4m"}, *PHASES[1:]]

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "a healthy canary": (release(), {}),
    "a healthy canary with several checks": (release(*ALL), {}),
    "a canary that fails more": (release(*ALL), {"canary": 0.05}),
    "a canary that fails nearly always": (release(*ALL), {"canary": 0.8}),
    "a slower canary": (release(*ALL), {"slower": 1.6}),
    "a canary near its margin": (release(), {"canary": 0.025, "traffic": 40.0}),
    "little traffic": (release(), {"traffic": 0.5}),
    "a late onset": (release(*ALL), {"canary": 0.06, "onset_s": 200.0}),
    "drift and a daily wave": (release(), {"drift": Drift(4.0, 600.0), "diurnal": 0.8}),
    "bursts of both arms": (release(), {"bursts": (Bursts(0.4, 30.0, 120.0),)}),
    "bursts of the canary": (release(), {"bursts": (Bursts(0.4, 10.0, 120.0, canary_only=True),)}),
    "Prometheus away": (release(), {"outages": (Outage(60.0, 120.0), Outage(400.0, 30.0))}),
    "a bad canary while Prometheus is away": (release(), {"canary": 0.1, "outages": (Outage(10.0, 300.0),)}),
    "pods that differ": (release(), {"pod_noise": 0.02}),
    "pods that differ at each poll": (release(), {"pod_noise": 0.02, "every_poll": True}),
    "a holdback": (release(bake={"duration": "5m", "holdback": 10}), {"canary": 0.03}),
    "a timeout that rolls back": (release(phases=SHORT, onInconclusive="Rollback"), {"traffic": 0.5}),
    "a timeout that promotes": (release(phases=SHORT, onInconclusive="Promote"), {"traffic": 0.5}),
    "a gauge": (release(ERRORS, GAUGE), {}),
    "slow polls": (release(*ALL), {"canary": 0.05, "poll_s": 15.0}),
}


def _plain(played: Run) -> Run:
    """Without what is no outcome: the passes it took, and counts in words, which status has refreshed once a minute."""
    return replace(played, passes=0, why="" if played.outcome == "Held" else played.why)


@pytest.mark.parametrize("case", CASES)
def test_play_when_decide_is_asked_at_every_poll_ends_at_the_same_poll(case: str) -> None:
    of, world = CASES[case]
    what = scenario(of, **world)
    for seed in (1, 2):
        quick = run(of, what, seed, horizon_s=2400.0)
        assert _plain(run(of, what, seed, horizon_s=2400.0, every_poll=True)) == _plain(quick)


def test_play_when_decide_is_asked_only_where_verdicts_change_asks_it_seldom() -> None:
    of = release(*ALL)
    quick = run(of, scenario(of, canary=0.015, traffic=20.0))
    assert quick.polls > 200
    assert quick.passes < quick.polls / 4


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        ("a healthy canary", "Promoted", "Promoted"),
        ("a canary that fails more", "RolledBack", "CheckFailed"),
        ("little traffic", "Held", "WaitingForEvidence"),
        ("drift and a daily wave", "Promoted", "Promoted"),
        ("bursts of both arms", "Promoted", "Promoted"),
        ("Prometheus away", "Promoted", "Promoted"),
        ("a timeout that rolls back", "RolledBack", "Inconclusive"),
        ("a timeout that promotes", "Promoted", "Promoted"),
    ],
)
def test_play_when_the_world_is_so_ends_so(case: str, outcome: str, reason: str) -> None:
    of, world = CASES[case]
    played = run(of, scenario(of, **world), horizon_s=2400.0)
    assert (played.outcome, played.reason) == (outcome, reason)


def test_play_when_the_same_seed_is_given_goes_the_same_way() -> None:
    of = release(*ALL)
    what = scenario(of, canary=0.03)
    assert run(of, what, 5) == run(of, what, 5)
    assert run(of, what, 5) != run(of, what, 6)


def test_play_when_traced_goes_the_same_way_and_tells_weights_phases_and_evidence() -> None:
    of = release(*ALL)
    what = scenario(of, canary=0.05)
    traced = run(of, what, trace=True)
    assert traced.trace is not None
    assert replace(traced, trace=None) == run(of, what)
    assert [weight for _, weight in traced.trace.weights] == [20, 0]
    assert [name for _, name in traced.trace.phases] == ["canary", "return"]
    assert traced.trace.evidence.keys() == {"errors", "latency", "tripwire"}
    assert traced.trace.evidence["errors"][-1][1] >= 99
    assert traced.trace.weights[-1][0] == traced.ended_s


def test_play_when_the_canary_is_bad_counts_what_users_lose_until_the_route_has_followed() -> None:
    of = release()
    played = run(of, scenario(of, canary=0.11))
    assert played.harmed_s is not None
    exposed = played.ended_s - played.harmed_s
    assert played.lost["errors"] == pytest.approx(100.0 * 0.2 * 0.10 * exposed, rel=0.01)
    assert played.ended_s == played.decided_s + 1.0  # the gateway takes a second


def test_play_when_the_onset_is_late_counts_harm_from_then_on() -> None:
    of = release()
    played = run(of, scenario(of, canary=0.3, onset_s=150.0))
    assert (played.outcome, played.harmed_s) == ("RolledBack", 150.0)
    assert 0 < played.decided_s - 150.0 < 60.0


def test_play_when_prometheus_is_away_waits_until_it_is_back() -> None:
    of = release()
    with_it = run(of, scenario(of))
    without = run(of, scenario(of, outages=(Outage(60.0, 600.0),)))
    assert without.outcome == "Promoted"
    assert without.decided_s >= with_it.decided_s + 500.0


def test_checks_when_they_count_the_same_requests_see_the_same_ones() -> None:
    of = release(ERRORS, TRIPWIRE)
    played = run(of, scenario(of, canary=0.4), trace=True)
    assert played.lost.keys() == {"errors"}


def test_rollbacks_when_the_canary_is_at_its_margin_stay_below_alpha() -> None:
    of = release()
    what = scenario(of, stable=0.02, canary=0.035)  # 1.25 x 2 % + 1 %
    runs = [run(of, what, seed, horizon_s=1800.0) for seed in range(60)]
    found = summarize(runs, harmful=False)
    assert found.rolled_back.interval[0] <= 0.05
