"""What the gate approval says of what people said, word for word."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from modelrelease.api.approval import APPROVALS_MAX
from modelrelease.api.gates import Gate
from modelrelease.api.reasons import Reason
from modelrelease.core.gates import Context, evaluate, wanted
from modelrelease.core.gates.approval import recorded
from modelrelease.core.observation import Approval, Approvals, Unavailable
from modelrelease.core.version_facts import Part
from tests.core.approvals import approval, people
from tests.core.builders import NOW, revision, spec

ASK = "kubectl modelrelease approve churn --gate sign-off"
LEADS: dict[str, Any] = {"group": "ml-leads"}
NO_POLICY = "approvals cannot be believed: the binding is gone"
ALICE, BOB = approval("alice", "ml-leads"), approval("bob", "ml-leads")
CASES: dict[str, tuple[dict[str, Any], Approvals, int, str, str]] = {
    "nobody has said anything": (
        LEADS, people(), -1, "Waiting", f"0 of 1 approvals from group ml-leads; {ASK}"),
    "one of the group is enough for one": (
        LEADS, people(ALICE), -1, "Pass", "approved by alice"),
    "whoever may create approvals is enough where no group is named": (
        {}, people(approval("carol")), -1, "Pass", "approved by carol"),
    "somebody who names another group does not count": (
        LEADS, people(approval("carol", "sre")), -1, "Waiting",
        f"0 of 1 approvals from group ml-leads; {ASK}; that of carol does not count: it is given for group sre"),
    "somebody who names no group does not count for one": (
        LEADS, people(approval("carol")), -1, "Waiting",
        f"0 of 1 approvals from group ml-leads; {ASK}; that of carol does not count: it is given for no group"),
    "the same user twice is one": (
        {"count": 2}, people(ALICE, replace(ALICE, name="again")), -1, "Waiting", f"1 of 2 approvals; {ASK}"),
    "two users are two": (
        {"count": 2}, people(ALICE, BOB), -1, "Pass", "approved by alice, bob"),
    "another revision's approval is none": (
        LEADS, people(replace(ALICE, revision="0123456789")), -1, "Waiting",
        f"0 of 1 approvals from group ml-leads; {ASK}"),
    "an approval under other rules is none": (
        LEADS, people(replace(ALICE, rules="0123456789")), -1, "Waiting",
        f"0 of 1 approvals from group ml-leads; {ASK}"),
    "an approval of another gate is none": (
        LEADS, people(replace(ALICE, gate="legal")), -1, "Waiting", f"0 of 1 approvals from group ml-leads; {ASK}"),
    "with separate duties it has to say so": (
        {"separateDuties": True}, people(ALICE), -1, "Waiting",
        f"0 of 1 approvals; {ASK}; that of alice does not count: it does not say dutiesSeparated"),
    "with separate duties it counts where it says so": (
        {"separateDuties": True}, people(replace(ALICE, duties_separated=True)), -1, "Pass", "approved by alice"),
    "one that nobody checked does not count, and says since when they are": (
        {}, people(replace(ALICE, early="it is older than the release")), -1, "Waiting",
        f"0 of 1 approvals; {ASK}; that of alice does not count: it is older than the release"),
    "a no outweighs every yes": (
        LEADS, people(ALICE, approval("bob", "ml-leads", "Deny", comment="too slow")), -1, "Fail",
        "denied by bob: 'too slow'; it fails until ReleaseApproval bob-deny is deleted"),
    "a no without words": (
        LEADS, people(approval("bob", "ml-leads", "Deny")), -1, "Fail",
        "denied by bob; it fails until ReleaseApproval bob-deny is deleted"),
    "a no of somebody who may not approve says nothing": (
        LEADS, people(ALICE, approval("mallory", "sre", "Deny")), -1, "Pass", "approved by alice"),
    "a no for a later phase counts at once": (
        {"beforePhase": "half"}, people(approval("bob", decision="Deny")), -1, "Fail",
        "denied by bob; it fails until ReleaseApproval bob-deny is deleted"),
    "a later phase waits and says so": (
        {"beforePhase": "half"}, people(), 0, "Waiting",
        f"not needed before phase half: 0 of 1 approvals; {ASK}"),
    "a yes for a later phase may come early": (
        {"beforePhase": "half"}, people(ALICE), -1, "Pass", "approved by alice"),
    "the phase itself needs it": (
        {"beforePhase": "half"}, people(), 1, "Waiting", f"0 of 1 approvals; {ASK}"),
    "without a policy nothing is believed": (
        {}, Approvals(problem=NO_POLICY), -1, "Unavailable", NO_POLICY),
    "without a policy the phases before go on": (
        {"beforePhase": "half"}, Approvals(problem=NO_POLICY), 0, "Waiting",
        f"not needed before phase half: {NO_POLICY}"),
    "before anybody has looked": (
        {}, Approvals(), -1, "Unavailable", "the approvals have not been read yet"),
}  # fmt: skip


def judged(rules: dict[str, Any], said: Approvals, step: int = -1) -> tuple[str, str]:
    gate = Gate.model_validate({"name": "sign-off", "approval": rules})
    context = Context(NOW, revision(), release="churn", approvals=said, step=step)
    away = Unavailable(Reason.REGISTRY_UNREACHABLE, "MLflow is away")
    (seen,) = evaluate([gate], away, None, context)
    return seen.verdict, seen.message


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_gate_says_whatever_becomes_of_the_registry(case: tuple[dict[str, Any], Approvals, int, str, str]) -> None:
    rules, said, step, verdict, message = case
    assert judged(rules, said, step) == (verdict, message)


def test_a_gate_asks_the_registry_for_nothing_more() -> None:
    gate = Gate.model_validate({"name": "sign-off", "approval": {}})
    assert wanted([gate]) == (frozenset({Part.RUN}), frozenset())


def test_the_longest_names_still_say_what_is_missing_and_what_to_do() -> None:
    _, words = judged({"group": "g" * 100}, people(approval("u" * 500, "g" * 100, "Deny", comment="c" * 256)))
    assert "it fails until ReleaseApproval" in words


def test_what_counts_is_kept_for_the_record_with_who_when_and_why() -> None:
    asked = spec(gates=[{"name": "sign-off", "approval": LEADS}])
    runs = revision(of=asked)
    mine = [replace(item, rules=runs.rules) for item in (ALICE, approval("carol", "sre"))]
    denial = replace(approval("bob", "ml-leads", "Deny", comment="too slow"), rules=runs.rules)

    kept = recorded(runs, people(*mine, denial))

    told = [(item.name, item.gate, item.decision, item.user, item.group, item.reason, item.at) for item in kept]
    assert told == [
        ("alice-approve", "sign-off", "Approve", "alice", "ml-leads", "", NOW),
        ("bob-deny", "sign-off", "Deny", "bob", "ml-leads", "too slow", NOW),
    ]


def test_of_very_many_the_newest_are_kept() -> None:
    runs = revision(of=spec(gates=[{"name": "sign-off", "approval": {}}]))
    many = [replace(_later(number), rules=runs.rules) for number in range(APPROVALS_MAX + 4)]
    assert [item.user for item in recorded(runs, people(*many))] == [item.user for item in many[4:]]


def _later(number: int) -> Approval:
    return replace(approval(f"user{number}"), at=NOW + timedelta(seconds=number))


@pytest.mark.parametrize(
    "rules", [{"count": 0}, {"count": 17}, {"group": ""}, {"beforePhase": "No Name"}, {"by": "me"}]
)
def test_nonsense_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Gate.model_validate({"name": "sign-off", "approval": rules})
