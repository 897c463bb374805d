"""Whether the admission policy is what makes approvals worth something, and since when; objects as values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from modelrelease.api.approval import ADMISSION
from modelrelease.clients.approvals import approval_from, enforced_since

NAME = "modelrelease-approval"
CREATED, CHANGED = "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"
AT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
Json = dict[str, Any]
INSTALL = "install the chart's admission policies (admissionPolicies.enabled)"


def metadata(created: str = CREATED, *changes: Json) -> Json:
    return {"name": NAME, "creationTimestamp": created, "managedFields": list(changes)}


def policy() -> Json:
    rule = {
        "apiGroups": ["modelrelease.dev"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["releaseapprovals"],
        "scope": "Namespaced",
    }
    match = {"resourceRules": [rule], "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
    rules = [{"expression": expression.replace(" || ", "\n  || ")} for expression in ADMISSION]
    spec = {"failurePolicy": "Fail", "matchConstraints": match, "validations": rules}
    return {"metadata": metadata(), "spec": spec}


def binding() -> Json:
    return {"metadata": metadata(), "spec": {"policyName": NAME, "validationActions": ["Deny"]}}


def changed(body: Json, path: str, value: Any) -> Json:
    body = copy.deepcopy(body)
    *way, last = path.split(".")
    place = body
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    return body


def test_the_charts_policy_counts_from_its_creation() -> None:
    assert enforced_since(policy(), binding(), NAME) == AT


RULE = "spec.matchConstraints.resourceRules"
GAPS: dict[str, tuple[str, Any, str]] = {
    "one that fails open": ("spec.failurePolicy", "Ignore", "lets requests through where it cannot be evaluated"),
    "one with conditions": ("spec.matchConditions", [{"name": "x", "expression": "false"}], "does not look at every"),
    "one with parameters": ("spec.paramKind", {"kind": "ConfigMap"}, "does not look at every approval"),
    "one for some namespaces": (
        "spec.matchConstraints.namespaceSelector", {"matchLabels": {"a": "b"}}, "does not look at every approval"),
    "one for some objects": (
        "spec.matchConstraints.objectSelector", {"matchExpressions": [{"key": "a"}]}, "does not look at every"),
    "one with exceptions": ("spec.matchConstraints.excludeResourceRules", [{}], "does not look at every approval"),
    "one that misses updates": (
        f"{RULE}.0.operations", ["CREATE"], "does not look at ReleaseApprovals that are created or updated"),
    "one for other resources": (
        f"{RULE}.0.resources", ["modelreleases"], "does not look at ReleaseApprovals that are created or updated"),
    "one for one name": (
        f"{RULE}.0.resourceNames", ["x"], "does not look at ReleaseApprovals that are created or updated"),
    "one of an older chart": (
        "spec.validations", [{"expression": ADMISSION[0]}], "does not check what this version of the operator relies"),
    "one whose rule is weakened": (
        "spec.validations.1.expression", f"true || {ADMISSION[1]}", "does not check what this version"),
    "one that is being deleted": ("metadata.deletionTimestamp", CHANGED, "is being deleted"),
}  # fmt: skip


@pytest.mark.parametrize("case", GAPS.values(), ids=GAPS.keys())
def test_a_policy_with_a_gap_is_none(case: tuple[str, Any, str]) -> None:
    path, value, says = case
    found = enforced_since(changed(policy(), path, value), binding(), NAME)
    assert isinstance(found, str)
    assert found.startswith(f"ValidatingAdmissionPolicy {NAME} {says}")
    assert found.endswith(f"{INSTALL} of this version")


LOOSE: dict[str, tuple[str, Any, str]] = {
    "one that only warns": ("spec.validationActions", ["Warn", "Audit"], "does not deny anything"),
    "one of another policy": ("spec.policyName", "other", f"does not bind the policy {NAME}"),
    "one for some namespaces": (
        "spec.matchResources", {"namespaceSelector": {"matchLabels": {"a": "b"}}}, "does not look at every approval"),
    "one for some resources": ("spec.matchResources", {"resourceRules": [{}]}, "does not look at every approval"),
    "one with parameters": ("spec.paramRef", {"name": "x"}, "does not look at every approval"),
    "one that is being deleted": ("metadata.deletionTimestamp", CHANGED, "is being deleted"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOOSE.values(), ids=LOOSE.keys())
def test_a_binding_that_does_not_hold_is_none(case: tuple[str, Any, str]) -> None:
    path, value, says = case
    found = enforced_since(policy(), changed(binding(), path, value), NAME)
    assert found == f"ValidatingAdmissionPolicyBinding {NAME} {says}: {INSTALL} of this version"


def test_more_rules_and_wider_ones_hurt_nobody() -> None:
    wider = changed(policy(), f"{RULE}.0.operations", ["*"])
    wider["spec"]["validations"].append({"expression": "size(object.spec.comment) > 0"})
    audited = changed(binding(), "spec.validationActions", ["Audit", "Deny"])
    audited["spec"]["matchResources"] = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
    assert enforced_since(wider, audited, NAME) == AT


def test_what_is_missing_is_named() -> None:
    assert enforced_since(None, None, NAME) == f"ValidatingAdmissionPolicy {NAME} does not exist: {INSTALL}"
    assert enforced_since(policy(), None, NAME) == f"ValidatingAdmissionPolicyBinding {NAME} does not exist: {INSTALL}"


@pytest.mark.parametrize("which", [0, 1], ids=["the policy", "the binding"])
def test_a_change_of_either_may_have_been_a_gap(which: int) -> None:
    pair = [policy(), binding()]
    pair[which]["metadata"] = metadata(CREATED, {"manager": "kubectl", "time": CHANGED})
    assert enforced_since(pair[0], pair[1], NAME) == AT.replace(hour=13)


def test_a_status_that_is_written_is_no_change() -> None:
    checked = policy()
    checked["metadata"] = metadata(CREATED, {"manager": "kube", "time": CHANGED, "subresource": "status"})
    assert enforced_since(checked, binding(), NAME) == AT


def body(**spec: Any) -> Json:
    said = {
        "release": "churn",
        "revision": "0123456789",
        "rules": "abcdef0123",
        "gate": "sign-off",
        "decision": "Approve",
        "approver": {"username": "alice", "group": "ml-leads"},
    }
    return {"metadata": {"name": "a", "creationTimestamp": CREATED}, "spec": {**said, **spec}}


def test_an_approval_is_read_with_the_servers_time() -> None:
    item = approval_from(body(comment="reviewed"))
    assert item is not None
    assert (item.name, item.key, item.user, item.group) == ("a", "0123456789-abcdef0123", "alice", "ml-leads")
    assert (item.approves, item.duties_separated, item.comment, item.at) == (True, False, "reviewed", AT)


UNREADABLE: list[Callable[[], Json]] = [lambda: {"metadata": {"name": "a"}}, lambda: body(approver=None)]


@pytest.mark.parametrize("make", UNREADABLE, ids=["nothing in it", "nobody in it"])
def test_what_cannot_be_read_counts_for_nothing(make: Callable[[], Json]) -> None:
    assert approval_from(make()) is None
