"""ReleaseApprovals as values, and whether the admission policy that makes them worth something is in force. Pure.

An approval is only as good as the check when it was made, and nothing in the object proves that there was one. So the
policy and its binding are compared with what they must be, and their last change tells since when they have been so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelrelease.api.approval import ADMISSION, ReleaseApprovalSpec
from modelrelease.api.base import GROUP
from modelrelease.core.observation import Approval

Json = Mapping[str, Any]
_INSTALL = "install the chart's admission policies (admissionPolicies.enabled)"


def approval_from(body: Json) -> Approval | None:
    """The approval, or None for one that this version cannot read: it counts for nothing."""
    try:
        spec = ReleaseApprovalSpec.model_validate(body.get("spec") or {})
    except ValidationError:
        return None
    return Approval(
        name=body["metadata"]["name"],
        revision=spec.revision,
        rules=spec.rules,
        gate=spec.gate,
        approves=spec.decision == "Approve",
        user=spec.approver.username,
        group=spec.approver.group,
        duties_separated=spec.duties_separated,
        comment=spec.comment,
        at=created_at(body),
    )


def created_at(body: Json) -> datetime:
    """When the API server created an object: whole seconds of its own clock."""
    return datetime.fromisoformat(body["metadata"]["creationTimestamp"])


def enforced_since(policy: Json | None, binding: Json | None, name: str) -> datetime | str:
    """Since when approvals have been checked without a break, or why they are not checked now.

    Any change of either object may have been a gap, one of their labels, too; a status that is written is none.
    """
    if policy is None:
        return f"ValidatingAdmissionPolicy {name} does not exist: {_INSTALL}"
    if binding is None:
        return f"ValidatingAdmissionPolicyBinding {name} does not exist: {_INSTALL}"
    if wrong := next(_gaps(policy), None):
        return f"ValidatingAdmissionPolicy {name} {wrong}: {_INSTALL} of this version"
    if wrong := next(_loose_ends(binding, name), None):
        return f"ValidatingAdmissionPolicyBinding {name} {wrong}: {_INSTALL} of this version"
    return max(*_changes(policy), *_changes(binding))


def _gaps(policy: Json) -> Iterator[str]:
    spec = policy.get("spec") or {}
    if policy["metadata"].get("deletionTimestamp"):
        yield "is being deleted"
    if spec.get("failurePolicy", "Fail") != "Fail":
        yield "lets requests through where it cannot be evaluated"
    if spec.get("matchConditions") or spec.get("paramKind"):
        yield "does not look at every approval"
    constraints = spec.get("matchConstraints") or {}
    if constraints.get("excludeResourceRules") or _selects(constraints):
        yield "does not look at every approval"
    if not any(_covers(rule) for rule in constraints.get("resourceRules") or ()):
        yield "does not look at ReleaseApprovals that are created or updated"
    held = {_bare(item.get("expression", "")) for item in spec.get("validations") or ()}
    if any(_bare(wanted) not in held for wanted in ADMISSION):
        yield "does not check what this version of the operator relies on"


def _loose_ends(binding: Json, name: str) -> Iterator[str]:
    spec = binding.get("spec") or {}
    if binding["metadata"].get("deletionTimestamp"):
        yield "is being deleted"
    if spec.get("policyName") != name:
        yield f"does not bind the policy {name}"
    if "Deny" not in (spec.get("validationActions") or ()):
        yield "does not deny anything"
    if spec.get("paramRef"):
        yield "does not look at every approval"
    chosen = spec.get("matchResources") or {}
    if _selects(chosen) or chosen.get("excludeResourceRules") or chosen.get("resourceRules"):
        yield "does not look at every approval"


def _selects(match: Json) -> bool:
    return any(any((match.get(field) or {}).values()) for field in ("namespaceSelector", "objectSelector"))


def _covers(rule: Json) -> bool:
    said = [("apiGroups", (GROUP,)), ("apiVersions", ()), ("resources", ("releaseapprovals",))]
    everything = all("*" in (rule.get(field) or ()) or {*some} & {*(rule.get(field) or ())} for field, some in said)
    operations = {*(rule.get("operations") or ())}
    whole = "*" in operations or {"CREATE", "UPDATE"} <= operations
    return everything and whole and rule.get("scope", "*") in ("*", "Namespaced") and not rule.get("resourceNames")


def _bare(expression: str) -> str:
    """Without white space: YAML folds lines."""
    return "".join(expression.split())


def _changes(body: Json) -> Iterator[datetime]:
    yield created_at(body)
    for entry in body["metadata"].get("managedFields") or ():
        if not entry.get("subresource") and entry.get("time"):
            yield datetime.fromisoformat(entry["time"])
