"""Evaluation gates: what the registry's evidence says about a candidate, before any pod exists and before every raise.

Pure verdicts over `ModelVersion` values, one module a family of gates. Missing figures are InsufficientData, an
unreadable registry is Unavailable; neither ever passes. A gate that compares with the champion passes while nothing
serves.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelrelease.api.gates import Gate
from modelrelease.api.status import GateStatus

from ..observation import Lookup, Missing, ModelVersion, Unavailable
from . import metrics


def evaluate(gates: Sequence[Gate], candidate: Lookup | None, champion: Lookup | None) -> tuple[GateStatus, ...]:
    """Judge every gate. candidate None means not read yet; champion None means that nothing serves."""
    return tuple(_evaluate(gate, candidate, champion) for gate in gates)


def _evaluate(gate: Gate, candidate: Lookup | None, champion: Lookup | None) -> GateStatus:
    if candidate is None:
        return GateStatus(name=gate.name, verdict="Unavailable", message="the registry has not been read yet")
    if isinstance(candidate, Unavailable | Missing):
        return GateStatus(name=gate.name, verdict="Unavailable", message=candidate.message)
    rules = gate.metric or gate.slices
    assert rules is not None, "a gate has exactly one kind"
    known = champion if isinstance(champion, ModelVersion) else None
    if rules.champion is not None and isinstance(champion, Unavailable | Missing):
        words = f"the champion's evaluation cannot be read: {champion.message}"
        return GateStatus(name=gate.name, verdict="Unavailable", message=words)
    if gate.metric is not None:
        return metrics.metric(gate.name, gate.metric, candidate, known)
    assert gate.slices is not None, "a gate has exactly one kind"
    return metrics.slices(gate.name, gate.slices, candidate, known)
