"""Which rules a release is held to: its own, those of the policy that it names, and those that are enforced on it.

The rules: they are ANDed, none replaces another one; those of a policy bear its name and a slash; the policy that the
release names comes first, then the enforced ones by name, each once. What a rollout is held to is pinned in its
revision when it begins (`core.revision`): an edited policy holds for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelrelease.api.checks import Check
from modelrelease.api.gates import Gate
from modelrelease.api.phases import Phase
from modelrelease.api.policy import LabelSelector, ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.presets import preset

MOST_GATES, MOST_CHECKS = 64, 32
"""As many as status can show."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A ReleasePolicy that is enforced in the namespace of the release."""

    name: str
    spec: ReleasePolicySpec


@dataclass(frozen=True, slots=True)
class Rules:
    """What a rollout is held to. phases: empty where neither the release nor its policy names any."""

    gates: tuple[Gate, ...]
    checks: tuple[Check, ...]
    phases: tuple[Phase, ...]


def rules(spec: ModelReleaseSpec, policy: ReleasePolicySpec | None, enforced: Sequence[Policy] = ()) -> Rules:
    """The effective rules. policy: of spec.policyRef. An enforced policy adds gates and checks, no phases."""
    gates, checks = spec.gates, spec.checks or preset(spec.workload.runtime).checks
    for item in applying(spec, policy, enforced):
        gates += tuple(gate.model_copy(update={"name": f"{item.name}/{gate.name}"}) for gate in item.spec.gates)
        checks += tuple(check.model_copy(update={"name": f"{item.name}/{check.name}"}) for check in item.spec.checks)
    default = policy.phases if policy is not None and spec.policy_ref is not None else ()
    return Rules(gates, checks, spec.rollout.phases or default)


def applying(
    spec: ModelReleaseSpec, policy: ReleasePolicySpec | None, enforced: Sequence[Policy] = ()
) -> tuple[Policy, ...]:
    """The policies that hold for a release, in their order, none twice."""
    named = [Policy(spec.policy_ref.name, policy)] if policy is not None and spec.policy_ref is not None else []
    asked = spec.policy_ref.name if spec.policy_ref is not None else None
    return (*named, *sorted((item for item in enforced if item.name != asked), key=lambda item: item.name))


def too_many(held: Rules) -> str | None:
    """What is wrong with the number of rules, None where status has room for them."""
    for what, number, most in (("gates", len(held.gates), MOST_GATES), ("checks", len(held.checks), MOST_CHECKS)):
        if number > most:
            return f"the release and its policies have {number} {what} together, at most {most} are possible"
    return None


def origin_of(check: Check, beside: Sequence[Check], runtime: str) -> str:
    """Where a check comes from: `runtime`, `spec`, or the name of a policy. beside: all checks of its revision."""
    policy = check.name.rpartition("/")[0]
    if policy:
        return policy
    own = tuple(item for item in beside if "/" not in item.name)
    return "runtime" if own == preset(runtime).checks else "spec"


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a selector of Kubernetes selects these labels; an empty one selects everything."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for asked in selector.match_expressions:
        held = labels.get(asked.key)
        match asked.operator:
            case "In" if held not in asked.values:
                return False
            case "NotIn" if held in asked.values:
                return False
            case "Exists" if held is None:
                return False
            case "DoesNotExist" if held is not None:
                return False
    return True
