"""Verdicts of the online checks, and what they say; the statistics themselves are proved in test_evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.core.checks import Evidence, advance, begin, begin_phase, decode, encode, judge, plan, share
from modelrelease.core.checks.feed import regression
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import Poll, Samples, Unavailable
from modelrelease.core.revision import Revision
from tests.core.builders import ERRORS, LIMIT, NOW, POLL, SILENT, arm, polls, revision, spec

SLOW = {"name": "slow", "latency": {"slowerThan": "500ms"}}
TRIPWIRE = {"name": "tripwire", "errorRate": {"max": 0.5, "minPolls": 1}}
STABLE = revision("7").revision


def judged(made: Revision, samples: Samples, *, has_stable: bool = True) -> tuple[str, str]:
    """Verdict and message of the first check after these samples."""
    evidence = advance(begin(made, NOW), made, samples.polls, STABLE if has_stable else None)
    (status, *_) = judge(evidence, made, samples, has_stable=has_stable).checks
    return (status.verdict, status.message)


RELATIVE = revision("8")
ABSOLUTE = revision("8", spec(checks=[LIMIT]))
LATENCY = revision("8", spec(checks=[SLOW]))
CASES = {
    "a canary as good as stable passes": (
        RELATIVE, polls(Counts(1000, 2), Counts(4000, 8)), "Pass",
        "errors 0.2% (24 of 12,000) against 0.2%, allowed 1.2%: evidence 0% of what a rollback needs"),
    "a canary far worse than stable fails": (
        RELATIVE, polls(Counts(100, 29), Counts(900, 4), number=6), "Fail",
        "errors 29% (174 of 600) against 0.44%, allowed 1.6%"),
    "few requests need more": (
        RELATIVE, polls(Counts(10, 0), Counts(90, 0), number=2), "Waiting",
        "errors 0% (0 of 20) against 0%, allowed 1%: about 440 more requests needed to pass"),
    "no request yet is said": (
        RELATIVE, polls(Counts(0, 0), Counts(90, 0), number=2), "Waiting",
        "errors: no requests of the candidate counted yet"),
    "both arms failing alike is no regression": (
        RELATIVE, polls(Counts(100, 40), Counts(900, 360)), "Pass",
        "errors 40% (480 of 1,200) against 40%, allowed 51%: evidence 0% of what a rollback needs"),
    "silence of Prometheus is no verdict": (
        RELATIVE, SILENT, "Unavailable", "errors: no requests of the candidate counted yet"),
    "no data is no verdict": (
        RELATIVE, Samples((), Unavailable(Reason.NO_DATA, "no samples")), "NoData",
        "errors: no requests of the candidate counted yet"),
    "a share below an absolute maximum passes": (
        ABSOLUTE, polls(Counts(1000, 2), Counts(0, 0), check="limit"), "Pass",
        "limit 0.2% (24 of 12,000), allowed 5%: evidence 0% of what a rollback needs"),
    "a share above an absolute maximum fails": (
        ABSOLUTE, polls(Counts(1000, 200), Counts(0, 0), check="limit"), "Fail",
        "limit 20% (2,400 of 12,000), allowed 5%"),
    "a slow canary fails and its bound is named": (
        LATENCY, polls(Counts(1000, 300), Counts(4000, 40), check="slow"), "Fail",
        "slow (slower than 500ms) 30% (3,600 of 12,000) against 1%, allowed 3.2%"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_check_says(case: tuple[Revision, Samples, str, str]) -> None:
    made, samples, verdict, message = case
    assert judged(made, samples) == (verdict, message)


def test_a_check_against_stable_has_no_verdict_while_nothing_serves() -> None:
    said = judged(RELATIVE, polls(Counts(1000, 900), Counts(0, 0)), has_stable=False)
    assert said == ("NoData", "errors: nothing serves yet to compare with")


def test_an_absolute_check_is_judged_while_nothing_serves() -> None:
    assert judged(ABSOLUTE, polls(Counts(1000, 900), Counts(0, 0), check="limit"), has_stable=False)[0] == "Fail"


def test_a_tripwire_fires_at_the_first_poll() -> None:
    made = revision("8", spec(checks=[TRIPWIRE]))
    assert judged(made, polls(Counts(400, 400), Counts(0, 0), number=1, check="tripwire"))[0] == "Fail"


def test_the_default_needs_about_three_polls_to_fail() -> None:
    bad = Counts(400, 400)
    verdicts = [judged(RELATIVE, polls(bad, Counts(1600, 3), number=number))[0] for number in range(1, 6)]
    assert verdicts.index("Fail") in (2, 3)


def test_missing_entries_are_no_evidence() -> None:
    samples = polls(Counts(1000, 900), Counts(4000, 8), check="something else")
    assert judged(RELATIVE, samples)[0] == "Waiting"


def test_polls_are_counted_once_however_often_they_are_fed() -> None:
    samples = polls(Counts(100, 1), Counts(900, 9))
    once = advance(begin(RELATIVE, NOW), RELATIVE, samples.polls, STABLE)
    assert advance(once, RELATIVE, samples.polls, STABLE) == once


def test_polls_fed_one_by_one_give_the_same_as_all_at_once() -> None:
    samples = polls(Counts(100, 1), Counts(900, 9))
    held = begin(RELATIVE, NOW)
    for poll in samples.polls:
        held = decode(encode(advance(held, RELATIVE, [poll], STABLE)), RELATIVE) or held
    assert held == advance(begin(RELATIVE, NOW), RELATIVE, samples.polls, STABLE)


def test_a_new_phase_must_pass_anew_and_remembers_harm() -> None:
    samples = polls(Counts(1000, 2), Counts(4000, 8))
    held = advance(begin(RELATIVE, NOW), RELATIVE, samples.polls, STABLE)
    assert judge(held, RELATIVE, samples, has_stable=True).passed
    later = begin_phase(held, NOW + timedelta(minutes=2))
    assert not judge(later, RELATIVE, samples, has_stable=True).passed
    assert regression(later.checks["errors"]) == regression(held.checks["errors"])


def test_every_check_must_pass() -> None:
    made = revision("8", spec(checks=[ERRORS, LIMIT]))
    samples = polls(Counts(1000, 2), Counts(4000, 8))  # nothing is counted for the other check
    held = advance(begin(made, NOW), made, samples.polls, STABLE)
    assert [check.verdict for check in judge(held, made, samples, has_stable=True).checks] == ["Pass", "Waiting"]
    assert not judge(held, made, samples, has_stable=True).passed


def test_one_check_is_blamed_for_a_rollback() -> None:
    made = revision("8", spec(checks=[ERRORS, {**ERRORS, "name": "others"}]))
    arms = {
        RELATIVE.revision: arm(errors=Counts(1000, 2), others=Counts(1000, 600)),
        STABLE: arm(errors=Counts(4000, 8), others=Counts(4000, 8)),
    }
    samples = polls(Counts(1000, 2), Counts(4000, 8))
    both = tuple(Poll(poll.at, arms) for poll in samples.polls)
    held = advance(begin(made, NOW), made, both, STABLE)
    failed = judge(held, made, samples, has_stable=True).failed
    assert failed is not None
    assert failed.name == "others"


def test_without_checks_nothing_is_waited_for() -> None:
    none = replace(RELATIVE, checks=())
    judgement = judge(begin(none, NOW), none, Samples(), has_stable=True)
    assert (judgement.passed, judgement.failed) == (True, None)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"v":9}', '{"v":3,"key":"other"}', '{"v":1,"checks":{}}'])
def test_evidence_that_cannot_be_read_counts_as_none(text: str | None) -> None:
    assert decode(text, RELATIVE) is None


def test_evidence_of_other_rules_counts_as_none() -> None:
    assert decode(encode(begin(RELATIVE, NOW)), ABSOLUTE) is None


def test_the_evidence_of_all_checks_fits_into_the_status() -> None:
    many = [{"name": f"{'check':-<58}{number}z", "errorRate": {}} for number in range(16)]
    made = revision("8", spec(checks=many))
    arms = {RELATIVE.revision: arm(**{check.name: Counts(1e9 / 3, 1e7 / 3) for check in made.checks})}
    arms[STABLE] = arm(**{check.name: Counts(1e9 / 7, 1e7 / 7) for check in made.checks})
    held = advance(begin(made, NOW), made, [Poll(NOW + POLL, arms)], STABLE)
    assert len(encode(held)) <= 16384 / 2  # a policy may add as many again


def test_planned_polls_follow_the_phases() -> None:
    assert plan(RELATIVE, RELATIVE.checks[0]).planned_polls == 50
    longer = revision("8", spec(rollout={"phases": [{"name": "all", "weight": 100, "duration": "1d"}]}))
    assert plan(longer, longer.checks[0]).planned_polls == 1000


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.0, "0%"), (0.0042, "0.42%"), (0.029, "2.9%"), (0.12, "12%"), (1.0, "100%"), (0.00001, "0.001%")],
)
def test_a_share_is_shown_with_two_digits(value: float | None, shown: str) -> None:
    assert share(value) == shown


def test_evidence_begins_empty() -> None:
    assert isinstance(begin(RELATIVE, NOW), Evidence)
    assert set(begin(RELATIVE, NOW).checks) == {"errors"}
