"""The screen of `record`: how one rollout went, from its ReleaseRecord."""

from __future__ import annotations

from datetime import datetime

from modelrelease.core import told

from ..screen import bad, bold, doubtful, good
from .layout import Canvas, Cell, Line, columns, labelled, wrapped
from .status import title
from .values import Record

_OUTCOMES = {"Promoted": good, "RolledBack": bad, "Blocked": bad}
_VERDICTS = {"Pass": good, "Fail": bad}


def render(record: Record, chain: str, now: datetime, canvas: Canvas) -> str:
    """The whole screen. chain: what is known of the chain of records, one sentence."""
    spec = record.spec
    champion = f" against v{spec.champion}" if spec.champion else ", the first"
    took = told.span(spec.ended_at - spec.started_at)
    outcome = _OUTCOMES.get(spec.outcome, doubtful)(title(spec.outcome))
    where = bold(f"{spec.namespace}/{spec.release} #{spec.sequence}")
    lines = [
        f"{where}   {spec.model.name} v{spec.model.version}{champion}   {outcome}",
        f"  {told.clock(spec.started_at, now)} to {told.clock(spec.ended_at, now)} ({took}), revision {spec.revision}",
    ]
    why = spec.reason if spec.reason != spec.outcome else ""
    lines += labelled("WHY", wrapped(": ".join(part for part in (why, spec.message) if part), canvas)) if why else []
    lines += labelled("TIME", _timeline(record, now, canvas))
    lines += labelled("CHECKS", _checks(record, canvas))
    lines += labelled("GATES", [line for text in _gates(record) for line in wrapped(text, canvas, "  ")])
    lines += labelled("YES/NO", [line for text in _people(record, now) for line in wrapped(text, canvas, "  ")])
    lines += labelled("FROM", [line for text in _lineage(record) for line in wrapped(text, canvas, "  ")])
    lines += labelled("TOLD", [line for text in record.deliveries for line in wrapped(text, canvas, "  ")])
    complete = "" if spec.complete else " Texts were shortened to fit."
    lines += labelled("RECORD", [*wrapped(record.name, canvas), *wrapped(f"{chain}{complete}", canvas)])
    return "\n".join(lines)


def _timeline(record: Record, now: datetime, canvas: Canvas) -> list[str]:
    rows: list[Line] = []
    for item in record.spec.timeline:
        rows.append([told.clock(item.at, now), f"{item.weight}%", item.event, item.phase, item.reason])
    return columns(rows, canvas.body, right=(1,))


def _checks(record: Record, canvas: Canvas) -> list[str]:
    rows: list[Line] = []
    for item in record.spec.checks:
        arms = [
            f"{name} {told.percent(arm.rate)} ({arm.bad:,}/{arm.total:,})" if arm and arm.rate is not None else ""
            for name, arm in ((f"v{record.spec.model.version}", item.canary), (f"v{record.spec.champion}", item.stable))
        ]
        allowed = f"allowed {told.percent(item.allowed)}" if item.allowed is not None else ""
        rows.append([item.name, Cell(item.verdict, _VERDICTS.get(item.verdict, doubtful)), *arms, allowed])
    lines = columns(rows, canvas.body, gives=(0, 4))
    return lines + [line for item in record.spec.checks if item.pods for line in wrapped(item.pods, canvas)]


def _gates(record: Record) -> list[str]:
    return [
        f"{item.name}: {item.verdict}{', advisory' if item.advisory else ''}: {item.message}"
        for item in sorted(record.spec.gates, key=lambda gate: gate.verdict == "Pass")
    ]


def _people(record: Record, now: datetime) -> list[str]:
    said = [
        f"{item.gate}: {item.decision} by {item.user} at {told.clock(item.at, now)}" for item in record.spec.approvals
    ]
    for item in reversed(record.spec.commands):
        by = f" by {item.by}" if item.by else ""
        said.append(f"{told.clock(item.at, now)}  {item.command.partition('@')[0]}{by}: {item.result}")
    return said


def _lineage(record: Record) -> list[str]:
    lineage = record.spec.lineage
    if lineage is None:
        return []
    fields = (
        ("run", lineage.run),
        ("trained on", lineage.dataset),
        ("evaluated on", lineage.evaluated_on),
        ("commit", lineage.git_commit and lineage.git_commit + ("" if lineage.clean_tree is not False else ", edited")),
        ("features", lineage.features),
    )
    return [f"{name} {value}" for name, value in fields if value]
