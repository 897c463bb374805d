"""How a release waits for people: before the first pod, before a phase, and what no command does for them."""

from __future__ import annotations

from typing import Any

import pytest

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import Stage
from modelrelease.core import record
from modelrelease.core.observation import Approvals, Command, RegistryView
from modelrelease.core.record import Place
from tests.core.approvals import approval, people
from tests.core.builders import GATE, HEALTHY, NOW, Release, fresh, idle, model, release, spec

NOTHING = people()
NO_POLICY = Approvals(problem="approvals cannot be believed: the binding is gone")


def asked(**rules: Any) -> ModelReleaseSpec:
    """A spec with the usual gate and one for people."""
    return spec(gates=[GATE, {"name": "sign-off", "approval": rules}])


def at(stage: Stage, step: int = 0, *, said: Approvals = NOTHING, **rules: Any) -> Release:
    """A release at a stage with a gate for people; the canary does well."""
    return release(step, stage, asked(**rules)).see(approvals=said, samples=HEALTHY)


def yes(user: str = "alice", **rules: Any) -> Approvals:
    return people(approval(user, of=asked(**rules)))


def no(user: str = "bob", **rules: Any) -> Approvals:
    return people(approval(user, decision="Deny", of=asked(**rules)))


MISSING = ("Held", "ApprovalMissing")
ASK = "gate sign-off: 0 of 1 approvals; kubectl modelrelease approve churn --gate sign-off"


def test_before_the_first_pod_it_is_held_for_a_person() -> None:
    held = at(Stage.GATING).decided()
    assert held.rest == MISSING
    assert held.status.message == ASK
    assert held.status.candidate is not None
    assert held.status.candidate.stage is Stage.GATING
    passed = next(item for item in held.status.conditions if item.type == "GatesPassed")
    assert (passed.status, passed.reason) == ("False", "ApprovalMissing")


def test_an_evaluation_that_fails_is_told_before_people_are_asked() -> None:
    poor = RegistryView({"7": model("7"), "8": model("8", auc=0.5)})
    assert at(Stage.GATING).see(registry=poor).decided().rest == ("Blocked", "GateFailed")


def test_an_approval_lets_it_go_on_and_stands_in_status() -> None:
    went = at(Stage.GATING, said=yes()).decided()
    assert went.status.candidate is not None
    assert went.status.candidate.stage is Stage.STARTING
    assert [(item.user, item.decision) for item in went.status.candidate.approvals] == [("alice", "Approve")]


def test_a_candidate_that_begins_in_this_pass_is_looked_at_again_at_once() -> None:
    began = idle(8, gates=[GATE, {"name": "sign-off", "approval": {}}])
    decision = began.decision()
    assert decision.status.phase == "Gating"
    assert decision.wake_at == began.now
    assert began.decided().see(approvals=people()).decided().rest == MISSING


def test_approvals_are_told_by_name_and_once() -> None:
    waits = at(Stage.GATING).decided()
    said = people(approval("alice", "ml-leads", of=asked(), comment="reviewed"))
    given = [item for item in waits.see(approvals=said).announced() if item.reason == "ApprovalGiven"]
    assert [(item.type, item.note) for item in given] == [
        ("Normal", "alice (group ml-leads) approved v8 at gate sign-off: reviewed")
    ]
    known = waits.see(approvals=said).decided()
    assert not [item for item in known.later(1).announced() if item.reason.startswith("Approval")]


def test_a_no_blocks_and_its_deletion_lets_it_go_on() -> None:
    waits = at(Stage.GATING).decided()
    denied = waits.see(approvals=no())
    assert [item.note for item in denied.announced() if item.reason == "ApprovalDenied"] == [
        "bob denied v8 at gate sign-off"
    ]
    blocked = denied.decided()
    assert blocked.rest == ("Blocked", "GateFailed")
    assert "denied by bob; it fails until ReleaseApproval bob-deny is deleted" in blocked.status.message
    again = blocked.see(approvals=yes()).decided()
    assert again.status.candidate is not None
    assert again.status.candidate.stage is Stage.STARTING


def test_a_later_phase_stops_no_phase_before_it() -> None:
    began = at(Stage.GATING, beforePhase="half").decided()
    assert began.status.candidate is not None
    assert began.status.candidate.stage is Stage.STARTING
    assert at(Stage.STARTING, 0, beforePhase="half").decided().weight == 20
    passed = next(item for item in began.status.conditions if item.type == "GatesPassed")
    assert passed.message == "passed: auc; for a later phase: sign-off"


def test_the_phase_is_held_at_the_former_weight_without_pods_of_its_own() -> None:
    held = at(Stage.SHIFTING, 0, beforePhase="half").later(120).decided()
    assert held.rest == MISSING
    assert held.weight == 20
    assert held.status.candidate is not None
    assert (held.status.candidate.stage, held.status.candidate.step) == (Stage.SHIFTING, 0)
    assert held.status.message == f"{ASK}; the weight does not rise"
    went = held.see(approvals=yes(beforePhase="half")).decided().decided()
    assert went.status.candidate is not None
    assert went.status.candidate.step == 1


def test_an_approval_that_is_taken_back_while_pods_start_holds_the_weight() -> None:
    began = at(Stage.STARTING, 1, beforePhase="half", said=yes(beforePhase="half"))
    assert began.decided().weight == 50
    assert began.see(approvals=people()).decided().rest == MISSING
    assert began.see(approvals=people()).decided().weight == 20


def test_an_approval_that_is_taken_back_is_told() -> None:
    known = at(Stage.SHIFTING, 0, said=yes()).decided()
    assert [item.note for item in known.see(approvals=people()).announced() if item.reason == "ApprovalWithdrawn"] == [
        "the word of alice at gate sign-off no longer counts: Approve alice-approve"
    ]


def test_a_no_in_mid_rollout_holds_the_weight_and_harms_nobody() -> None:
    held = at(Stage.SHIFTING, 0, said=no()).later(120).decided()
    assert held.rest == ("Held", "GateFailed")
    assert held.weight == 20


def test_a_promotion_needs_them_too() -> None:
    baked = at(Stage.BAKING, 2).later(3600)
    held = baked.decided()
    assert held.rest == MISSING
    assert held.status.stable is not None
    assert held.status.stable.version == "7"
    went = baked.see(approvals=yes()).decided()
    assert went.status.stable is not None
    assert went.status.stable.version == "8"


@pytest.mark.parametrize("verb", ["promote", "skip", "resume"])
@pytest.mark.parametrize("stage", [Stage.GATING, Stage.STARTING, Stage.SHIFTING, Stage.BAKING])
def test_no_command_stands_in_for_a_person(verb: str, stage: Stage) -> None:
    step = 2 if stage is Stage.BAKING else 0
    before = {} if stage in (Stage.GATING, Stage.BAKING) else {"beforePhase": "canary"}
    before = {"beforePhase": "half"} if stage is Stage.SHIFTING else before
    waits = at(stage, step, **before)
    weight = waits.weight
    commanded = waits.see(command=_for(waits, verb))
    for _ in range(4):
        commanded = commanded.later(3600).decided()
        assert commanded.status.candidate is not None
        assert commanded.weight == weight
    assert commanded.rest == MISSING


def _for(waits: Release, verb: str) -> Command:
    assert waits.status.candidate is not None
    return Command(f"{verb}@{waits.status.candidate.revision}-9")


def test_a_first_release_starts_its_pods_and_gets_no_traffic_without_them() -> None:
    began = fresh(8, gates=[GATE, {"name": "sign-off", "approval": {"beforePhase": "full"}}])
    began = began.decided().see(approvals=people()).decided()
    began = began.see(pods={"8": 2}).decided().see(pods={"8": 2}).later(120).decided()
    assert began.rest == MISSING
    assert began.weight == 0
    said = people(approval("alice", of=began.spec))
    assert began.see(approvals=said).decided().weight == 100


def test_a_return_to_a_former_revision_asks_nobody() -> None:
    back = idle(8, gates=[GATE, {"name": "sign-off", "approval": {}}])
    assert back.spec is not None
    stored = release(of=back.spec).obs.revisions
    key = next(key for key, item in stored.items() if item.version == "8")
    back = back.see(revisions=stored, promoted=(*back.obs.promoted, key)).decided()
    assert back.status.candidate is not None
    assert back.status.candidate.fast
    assert back.status.candidate.stage is Stage.STARTING


def test_without_the_admission_policy_nothing_is_believed_and_it_is_looked_again() -> None:
    away = at(Stage.GATING, said=NO_POLICY)
    decision = away.decision()
    assert away.decided().rest == ("Gating", "GatesUnavailable")
    assert decision.status.message == "gate sign-off: approvals cannot be believed: the binding is gone"
    assert decision.wake_at is not None
    assert (decision.wake_at - away.now).total_seconds() == 60
    held = at(Stage.SHIFTING, 0, said=NO_POLICY, beforePhase="half").later(120).decided()
    assert held.rest == ("Held", "GatesUnavailable")
    assert held.weight == 20


def test_who_approved_goes_into_the_record_also_when_the_policy_is_gone_by_then() -> None:
    known = at(Stage.SHIFTING, 0, said=yes()).decided()
    command = _for(known, "abort")
    ended = known.see(approvals=NO_POLICY, command=command).decided()
    ended = ended.decided().later(3600).decided()
    (ending,) = ended.status.endings
    written = record.spec_of(ending, Place("crm", "churn", "u1"))
    assert [(item.name, item.user, item.decision, item.at) for item in written.approvals] == [
        ("alice-approve", "alice", "Approve", NOW)
    ]


def test_another_revision_begins_without_approvals() -> None:
    known = at(Stage.GATING, said=yes()).decided()
    other = known.edit(9, gates=[GATE, {"name": "sign-off", "approval": {}}])
    for _ in range(4):
        other = other.decided()
    assert other.status.candidate is not None
    assert (other.status.candidate.version, other.status.candidate.approvals) == ("9", ())
    assert other.rest == MISSING


@pytest.mark.parametrize("phase", ["hlaf", "baking"])
def test_a_phase_that_does_not_exist_is_refused_with_those_that_do(phase: str) -> None:
    wrong = fresh(8, gates=[{"name": "sign-off", "approval": {"beforePhase": phase}}]).decided()
    assert wrong.rest == ("Invalid", "InvalidSpec")
    assert wrong.status.message == (
        f"gate sign-off: beforePhase '{phase}' is no phase of this release; its phases are canary, half, full; "
        "what serves goes on serving; correct it"
    )


def test_a_policys_gate_may_stand_before_a_phase_of_the_policy() -> None:
    gates = [{"name": "sign-off", "approval": {"beforePhase": "wide"}}]
    phases = [{"name": "wide", "weight": 30}, {"name": "all", "weight": 100}]
    policy = ReleasePolicySpec.model_validate({"gates": gates, "phases": phases})
    began = fresh(8, policyRef={"name": "house"}, rollout={"phases": []})
    told = began.see(policy=policy).decided()
    assert told.reason != "InvalidSpec"
    other = began.see(policy=policy.model_copy(update={"phases": ()})).decided()
    assert "gate house/sign-off: beforePhase 'wide' is no phase of this release" in other.status.message


def test_an_advisory_gate_is_reported_and_asks_nobody_to_wait() -> None:
    gates = [GATE, {"name": "sign-off", "advisory": True, "approval": {}}]
    began = release(0, Stage.GATING, spec(gates=gates)).see(approvals=people()).decided()
    assert began.status.candidate is not None
    assert began.status.candidate.stage is Stage.STARTING
    assert began.status.gates[1].verdict == "Waiting"
