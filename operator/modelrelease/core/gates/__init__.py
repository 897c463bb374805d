"""Evaluation gates: what the registry's evidence says about a candidate, before any pod exists and before every raise.

Pure verdicts over `ModelVersion` values and what the cluster says of other releases, one module a family of gates, one
function a kind (`_KINDS`). Missing figures are InsufficientData, an unreadable registry is Unavailable; neither ever
passes. A gate that compares with the champion passes while nothing serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelrelease.api.gates import Gate
from modelrelease.api.status import GateStatus

from ..observation import Lookup, Missing, ModelVersion, Unavailable
from ..version_facts import Part
from . import after, approval, artifact, dataset, evaluated_with, lineage, signature, tags
from .after import due
from .artifact import pin
from .context import Context
from .metric import metric
from .slices import slices
from .tradeoff import tradeoff
from .win_rate import win_rate

__all__ = ["Context", "asks_registry", "dated", "due", "evaluate", "others", "pin", "tradeoff", "wanted"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """judge(name, rules, candidate, champion, context), champion None while nothing serves.

    local: whether the registry is not asked; `candidate` may then be anything.
    compares: whether these rules need the champion's evaluation; where that cannot be read the gate is Unavailable.
    parts, champion_parts: what has to be read of the versions beside metrics and tags; of a candidate also the run.
    """

    judge: Callable[[str, Any, Any, ModelVersion | None, Context], GateStatus]
    compares: Callable[[Any], bool] = lambda rules: False
    parts: Callable[[Any], frozenset[Part]] = lambda rules: frozenset()
    champion_parts: Callable[[Any], frozenset[Part]] = lambda rules: frozenset()
    local: bool = False


_KINDS: Mapping[str, _Kind] = {
    "metric": _Kind(metric, compares=lambda rules: rules.champion is not None),
    "slices": _Kind(slices, compares=lambda rules: rules.champion is not None),
    "win_rate": _Kind(
        win_rate,
        compares=lambda rules: rules.judge is not None and rules.judge.same_as is not None,
        champion_parts=lambda rules: frozenset({Part.RUN}) if rules.judge is not None else frozenset(),
    ),
    "lineage": _Kind(lineage.judge),
    "dataset": _Kind(dataset.judge),
    "signature": _Kind(
        signature.judge,
        compares=lambda rules: True,
        parts=lambda rules: frozenset({Part.MODEL_FILE}),
        champion_parts=lambda rules: frozenset({Part.MODEL_FILE}),
    ),
    "evaluated_with": _Kind(evaluated_with.judge),
    "tags": _Kind(tags.judge_all),
    "tag": _Kind(tags.judge),
    "artifact": _Kind(
        artifact.judge,
        parts=lambda rules: frozenset() if rules.tag else frozenset({Part.MODEL_FILE, Part.FILES}),
    ),
    "after": _Kind(after.judge, local=True),
    "approval": _Kind(lambda name, rules, _, __, context: approval.judge(name, rules, context), local=True),
}


def wanted(gates: Sequence[Gate]) -> tuple[frozenset[Part], frozenset[Part]]:
    """What has to be read of a candidate and of the champion for these gates. A candidate's run goes on record."""
    of_candidate, of_champion = {Part.RUN}, set[Part]()
    for gate in gates:
        kind = _KINDS[gate.kind]
        of_candidate |= kind.parts(gate.rules)
        of_champion |= kind.champion_parts(gate.rules)
    return frozenset(of_candidate), frozenset(of_champion)


def asks_registry(gates: Sequence[Gate]) -> bool:
    """Whether any of these gates is about what the registry says."""
    return any(not _KINDS[gate.kind].local for gate in gates)


def others(gates: Sequence[Gate]) -> frozenset[str]:
    """Names of the other releases that these gates ask about."""
    return frozenset(gate.after.release for gate in gates if gate.after is not None)


def evaluate(
    gates: Sequence[Gate], candidate: Lookup | None, champion: Lookup | None, context: Context
) -> tuple[GateStatus, ...]:
    """Judge every gate. candidate None means not read yet; champion None means that nothing serves."""
    return tuple(_evaluate(gate, candidate, champion, context) for gate in gates)


def dated(before: Sequence[GateStatus], seen: Sequence[GateStatus], now: datetime) -> tuple[GateStatus, ...]:
    """What the gates see, with since when each sees that, and whether it has ever passed in this rollout."""
    known = {item.name: item for item in before}
    out = []
    for item in seen:
        former = known.get(item.name)
        same = former is not None and former.verdict == item.verdict
        since = (former.since if former is not None and same else None) or now
        passed = "Pass" in (item.verdict, former.verdict if former else "") or (former is not None and former.passed)
        out.append(item.model_copy(update={"since": since, "passed": passed}))
    return tuple(out)


def _evaluate(gate: Gate, candidate: Lookup | None, champion: Lookup | None, context: Context) -> GateStatus:
    seen = _judge(gate, candidate, champion, context)
    read = candidate if isinstance(candidate, ModelVersion) and not _KINDS[gate.kind].local else None
    facts = {
        "advisory": gate.advisory,
        "origin": gate.name.rpartition("/")[0] or "spec",
        "read_at": read.read_at if read else None,
        "run": read.run_id[:40] if read and read.run_id else None,
    }
    return seen.model_copy(update=facts)


def _judge(gate: Gate, candidate: Lookup | None, champion: Lookup | None, context: Context) -> GateStatus:
    kind, rules = _KINDS[gate.kind], gate.rules
    if kind.local:
        return kind.judge(gate.name, rules, candidate, None, context)
    if candidate is None:
        return GateStatus(name=gate.name, verdict="Unavailable", message="the registry has not been read yet")
    if isinstance(candidate, Unavailable | Missing):
        return GateStatus(name=gate.name, verdict="Unavailable", message=candidate.message)
    if isinstance(champion, Unavailable | Missing):
        if kind.compares(rules):
            words = f"the champion's evaluation cannot be read: {champion.message}"
            return GateStatus(name=gate.name, verdict="Unavailable", message=words)
        champion = None
    return kind.judge(gate.name, rules, candidate, champion, context)
