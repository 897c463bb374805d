"""Gates on what the registry tells beside metrics: lineage, data sets, signature, serving conditions, tags, files.

Only what may be asked for; verdicts are in `core.gates`, and what has to be logged for them in docs/gates-registry.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from .base import Name, SpecModel, one_of, rule, validations

_KEY_MAX = 250
_VALUE_MAX = 500

TagValue = Annotated[str, Field(max_length=_VALUE_MAX)]

LineageFact = Literal["dataset", "gitCommit", "run", "cleanTree", "features"]
DatasetContext = Literal["training", "evaluation"]
ServingFact = Literal["image", "args", "gpuProduct"]


def _check_keys(entries: dict[str, Any]) -> dict[str, Any]:
    for key in entries:
        if not 0 < len(key) <= _KEY_MAX:
            raise ValueError(f"a name must have 1 to {_KEY_MAX} characters")
    return entries


_KEYS = validations(
    rule(f"self.all(key, size(key) > 0 && size(key) <= {_KEY_MAX})", f"a name must have 1 to {_KEY_MAX} characters")
)


class LineageGate(SpecModel):
    """Where the model comes from must be on record, and it must not be judged on the data that it was trained on."""

    require: tuple[LineageFact, ...] = Field(
        min_length=1,
        max_length=5,
        description="What must be known. dataset: training and evaluation data, digests differ. gitCommit: the code. "
        "run: the run exists. cleanTree: the code was committed. features: the tag `features`.",
    )


class DatasetGate(SpecModel):
    """What must be true of the data, from the tags of the run's dataset inputs."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "has(self.maxAgeDays) || has(self.min) || has(self.maxSyntheticShare) || "
                "(has(self.requireDocumentation) && self.requireDocumentation)",
                "set at least one of maxAgeDays, min, maxSyntheticShare and requireDocumentation",
            )
        )
    )

    context: DatasetContext = Field("training", description="Which data: those of the training or of the evaluation.")
    name: str | None = Field(
        None, min_length=1, max_length=250, description="Name of the data set. Default: all of this context."
    )
    max_age_days: int | None = Field(
        None, ge=1, le=36500, description="The data must not be older, by the tag `collected_at`, an ISO date."
    )
    min: Annotated[dict[str, float], Field(min_length=1, max_length=16), AfterValidator(_check_keys)] | None = Field(
        None,
        json_schema_extra=_KEYS,
        description="Least value of any named tag, for example {completeness: 0.98, accuracy: 0.95}.",
    )
    max_synthetic_share: float | None = Field(
        None, ge=0, le=1, description="Largest allowed value of the tag `synthetic_share`, from 0 to 1."
    )
    require_documentation: bool = Field(
        False, description="The tag `documentation` must name where the data are described."
    )

    @model_validator(mode="after")
    def _asks(self) -> DatasetGate:
        asked = (self.max_age_days, self.min, self.max_synthetic_share, self.require_documentation or None)
        if all(item is None for item in asked):
            raise ValueError("dataset: set at least one of maxAgeDays, min, maxSyntheticShare, requireDocumentation")
        return self


class SignatureGate(SpecModel):
    """The model's input schema."""

    compatible_with: Literal["champion"] = Field(
        description="champion: every input that the model that serves today accepts must be accepted."
    )


class EvaluatedWithGate(SpecModel):
    """The model must have been evaluated under the conditions that it will be served under."""

    compare: tuple[ServingFact, ...] = Field(
        ("image", "args", "gpuProduct"),
        min_length=1,
        max_length=3,
        description="image: the digest of the container image (tag `eval.image`). args: the arguments of the engine "
        "(`eval.args`). gpuProduct: the GPU, against the template's node selector and affinity (`eval.gpu_product`).",
    )
    container: Name | None = Field(None, description="Container that serves. Default: the first of the template.")
    require: bool = Field(
        False, description="Also what was not logged stops the release. Default: only a difference does."
    )


class TagGate(SpecModel):
    """One tag of the model version; exactly one of equals, oneOf and present is set."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "[has(self.equals), has(self.oneOf), has(self.present)].filter(x, x).size() == 1",
                "set exactly one of equals, oneOf and present",
            )
        )
    )

    name: str = Field(min_length=1, max_length=_KEY_MAX, description="Name of the tag.")
    equals: TagValue | None = Field(None, description="The tag must have this value.")
    one_of: tuple[TagValue, ...] | None = Field(
        None, min_length=1, max_length=32, description="The tag must have one of these values."
    )
    present: bool | None = Field(
        None, description="true: the tag must be there and not empty. false: it must not be there."
    )

    @model_validator(mode="after")
    def _one_test(self) -> TagGate:
        one_of(self, ("equals", "one_of", "present"), f"tag {self.name}")
        return self


class ArtifactGate(SpecModel):
    """The model's files must stay what they were when the release began; weights are never downloaded."""

    tag: str | None = Field(
        None,
        min_length=1,
        max_length=120,
        description="Tag of the model version that holds the digest of the files, for example `digest`. Default: the "
        "digest of the MLmodel file and of the list of files with their sizes.",
    )


Tags = Annotated[
    dict[str, TagValue],
    Field(min_length=1, max_length=16, json_schema_extra=_KEYS),
    AfterValidator(_check_keys),
]
"""Tags of the model version by name, each with the value that it must have."""
