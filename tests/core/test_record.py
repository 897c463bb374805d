"""What a ReleaseRecord says: which rollouts leave one, what stands in it, how it is chained and told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrelease.api.record import RECORD_MAX_BYTES, PreviousRecord, RecordEvent, ReleaseRecordSpec
from modelrelease.api.status import CheckStatus, EndingStatus, GateStatus, Stage, TimelineEntry
from modelrelease.core import record
from modelrelease.core.observation import MetricValue
from tests.core.builders import FAILING, HEALTHY, NOW, Release, fresh, idle, model, release, revision, spec

SLICES = {"name": "night", "slices": {"metric": "recall", "min": 0.8}}


def place(**changes: Any) -> record.Place:
    return replace(record.Place("crm", "churn", "u-1"), **changes)


def written(case: Release) -> list[ReleaseRecordSpec]:
    """The records that the status has ordered."""
    return [record.spec_of(item, place()) for item in case.status.endings]


def rolled_back() -> Release:
    """Version 8 failed its check in the second phase; all traffic is back and its requests have ended."""
    case = release(step=0, timeline=()).see(samples=HEALTHY).later(90).decided()
    for _ in range(6):
        case = case.later(30).decided()
        if case.status.candidate and case.status.candidate.step == 1 and case.weight == 50:
            break
    evidence_from = case.status.candidate.stage_since if case.status.candidate else NOW
    later = tuple(replace(poll, at=evidence_from + (poll.at - NOW)) for poll in FAILING.polls)
    case = case.see(samples=replace(FAILING, polls=later)).later(61).decided()
    return case.later(1).decided().later(1800).decided()


def sliced(recall: float) -> Release:
    """Version 8 has a gate on slices, and this recall at night."""
    case = fresh(gates=[SLICES])
    held = replace(model("8"), metrics=(MetricValue("slice/night/recall", recall, "holdout", "h1"),))
    versions = {**case.obs.registry.versions, "8": held}
    return case.see(registry=replace(case.obs.registry, versions=versions))


def test_a_rollback_by_a_check_leaves_a_record_with_all_that_was_seen() -> None:
    case = rolled_back()
    [seen] = written(case)
    assert (seen.outcome, seen.reason, seen.champion) == ("RolledBack", "CheckFailed", "7")
    assert (seen.model.name, seen.model.version, seen.model.uri) == ("churn", "8", "models:/m-8")
    assert [(item.event, item.weight) for item in seen.timeline if item.event != "Held"] == [
        ("Set", 50),
        ("Confirmed", 50),
        ("Returning", 0),
        ("Confirmed", 0),
    ]
    [check] = seen.checks
    assert (check.name, check.verdict) == ("errors", "Fail")
    assert check.canary is not None
    assert check.canary.total > 0
    assert seen.evidence
    assert [gate.name for gate in seen.gates] == ["auc"]
    assert seen.complete
    assert seen.model_validate(record.plain(seen)) == seen


def test_a_rollback_by_a_check_asks_for_retraining_with_the_window_and_the_values() -> None:
    [seen] = written(rolled_back())
    [cause] = seen.retrain
    assert (cause.kind, cause.name, cause.slice) == ("check", "errors", None)
    assert cause.value is not None
    assert cause.champion is not None
    assert cause.value > cause.champion
    assert cause.since is not None
    assert cause.until is not None
    assert cause.since < cause.until
    assert record.event_types(seen) == (RecordEvent.ROLLED_BACK, RecordEvent.RETRAIN)


def test_a_slice_that_blocks_is_recorded_once_and_asks_for_retraining() -> None:
    case = sliced(0.5)
    for _ in range(4):
        case = case.later(30).decided()
    assert case.status.phase == "Blocked"
    [seen] = written(case)
    assert (seen.outcome, seen.reason) == ("Blocked", "GateFailed")
    [cause] = seen.retrain
    assert (cause.kind, cause.name, cause.value, cause.threshold) == ("slice", "night", 0.5, 0.8)
    assert cause.slice is not None
    assert "night" in cause.slice
    assert cause.dataset


def test_a_metric_that_blocks_does_not_ask_for_retraining() -> None:
    case = fresh()
    case = case.see(registry=replace(case.obs.registry, versions={**case.obs.registry.versions, "8": model("8", 0.1)}))
    [seen] = written(case.decided())
    assert seen.outcome == "Blocked"
    assert record.event_types(seen) == (RecordEvent.BLOCKED,)


def test_a_corrected_evaluation_begins_another_rollout_with_a_record_of_its_own() -> None:
    blocked = sliced(0.5).decided()
    corrected = replace(blocked, obs=replace(sliced(0.9).obs, revisions=blocked.obs.revisions)).later(60).decided()
    candidate = corrected.status.candidate
    assert candidate is not None
    assert (candidate.recorded, candidate.started_at) == (False, NOW + timedelta(seconds=60))
    again = record.record_name("churn", candidate.started_at, candidate.revision)
    assert again != blocked.status.endings[0].name


def test_another_version_while_blocked_leaves_no_second_record() -> None:
    blocked = sliced(0.5).decided()
    other = blocked.edit(9, gates=[SLICES]).later(5).decided()
    assert [item.outcome for item in other.status.endings if item.version == "8"] == ["Blocked"]


@pytest.mark.parametrize(
    ("wanted", "outcome"), [pytest.param(9, "Superseded", id="another"), pytest.param(7, "Dropped", id="what serves")]
)
def test_a_candidate_that_is_still_gating_leaves_a_record_when_something_else_is_wanted(
    wanted: int, outcome: str
) -> None:
    case = release(stage=Stage.GATING).edit(wanted).decided()
    assert [(item.version, item.outcome) for item in case.status.endings] == [("8", outcome)]


def test_an_abort_before_any_pod_leaves_a_record() -> None:
    case = release(stage=Stage.GATING).say("abort").decided()
    [seen] = written(case)
    assert (seen.outcome, seen.reason) == ("RolledBack", "Aborted")
    assert [item.command for item in seen.commands] == [f"abort@{revision('8').revision}-1"]


def test_a_promotion_leaves_a_record_and_names_what_served_before() -> None:
    case = release(stage=Stage.BAKING, step=2).see(samples=HEALTHY).later(301).decided()
    assert case.status.phase == "Promoted"
    [seen] = written(case)
    assert (seen.outcome, seen.champion) == ("Promoted", "7")


def test_a_first_release_leaves_a_record_without_a_champion() -> None:
    case = fresh(checks=[])
    for _ in range(8):
        case = case.later(120).decided().see(pods={"8": 2})
    assert case.status.phase == "Promoted"
    [seen] = written(case)
    assert (seen.outcome, seen.champion) == ("Promoted", None)
    assert seen.spec_digest == record.spec_digest(case.spec)
    assert [(item.event, item.weight) for item in seen.timeline] == [("Set", 100), ("Confirmed", 100)]


def test_the_status_forgets_an_ending_once_its_record_has_been_seen() -> None:
    case = release(stage=Stage.GATING).say("abort").decided()
    seen = case.see(recorded=frozenset({case.status.endings[0].name})).decided()
    assert seen.status.endings == ()
    assert seen.status.sequence == case.status.sequence + 1


def test_a_backlog_that_is_full_loses_its_oldest_and_says_so() -> None:
    case = release(stage=Stage.GATING)
    waiting = tuple(ending(f"r{number}") for number in range(3))
    case = replace(case, status=case.status.model_copy(update={"endings": waiting})).say("abort")
    told = case.announced()
    after = case.decided().status
    assert [item.name for item in after.endings][:2] == ["r1", "r2"]
    assert after.records_dropped == 1
    [warning] = [item for item in told if item.reason == "RecordDropped"]
    assert warning.type == "Warning"
    assert "1 rollout" in warning.note


# -- bounds ----------------------------------------------------------------------------------------------------------
def ending(name: str = "r", **changes: Any) -> EndingStatus:
    fields = {"version": "8", "revision": "a" * 10, "rules": "b" * 10, "outcome": "Promoted", "reason": "Promoted"}
    return EndingStatus.model_validate({"name": name, **fields, "startedAt": NOW, "endedAt": NOW, **changes})


def noise(number: int, size: int) -> str:
    """Text that does not compress, four bytes a character."""
    out, state = [], number * 7919 + 1
    for _ in range(size):
        state = state * 6364136223846793005 % 2**64 + 1442695040888963407
        out.append(chr(0x1F300 + (state >> 33) % 700))
    return "".join(out)


def brim() -> record.Seen:
    gates = tuple(
        GateStatus(
            name=f"g{number}",
            verdict="Pass",
            message=noise(number, 256),
            dataset=noise(number + 99, 128),
            source=noise(number + 500, 128),
        )
        for number in range(64)
    )
    checks = tuple(CheckStatus(name=f"c{number}", verdict="Pass", message=noise(number, 256)) for number in range(32))
    return record.Seen(gates=gates, checks=checks, evidence="x" * 4000)


def test_a_rollout_of_the_longest_texts_fits_into_status_and_its_record_says_that_it_was_shortened() -> None:
    candidate = release().status.candidate
    assert candidate is not None
    made = record.ending("churn", candidate, revision("8"), "Promoted", "Promoted", noise(1, 1024), brim(), NOW)
    assert made.details is None or len(made.details) <= record.DETAILS_MAX
    seen = record.spec_of(made, place())
    assert not seen.complete
    assert len(json.dumps(record.plain(seen), ensure_ascii=False).encode()) < RECORD_MAX_BYTES


def test_a_full_status_keeps_its_endings_without_details_before_it_grows_too_big() -> None:
    case = release(stage=Stage.GATING)
    assert case.status.candidate is not None
    big = tuple(ending(f"r{number}", details="1" + "A" * 8191) for number in range(3))
    status = case.status.model_copy(update={"endings": big, "checks": brim().checks, "evidence": None})
    for _ in range(2):
        status = replace(case, status=status, spec=spec()).decided().status
    assert len(status.model_dump_json(by_alias=True, exclude_none=True).encode()) < 64 * 1024
    assert len(status.endings) == 3


@pytest.mark.parametrize(
    "details", [pytest.param(None, id="none"), pytest.param("1!", id="spoilt"), pytest.param("9AAAA", id="newer")]
)
def test_details_that_cannot_be_read_leave_a_record_of_what_is_known(details: str | None) -> None:
    seen = record.spec_of(ending(details=details), place())
    assert (seen.model.version, seen.outcome, seen.complete) == ("8", "Promoted", False)


def test_a_long_story_keeps_its_beginning_and_its_end() -> None:
    timeline: tuple[TimelineEntry, ...] = ()
    for number in range(100):
        entry = TimelineEntry(at=NOW + timedelta(minutes=number), event="Set", weight=number % 2)
        timeline = record.noted(timeline, entry)
    assert len(timeline) == record.TIMELINE_MAX
    assert timeline[0].at == NOW
    assert timeline[-1].at == NOW + timedelta(minutes=99)


def test_what_is_held_for_the_same_reason_is_one_entry() -> None:
    first = TimelineEntry(at=NOW, event="Held", weight=20, reason="NoData")
    assert record.noted((first,), first.model_copy(update={"at": NOW + timedelta(minutes=1)})) == (first,)


# -- the chain -------------------------------------------------------------------------------------------------------
def chain(length: int) -> list[tuple[str, dict[str, Any]]]:
    out: list[tuple[str, dict[str, Any]]] = []
    for number in range(length):
        before = PreviousRecord(name=out[-1][0], digest=record.digest(out[-1][1])) if out else None
        seen = record.spec_of(ending(), place(sequence=number + 1, previous=before))
        out.append((f"r{number}", record.plain(seen)))
    return out


def test_a_chain_holds_until_a_record_is_changed_or_taken_out() -> None:
    assert record.chain_problem(chain(4)) is None
    changed = chain(4)
    changed[1][1]["outcome"] = "RolledBack"
    assert record.chain_problem(changed) == "r1 is not what r2 says it was"
    out = chain(4)
    del out[1]
    assert record.chain_problem(out) == "r2 follows r1, not r0"
    assert record.chain_problem(chain(4)[2:]) is None, "retention takes the oldest"


def test_a_digest_does_not_change_when_the_api_server_writes_whole_numbers_its_own_way() -> None:
    assert record.digest({"a": 1.0, "b": [0.25, 3]}) == record.digest({"b": [0.25, 3.0], "a": 1})


@pytest.mark.parametrize("name", ["a" * 52, "churn"])
def test_a_name_is_one_that_dns_knows(name: str) -> None:
    made = record.record_name(name, NOW, "ab12cd34ef")
    assert made == f"{name}-20260101t120000000z-ab12cd34ef"
    assert len(made) <= 253


# -- what is told ----------------------------------------------------------------------------------------------------
def test_an_event_is_a_cloud_event_whose_id_is_the_same_at_every_attempt() -> None:
    [seen] = written(rolled_back())
    event = record.cloud_event("r", "u-2", seen, RecordEvent.RETRAIN)
    assert event == record.cloud_event("r", "u-2", seen, RecordEvent.RETRAIN)
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", "u-2.retrain", "dev.modelrelease.retrain")
    assert event["source"] == "/apis/modelrelease.dev/v1alpha1/namespaces/crm/modelreleases/churn"
    assert event["subject"] == "churn/8"
    assert event["data"]["record"]["digest"] == record.digest(seen)
    assert event["data"]["causes"][0]["name"] == "errors"
    assert all(key == key.lower() and key.isalnum() for key in event), "names of attributes, as the standard has them"


def test_a_return_to_a_former_revision_leaves_a_record() -> None:
    case = idle(8, gates=[]).see(promoted=(revision("8", spec(gates=[])).key, revision("7").key))
    stored = revision("8", spec(gates=[]))
    case = case.see(revisions={**case.obs.revisions, stored.key: stored})
    for _ in range(8):
        case = case.later(120).decided().see(pods={"8": 2, "7": 2})
    assert case.status.stable is not None
    assert case.status.stable.version == "8"
    assert [item.outcome for item in case.status.endings] == ["Promoted"]
