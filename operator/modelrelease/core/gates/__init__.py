"""Evaluation gates: what the registry's evidence says about a candidate, before any pod exists and before every raise.

Pure verdicts over `ModelVersion` values, one module a family of gates, one function a kind (`_KINDS`). Missing figures
are InsufficientData, an unreadable registry is Unavailable; neither ever passes. A gate that compares with the champion
passes while nothing serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelrelease.api.gates import Gate
from modelrelease.api.status import GateStatus

from ..observation import Lookup, Missing, ModelVersion, Unavailable
from .context import Context
from .metric import metric
from .slices import slices
from .tradeoff import tradeoff
from .win_rate import win_rate

__all__ = ["Context", "evaluate", "tradeoff"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """judge(name, rules, candidate, champion, context), champion None while nothing serves.

    compares: whether these rules need the champion's evaluation; where that cannot be read the gate is Unavailable.
    """

    judge: Callable[[str, Any, ModelVersion, ModelVersion | None, Context], GateStatus]
    compares: Callable[[Any], bool] = lambda rules: False


_KINDS: Mapping[str, _Kind] = {
    "metric": _Kind(metric, compares=lambda rules: rules.champion is not None),
    "slices": _Kind(slices, compares=lambda rules: rules.champion is not None),
    "win_rate": _Kind(win_rate, compares=lambda rules: rules.judge is not None and rules.judge.same_as is not None),
}


def evaluate(
    gates: Sequence[Gate], candidate: Lookup | None, champion: Lookup | None, context: Context
) -> tuple[GateStatus, ...]:
    """Judge every gate. candidate None means not read yet; champion None means that nothing serves."""
    return tuple(_evaluate(gate, candidate, champion, context) for gate in gates)


def _evaluate(gate: Gate, candidate: Lookup | None, champion: Lookup | None, context: Context) -> GateStatus:
    seen = _judge(gate, candidate, champion, context)
    read = candidate if isinstance(candidate, ModelVersion) else None
    facts = {
        "advisory": gate.advisory,
        "origin": gate.name.rpartition("/")[0] or "spec",
        "read_at": read.read_at if read else None,
        "run": read.run_id[:40] if read and read.run_id else None,
    }
    return seen.model_copy(update=facts)


def _judge(gate: Gate, candidate: Lookup | None, champion: Lookup | None, context: Context) -> GateStatus:
    if candidate is None:
        return GateStatus(name=gate.name, verdict="Unavailable", message="the registry has not been read yet")
    if isinstance(candidate, Unavailable | Missing):
        return GateStatus(name=gate.name, verdict="Unavailable", message=candidate.message)
    kind, rules = _KINDS[gate.kind], gate.rules
    if isinstance(champion, Unavailable | Missing):
        if kind.compares(rules):
            words = f"the champion's evaluation cannot be read: {champion.message}"
            return GateStatus(name=gate.name, verdict="Unavailable", message=words)
        champion = None
    return kind.judge(gate.name, rules, candidate, champion, context)
