"""Outages of a real Prometheus under running canaries: nobody is blamed, nothing rises, and all goes on by itself.

One story in order, as outages need canaries in mid-rollout and those take their time: `steady` is healthy, gives up
when a phase times out inconclusively, and meets one outage in each of its phases; `guilty` is bad and goes blind just
before its verdict; `hasty` promotes what stays inconclusive, and `crashing` loses its pods, while Prometheus itself is
down for two minutes. The phases last seconds and time out after 60 s, so that every outage outlasts the first, and two
minutes are twice the second. The operator is killed in the first outage and in the long one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.fault_proxy import FaultProxy, Mode
from e2e.outages import PATIENCE_S, Rollout, Seen, Witness, began_at, proxy_before
from e2e.stack import Stack

WEIGHTS = (40, 50, 60, 70, 80, 90)
LONG_S = 125


@dataclass(slots=True)
class Stage:
    """Who plays. open: outages that have ended, of which it is not known yet how things went on."""

    stack: Stack
    witness: Witness
    proxy: FaultProxy
    blindfold: FaultProxy
    steady: Rollout
    guilty: Rollout
    hasty: Rollout
    crashing: Rollout
    open: list[Outage] = field(default_factory=list)

    def wait(self, who: Rollout, what: str, check: Callable[[Seen], bool], since: float | None = None) -> Seen:
        """The first status after `since`, else from now on, for which `check` holds."""
        return self.witness.wait(who.name, what, check, since)

    def serving(self, who: Rollout, weight: int) -> Seen:
        """Wait until the candidate's weight is confirmed and evidence for it comes in."""
        return self.wait(
            who, f"{weight}% is confirmed", lambda seen: seen.weight == weight and seen.confirmed and not seen.blind
        )


def phases(*weights: int, duration: str = "2s") -> list[dict[str, Any]]:
    return [{"name": f"w{weight}", "weight": weight, "duration": duration, "timeout": "60s"} for weight in weights] + [
        {"name": "full", "weight": 100}
    ]


@pytest.fixture(scope="module")
def stage(stack: Stack) -> Iterator[Stage]:
    with Witness(stack) as witness, proxy_before(stack) as proxy, proxy_before(stack) as blindfold:
        steady = Rollout(stack, "steady", 10, proxy.url, phases(*WEIGHTS), "Rollback")
        steady.phases[-2]["duration"] = "20s"
        guilty = Rollout(stack, "guilty", 10, blindfold.url, phases(50, duration="10m"), allowed=0.05)
        hasty = Rollout(stack, "hasty", 10, stack.prometheus_url, phases(50, duration="50s"), "Promote")
        crashing = Rollout(stack, "crashing", 3, stack.prometheus_url, phases(30, duration="10m"))
        made = Stage(stack, witness, proxy, blindfold, steady, guilty, hasty, crashing)
        everybody = (steady, guilty, hasty, crashing)
        try:
            for one in everybody:
                one.release("first")
            for one in everybody:
                made.wait(one, "v1 serves", lambda seen: seen.phase == "Promoted")
                one.traffic.start()
            guilty.release("brittle")
            yield made
        finally:
            for one in everybody:
                one.remove()


@dataclass(slots=True)
class Outage:
    """One outage of `steady` in the phase that has just begun, and what must hold of it."""

    stage: Stage
    who: Rollout
    began: float = field(default_factory=time.time)
    ended: float = 0
    weight: int = 0

    def told(self, reason: str, words: str) -> Seen:
        """Wait until the release says what is wrong, and since when."""
        before = self.stage.witness.of(self.who.name, self.began, self.began)[-1]
        self.weight = before.weight
        seen = self.stage.wait(self.who, f"evidence is missing: {reason}", lambda seen: seen.blind)
        evidence = seen.evidence
        assert (evidence["reason"], words in evidence["message"]) == (reason, True), evidence
        assert -2 <= began_at(evidence["message"]).timestamp() - self.began <= 25, evidence["message"]
        return seen

    def over(self, name: str, messages: int = 1) -> None:
        """Once Prometheus is back: hold the outage to account, then wait for what goes on.

        messages: how many different ones EvidenceAvailable may have had; each is written once.
        """
        ended = self.ended = self.ended or time.time()
        during = self.stage.witness.of(self.who.name, self.began, ended)
        assert {seen.weight for seen in during} == {self.weight}, "the weight must not move while it lasts"
        assert {seen.phase for seen in during} <= {"Progressing", "Held", "Baking"}
        said = {seen.evidence["message"] for seen in during if seen.blind}
        assert len(said) <= messages, said
        assert len(during) <= 6 + 2 * messages, "an outage is told, not retold at every poll"
        seeing = self.stage.wait(self.who, "evidence is back", lambda seen: not seen.blind, ended)
        on = self.stage.wait(self.who, "it goes on by itself", lambda seen: seen.weight != self.weight, ended)
        assert on.weight > self.weight or on.phase == "Promoted", on.status.get("message")
        lasted, back, went_on = ended - self.began, seeing.at - ended, on.at - ended
        print(f"{name}: {lasted:.0f} s, evidence back after {back:.1f} s, goes on after {went_on:.1f} s")


def test_a_hung_prometheus_moves_nothing_also_where_the_operator_is_killed_meanwhile(stage: Stage) -> None:
    """And what was bad before it went away is taken back by what Prometheus still holds, by the next process."""
    guilty, brittle = stage.guilty, stage.guilty.version("brittle")
    stage.wait(guilty, "the bad canary serves", lambda seen: seen.weight == 50 and seen.confirmed)
    stage.blindfold.mode = "refuse"
    blinded = time.time()
    stage.steady.release("better")
    stage.serving(stage.steady, WEIGHTS[0])
    stage.proxy.mode = "hang"
    outage = Outage(stage, stage.steady)
    failed = _bad_answers(guilty, brittle)
    _until(lambda: _bad_answers(guilty, brittle) >= failed + 25, "the bad canary fails requests")
    guilty.traffic.stop()
    outage.told("PrometheusUnreachable", "")
    assert stage.witness.of(guilty.name)[-1].blind
    restarts = stage.stack.operator_restarts()
    stage.stack.kill_operator()
    _until(lambda: stage.stack.operator_restarts() > restarts, "the operator starts again")
    stage.stack.settle(seconds=5)
    blind = stage.witness.of(guilty.name, blinded, time.time())
    assert {seen.weight for seen in blind} == {50}, "no evidence is no harm, however bad it is"

    stage.blindfold.mode = "pass"
    returned = time.time()
    back = stage.wait(guilty, "the bad canary is taken back", lambda seen: seen.phase in ("RollingBack", "RolledBack"))
    assert back.status["lastRollback"]["reason"] == "CheckFailed"
    assert "errors" in back.status["lastRollback"]["message"]
    print(f"bad canary, no request since the return: taken back {back.at - returned:.1f} s after it")
    stage.proxy.mode = "pass"
    outage.over("hung, operator killed", messages=3)


@pytest.mark.parametrize(
    ("mode", "reason", "words", "number"),
    [
        pytest.param("error", "PrometheusError", "HTTP 500", 1, id="status 500"),
        pytest.param("nan", "PrometheusError", "NaN", 2, id="NaN"),
        pytest.param("partial", "PrometheusError", "not whole", 3, id="partial answers"),
    ],
)
def test_an_answer_that_is_none_moves_nothing(stage: Stage, mode: Mode, reason: str, words: str, number: int) -> None:
    stage.serving(stage.steady, WEIGHTS[number])
    stage.proxy.mode = mode
    outage = Outage(stage, stage.steady)
    outage.told(reason, words)
    stage.stack.settle(seconds=8)
    stage.proxy.mode = "pass"
    outage.over(mode)


def test_a_gap_in_the_data_moves_nothing_and_its_requests_count(stage: Stage) -> None:
    """Prometheus itself is stopped; what its targets counted meanwhile is in their counters when it is back."""
    stage.serving(stage.steady, WEIGHTS[4])
    stage.proxy.mode = "refuse"
    outage = Outage(stage, stage.steady)
    stage.stack.cluster.stop_prometheus()
    outage.told("PrometheusUnreachable", "refuses connections")
    for other in (stage.hasty, stage.crashing):
        other.release("better")
    for other in (stage.hasty, stage.crashing):
        up = stage.wait(other, "its pod is ready", lambda seen: seen.ready == 1)
        assert up.weight == 0, "a canary gets no first share either"
    stage.stack.cluster.start_prometheus()
    stage.proxy.mode = "pass"
    outage.over("stopped, data kept")


def test_two_minutes_without_prometheus_and_without_its_data_decide_nothing(stage: Stage) -> None:
    """Whatever onInconclusive says. But a canary that crashes meanwhile is taken back by what the cluster shows."""
    steady, hasty, crashing = stage.steady, stage.hasty, stage.crashing
    stage.wait(crashing, "the canary serves", lambda seen: seen.weight == 30 and seen.confirmed)
    stage.wait(hasty, "the canary serves", lambda seen: seen.weight == 50 and seen.confirmed)
    stage.serving(steady, WEIGHTS[5])
    stage.proxy.mode = "refuse"
    outages = [Outage(stage, steady), Outage(stage, hasty)]
    stage.stack.cluster.stop_prometheus()
    for outage in outages:
        outage.told("PrometheusUnreachable", "refuses connections")

    revision = stage.witness.of(crashing.name)[-1].status["candidate"]["revision"]
    assert stage.witness.of(crashing.name)[-1].weight == 30
    assert crashing.kill_container(revision) == 1
    killed = time.time()
    back = stage.wait(crashing, "it is taken back", lambda seen: seen.phase in ("RollingBack", "RolledBack"))
    assert back.status["lastRollback"]["reason"] == "CrashLoop"
    print(f"canary that crashes while Prometheus is away: taken back {back.at - killed:.1f} s after the crash")

    restarts = stage.stack.operator_restarts()
    stage.stack.kill_operator()
    _until(lambda: stage.stack.operator_restarts() > restarts, "the operator starts again")
    stage.stack.settle(seconds=max(0.0, outages[0].began + LONG_S - time.time()))
    stage.stack.cluster.lose_prometheus_data()
    stage.stack.cluster.start_prometheus()
    stage.proxy.mode = "pass"
    for outage in outages:
        outage.ended = time.time()
    outages[0].over("stopped, data lost, operator killed", messages=2)
    stage.open.append(outages[1])  # its phase lasts longer


def test_empty_answers_in_the_bake_do_not_promote(stage: Stage) -> None:
    """It is told after 20 seconds only, as series may come late; but nothing is promoted before that, either."""
    stage.serving(stage.steady, 100)
    stage.proxy.mode = "empty"
    outage = Outage(stage, stage.steady)
    outage.told("NoData", "scraped no pod")
    stage.stack.settle(seconds=3)
    stage.proxy.mode = "pass"
    outage.over("empty answers in the bake")


def test_in_the_end_every_healthy_canary_is_promoted_and_no_request_failed(stage: Stage) -> None:
    for outage in stage.open:
        outage.over(f"the same of {outage.who.name}", messages=2)
    for one in (stage.steady, stage.hasty):
        stage.wait(one, "it is promoted", lambda seen: seen.phase == "Promoted")
        history = stage.witness.of(one.name)
        assert not any("lastRollback" in seen.status for seen in history)
        assert history[-1].status["stable"]["version"] == one.version("better")
        assert history[-1].status["history"][0]["outcome"] == "Promoted"
        one.traffic.stop()
        assert one.traffic.failures() == []
        assert sum(one.traffic.by_version().values()) > 500
    assert stage.guilty.traffic.failures(but_of=[stage.guilty.version("brittle")]) == []
    answers = sum(sum(one.traffic.counts().values()) for one in (stage.steady, stage.hasty))
    print(f"requests of the healthy canaries' users: {answers}, failed: 0")


def _bad_answers(who: Rollout, version: str) -> int:
    return who.traffic.counts().get((500, version), 0)


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.25)
