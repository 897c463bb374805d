"""Evaluation gates as a person writes them: what the registry must say about a version before it may deploy.

Here: the gate, whose kinds are models of their own in `metric_gates` and its neighbours. Verdicts are in `core.gates`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from .after_gate import AfterGate
from .approval import ApprovalGate
from .base import Name, SpecModel, exactly_one, list_map, one_of, validations
from .metric_gates import MetricGate, SliceGate, WinRateGate
from .registry_gates import ArtifactGate, DatasetGate, EvaluatedWithGate, LineageGate, SignatureGate, TagGate, Tags

KINDS = (
    *("metric", "slices", "win_rate"),
    *("lineage", "dataset", "signature", "evaluated_with", "tags", "tag", "artifact"),
    "after",
    "approval",
)
"""The fields of Gate of which exactly one is set; `core.gates` has one function for each."""


class OnRevoked(StrEnum):
    """What happens when a gate that had passed no longer passes in mid-rollout."""

    HOLD = "Hold"
    ROLLBACK = "Rollback"


class Gate(SpecModel):
    """A condition on the registry's evidence, read before any pod exists and again before every weight increase."""

    model_config = ConfigDict(json_schema_extra=validations(exactly_one(KINDS, "a gate")))

    name: Name = Field(description="Name of the gate, unique in the list; it appears in status and Events.")
    metric: MetricGate | None = Field(None, description="Bounds for one metric.")
    slices: SliceGate | None = Field(None, description="Bounds for one metric on every slice.")
    win_rate: WinRateGate | None = Field(None, description="A win rate that is above a minimum beyond doubt.")
    lineage: LineageGate | None = Field(None, description="What must be on record of the model's origin.")
    dataset: DatasetGate | None = Field(None, description="Freshness and quality of the data, by their tags.")
    signature: SignatureGate | None = Field(None, description="Inputs that the model must accept.")
    evaluated_with: EvaluatedWithGate | None = Field(
        None, description="The evaluation's image, engine arguments and GPU are those that will serve."
    )
    tags: Tags | None = Field(
        None, description="Tags of the model version with the value that each must have: {validation_status: approved}."
    )
    tag: TagGate | None = Field(None, description="One tag of the model version, by value, by a list, or by presence.")
    artifact: ArtifactGate | None = Field(None, description="The model's files stay what they were.")
    after: AfterGate | None = Field(None, description="Another release of the namespace has promoted the version.")
    approval: ApprovalGate | None = Field(None, description="People must agree, with a ReleaseApproval each.")
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
