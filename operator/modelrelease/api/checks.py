"""Online checks as a person writes them: questions about live traffic while the canary serves.

Only what may be asked for, and the bounds of it; verdicts are in `core.checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from .base import Duration, Name, SpecModel, list_map, one_of, rule, validations

_EXACTLY_ONE = "[has(self.errorRate), has(self.latency)].filter(x, x).size() == 1"

Share = Annotated[float, Field(ge=0, le=1)]


class MarginSpec(SpecModel):
    """What the canary may be worse by: its rate is allowed up to relative x stable's rate + absolute."""

    relative: float = Field(
        1.25, ge=0, le=100, description="Factor on the stable revision's rate, 1.25 allows a quarter more."
    )
    absolute: Share = Field(0.01, description="Added to it, as a share of requests: 0.01 allows one more in a hundred.")


class ErrorRateCheck(SpecModel):
    """The share of requests that fail, by the runtime's own definition of failing."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("!(has(self.margin) && has(self.max))", "set margin (against stable) or max (absolute), not both"),
            rule("!has(self.minPolls) || has(self.max)", "minPolls belongs to max; margins keep the default"),
        )
    )

    margin: MarginSpec | None = Field(
        None, description="Allowed difference from the stable revision. Default when max is absent: 1.25 and 0.01."
    )
    max: float | None = Field(
        None, gt=0, lt=1, description="Absolute maximum share of failing requests; needs no stable revision."
    )
    min_polls: int | None = Field(
        None,
        ge=1,
        le=20,
        description="About how many polls a verdict against max takes at least; 1 makes it a tripwire. Default 3.",
    )

    @model_validator(mode="after")
    def _exclusive(self) -> ErrorRateCheck:
        if self.margin is not None and self.max is not None:
            raise ValueError("errorRate: set margin (against stable) or max (absolute), not both")
        if self.min_polls is not None and self.max is None:
            raise ValueError("errorRate: minPolls belongs to max")
        return self


class LatencyCheck(SpecModel):
    """The share of requests slower than a bound, counted from histogram buckets."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("!(has(self.margin) && has(self.max))", "set margin (against stable) or max (absolute), not both"),
            rule("!has(self.minPolls) || has(self.max)", "minPolls belongs to max; margins keep the default"),
        )
    )

    metric: Literal["requestDuration"] = Field(
        "requestDuration", description="Which of the runtime's histograms is meant: requestDuration."
    )
    slower_than: Duration = Field(
        description="A request slower than this is bad. Choose a bucket bound of the server's histogram near stable's "
        "80th to 98th percentile; the next lower bound is used where it is none."
    )
    margin: MarginSpec | None = Field(
        None, description="Allowed difference from the stable revision. Default when max is absent: 1.25 and 0.02."
    )
    max: float | None = Field(
        None, gt=0, lt=1, description="Absolute maximum share of slow requests; needs no stable revision."
    )
    min_polls: int | None = Field(
        None, ge=1, le=20, description="About how many polls a verdict against max takes at least. Default 3."
    )

    @model_validator(mode="after")
    def _exclusive(self) -> LatencyCheck:
        if self.margin is not None and self.max is not None:
            raise ValueError("latency: set margin (against stable) or max (absolute), not both")
        if self.min_polls is not None and self.max is None:
            raise ValueError("latency: minPolls belongs to max")
        return self


class Check(SpecModel):
    """A question about live traffic, judged by a sequential test while the canary serves."""

    model_config = ConfigDict(
        json_schema_extra=validations(rule(_EXACTLY_ONE, "a check must set exactly one of errorRate and latency"))
    )

    name: Name = Field(description="Name of the check, unique in the list; it appears in status and Events.")
    error_rate: ErrorRateCheck | None = Field(None, description="Share of failing requests.")
    latency: LatencyCheck | None = Field(None, description="Share of slow requests.")

    @model_validator(mode="after")
    def _one_kind(self) -> Check:
        one_of(self, ("error_rate", "latency"), f"check {self.name}")
        return self


Checks = Annotated[tuple[Check, ...], Field(max_length=16, json_schema_extra=list_map())]
