"""Evaluation gates as a person writes them: what the registry must say about a version before it may deploy.

Only what may be asked for, and the bounds of it; verdicts are in `core.gates`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from .base import Name, SpecModel, list_map, one_of, rule, validations

KINDS = ("metric", "slices")
"""The fields of Gate of which exactly one is set; `core.gates` has one function for each."""

MetricKey = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9_\-. :/]+$")]


class ChampionBound(SpecModel):
    """How far a metric may fall or rise against the champion, the revision that this release serves today."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("has(self.maxDrop) != has(self.maxRise)", "set exactly one of maxDrop and maxRise")
        )
    )

    max_drop: float | None = Field(
        None,
        ge=0,
        description="The candidate's value may be lower than the champion's by at most this much (absolute).",
    )
    max_rise: float | None = Field(
        None,
        ge=0,
        description="The candidate's value may be higher than the champion's by at most this much (absolute); for "
        "metrics where less is better, such as a loss.",
    )

    @model_validator(mode="after")
    def _exclusive(self) -> ChampionBound:
        one_of(self, ("max_drop", "max_rise"), "champion")
        return self


class MetricGate(SpecModel):
    """One metric of the evaluation, held against fixed bounds, the champion, or both."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("has(self.min) || has(self.max) || has(self.champion)", "set at least one of min, max and champion"),
            rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
        )
    )

    name: MetricKey = Field(description="Name of the metric as it was logged in MLflow, for example `accuracy`.")
    dataset: str | None = Field(
        None,
        max_length=250,
        description="Name of the evaluation data set whose value counts. Needed when the metric was logged for several "
        "data sets; without it the metric must be unambiguous.",
    )
    min: float | None = Field(None, description="The value must be at least this.")
    max: float | None = Field(None, description="The value must be at most this.")
    champion: ChampionBound | None = Field(
        None, description="Bound against the same metric of the model that serves today. Passes while nothing serves."
    )

    @model_validator(mode="after")
    def _bounded(self) -> MetricGate:
        if self.min is None and self.max is None and self.champion is None:
            raise ValueError("metric: set at least one of min, max and champion")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("metric: min must not be above max")
        return self


class SliceGate(SpecModel):
    """One metric on every slice of the evaluation data: no slice may be sacrificed for the average."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("has(self.min) || has(self.max) || has(self.champion)", "set at least one of min, max and champion"),
            rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
            rule(
                "!has(self.match) || self.match.split('*').size() == 2",
                "match must contain exactly one *, which stands for the name of the slice",
            ),
        )
    )

    metric: MetricKey = Field(
        description="Metric within a slice, for example `recall`: logged as `slice/night/recall`."
    )
    match: str = Field(
        "slice/*",
        min_length=1,
        max_length=250,
        description="Pattern of slice prefixes; `*` stands for one slice name. `slice/*` with metric `recall` matches "
        "`slice/night/recall`.",
    )
    required: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        (), max_length=64, description="Slices that must have been evaluated, by name, for example [night, rain]."
    )
    dataset: str | None = Field(None, max_length=250, description="Name of the evaluation data set whose values count.")
    min: float | None = Field(None, description="Every slice must have at least this value.")
    max: float | None = Field(None, description="Every slice must have at most this value.")
    champion: ChampionBound | None = Field(
        None,
        description="Bound against the same slice of the model that serves today. A slice that the champion has and "
        "the candidate lacks fails.",
    )

    @model_validator(mode="after")
    def _bounded(self) -> SliceGate:
        if self.min is None and self.max is None and self.champion is None:
            raise ValueError("slices: set at least one of min, max and champion")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("slices: min must not be above max")
        if self.match.count("*") != 1:
            raise ValueError(f"slices: match must contain exactly one *, got {self.match!r}")
        return self


class OnRevoked(StrEnum):
    """What happens when a gate that had passed no longer passes in mid-rollout."""

    HOLD = "Hold"
    ROLLBACK = "Rollback"


def _exactly_one() -> dict[str, str]:
    fields = [to_camel(kind) for kind in KINDS]
    given = ", ".join(f"has(self.{field})" for field in fields)
    return rule(
        f"[{given}].filter(x, x).size() == 1",
        f"a gate must set exactly one of {', '.join(fields[:-1])} and {fields[-1]}",
    )


class Gate(SpecModel):
    """A condition on the registry's evidence, read before any pod exists and again before every weight increase."""

    model_config = ConfigDict(json_schema_extra=validations(_exactly_one()))

    name: Name = Field(description="Name of the gate, unique in the list; it appears in status and Events.")
    metric: MetricGate | None = Field(None, description="Bounds for one metric.")
    slices: SliceGate | None = Field(None, description="Bounds for one metric on every slice.")
    # Left out of the canonical form where they say nothing new: the digests of older revisions stay what they are.
    advisory: bool = Field(
        False, exclude_if=lambda value: not value, description="Its verdict is reported and never stops a release."
    )
    on_revoked: OnRevoked = Field(
        OnRevoked.HOLD,
        exclude_if=lambda value: value is OnRevoked.HOLD,
        description="What happens when it no longer passes in mid-rollout: the weight is held, or traffic goes back.",
    )

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def rules(self) -> Any:
        """The model of its kind."""
        return getattr(self, self.kind)

    @model_validator(mode="after")
    def _one_kind(self) -> Gate:
        one_of(self, KINDS, f"gate {self.name}")
        return self


Gates = Annotated[tuple[Gate, ...], Field(max_length=32, json_schema_extra=list_map())]
