"""Policies: which rules a release is held to, where each comes from, and what an edited or unreadable policy does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from modelrelease.api.policy import LabelSelector, ReleasePolicySpec
from modelrelease.api.status import Stage
from modelrelease.core.policies import Policy, applying, rules, selects, too_many
from modelrelease.core.revision import desired
from tests.core.builders import (
    FAILING,
    GATE,
    HEALTHY,
    LIMIT,
    fresh,
    idle,
    release,
    revision,
    spec,
)

STRICT_GATE = {"name": "floor", "metric": {"name": "auc", "min": 0.95}}


def policy(name: str = "floor", **fields: Any) -> Policy:
    """An enforced policy; without fields it has a gate that version 8 does not pass."""
    given = fields or {"gates": [STRICT_GATE]}
    enforce = {"namespaceSelector": {"matchLabels": {"tier": "prod"}}}
    return Policy(name, ReleasePolicySpec.model_validate({**given, "enforce": enforce}))


def named(asked: str = "house", **changes: Any) -> Any:
    """A spec that names a policy."""
    return spec(policyRef={"name": asked}, **changes)


SELECTS: dict[str, tuple[dict[str, Any], bool]] = {
    "an empty selector": ({}, True),
    "a label that is there": ({"matchLabels": {"tier": "prod"}}, True),
    "a label with another value": ({"matchLabels": {"tier": "test"}}, False),
    "a label that is not there": ({"matchLabels": {"team": "crm"}}, False),
    "one of two labels": ({"matchLabels": {"tier": "prod", "team": "crm"}}, False),
    "In": ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["prod", "canary"]}]}, True),
    "In, of a label that is not there": (
        {"matchExpressions": [{"key": "team", "operator": "In", "values": ["crm"]}]},
        False,
    ),
    "NotIn": ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["prod"]}]}, False),
    "NotIn, of a label that is not there": (
        {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["crm"]}]},
        True,
    ),
    "Exists": ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True),
    "DoesNotExist": ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
    "labels and an expression": (
        {"matchLabels": {"tier": "prod"}, "matchExpressions": [{"key": "team", "operator": "Exists"}]},
        False,
    ),
}


@pytest.mark.parametrize(("selector", "expected"), SELECTS.values(), ids=SELECTS.keys())
def test_a_selector_means_what_it_means_to_kubernetes(selector: dict[str, Any], expected: bool) -> None:
    assert selects(LabelSelector.model_validate(selector), {"tier": "prod"}) is expected


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["b"]},
        {"key": "a", "operator": "Is"},
    ],
    ids=["In without values", "Exists with values", "an unknown operator"],
)
def test_an_expression_that_kubernetes_refuses_is_refused(expression: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LabelSelector.model_validate({"matchExpressions": [expression]})


def test_policies_are_anded_in_by_name_after_the_one_that_the_release_names() -> None:
    held = rules(
        named(),
        policy("house", gates=[STRICT_GATE], checks=[LIMIT]).spec,
        [policy("zeta", checks=[LIMIT]), policy("house"), policy("alpha", gates=[STRICT_GATE])],
    )
    assert [gate.name for gate in held.gates] == ["auc", "house/floor", "alpha/floor"]
    assert [check.name for check in held.checks] == ["errors", "house/limit", "zeta/limit"]


def test_a_policy_does_not_take_the_place_of_the_runtimes_default_checks() -> None:
    own = [check.name for check in rules(spec(checks=[]), None).checks]
    assert own
    assert [check.name for check in rules(spec(checks=[]), None, [policy(checks=[LIMIT])]).checks] == [
        *own,
        "floor/limit",
    ]


def test_an_enforced_policy_brings_no_phases() -> None:
    asked = spec(rollout={"phases": []})
    phases = [{"name": "all", "weight": 100, "duration": "1m"}]
    assert rules(asked, None, [policy(phases=phases)]).phases == ()
    of_policy = rules(named(rollout={"phases": []}), policy(phases=phases).spec).phases
    assert [phase.name for phase in of_policy] == ["all"]


def test_a_policy_that_the_release_names_counts_once_and_in_its_place() -> None:
    found = applying(named("b"), policy("b").spec, [policy("c"), policy("b"), policy("a")])
    assert [item.name for item in found] == ["b", "a", "c"]


def test_more_rules_than_status_can_show_are_refused_in_words() -> None:
    many = [{**STRICT_GATE, "name": f"g{number}"} for number in range(32)]
    enforced = (policy("a", gates=many), policy("b", gates=many))
    assert too_many(rules(spec(), None, enforced[:1])) is None

    at = idle(8).see(enforced=enforced).decided()
    assert at.rest == ("Invalid", "InvalidSpec")
    assert "the release and its policies have 65 gates together, at most 64 are possible" in at.status.message


# -- a release under enforced policies --
def test_an_enforced_gate_blocks_a_release_that_does_not_ask_for_it_and_says_where_it_comes_from() -> None:
    at = idle(8).see(enforced=(policy(),)).decided()

    assert at.rest == ("Blocked", "GateFailed")
    assert "gate floor/floor: auc: 0.9, needs 0.95" in at.status.message
    assert [(gate.name, gate.origin) for gate in at.status.gates] == [("auc", "spec"), ("floor/floor", "floor")]


def test_an_enforced_check_is_judged_and_says_where_it_comes_from() -> None:
    asked = spec()
    runs = desired("churn", asked, None, "8", "models:/m-8", (policy(checks=[LIMIT]),))
    at = release(of=asked)
    assert at.status.candidate is not None
    status = at.status.model_copy(update={"candidate": at.status.candidate.model_copy(update={"rules": runs.rules})})
    obs = replace(at.obs, revisions={**at.obs.revisions, runs.key: runs}, enforced=(policy(checks=[LIMIT]),))
    after = replace(at, status=status, obs=obs).see(samples=HEALTHY).later(120).decided()
    assert [(check.name, check.origin) for check in after.status.checks] == [
        ("errors", "spec"),
        ("floor/limit", "floor"),
    ]


def test_checks_of_the_runtime_are_told_apart_from_those_of_the_spec() -> None:
    at = release(of=spec(checks=[])).see(samples=HEALTHY).later(120).decided()
    assert {check.origin for check in at.status.checks} == {"runtime"}


def test_an_enforced_policy_leaves_what_serves_alone() -> None:
    at = idle(7).see(enforced=(policy(),)).decided()
    assert at.rest == ("Promoted", "Promoted")
    assert at.status.candidate is None


def test_a_policy_edited_in_mid_rollout_holds_for_the_next_one() -> None:
    at = release(of=spec()).see(enforced=(policy(),)).later(5).decided()
    assert at.weight == 20
    assert at.status.candidate is not None
    assert at.status.candidate.rules == revision("8").rules, "what was pinned when it began"
    risen = at.see(samples=HEALTHY).later(120).decided().later(60).decided().later(60).decided()
    assert risen.weight > 20, "the gate of the policy is none of its gates"


def test_a_policy_edited_before_a_pod_exists_is_taken_up() -> None:
    at = release(stage=Stage.GATING).see(enforced=(policy(),)).decided().decided()
    assert at.rest == ("Blocked", "GateFailed")
    assert "floor/floor" in at.status.message


def test_an_edited_policy_is_another_attempt_and_the_same_policy_is_not() -> None:
    back = release(of=spec()).see(samples=FAILING).later(60).decided()
    for _ in range(3):
        back = back.later(700).decided()
    assert back.status.phase == "RolledBack"
    assert back.later(60).decided().status.candidate is None, "quarantined"

    other = back.see(enforced=(policy(gates=[GATE]),), samples=HEALTHY).later(60).decided()
    assert other.status.candidate is not None
    assert other.status.candidate.version == "8"


UNREAD = "the labels of namespace crm cannot be read (forbidden), by which floor may be enforced"


def test_what_cannot_be_read_holds_the_next_rollout_and_says_so() -> None:
    case = idle(8).see(policies_unread=UNREAD)
    at = case.decided()
    assert at.rest == ("Pending", "PolicyUnreadable")
    assert at.status.message == f"{UNREAD}; what serves goes on serving, and no rollout begins"
    assert [(item.type, item.reason.value) for item in case.announced()] == [("Warning", "PolicyUnreadable")]
    assert at.later(60).announced() == ()
    assert at.see(policies_unread=None).decided().status.candidate is not None


def test_what_cannot_be_read_starts_no_pods_of_a_release_that_gates() -> None:
    at = release(stage=Stage.GATING).see(policies_unread=UNREAD).decided()
    assert at.rest == ("Pending", "PolicyUnreadable")
    assert at.status.candidate is not None
    assert at.status.candidate.stage is Stage.GATING


def test_what_cannot_be_read_keeps_nobody_from_rolling_back() -> None:
    at = release(of=spec()).see(policies_unread=UNREAD, samples=FAILING).later(60).decided()
    assert at.status.phase == "RollingBack"
    assert at.weight == 0


def test_a_rollout_under_way_goes_on_under_the_rules_that_it_began_with() -> None:
    at = release(step=1, stage=Stage.STARTING).see(policies_unread=UNREAD, samples=HEALTHY).later(60).decided()
    assert at.weight == 50


def test_a_first_release_waits_too() -> None:
    at = fresh(8).see(policies_unread=UNREAD).decided()
    assert at.rest == ("Pending", "PolicyUnreadable")
    assert at.see(policies_unread=None).decided().status.candidate is not None
