"""The gate after: every standing of the other release, what is told of it, and when it is looked at again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from modelrelease.api.gates import Gate
from modelrelease.api.status import (
    CandidateStatus,
    GateStatus,
    HistoryEntry,
    ModelReleaseStatus,
    QuarantineEntry,
    ReturnStatus,
    StableStatus,
    Stage,
)
from modelrelease.core.gates import Context, due, evaluate, others
from modelrelease.core.observation import OtherRelease
from tests.core.builders import GATE, NOW, Release, model, observation, release, revision, spec
from tests.core.builders import fresh as fresh_release

HOUR = timedelta(hours=1)
RUNS = revision("8")


def gate(name: str = "eu-first", of: str = "chat-eu", promoted_for: str = "1h", **fields: Any) -> Gate:
    """The gate under test."""
    asked = Gate.model_validate(
        {"name": name.rpartition("/")[2], "after": {"release": of, "promotedFor": promoted_for}}
    )
    return asked.model_copy(update={"name": name, **fields})


def stable(version: str = "8", since: datetime = NOW - 2 * HOUR, key: str = "aa", model: str = "churn") -> StableStatus:
    """What the other release serves."""
    return StableStatus(revision=key, rules="r1", version=version, model=model, slot="a", promoted_at=since)


def candidate(version: str = "8", stage: Stage = Stage.SHIFTING, **fields: Any) -> CandidateStatus:
    """What it tries."""
    times = {"started_at": NOW, "stage_since": NOW}
    return CandidateStatus(revision="cc", rules="r1", version=version, slot="b", stage=stage, **times, **fields)


def failed(version: str = "8", key: str = "aa-r1", outcome: str = "RolledBack", at: datetime = NOW) -> QuarantineEntry:
    """A version that it took back."""
    words = {"reason": "CheckFailed", "message": "errors 2.9 %, 0.4 % of stable", "outcome": outcome}
    return QuarantineEntry.model_validate({"key": key, "version": version, "since": at, **words})


def promoted(version: str, at: datetime) -> HistoryEntry:
    """A rollout that ended well."""
    times = {"started_at": at - HOUR, "ended_at": at}
    return HistoryEntry(version=version, revision="aa", outcome="Promoted", reason="Promoted", message="", **times)


def other(*, model: str = "churn", waits_for: frozenset[str] = frozenset(), **status: Any) -> OtherRelease:
    """The release chat-eu."""
    return OtherRelease(model, ModelReleaseStatus(**status), waits_for)


def judged(seen: OtherRelease | None, asked: Gate | None = None) -> GateStatus:
    """The verdict for churn v8 with this release chat-eu."""
    context = Context(NOW, RUNS, releases={"chat-eu": seen})
    (found,) = evaluate([asked or gate()], None, None, context)
    return found


RETURNING = ReturnStatus(outcome="RolledBack", reason="CheckFailed", message="", since=NOW)
GATE_SEEN = GateStatus(name="auc", verdict="Fail", message="0.7, needs 0.8")
CASES: dict[str, tuple[OtherRelease | None, str, str]] = {
    "it serves the version for long enough": (
        other(stable=stable()),
        "Pass",
        "chat-eu promoted v8 at 2026-01-01 10:00:00 UTC",
    ),
    "it serves the version, not for long enough yet": (
        other(stable=stable(since=NOW - HOUR / 2)),
        "Waiting",
        "chat-eu promoted v8 at 2026-01-01 11:30:00 UTC; 1h are over at 2026-01-01 12:30:00 UTC",
    ),
    "it serves an older version": (
        other(stable=stable("7")),
        "Waiting",
        "chat-eu has not promoted v8 yet: it serves v7",
    ),
    "it serves nothing": (other(), "Waiting", "chat-eu has not promoted v8 yet: it serves nothing"),
    "the version is on its way there": (
        other(stable=stable("7"), candidate=candidate()),
        "Waiting",
        "chat-eu has not promoted v8 yet: it serves v7, v8 is on its way",
    ),
    "it has rolled the version back": (
        other(stable=stable("7"), quarantine=(failed(),)),
        "Fail",
        "chat-eu rolled v8 back: errors 2.9 %, 0.4 % of stable",
    ),
    "it is rolling the version back": (
        other(
            stable=stable("7"), candidate=candidate(stage=Stage.RETURNING, returning=RETURNING), quarantine=(failed(),)
        ),
        "Fail",
        "chat-eu rolled v8 back: errors 2.9 %, 0.4 % of stable",
    ),
    "it tries a version again that it had rolled back with other pods": (
        other(stable=stable("7"), candidate=candidate(), quarantine=(failed(),)),
        "Waiting",
        "chat-eu has not promoted v8 yet: it serves v7, v8 is on its way",
    ),
    "it has promoted what it had rolled back under other rules": (
        other(stable=stable(since=NOW - 2 * HOUR, key="bb"), quarantine=(failed(at=NOW - 5 * HOUR),)),
        "Pass",
        "chat-eu promoted v8 at 2026-01-01 10:00:00 UTC",
    ),
    "another version failed there": (
        other(stable=stable("8"), quarantine=(failed("9", key="dd-r1"),)),
        "Pass",
        "chat-eu promoted v8 at 2026-01-01 10:00:00 UTC",
    ),
    "the only version that it has failed": (
        other(stable=stable(), quarantine=(failed(outcome="Blocked"),)),
        "Fail",
        "chat-eu serves v8 though it failed there: errors 2.9 %, 0.4 % of stable",
    ),
    "its gates block the version": (
        other(stable=stable("7"), candidate=candidate(stage=Stage.GATING), phase="Blocked", gates=(GATE_SEEN,)),
        "Fail",
        "chat-eu blocks v8: gate auc: 0.7, needs 0.8",
    ),
    "a person rolled a promoted version back": (
        other(stable=stable("7", NOW), history=(promoted("8", NOW - 3 * HOUR),), quarantine=(failed(),)),
        "Fail",
        "chat-eu rolled v8 back: errors 2.9 %, 0.4 % of stable",
    ),
    "Git went back to the version before": (
        other(stable=stable("7", NOW), history=(promoted("7", NOW), promoted("8", NOW - 3 * HOUR))),
        "Fail",
        "chat-eu went back from v8 to v7",
    ),
    "it has a newer version by now, after long enough": (
        other(stable=stable("9", NOW), history=(promoted("9", NOW), promoted("8", NOW - 3 * HOUR))),
        "Pass",
        "chat-eu promoted v8 at 2026-01-01 09:00:00 UTC; it serves v9 by now",
    ),
    "it has a newer version, too soon": (
        other(stable=stable("9", NOW), history=(promoted("9", NOW), promoted("8", NOW - HOUR / 2))),
        "Fail",
        "chat-eu promoted v8 at 2026-01-01 11:30:00 UTC and has replaced it by v9 after 30m; it must keep it for 1h",
    ),
    "it does not exist": (
        None,
        "InsufficientData",
        "there is no ModelRelease chat-eu in this namespace; create it",
    ),
    "it releases another model": (
        other(model="ranker", stable=stable(model="ranker")),
        "InsufficientData",
        "chat-eu releases the model ranker, not churn; name a release of the same model",
    ),
    "it serves the version, though its spec names another model by now": (
        other(model="ranker", stable=stable()),
        "Pass",
        "chat-eu promoted v8 at 2026-01-01 10:00:00 UTC",
    ),
    "it serves the number of another model": (
        other(stable=stable(model="ranker")),
        "Waiting",
        "chat-eu has not promoted v8 yet: it serves v8",
    ),
    "a status of before models were noted": (
        other(stable=stable(model="")),
        "Pass",
        "chat-eu promoted v8 at 2026-01-01 10:00:00 UTC",
    ),
    "both wait for each other": (
        other(stable=stable("7"), waits_for=frozenset({"churn"})),
        "Fail",
        "chat-eu and churn wait for each other: the gates `after` of both name the other one; remove one of the two",
    ),
    "it names this one and has promoted the version all the same": (
        other(stable=stable(), waits_for=frozenset({"churn"})),
        "Pass",
        "chat-eu promoted v8 at 2026-01-01 10:00:00 UTC",
    ),
}


@pytest.mark.parametrize(("seen", "verdict", "message"), CASES.values(), ids=CASES.keys())
def test_the_other_release_decides(seen: OtherRelease | None, verdict: str, message: str) -> None:
    found = judged(seen)
    assert (found.verdict, found.message) == (verdict, message)


def test_a_release_that_has_not_been_read_is_unavailable() -> None:
    (found,) = evaluate([gate()], None, None, Context(NOW, RUNS))
    assert (found.verdict, found.message) == ("Unavailable", "ModelRelease chat-eu has not been read yet")


@pytest.mark.parametrize(
    ("name", "verdict", "message"),
    [
        pytest.param("waves/first", "Pass", "churn is this release itself: it goes first", id="by a policy"),
        pytest.param(
            "first",
            "Fail",
            "churn is this release itself, which would wait for ever; name another one",
            id="by its own spec",
        ),
    ],
)
def test_a_gate_may_name_the_release_itself(name: str, verdict: str, message: str) -> None:
    found = judged(None, gate(name, of="churn"))
    assert (found.verdict, found.message) == (verdict, message)


def test_without_a_time_a_promotion_is_enough() -> None:
    asked = Gate.model_validate({"name": "eu-first", "after": {"release": "chat-eu"}})
    assert judged(other(stable=stable(since=NOW)), asked).verdict == "Pass"
    assert others([asked, Gate.model_validate(GATE)]) == {"chat-eu"}


def test_what_waits_for_time_alone_is_looked_at_when_that_is_over() -> None:
    releases = {"chat-eu": other(stable=stable(since=NOW)), "chat-us": other(stable=stable("7"))}
    context = Context(NOW, RUNS, releases=releases)
    rules = [gate(), gate(of="chat-us"), gate(promoted_for="30m")]
    assert due(rules, context) == NOW + HOUR / 2
    assert due(rules, replace(context, now=NOW + HOUR / 2)) == NOW + HOUR
    assert due(rules, replace(context, now=NOW + HOUR)) is None


# -- within a rollout --
AFTER = {"name": "eu-first", "after": {"release": "chat-eu", "promotedFor": "1h"}}


def asking(seen: OtherRelease | None, stage: Stage = Stage.GATING, step: int = 0, **rules: Any) -> Release:
    """Version 8 with the gate, at a stage, beside this release chat-eu."""
    at = release(step, stage, spec(gates=[GATE, {**AFTER, **rules}]))
    return at.see(releases={"chat-eu": seen})


def test_a_later_wave_waits_pending_and_goes_on_when_the_time_is_over() -> None:
    at = asking(other(stable=stable(since=NOW)))
    decision = at.decision()
    waits = at.decided()

    assert waits.rest == ("Pending", "WaitingForRelease")
    assert waits.status.message.startswith("gate eu-first: chat-eu promoted v8 at 2026-01-01 12:00:00 UTC; 1h are over")
    assert decision.wake_at == NOW + HOUR
    assert next(item for item in waits.status.conditions if item.type == "GatesPassed").reason == "WaitingForRelease"
    assert [(item.type, item.reason) for item in at.announced()] == [("Normal", "WaitingForRelease")]
    assert waits.later(60).announced() == ()
    gone_on = waits.later(3600).decided()
    assert gone_on.status.candidate is not None
    assert gone_on.status.candidate.stage is Stage.STARTING


def test_a_rollback_in_an_earlier_wave_blocks_the_later_one_by_name() -> None:
    at = asking(other(stable=stable("7"), quarantine=(failed(),))).decided()

    assert at.rest == ("Blocked", "GateFailed")
    assert "gate eu-first: chat-eu rolled v8 back: errors 2.9 %" in at.status.message
    assert "nothing was deployed" in at.status.message
    again = at.see(releases={"chat-eu": other(stable=stable("7"), candidate=candidate())}).decided()
    assert again.rest == ("Pending", "WaitingForRelease"), "a retry there is waited for"


def test_a_rollback_in_an_earlier_wave_holds_a_later_one_that_is_under_way() -> None:
    good, bad = other(stable=stable()), other(stable=stable("7"), quarantine=(failed(),))
    at = asking(good, Stage.STARTING).later(120)
    assert at.decided().weight == 20
    gated = asking(good).decided()  # remembers that the gate has passed
    assert gated.status.candidate is not None
    ready = asking(bad, Stage.STARTING).later(120)
    held = replace(ready, status=ready.status.model_copy(update={"gates": gated.status.gates})).decided()

    assert held.weight == 0
    assert held.rest == ("Held", "GateRevoked")
    assert "chat-eu rolled v8 back" in held.status.message


def test_a_rollback_in_an_earlier_wave_takes_a_later_one_back_where_the_gate_says_so() -> None:
    good, bad = other(stable=stable()), other(stable=stable("7"), quarantine=(failed(),))
    at = asking(good, Stage.SHIFTING, onRevoked="Rollback").later(5).decided()
    back = at.see(releases={"chat-eu": bad}).decided()

    assert at.weight == 20
    assert back.weight == 0
    assert back.status.phase == "RollingBack"
    assert back.status.quarantine[0].reason == "GateRevoked"
    assert back.status.last_rollback is not None
    assert "gate eu-first: chat-eu rolled v8 back" in back.status.last_rollback.message


def test_a_release_without_other_gates_reads_the_version_all_the_same() -> None:
    asked = fresh_release(8, gates=[AFTER]).see(releases={"chat-eu": None})
    at = asked.decided()
    wanted = asked.decision().wants.registry

    assert wanted is not None
    assert wanted.versions == {"8"}
    assert at.rest == ("Blocked", "GateFailed")
    assert "there is no ModelRelease chat-eu in this namespace" in at.status.message
    assert observation().registry.versions["8"] == model("8")
