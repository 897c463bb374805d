"""Phases of a rollout, as a person writes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .base import Duration, Name, SpecModel, Weight, check_unique, list_map, rule, validations


class Phase(SpecModel):
    """One step of the rollout: how much traffic the canary gets, and for how long at least."""

    name: Name = Field(description="Name of the phase, unique in the list.")
    weight: Weight = Field(
        description="Percent of traffic on the canary. Weights rise from phase to phase; the last is 100."
    )
    parity: bool = Field(
        False,
        description="True lowers the weight, but not below that of the phase before, to what makes a pod of the canary "
        "carry as much as a pod of the stable revision: latency can only be compared under like load. weight is its "
        "limit, and may then be that of the next phase. The last phase cannot be one.",
    )
    replicas: int | None = Field(
        None,
        ge=1,
        le=10000,
        description="Pods of the canary in this phase; the last phase has all of them. Default: the weight's share of "
        "replicas, rounded up; with parity as many as the phase before; and where latency is compared and no phase has "
        "parity, as many in the last phase below 100 as come nearest to it.",
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
    rule("self.size() == 0 || !self[self.size() - 1].parity", "the last phase cannot have parity: it is all traffic"),
    rule(
        "self.all(p, p.weight > 0) && self.map(p, p.weight).isSorted() "
        "&& self.all(p, p.parity || self.exists_one(q, !q.parity && q.weight == p.weight))",
        "the weights of phases must rise from phase to phase, starting above 0",
    ),
)
Phases = Annotated[tuple[Phase, ...], Field(max_length=16, json_schema_extra={**list_map(), **_PHASE_RULES})]


def check_phases(phases: tuple[Phase, ...]) -> None:
    """Raise ValueError unless weights rise from above 0 to 100 and names are unique; with parity they may stay."""
    weights = [phase.weight for phase in phases]
    fixed = [phase.weight for phase in phases if not phase.parity]
    rising = weights == sorted(weights) and len(set(fixed)) == len(fixed)
    if phases and (weights[-1] != 100 or weights[0] <= 0 or not rising):
        raise ValueError(f"phases: weights must rise from above 0 and end at 100, got {weights}")
    if phases and phases[-1].parity:
        raise ValueError("phases: the last phase cannot have parity, it is all traffic")
    check_unique("phases", [phase.name for phase in phases])
