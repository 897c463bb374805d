"""Online checks as a person writes them: questions about live traffic while the canary serves.

Only what may be asked for, and the bounds of it; verdicts are in `core.checks`, the metrics of a runtime in `presets`.
Every kind but `gauge` counts bad ones among all and is judged by one sequential test, so that it has a margin.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from .base import Duration, Name, SpecModel, exactly_one, list_map, one_of, parse_duration, rule, validations

KINDS = ("error_rate", "latency", "score", "win_rate", "gauge", "custom")
"""The fields of Check of which exactly one is set."""

METRIC_PATTERN = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"
PLACEHOLDERS = ("namespace", "pods", "revision")
"""What $(...) may stand for in a custom query."""

MIN_POLLS_DEFAULT = 3
_PLACEHOLDER = re.compile(r"\$\(([^)]*)\)?")

Share = Annotated[float, Field(ge=0, le=1)]
MetricName = Annotated[str, Field(min_length=1, max_length=200, pattern=METRIC_PATTERN)]
MinPolls = Annotated[
    int | None,
    Field(
        ge=1,
        le=20,
        description="About how many polls a verdict against max takes at least; 1 makes it a tripwire. Default 3.",
    ),
]

_NOT_BOTH = "set margin (against stable) or max (absolute), not both"


class MarginSpec(SpecModel):
    """What the canary may be worse by: its rate is allowed up to relative x stable's rate + absolute."""

    relative: float = Field(
        1.25, ge=0, le=100, description="Factor on the stable revision's rate, 1.25 allows a quarter more."
    )
    absolute: Share = Field(0.01, description="Added to it, as a share of requests: 0.01 allows one more in a hundred.")


class _Limited(SpecModel):
    """A share that is held against stable by a margin, or against a fixed maximum."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("!(has(self.margin) && has(self.max))", _NOT_BOTH),
            rule("!has(self.minPolls) || has(self.max)", "minPolls belongs to max; margins keep the default"),
        )
    )

    margin: MarginSpec | None = Field(None, description="Allowed difference from the stable revision.")
    max: float | None = Field(None, gt=0, lt=1, description="Absolute maximum of the share; needs no stable revision.")
    min_polls: MinPolls = None

    @model_validator(mode="after")
    def _exclusive(self) -> _Limited:
        if self.margin is not None and self.max is not None:
            raise ValueError(_NOT_BOTH)
        if self.min_polls is not None and self.max is None:
            raise ValueError("minPolls belongs to max")
        return self


class ErrorRateCheck(_Limited):
    """The share of requests that fail, by the runtime's own definition of failing."""

    # Left out of the canonical form where it says nothing new: the digests of older revisions stay what they are.
    of: Literal["server", "client"] = Field(
        "server",
        exclude_if=lambda value: value == "server",
        description="Whose errors: server means requests that the server failed (HTTP 5xx); client means those that it "
        "refused as wrong (HTTP 4xx): a canary that does not know the model answers 404 to everybody.",
    )
    margin: MarginSpec | None = Field(
        None, description="Allowed difference from the stable revision. Default when max is absent: 1.25 and 0.01."
    )
    max: float | None = Field(
        None, gt=0, lt=1, description="Absolute maximum share of failing requests; needs no stable revision."
    )


class LatencyCheck(_Limited):
    """The share of requests slower than a bound, counted from histogram buckets."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("!(has(self.margin) && has(self.max))", _NOT_BOTH),
            rule("!has(self.minPolls) || has(self.max)", "minPolls belongs to max; margins keep the default"),
        )
    )

    metric: Literal["requestDuration", "timeToFirstToken", "timePerOutputToken", "queueTime"] = Field(
        "requestDuration",
        description="Which of the runtime's histograms is meant: requestDuration (every runtime that has one), "
        "timeToFirstToken, timePerOutputToken (the mean of a request's tokens) or queueTime.",
    )
    slower_than: Duration = Field(
        description="A request slower than this is bad. Choose a bucket bound of the server's histogram near stable's "
        "80th to 98th percentile; the next lower bound is used where it is none."
    )
    also_slower_than: tuple[Duration, ...] = Field(
        (),
        max_length=2,
        exclude_if=lambda value: not value,
        description="Up to two further bounds; the evidence is averaged over all of them, so that a shift of the whole "
        "distribution and a longer tail are both seen.",
    )
    margin: MarginSpec | None = Field(
        None, description="Allowed difference from the stable revision. Default when max is absent: 1.25 and 0.02."
    )
    max: float | None = Field(
        None, gt=0, lt=1, description="Absolute maximum share of slow requests; needs no stable revision."
    )

    @property
    def bounds_s(self) -> tuple[float, ...]:
        """All its bounds in seconds, slowerThan first."""
        return tuple(parse_duration(text).total_seconds() for text in (self.slower_than, *self.also_slower_than))

    @model_validator(mode="after")
    def _different(self) -> LatencyCheck:
        if len(set(self.bounds_s)) < len(self.bounds_s):
            raise ValueError("latency: the bounds of slowerThan and alsoSlowerThan must differ")
        return self


class ScoreCheck(SpecModel):
    """The mean of a score in [0, 1] that the server counts itself, for example the confidence of its predictions."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("!(has(self.margin) && has(self.min))", "set margin (against stable) or min (absolute), not both"),
            rule(
                "!has(self.min) || !has(self.higherIsBetter) || self.higherIsBetter",
                "min needs a score of which higher is better",
            ),
        )
    )

    metric: MetricName = Field(
        description="Name of a summary or histogram without its suffix: the counters <metric>_sum and <metric>_count "
        "are read. Each observation must lie in [0, 1]."
    )
    higher_is_better: bool = Field(True, description="False for a score of which less is better, such as a loss.")
    margin: MarginSpec | None = Field(
        None,
        description="Allowed difference from the stable revision in what the score lacks to 1 (where lower is better: "
        "in the score). Default when min is absent: 1.0 and 0.02.",
    )
    min: float | None = Field(None, gt=0, lt=1, description="Absolute minimum of the mean; needs no stable revision.")

    @model_validator(mode="after")
    def _exclusive(self) -> ScoreCheck:
        if self.margin is not None and self.min is not None:
            raise ValueError("score: set margin (against stable) or min (absolute), not both")
        if self.min is not None and not self.higher_is_better:
            raise ValueError("score: min needs a score of which higher is better")
        return self


class WinRateCheck(SpecModel):
    """How often a judge prefers the canary's answer, counted as the judgements come in."""

    wins: MetricName = Field(description="Counter of judgements that the answering revision won.")
    ties: MetricName | None = Field(None, description="Counter of undecided judgements; each counts as half a win.")
    judgements: MetricName = Field(description="Counter of all judgements.")
    min: float = Field(
        0.47,
        gt=0,
        lt=1,
        description="The share of wins must be shown to be above this; 0.5 asks for a better one.",
    )


class GaugeCheck(SpecModel):
    """A gauge, such as the cache in use: the canary's mean over its pods held against stable's.

    No error probability is claimed: it fails after so many polls in a row beyond the tolerance.
    """

    metric: MetricName = Field(
        description="Name that the runtime's preset knows, such as kvCacheUsage, waitingRequests or runningRequests, "
        "or the metric's own name."
    )
    tolerance: float = Field(
        ge=0,
        description="How far the canary's mean may be on the worse side of stable's, in the gauge's unit. Choose at "
        "least three standard deviations of the usual difference.",
    )
    worse: Literal["higher", "lower"] = Field("higher", description="Which side is the worse one.")
    polls: int = Field(5, ge=2, le=100, description="How many polls in a row must be beyond the tolerance to fail.")


class CustomCheck(_Limited):
    """The share of bad ones by queries of one's own; only where the ReleasePolicy sets allowCustomQueries."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("!(has(self.margin) && has(self.max))", _NOT_BOTH),
            rule("!has(self.minPolls) || has(self.max)", "minPolls belongs to max; margins keep the default"),
            *(
                rule(
                    f"self.{text}.contains('$(pods)') || self.{text}.contains('$(revision)')",
                    f"{text} must select a revision's pods by $(pods) or $(revision)",
                )
                for text in ("total", "bad")
            ),
        )
    )

    total: str = Field(
        min_length=1,
        max_length=1024,
        description="PromQL of counters of everything. Its series need the label pod, at most 1,000 of them. "
        "$(namespace), $(pods) (an alternation, for =~) and $(revision) are filled in inside of quotes: "
        '`sum by (pod) (rag_answers_total{namespace="$(namespace)", pod=~"$(pods)"})`. No rate() and no '
        "increase(): differences of the raw counters are taken.",
    )
    bad: str = Field(min_length=1, max_length=1024, description="The same for the bad ones among them.")
    margin: MarginSpec | None = Field(
        None, description="Allowed difference from the stable revision. Default when max is absent: 1.25 and 0.01."
    )
    max: float | None = Field(
        None, gt=0, lt=1, description="Absolute maximum share of bad ones; needs no stable revision."
    )

    @model_validator(mode="after")
    def _placed(self) -> CustomCheck:
        for name, text in (("total", self.total), ("bad", self.bad)):
            used = _PLACEHOLDER.findall(text)
            if unknown := [word for word in used if word not in PLACEHOLDERS]:
                known = ", ".join(f"$({word})" for word in PLACEHOLDERS)
                raise ValueError(f"custom: {name} has $({unknown[0]}); known are {known}")
            if not {"pods", "revision"} & set(used):
                raise ValueError(f"custom: {name} must select a revision's pods by $(pods) or $(revision)")
        return self


CheckKind = ErrorRateCheck | LatencyCheck | ScoreCheck | WinRateCheck | GaugeCheck | CustomCheck


class Check(SpecModel):
    """A question about live traffic, judged while the canary serves."""

    model_config = ConfigDict(json_schema_extra=validations(exactly_one(KINDS, "a check")))

    name: Name = Field(description="Name of the check, unique in the list; it appears in status and Events.")
    error_rate: ErrorRateCheck | None = Field(None, description="Share of failing requests.")
    latency: LatencyCheck | None = Field(None, description="Share of slow requests.")
    score: ScoreCheck | None = Field(None, description="Mean of a score between 0 and 1.")
    win_rate: WinRateCheck | None = Field(None, description="Share of judgements that the canary wins.")
    gauge: GaugeCheck | None = Field(None, description="Difference of a gauge; no error probability is claimed.")
    custom: CustomCheck | None = Field(None, description="Share of bad ones by PromQL of one's own.")

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def part(self) -> CheckKind:
        """The model of its kind."""
        found: CheckKind = getattr(self, self.kind)
        return found

    @property
    def min_polls(self) -> int:
        """About how many polls a verdict takes at least."""
        part = self.part
        return (part.min_polls if isinstance(part, _Limited) else None) or MIN_POLLS_DEFAULT

    @model_validator(mode="after")
    def _one_kind(self) -> Check:
        one_of(self, KINDS, f"check {self.name}")
        return self


Checks = Annotated[tuple[Check, ...], Field(max_length=16, json_schema_extra=list_map())]
