"""The status that people and machines read: columns, conditions, and when it is written at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from modelrelease.api.reasons import CONDITIONS, Reason
from modelrelease.api.status import (
    ArmStatus,
    CheckStatus,
    CommandStatus,
    GateStatus,
    HistoryEntry,
    ModelReleaseStatus,
    QuarantineEntry,
    Stage,
)
from modelrelease.core.evidence import Counts
from modelrelease.core.fit import fit
from modelrelease.core.observation import PodFault, Poll, RegistryView, RouteView, Samples, Unavailable
from tests.core.builders import FAILING, HEALTHY, NOW, SILENT, Release, arm, fresh, idle, polls, release, revision


def columns(case: Release) -> tuple[str, ...]:
    """What kubectl get shows."""
    shown = case.status.summary
    return (shown.serving, shown.candidate, case.status.phase, shown.step, shown.weight, shown.why)


def condition(case: Release, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = next(item for item in case.status.conditions if item.type == kind)
    return (found.status, found.reason)


def test_the_columns_of_a_canary() -> None:
    assert columns(release(0).see(samples=HEALTHY).later(5).decided()) == (
        "7 2/2", "8 2/2", "Progressing", "1/3 canary", "20%", "v8 has 20% in phase canary for 1m at least"
    )  # fmt: skip


def test_the_columns_of_a_rollback() -> None:
    case = release(0).decided().see(samples=FAILING).later(20).decided()
    assert columns(case)[:5] == ("7 2/2", "8 2/2", "RollingBack", "1/3 canary", "0%")


def test_the_columns_of_a_release_at_rest() -> None:
    assert columns(idle(7).decided()) == ("7 2/2", "-", "Promoted", "-", "-", "v7 serves all traffic")


def test_the_columns_of_a_release_that_has_not_begun() -> None:
    case = fresh(8).see(registry=RegistryView()).decided()
    assert columns(case)[:5] == ("-", "-", "Gating", "-", "-")


def test_every_condition_is_of_the_fixed_list_and_there_once() -> None:
    kinds = [item.type for item in release(0).see(samples=HEALTHY).later(5).decided().status.conditions]
    assert kinds == list(CONDITIONS)


def test_conditions_of_a_canary_that_goes_well() -> None:
    case = release(0).see(samples=HEALTHY).later(5).decided()
    assert {kind: condition(case, kind)[0] for kind in CONDITIONS} == {
        "Accepted": "True",
        "Serving": "True",
        "GatesPassed": "True",
        "CandidateReady": "True",
        "EvidenceAvailable": "True",
        "Progressing": "True",
        "Stalled": "False",
        "Ready": "False",
    }


def test_a_settled_release_is_ready_and_one_that_was_rolled_back_is_stalled() -> None:
    assert condition(idle(7).decided(), "Ready") == ("True", "Promoted")
    back = release(0).see(samples=FAILING).later(20).decided().later(1).decided().later(61).decided()
    assert condition(back, "Stalled") == ("True", "CheckFailed")
    assert condition(back, "Ready") == ("False", "CheckFailed")


@pytest.mark.parametrize(
    ("case", "serving", "ready"),
    [
        pytest.param(idle(7), ("True", "Serving"), ("True", "Promoted"), id="all is well"),
        pytest.param(
            idle(7).see(pods={"7": 1}), ("True", "Serving"), ("False", "Starting"), id="one of two pods is ready"
        ),
        pytest.param(
            idle(7).see(pods={"7": 0}), ("False", "NotServing"), ("False", "NotServing"), id="no pod is ready"
        ),
        pytest.param(
            idle(7).see(route=RouteView({"a": 100, "b": 0}, False, "Gateway edge: Accepted is False")),
            ("Unknown", "RouteNotAccepted"),
            ("False", "RouteNotAccepted"),
            id="the gateway refuses the route",
        ),
    ],
)
def test_a_promoted_release_is_ready_when_users_reach_all_its_pods(
    case: Release, serving: tuple[str, str], ready: tuple[str, str]
) -> None:
    decided = case.decided()
    assert (condition(decided, "Serving"), condition(decided, "Ready")) == (serving, ready)


def test_a_message_longer_than_the_status_holds_settles() -> None:
    case = replace(idle(7).broken(), now=NOW)
    case = case.see(spec_error="spec.workload: " + "x" * 3000).decided()
    assert len(case.status.message) == 1024
    read_back = ModelReleaseStatus.model_validate_json(case.status.model_dump_json(by_alias=True))
    assert replace(case, status=read_back).later(3600).decision().status is read_back


def test_a_spec_that_cannot_be_read_is_not_accepted_and_goes_on_serving() -> None:
    case = idle(7).broken().decided()
    assert condition(case, "Accepted") == ("False", "InvalidSpec")
    assert condition(case, "Serving") == ("True", "Serving")


def test_missing_data_is_a_condition() -> None:
    case = release(0).see(samples=SILENT).later(5).decided()
    assert condition(case, "EvidenceAvailable") == ("False", "PrometheusUnreachable")


def test_an_outage_goes_on_for_a_process_that_has_read_nothing_yet() -> None:
    """Else it would be over for a moment, and begin anew."""
    away = release(0).see(samples=SILENT).later(5).decided()
    unread = Unavailable(Reason.NO_DATA, "Prometheus has not been read yet", away.later(60).now)
    after = away.later(60).see(samples=Samples((), unread)).decided()
    assert condition(after, "EvidenceAvailable") == ("False", "NoData")
    message = next(item.message for item in after.status.conditions if item.type == "EvidenceAvailable")
    assert message.endswith("no evidence since 2026-01-01 12:00:05 UTC")
    assert condition(after.see(samples=HEALTHY).decided(), "EvidenceAvailable") == ("True", "EvidenceAvailable")


def test_empty_answers_are_told_after_a_while_though_nothing_wakes_anybody() -> None:
    case = release(2, Stage.BAKING).see(samples=HEALTHY).later(301)
    empty = Unavailable(Reason.NO_DATA, "Prometheus has scraped no pod", case.now)
    first = case.see(samples=replace(HEALTHY, problem=empty)).decided()
    assert condition(first, "EvidenceAvailable")[0] == "True"
    wake = first.decision().wake_at
    assert wake == case.now + timedelta(seconds=20)
    assert condition(replace(first, now=wake).decided(), "EvidenceAvailable") == ("False", "NoData")


def test_the_fault_of_a_pod_is_the_reason_of_its_condition() -> None:
    case = release(0, Stage.STARTING).fault(PodFault.UNSCHEDULABLE).decided()
    assert condition(case, "CandidateReady") == ("False", "Unschedulable")


def test_a_condition_remembers_since_when() -> None:
    case = idle(7).decided().later(3600)
    edited = case.edit(7).decided()
    since = {item.type: item.last_transition_time for item in edited.status.conditions}
    assert since["Ready"] == NOW
    assert {item.observed_generation for item in edited.status.conditions} == {2}


# -- when it is written --
def growing(case: Release, minutes: int) -> list[ModelReleaseStatus]:
    """Statuses that are recorded while polls come in that decide nothing."""
    written = []
    for tick in range(1, minutes * 12 + 1):
        at = NOW + timedelta(seconds=5 * tick)
        poll = Poll(
            at, {revision("8").revision: arm(errors=Counts(3, 0)), revision("7").revision: arm(errors=Counts(9, 0))}
        )
        seen = replace(case, now=at).see(samples=Samples((*case.obs.samples.polls, poll)))
        decided = seen.decided()
        if decided.status is not case.status:
            written.append(decided.status)
        case = replace(decided, obs=replace(decided.obs, samples=seen.obs.samples))
    return written


def test_counts_alone_are_written_at_most_once_a_minute() -> None:
    case = release(0).see(samples=Samples()).decided()
    written = growing(case.say("pause").decided(), 5)
    times = [status.refreshed_at for status in written if status.refreshed_at is not None]
    assert 4 <= len(times) <= 6
    assert min(after - before for before, after in pairwise(times)) >= timedelta(seconds=60)


def test_what_was_counted_last_is_written_in_the_end_though_no_request_follows() -> None:
    case = release(0).see(samples=polls(Counts(10, 0), Counts(90, 0), number=1)).later(5).decided()
    waiting = case.see(samples=polls(Counts(10, 0), Counts(90, 0), number=2)).later(5).decision()
    assert waiting.status is case.status
    assert waiting.wake_at is not None
    late = replace(case, now=waiting.wake_at).see(samples=polls(Counts(10, 0), Counts(90, 0), number=2)).decided()
    assert late.status.checks[0].canary.total == 20  # type: ignore[union-attr]


def test_the_message_of_a_phase_does_not_change_with_every_poll() -> None:
    first = release(0).see(samples=polls(Counts(100, 0), Counts(900, 0), number=1)).later(5).decided()
    later = release(0).see(samples=polls(Counts(100, 0), Counts(900, 0), number=9)).later(45).decided()
    assert first.status.message == later.status.message


def test_a_settled_world_gets_back_the_very_same_status() -> None:
    for case in (idle(7), idle(8, suspend=True), release(0).say("pause")):
        settled = case.decided().decided()
        assert settled.later(30).decision().status is settled.status


def test_a_verdict_is_written_at_once() -> None:
    case = release(0).see(samples=polls(Counts(10, 0), Counts(90, 0), number=1)).later(5).decided()
    passed = case.see(samples=HEALTHY).later(1).decision().status
    assert passed is not case.status
    assert passed.sequence == case.status.sequence + 1


# -- how large it may become --
def largest() -> ModelReleaseStatus:
    """Every list full, every text as long as anything can make it, of letters that take three bytes."""
    words = "\N{SNOWMAN}" * 5000
    digest, number, name = "f" * 10, "9" * 18, "n" * 127
    when = {"started_at": NOW, "ended_at": NOW}
    arm = ArmStatus(total=10**12, bad=10**11, rate=0.123456)
    figures = {"value": 0.123456789012, "champion": 0.123456789012, "threshold": 0.123456789012}
    known = {"samples": 10**9, "champion_samples": 10**9, "run": "f" * 40, "origin": "p" * 63, "read_at": NOW}
    seen = {"dataset": words, "source": words, "advisory": True, **figures, **known}
    gate = GateStatus(name=name, verdict="InsufficientData", message=words, **seen)
    seen = {"canary": arm, "stable": arm, "allowed": 0.123456, "requests_needed": 10**9, "detectable": 0.0123}
    seen |= {"evidence_percent": 100, "bound": 2, "load": 123.45, "left_out": 0.1234}
    texts = {"reason": "PrometheusUnreachable", "message": words, "pods": words, "query": '"' * 512}
    check = CheckStatus.model_validate({"name": name, "verdict": "Unavailable", **seen, **texts})
    ended = HistoryEntry(
        version=number, revision=digest, outcome="Superseded", reason="Superseded", message=words, **when
    )
    failed = {"key": f"{digest}-{digest}", "version": number, "outcome": "RolledBack", "reason": "x" * 24, "since": NOW}
    said = CommandStatus(command=f"rollback@{digest}-{'n' * 40}", result=words, at=NOW)
    base = release(0).see(samples=HEALTHY).later(5).decided().status
    return base.model_copy(
        update={
            "message": words[:300],
            "gates": (gate,) * 64,
            "checks": (check,) * 32,
            "conditions": tuple(item.model_copy(update={"message": words}) for item in base.conditions),
            "history": (ended,) * 10,
            "quarantine": (QuarantineEntry.model_validate(failed | {"message": words}),) * 20,
            "commands": (said,) * 20,
            "evidence": "e" * 16384,
        }
    )


def test_the_largest_status_fits_into_64_kib() -> None:
    assert len(fit(largest()).model_dump_json(by_alias=True, exclude_none=True).encode()) <= 64 * 1024


def test_what_is_made_to_fit_keeps_all_that_decisions_need() -> None:
    full = largest()
    made = fit(full)
    assert [item.verdict for item in made.gates] == [item.verdict for item in full.gates]
    assert [item.key for item in made.quarantine] == [item.key for item in full.quarantine]
    assert [item.command for item in made.commands] == [item.command for item in full.commands]
    assert (made.evidence, made.message) == (full.evidence, full.message)


def test_making_fit_twice_changes_nothing_more() -> None:
    made = fit(largest())
    assert fit(made) == made


def test_a_status_of_usual_size_is_left_alone() -> None:
    status = release(0).see(samples=HEALTHY).later(5).decided().status
    assert fit(status) is status
