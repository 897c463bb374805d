"""The tables: `list`, `history`, `where`. Who needs somebody comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from modelrelease.api.status import HistoryEntry
from modelrelease.core import told
from modelrelease.core.explain import Urgency, explain

from ..screen import bad, bold, doubtful, good
from .layout import Canvas, Cell, Line, columns, wrapped
from .status import paint_of
from .values import Record, Release

if TYPE_CHECKING:  # only history pays for it
    from modelrelease.api.record import ReleaseRecordSpec

_ROOMY = 120
_OUTCOMES = {"Promoted": good, "RolledBack": bad, "Blocked": bad}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model version is, or was. role: serves, tried, kept, failed or wanted."""

    namespace: str
    release: str
    version: str
    role: str
    weight: int
    phase: str
    since: datetime | None
    words: str = ""


def releases(found: Sequence[Release], now: datetime, canvas: Canvas, *, everywhere: bool) -> str:
    """One line a release; sorted by who needs somebody first."""
    told_of = sorted(
        ((explain(item.status, item.known, now), item) for item in found),
        key=lambda pair: (pair[0].urgency, pair[1].namespace, pair[1].name),
    )
    step = "STEP" if canvas.width >= _ROOMY else ""
    names = (
        "NAMESPACE" if everywhere else "",
        "NAME",
        "USERS",
        "SERVING",
        "CANDIDATE",
        "PHASE",
        step,
        "WEIGHT",
        "FOR",
        "WHY",
    )
    rows: list[Line] = [_header(*names)]
    for seen, item in told_of:
        summary = item.status.summary
        since = _age(now, summary.since)
        rows.append(
            [
                item.namespace if everywhere else "",
                item.name,
                Cell(seen.users, {"SAFE": good, "HURT": bad}.get(seen.users, doubtful)),
                summary.serving,
                summary.candidate,
                Cell(item.status.phase, paint_of(seen.urgency)),
                summary.step if step else "",
                summary.weight,
                since,
                item.status.message or summary.why,
            ]
        )
    needed = [seen for seen, _ in told_of if seen.ill]
    tail = []
    if needed:
        now_hurt = sum(seen.urgency is Urgency.NOW for seen in needed)
        words = f"{len(needed)} of {len(found)} need somebody"
        tail = ["", words + (f", users of {now_hurt} are hurt" if now_hurt else "")]
    whys = [seen.ill for seen, _ in told_of]
    return "\n".join([*_table(rows, canvas, whys), *tail])


def history(release: Release, records: Sequence[Record], now: datetime, canvas: Canvas) -> str:
    """How the rollouts of a release ended, newest first: its records, and of status what has none."""
    rows: list[Line] = [_header("RECORD", "ENDED", "VERSION", "OUTCOME", "REASON", "TOOK", "WHAT WAS SEEN")]
    kept = {(item.spec.revision, item.spec.started_at) for item in records}
    entries: list[tuple[str, ReleaseRecordSpec | HistoryEntry]] = [
        (f"#{one.spec.sequence}", one.spec) for one in records
    ]
    entries += [("-", one) for one in release.status.history if (one.revision, one.started_at) not in kept]
    entries.sort(key=lambda entry: entry[1].ended_at, reverse=True)
    for number, one in entries:
        version = one.model.version if not isinstance(one, HistoryEntry) else one.version
        rows.append(
            [
                number,
                told.clock(one.ended_at, now),
                f"v{version}",
                Cell(one.outcome, _OUTCOMES.get(one.outcome)),
                one.reason if one.reason != one.outcome else "",
                told.span(one.ended_at - one.started_at),
                one.message,
            ]
        )
    return "\n".join(_table(rows, canvas, [True] * len(entries)))


def places(found: Sequence[Place], now: datetime, canvas: Canvas) -> str:
    """Where a model version is."""
    order = ("serves", "tried", "wanted", "kept", "failed")
    rows: list[Line] = [_header("NAMESPACE", "RELEASE", "VERSION", "ROLE", "WEIGHT", "PHASE", "FOR", "")]
    for item in sorted(found, key=lambda one: (order.index(one.role), one.namespace, one.release, one.version)):
        rows.append(
            [
                item.namespace,
                item.release,
                f"v{item.version}",
                Cell(item.role, bad if item.role == "failed" else good if item.role == "serves" else doubtful),
                f"{item.weight}%",
                item.phase,
                _age(now, item.since),
                item.words,
            ]
        )
    return "\n".join(_table(rows, canvas, [True] * len(found)))


def _table(rows: Sequence[Sequence[Cell | str]], canvas: Canvas, whys: Sequence[bool]) -> list[str]:
    """Rows whose last column is a sentence; where there is little room it stands below its row, and only if `whys`."""
    width = len(rows[0])
    if canvas.width >= _ROOMY:
        return columns(rows, canvas.width, gives=(width - 1, 1))
    head, *lines = columns([row[: width - 1] for row in rows], canvas.width, gives=(6, 1))
    out = [head]
    for row, line, why in zip(rows[1:], lines, whys, strict=True):
        last = row[width - 1]
        words = last.text if isinstance(last, Cell) else last
        out += [line, *(f"    {part}" for part in wrapped(words, Canvas(canvas.width + 5)) if why and words)]
    return out


def _header(*names: str) -> list[Cell]:
    return [Cell(name, bold) for name in names]


def _age(now: datetime, since: datetime | None) -> str:
    """As kubectl's AGE: one unit."""
    if since is None:
        return ""
    seconds = max(int((now - since).total_seconds()), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
