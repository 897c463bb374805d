"""Phases of a rollout, as a person writes them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from .base import Duration, Name, SpecModel, Weight, check_unique, list_map, rule, validations


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
