"""Verdicts of the checks, and what status shows of them, read off the evidence.

Fail for one check is decided over all of them together (mean of e-values) when the polls are fed in; Pass is each
check's own. A check that cannot be judged says why, and neither passes nor fails. Nothing here changes the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from modelrelease.api.checks import Check, GaugeCheck
from modelrelease.api.reasons import Reason
from modelrelease.api.status import ArmStatus, CheckStatus
from modelrelease.core import evidence as e
from modelrelease.core.observation import Samples
from modelrelease.core.policies import origin_of
from modelrelease.core.revision import Revision
from modelrelease.core.wants import Measure

from . import suspects, words
from .feed import NOBODY, Fleet, is_heavy, is_light, is_safe, regression
from .memory import Evidence, Shares, Streak
from .plans import ALPHA, NEAR_PARITY, load_matters, plan
from .queries import query_of

LEANING = 50
"""Percent of the evidence for a rollback from which on people are told of that, and of the pods behind it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts of all checks at one moment.

    failed: the check to blame for a rollback. passed: every check that can pass in this phase has passed. suspicious:
    the evidence against one check is strong enough to stop raising (a heuristic, statistics.md section 3). parity_owed:
    names of checks of latency against stable that never passed near load parity; before weight 100 they must.
    waits_for: the first check that keeps the phase from passing.
    """

    checks: tuple[CheckStatus, ...]
    failed: CheckStatus | None
    passed: bool
    suspicious: bool
    parity_owed: tuple[str, ...] = ()
    waits_for: CheckStatus | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is said of one check. excused: it cannot pass in this phase, and the phase does not wait for it."""

    word: str
    reason: Reason | None = None
    excused: bool = False


def judge(
    evidence: Evidence,
    revision: Revision,
    samples: Samples,
    *,
    has_stable: bool,
    fleet: Fleet = NOBODY,
    measures: Mapping[str, Measure] | None = None,
) -> Judgement:
    """Verdicts now. Checks against stable have none while nothing serves; they neither pass nor block then.

    fleet: where pods run, to name a bad one's node. measures: by check, how it is counted on the candidate, to say what
    its runtime lacks and to show the query.
    """
    statuses: list[CheckStatus] = []
    waits_for: CheckStatus | None = None
    suspicious, owed = False, []
    arms = sorted({revision.revision, *fleet.pods})
    for check in revision.checks:
        memory, failed = evidence.checks[check.name], check.name == evidence.failed
        if isinstance(memory, Streak):
            verdict, status = _of_gauge(check, memory, samples, failed=failed, has_stable=has_stable)
        else:
            test = plan(revision, check, evidence.planned_polls)
            comparable = has_stable or not test.margin.relative
            verdict = _verdict(check, memory, test, samples, failed=failed, comparable=comparable)
            told = _pods(evidence, memory, revision, check, test, fleet)
            status = _of_shares(check, memory, test, verdict, told, fleet.described(revision.revision))
            suspicious = suspicious or regression(memory) >= 1 / math.sqrt(ALPHA)
            if load_matters(check) and comparable and test.margin.relative and not memory.at_parity:
                owed.append(check.name)
        measure = measures.get(check.name) if measures else None
        if measure is not None and measure.lacks and verdict.word in ("Waiting", "NoData"):
            verdict = _Verdict("NoData", Reason.NO_DATA)
            words_of = {"message": f"{check.name}: {measure.lacks}", "reason": Reason.NO_DATA.value}
            status = status.model_copy(update={**words_of, "verdict": "NoData", "requests_needed": None})
        elif measure is not None:
            status = status.model_copy(update={"query": query_of(measure, arms, status.bound or 0) or None})
        status = status.model_copy(update={"origin": origin_of(check, revision.checks, revision.runtime)})
        statuses.append(status)
        if waits_for is None and verdict.word != "Pass" and not verdict.excused:
            waits_for = status
    blamed = next((status for status in statuses if status.verdict == "Fail"), None)
    return Judgement(tuple(statuses), blamed, waits_for is None, suspicious, tuple(owed), waits_for)


def _verdict(
    check: Check, memory: Shares, test: e.TestPlan, samples: Samples, *, failed: bool, comparable: bool
) -> _Verdict:
    if failed:
        return _Verdict("Fail")
    if not comparable:
        return _Verdict("NoData", Reason.NO_CHAMPION, excused=True)
    if memory.apart and test.margin.relative:
        return _Verdict("NoData", Reason.DIFFERENT_HARDWARE)
    light = load_matters(check) and is_light(memory)
    if is_safe(memory) and not light:
        return _Verdict("Pass")
    if samples.problem is not None:
        word = "NoData" if samples.problem.reason is Reason.NO_DATA else "Unavailable"
        return _Verdict(word, samples.problem.reason)
    if light:
        enough = min(wealth.phase_polls for wealth in memory.wealths) >= test.min_polls
        return _Verdict("Waiting", Reason.UNEQUAL_LOAD, excused=enough)
    return _Verdict("Waiting", Reason.UNEQUAL_LOAD if load_matters(check) and is_heavy(memory) else None)


def _of_shares(
    check: Check, memory: Shares, test: e.TestPlan, verdict: _Verdict, pods: str, hardware: str
) -> CheckStatus:
    percent = int(e.evidence_percent(regression(memory), test.alpha))
    leaning = percent >= LEANING or verdict.word == "Fail"
    bound = _telling(memory, leaning=leaning)
    wealth = memory.wealths[bound]
    canary, stable = wealth.rollout_canary, wealth.rollout_stable if test.margin.relative else None
    allowed = _allowed(test, wealth)
    needed = None
    if verdict.word == "Waiting" and not verdict.excused:
        forecasts = [e.requests_needed(item, test) for item in memory.wealths]
        known = [item for item in forecasts if item is not None]
        needed = words.two_digits(max(known)) if len(known) == len(forecasts) else None
    return CheckStatus.model_validate(
        {
            "name": check.name,
            "verdict": verdict.word,
            "reason": verdict.reason.value if verdict.reason else None,
            "message": _sentence(check, memory, bound, test, verdict, percent, needed, pods, hardware),
            "canary": _arm(canary),
            "stable": _arm(stable) if stable is not None else None,
            "allowed": round(allowed, 6) if allowed is not None else None,
            "bound": bound if len(memory.wealths) > 1 else None,
            "evidence_percent": percent,
            "requests_needed": needed,
            "detectable": _detectable(test, wealth),
            "load": round(min(memory.load, 1000.0), 2) if memory.load is not None else None,
            "left_out": _left_out(memory, wealth),
            "pods": pods or None,
        }
    )


def _telling(memory: Shares, *, leaning: bool) -> int:
    """The bound that says most: the one most against the canary, or else the one that is furthest from its Pass."""
    places = range(len(memory.wealths))
    if leaning or memory.apart:
        return max(places, key=lambda place: (e.regression(memory.wealths[place]), -place))
    return min(places, key=lambda place: (e.safety(memory.wealths[place]), place))


def _allowed(test: e.TestPlan, wealth: e.Wealth) -> float | None:
    if not test.margin.relative:
        return test.margin.absolute
    rate = wealth.rollout_stable.rate
    return None if rate is None else test.margin.relative * rate + test.margin.absolute


def _detectable(test: e.TestPlan, wealth: e.Wealth) -> float | None:
    """The smallest bad share that as many requests as were counted so far find in four rollouts of five."""
    rate = (wealth.rollout_stable if test.margin.relative else wealth.rollout_canary).rate
    if rate is None or wealth.polls < test.min_polls:
        return None
    canary, stable = wealth.rollout_canary.total, wealth.rollout_stable.total
    return _smallest(test, *(float(f"{value:.2g}") for value in (min(rate, 1.0), canary, stable)))


@lru_cache(maxsize=4096)
def _smallest(test: e.TestPlan, rate: float, canary: float, stable: float) -> float | None:
    """Of figures with two digits, which change seldom: it costs as much as twenty polls."""
    found = e.smallest_detectable(test, rate, canary, stable)
    return float(f"{found:.2g}") if found is not None else None


def _left_out(memory: Shares, wealth: e.Wealth) -> float | None:
    """The share of the canary's requests in this phase that ran on hardware which stable lacks."""
    out = memory.left_out[0]
    return round(out / (out + wealth.canary.total), 4) if out > 0 else None


def _pods(evidence: Evidence, memory: Shares, revision: Revision, check: Check, test: e.TestPlan, fleet: Fleet) -> str:
    """Whether one pod is to blame, where the evidence leans to a rollback; nothing where it cannot be told."""
    leaning = e.evidence_percent(regression(memory), test.alpha) >= LEANING or check.name == evidence.failed
    wealth = memory.wealths[0]
    allowed = _allowed(test, wealth)
    if not leaning or allowed is None or sum(1 for pod in memory.pods if pod.total > 0) < 2:
        return ""
    total = math.fsum(pod.total for pod in memory.pods)
    arm = wealth.rollout_canary
    if arm.total < total:  # pods that are warming up count here, and not there
        arm = e.Counts(total, math.fsum(pod.bad for pod in memory.pods))
    place = suspects.standing_out(memory.pods, arm, allowed)
    if place is not None:
        pod, name = memory.pods[place], evidence.pods[place]
        others = e.Counts(max(arm.total - pod.total, 1.0), max(arm.bad - pod.bad, 0.0))
        node = fleet.node(revision.revision, name)
        where = f" on node {node}" if node else ""
        what = "is slow in" if check.latency else "fails"
        return f"pod {name}{where} {what} {words.share(pod.rate)}, its siblings {words.share(others.rate)}"
    return "all pods alike: the model, not one node" if suspects.alike(memory.pods, arm, allowed) else ""


def _sentence(
    check: Check,
    memory: Shares,
    bound: int,
    test: e.TestPlan,
    verdict: _Verdict,
    percent: int,
    needed: int | None,
    pods: str,
    hardware: str,
) -> str:
    wealth, what = memory.wealths[bound], words.title(check, bound)
    if verdict.reason is Reason.NO_CHAMPION:
        return f"{what}: nothing serves yet to compare with"
    if verdict.reason is Reason.DIFFERENT_HARDWARE:
        return f"{what}: {hardware}: not comparable; absolute checks go on"
    if wealth.rollout_canary.rate is None:
        return f"{what}: no requests of the candidate counted yet"
    stable = wealth.rollout_stable if test.margin.relative and wealth.rollout_stable.total > 0 else None
    told = words.seen(check, bound, wealth.rollout_canary, stable, _allowed(test, wealth))
    if verdict.word == "Fail":
        return f"{told}; {pods}" if pods else told
    if percent >= LEANING:
        told = f"{told}: evidence {percent}% of what a rollback needs"
        return f"{told}; {pods}" if pods else told
    if verdict.word == "Waiting" and verdict.reason is Reason.UNEQUAL_LOAD:
        times = words.figure(min(memory.load or 0.0, 1000.0))
        can = "fail here, not pass" if is_light(memory) else "pass here, not fail"
        return f"{told}: its pods get {times} times the load of stable's, so it can {can}{_owed(memory)}"
    if verdict.word == "Waiting" and needed is not None:
        return f"{told}: about {needed:,} more requests needed to pass"
    if verdict.word == "Waiting":
        return f"{told}: cannot be decided at this margin"
    return f"{told}: evidence {percent}% of what a rollback needs"


def _owed(memory: Shares) -> str:
    if memory.at_parity:
        return ""
    return f"; it must pass at {1 / NEAR_PARITY:g} to {NEAR_PARITY:g} times before weight 100"


def _of_gauge(
    check: Check, memory: Streak, samples: Samples, *, failed: bool, has_stable: bool
) -> tuple[_Verdict, CheckStatus]:
    part = check.part
    assert isinstance(part, GaugeCheck), "only a gauge has a streak"
    if failed:
        verdict = _Verdict("Fail")
    elif not has_stable:
        verdict = _Verdict("NoData", Reason.NO_CHAMPION, excused=True)
    elif memory.polls >= part.polls and memory.longest < part.polls:
        verdict = _Verdict("Pass")
    elif samples.problem is not None:
        word = "NoData" if samples.problem.reason is Reason.NO_DATA else "Unavailable"
        verdict = _Verdict(word, samples.problem.reason)
    else:
        verdict = _Verdict("Waiting")
    percent = min(100, 100 * memory.run // part.polls)
    if not has_stable:
        told = f"{check.name}: nothing serves yet to compare with"
    elif memory.polls == 0 and memory.run == 0:
        told = f"{check.name}: no value of both revisions seen yet"
    else:
        told = words.gauge(check, part, memory.canary, memory.stable)
        if failed:
            told = f"{told}: beyond it in {part.polls} polls in a row"
        elif memory.run:
            told = f"{told}: beyond it in {memory.run} polls in a row, fails at {part.polls}"
    status = CheckStatus.model_validate(
        {
            "name": check.name,
            "verdict": verdict.word,
            "reason": verdict.reason.value if verdict.reason else None,
            "message": told,
            "evidence_percent": percent,
        }
    )
    return verdict, status


def _arm(counts: e.Counts) -> ArmStatus:
    rate = counts.rate
    return ArmStatus(total=int(counts.total), bad=int(counts.bad), rate=round(rate, 6) if rate is not None else None)
