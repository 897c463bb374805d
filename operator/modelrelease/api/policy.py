"""ReleasePolicy: what several releases share, written by those who run the platform."""

from __future__ import annotations

from pydantic import Field, model_validator

from .base import SpecModel, check_unique
from .checks import Checks
from .endpoints import PolicyPrometheus, PolicyRegistry
from .gates import Gates
from .phases import Phases, check_phases


class ReleasePolicySpec(SpecModel):
    """Gates, checks and phases that several releases share."""

    gates: Gates = Field((), description="Gates added to those of the release, named <policy>/<gate> in status.")
    checks: Checks = Field((), description="Checks added to those of the release, named <policy>/<check> in status.")
    phases: Phases = Field((), description="Phases of releases that name none themselves.")
    registry: PolicyRegistry | None = Field(None, description="Where models are. Default: the operator's own default.")
    prometheus: PolicyPrometheus | None = Field(
        None, description="Who scrapes the model servers. Default: the operator's own default."
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
