"""Gates over logged figures: one metric, one metric on every slice, and a win rate against another model.

Only what may be asked for, and the bounds of it; verdicts are in `core.gates`. A field that was added after a gate kind
was first released is left out of the canonical form where it is not set, so that no digest of an older revision moves.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from .base import LATE_DEFAULT, SpecModel, one_of, rule, validations

MetricKey = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9_\-. :/]+$")]
KeyPattern = Annotated[str, Field(min_length=1, max_length=250)]
Digest = Annotated[str, Field(min_length=1, max_length=128)]
Confidence = Annotated[float, Field(ge=0.5, lt=1)]

_CHAMPION = ("maxDrop", "maxRise", "maxDropPercent", "maxRisePercent")
_ONE_STAR = "{field} must contain exactly one *, which stands for the name of the slice"
_DIGEST_NEEDS_NAME = rule("!has(self.datasetDigest) || has(self.dataset)", "datasetDigest needs dataset")


def _any_of(fields: tuple[str, ...]) -> dict[str, str]:
    return rule(
        " || ".join(f"has(self.{field})" for field in fields),
        f"set at least one of {', '.join(fields[:-1])} and {fields[-1]}",
    )


def _one_star(field: str, *, always: bool = False) -> dict[str, str]:
    given = "" if always else f"!has(self.{field}) || "
    return rule(f"{given}self.{field}.split('*').size() == 2", _ONE_STAR.format(field=field))


def _check_star(kind: str, field: str, pattern: str | None) -> None:
    if pattern is not None and pattern.count("*") != 1:
        raise ValueError(f"{kind}: {field} must contain exactly one *, got {pattern!r}")


def _dataset(what: str) -> Any:
    return Field(None, max_length=250, description=what)


class ChampionBound(SpecModel):
    """How far a metric may fall or rise against the champion, the revision that this release serves today."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                f"[{', '.join(f'has(self.{field})' for field in _CHAMPION)}].filter(x, x).size() == 1",
                "set exactly one of maxDrop, maxRise, maxDropPercent and maxRisePercent",
            )
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
    max_drop_percent: float | None = Field(
        None, ge=0, description="As maxDrop, in percent of the champion's value (of its size, where it is negative)."
    )
    max_rise_percent: float | None = Field(
        None, ge=0, description="As maxRise, in percent of the champion's value (of its size, where it is negative)."
    )

    @property
    def downward(self) -> bool:
        """True where falling is what is bounded, so that more is better."""
        return self.max_drop is not None or self.max_drop_percent is not None

    def margin(self, champion: float) -> float:
        """The allowed change in the unit of the metric, never negative."""
        percent = self.max_drop_percent if self.max_drop_percent is not None else self.max_rise_percent
        if percent is not None:
            return abs(champion) * percent / 100
        absolute = self.max_drop if self.max_drop is not None else self.max_rise
        assert absolute is not None, "exactly one is set"
        return absolute

    @model_validator(mode="after")
    def _exclusive(self) -> ChampionBound:
        one_of(self, ("max_drop", "max_rise", "max_drop_percent", "max_rise_percent"), "champion")
        return self


class MetricGate(SpecModel):
    """One metric of the evaluation, held against fixed bounds, the champion, or both."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            _any_of(("min", "max", "champion")),
            rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
            _DIGEST_NEEDS_NAME,
        )
    )

    name: MetricKey = Field(description="Name of the metric as it was logged in MLflow, for example `accuracy`.")
    dataset: str | None = _dataset(
        "Name of the evaluation data set whose value counts. Needed when the metric was logged for several data sets; "
        "without it the metric must be unambiguous."
    )
    dataset_digest: Digest | None = Field(
        None, description="Digest of that data set as MLflow shows it; a value on another state of it does not count."
    )
    min: float | None = Field(None, description="The value must be at least this.")
    max: float | None = Field(None, description="The value must be at most this.")
    champion: ChampionBound | None = Field(
        None, description="Bound against the same metric of the model that serves today. Passes while nothing serves."
    )
    samples: MetricKey | None = Field(
        None, description="Metric that holds how many samples the value rests on; shown with the verdict."
    )

    @model_validator(mode="after")
    def _bounded(self) -> MetricGate:
        if self.min is None and self.max is None and self.champion is None:
            raise ValueError("metric: set at least one of min, max and champion")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("metric: min must not be above max")
        if self.dataset_digest is not None and self.dataset is None:
            raise ValueError("metric: datasetDigest needs dataset")
        return self


class Evidence(StrEnum):
    """How sure a gate on slices has to be about a difference to the champion."""

    POINT = "point"
    NO_REGRESSION = "noRegression"
    NON_INFERIOR = "nonInferior"


class SliceGate(SpecModel):
    """One metric on every slice of the evaluation data: no slice may be sacrificed for the average."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            _any_of(("min", "max", "champion", "maxSpread")),
            rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
            _one_star("match"),
            _one_star("datasets"),
            rule("!has(self.datasets) || !has(self.dataset)", "set datasets or dataset, not both"),
            _DIGEST_NEEDS_NAME,
            rule(
                "!has(self.evidence) || self.evidence == 'point' || has(self.samples) || has(self.standardErrors)",
                "noRegression and nonInferior need samples or standardErrors",
            ),
            rule(
                "!has(self.evidence) || self.evidence == 'point' || has(self.champion)",
                "noRegression and nonInferior need champion: they compare with what serves",
            ),
            rule(
                "has(self.datasets) || ((!has(self.samples) || self.samples.split('*').size() == 2) && "
                "(!has(self.standardErrors) || self.standardErrors.split('*').size() == 2))",
                "samples and standardErrors must contain exactly one *, for example slice/*/n",
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
        "`slice/night/recall`. Not used with datasets.",
    )
    datasets: KeyPattern | None = Field(
        None,
        description="Pattern of data set names where every slice has a data set of its own; `*` stands for the name of "
        "the slice: `holdout-*` with metric `recall` reads `recall` on `holdout-night`.",
    )
    required: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        (), max_length=64, description="Slices that must have been evaluated, by name, for example [night, rain]."
    )
    dataset: str | None = _dataset("Name of the evaluation data set whose values count.")
    dataset_digest: Digest | None = Field(
        None, description="Digest of that data set as MLflow shows it; values on another state of it do not count."
    )
    min: float | None = Field(None, description="Every slice must have at least this value.")
    max: float | None = Field(None, description="Every slice must have at most this value.")
    champion: ChampionBound | None = Field(
        None,
        description="Bound against the same slice of the model that serves today. A slice that the champion has and "
        "the candidate lacks fails.",
    )
    max_spread: float | None = Field(
        None, ge=0, description="The best and the worst slice may be at most this far apart (absolute)."
    )
    samples: KeyPattern | None = Field(
        None,
        description="Metric that holds how many samples a slice has, with `*` for the slice: `slice/*/n`. With "
        "datasets it is a metric of each data set and has no `*`.",
    )
    standard_errors: KeyPattern | None = Field(
        None,
        description="Metric that holds the standard error of a slice's value, written like samples. Needed to compare "
        "metrics whose values are not between 0 and 1.",
    )
    evidence: Evidence | None = Field(
        None,
        description="point holds the values themselves against the champion's bound; noRegression blocks where the "
        "interval of the difference shows that the bound is broken; nonInferior passes only where it shows that the "
        "bound is kept. Default noRegression where samples or standardErrors is set, else point.",
        json_schema_extra=LATE_DEFAULT,
    )
    confidence: Confidence | None = Field(
        None, description="How sure noRegression and nonInferior must be, default 0.95.", json_schema_extra=LATE_DEFAULT
    )
    detect: float | None = Field(
        None,
        gt=0,
        description="noRegression: a slice has enough samples if a change this far past the champion's bound would "
        "block with probability 0.8. Default 0.1, in the unit of the metric.",
        json_schema_extra=LATE_DEFAULT,
    )

    @property
    def judged_by(self) -> Evidence:
        """`evidence` with its default."""
        if self.evidence is not None:
            return self.evidence
        counted = self.champion is not None and (self.samples or self.standard_errors)
        return Evidence.NO_REGRESSION if counted else Evidence.POINT

    @model_validator(mode="after")
    def _bounded(self) -> SliceGate:
        if self.min is None and self.max is None and self.champion is None and self.max_spread is None:
            raise ValueError("slices: set at least one of min, max, champion and maxSpread")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("slices: min must not be above max")
        if self.datasets is not None and self.dataset is not None:
            raise ValueError("slices: set datasets or dataset, not both")
        if self.dataset_digest is not None and self.dataset is None:
            raise ValueError("slices: datasetDigest needs dataset")
        _check_star("slices", "match", self.match)
        _check_star("slices", "datasets", self.datasets)
        if self.datasets is None:
            _check_star("slices", "samples", self.samples)
            _check_star("slices", "standardErrors", self.standard_errors)
        if self.evidence not in (None, Evidence.POINT):
            if self.champion is None:
                raise ValueError(f"slices: {self.evidence} needs champion")
            if self.samples is None and self.standard_errors is None:
                raise ValueError(f"slices: {self.evidence} needs samples or standardErrors")
        return self


class JudgeRules(SpecModel):
    """How good the judgments behind a win rate must be. Every figure that is asked for must have been logged."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            _any_of(("minAgreement", "minAnnotators", "minHumanShare", "maxTieShare", "sameAs"))
        )
    )

    min_agreement: float | None = Field(None, ge=0, le=1, description="Agreement between annotators, at least.")
    min_annotators: int | None = Field(None, ge=1, description="Number of annotators, at least.")
    min_human_share: float | None = Field(None, ge=0, le=1, description="Share of judgments by people, at least.")
    max_tie_share: float | None = Field(None, ge=0, le=1, description="Share of judgments that are ties, at most.")
    same_as: Annotated[str, Field(pattern="^champion$", max_length=16)] | None = Field(
        None, description="champion: the champion's win rate must have been judged by the same judge."
    )
    agreement: MetricKey = Field("judge/agreement", description="Metric of the agreement, between 0 and 1.")
    annotators: MetricKey = Field("judge/annotators", description="Metric of the number of annotators.")
    human_share: MetricKey = Field("judge/human_share", description="Metric of the share of judgments by people.")
    tie_share: MetricKey = Field(
        "judge/tie_share", description="Metric of the share of ties; not needed where the gate names ties and samples."
    )
    identity: Annotated[str, Field(min_length=1, max_length=250)] = Field(
        "judge", description="Tag of the version or its run that names the judge: model, prompt and their versions."
    )

    @model_validator(mode="after")
    def _some(self) -> JudgeRules:
        if all(
            value is None
            for value in (
                self.min_agreement,
                self.min_annotators,
                self.min_human_share,
                self.max_tie_share,
                self.same_as,
            )
        ):
            raise ValueError(
                "judge: set at least one of minAgreement, minAnnotators, minHumanShare, maxTieShare and sameAs"
            )
        return self


class Bound(StrEnum):
    """Which lower confidence bound of a win rate counts."""

    CLOPPER_PEARSON = "clopperPearson"
    WILSON = "wilson"


class WinRateGate(SpecModel):
    """The share of comparisons that the candidate won, judged once, when all judgments are there."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            _one_star("slices"),
            _DIGEST_NEEDS_NAME,
        )
    )

    metric: MetricKey = Field(description="Metric of the win rate, between 0 and 1, for example `win_rate`.")
    samples: MetricKey = Field(description="Metric of the number of judgments, for example `win_rate/n`.")
    ties: MetricKey | None = Field(
        None,
        description="Metric of the number of ties; each then counts as half a win on top of the win rate. Without it "
        "the win rate is taken to count them already.",
    )
    clusters: MetricKey | None = Field(
        None,
        description="Metric of the number of prompts where one prompt has several judgments: judgments of one prompt "
        "are alike, so that only prompts count.",
    )
    standard_error: MetricKey | None = Field(
        None, description="Metric of the standard error of the win rate; it then says how many judgments count."
    )
    dataset: str | None = _dataset("Name of the evaluation data set whose values count.")
    dataset_digest: Digest | None = Field(None, description="Digest of that data set as MLflow shows it.")
    min: float = Field(0.5, gt=0, lt=1, description="The win rate must be above this.")
    confidence: Confidence = Field(0.95, description="How sure that must be, one-sided.")
    method: Bound = Field(
        Bound.CLOPPER_PEARSON,
        description="clopperPearson never errs more often than 1 - confidence; wilson needs a few judgments fewer.",
    )
    slices: KeyPattern | None = Field(
        None,
        description="Pattern of prefixes, for example `locale/*`: all metrics of this gate are read in every slice, "
        "such as `locale/de/win_rate`, and every one must hold, with Holm's correction.",
    )
    required: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        (), max_length=64, description="Slices that must have been judged, by name, for example [de, fr]."
    )
    length_controlled: bool = Field(
        False,
        description="Judge the win rate that is corrected for the length of answers: the metric with "
        "`length_controlled_` before the last part of its name, for example `length_controlled_win_rate`.",
    )
    judge: JudgeRules | None = Field(None, description="How good the judgments must be.")

    @model_validator(mode="after")
    def _star(self) -> WinRateGate:
        _check_star("winRate", "slices", self.slices)
        if self.dataset_digest is not None and self.dataset is None:
            raise ValueError("winRate: datasetDigest needs dataset")
        return self
