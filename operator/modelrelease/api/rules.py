"""How a release is judged: evaluation gates, online checks and rollout phases, for ModelRelease and ReleasePolicy.

No verdicts here (`core.gates`, `core.checks`), only what a person may ask for and the bounds of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from .base import Duration, Name, SpecModel, Weight, list_map, rule, validations

_EXACTLY_ONE_GATE = "[has(self.metric), has(self.slices)].filter(x, x).size() == 1"
_EXACTLY_ONE_CHECK = "[has(self.errorRate), has(self.latency)].filter(x, x).size() == 1"

MetricKey = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9_\-. :/]+$")]
Share = Annotated[float, Field(ge=0, le=1)]


def _one_of(model: SpecModel, names: tuple[str, ...], what: str) -> None:
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        raise ValueError(f"{what}: exactly one of {', '.join(names)} must be set, got {given or 'none'}")


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
        _one_of(self, ("max_drop", "max_rise"), "champion")
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


class Gate(SpecModel):
    """A condition on the registry's evidence, read before any pod exists and again before every weight increase."""

    model_config = ConfigDict(
        json_schema_extra=validations(rule(_EXACTLY_ONE_GATE, "a gate must set exactly one of metric and slices"))
    )

    name: Name = Field(description="Name of the gate, unique in the list; it appears in status and Events.")
    metric: MetricGate | None = Field(None, description="Bounds for one metric.")
    slices: SliceGate | None = Field(None, description="Bounds for one metric on every slice.")

    @model_validator(mode="after")
    def _one_kind(self) -> Gate:
        _one_of(self, ("metric", "slices"), f"gate {self.name}")
        return self


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
        json_schema_extra=validations(rule(_EXACTLY_ONE_CHECK, "a check must set exactly one of errorRate and latency"))
    )

    name: Name = Field(description="Name of the check, unique in the list; it appears in status and Events.")
    error_rate: ErrorRateCheck | None = Field(None, description="Share of failing requests.")
    latency: LatencyCheck | None = Field(None, description="Share of slow requests.")

    @model_validator(mode="after")
    def _one_kind(self) -> Check:
        _one_of(self, ("error_rate", "latency"), f"check {self.name}")
        return self


class Phase(SpecModel):
    """One step of the rollout: how much traffic the canary gets, and for how long at least."""

    name: Name = Field(description="Name of the phase, unique in the list.")
    weight: Weight = Field(
        description="Percent of traffic on the canary. Weights rise from phase to phase; the last is 100."
    )
    replicas: int | None = Field(
        None,
        ge=1,
        le=10000,
        description="Pods of the canary in this phase; the last phase has all of them. Default: the weight's share of "
        "replicas, rounded up.",
    )
    duration: Duration = Field(
        "0s", description="Least time at this weight, counted from when the gateway confirmed it."
    )
    timeout: Duration = Field(
        "24h",
        description="Longest wait for evidence; then onInconclusive decides. It does not run while evidence is "
        "missing.",
    )


Gates = Annotated[tuple[Gate, ...], Field(max_length=32, json_schema_extra=list_map())]
Checks = Annotated[tuple[Check, ...], Field(max_length=16, json_schema_extra=list_map())]
_PHASE_RULES: dict[str, Any] = validations(
    rule("self.size() == 0 || self[self.size() - 1].weight == 100", "the last phase must have weight 100"),
    rule(
        "self.all(p, p.weight > 0) && self.map(p, p.weight).isSorted() "
        "&& self.all(p, self.exists_one(q, q.weight == p.weight))",
        "the weights of phases must rise from phase to phase, starting above 0",
    ),
)
Phases = Annotated[tuple[Phase, ...], Field(max_length=16, json_schema_extra={**list_map(), **_PHASE_RULES})]


def check_phases(phases: tuple[Phase, ...]) -> None:
    """Raise ValueError unless weights rise from above 0 to 100 and names are unique."""
    weights = [phase.weight for phase in phases]
    if phases and (weights[-1] != 100 or weights[0] <= 0 or any(a >= b for a, b in pairwise(weights))):
        raise ValueError(f"phases: weights must rise from above 0 and end at 100, got {weights}")
    check_unique("phases", [phase.name for phase in phases])


def check_unique(what: str, names: list[str]) -> None:
    """Raise ValueError naming the first repeated name."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: the name {name!r} is used twice")
