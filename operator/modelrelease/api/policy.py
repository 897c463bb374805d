"""ReleasePolicy: what several releases share, written by those who run the platform."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from .base import SpecModel, check_unique, rule, validations
from .checks import Checks
from .endpoints import PolicyPrometheus, PolicyRegistry
from .gates import Gates
from .phases import Phases, check_phases

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


class LabelRequirement(SpecModel):
    """One condition on a label."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "self.operator in ['In', 'NotIn'] == (has(self.values) && size(self.values) > 0)",
                "values are needed by In and NotIn, and by nothing else",
            )
        )
    )

    key: LabelKey = Field(description="Name of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How it is compared.")
    values: tuple[LabelValue, ...] = Field((), max_length=16, description="Values for In and NotIn.")

    @model_validator(mode="after")
    def _values_where_needed(self) -> LabelRequirement:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError(f"{self.key}: values are needed by In and NotIn, and by nothing else")
        return self


class LabelSelector(SpecModel):
    """A label selector of Kubernetes; an empty one selects everything."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict, description="Labels with the value that each must have."
    )
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=16)] = Field(
        (), description="Conditions on labels; all must hold."
    )


class Enforce(SpecModel):
    """Where a policy holds for every release, whether it names the policy or not."""

    namespace_selector: LabelSelector = Field(
        description="Labels of the namespaces. An empty selector selects all of them."
    )


class ReleasePolicySpec(SpecModel):
    """Gates, checks and phases that several releases share."""

    gates: Gates = Field((), description="Gates added to those of the release, named <policy>/<gate> in status.")
    checks: Checks = Field((), description="Checks added to those of the release, named <policy>/<check> in status.")
    phases: Phases = Field((), description="Phases of releases that name none themselves.")
    registry: PolicyRegistry | None = Field(None, description="Where models are. Default: the operator's own default.")
    prometheus: PolicyPrometheus | None = Field(
        None, description="Who scrapes the model servers. Default: the operator's own default."
    )
    enforce: Enforce | None = Field(
        None, description="Namespaces in which the gates and checks hold for every release, also one that does not ask."
    )
    allow_custom_queries: bool = Field(
        False,
        description="True lets releases that use this policy ask Prometheus in PromQL of their own (checks of the kind "
        "custom). Such a query can read every tenant's metrics.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ReleasePolicySpec:
        check_unique("gates", [gate.name for gate in self.gates])
        check_unique("checks", [check.name for check in self.checks])
        check_phases(self.phases)
        return self
