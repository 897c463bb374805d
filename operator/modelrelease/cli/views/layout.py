"""Lines for a width: labelled rows, columns that give way, bars. Knows nothing of releases.

A word is painted after its line has been laid out, so that colours never count as width; `click.echo` takes them out
again where nobody can see them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..screen import bold

Paint = Callable[[str], str]
LABEL = 7
INDENT = "  "
NARROW, WIDE = 80, 160
_GAP = 2
_LEAST = 8


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where is drawn: columns, and whether letters beyond ASCII can be shown."""

    width: int = NARROW
    unicode: bool = True

    @property
    def body(self) -> int:
        """Columns right of the labels."""
        return self.width - len(INDENT) - LABEL

    @property
    def whole(self) -> Canvas:
        """One whose body is all but the indent: for lines without a label."""
        return Canvas(self.width + LABEL, self.unicode)


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and its colour."""

    text: str
    paint: Paint | None = None


Line = Sequence[Cell | str]


def labelled(label: str, lines: Sequence[str]) -> list[str]:
    """Lines behind a label, which stands before the first."""
    if not lines:
        return []
    blank = " " * (len(INDENT) + LABEL)
    return [f"{INDENT}{bold(label.ljust(LABEL))}{lines[0]}", *(f"{blank}{line}" for line in lines[1:])]


def wrapped(text: str, canvas: Canvas, hanging: str = "") -> list[str]:
    """A paragraph as wide as the body; `hanging` stands before every line but the first."""
    found = textwrap.wrap(text, canvas.body, subsequent_indent=hanging, break_long_words=True, break_on_hyphens=False)
    return found or [""]


def flowed(parts: Sequence[str], canvas: Canvas) -> list[str]:
    """Parts side by side, as many to a line as fit the body; none is broken."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= canvas.body:
            lines[-1] += f"   {part}"
        else:
            lines.append(part)
    return lines


def columns(rows: Sequence[Line], width: int, *, gives: Sequence[int] = (), right: Sequence[int] = ()) -> list[str]:
    """Rows in columns two blanks apart. Where they are too wide, the columns `gives` are cut short, in this order."""
    if not rows:
        return []
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    count = max(len(row) for row in cells)
    widths = [max((len(row[at].text) for row in cells if at < len(row)), default=0) for at in range(count)]
    used = [at for at in range(count) if widths[at]]
    for at in gives:
        over = sum(widths[at] for at in used) + _GAP * (len(used) - 1) - width
        if over > 0 and at < count and widths[at]:
            widths[at] = max(min(widths[at], _LEAST), widths[at] - over)
    return [_line(row, widths, used, right) for row in cells]


def _line(row: Sequence[Cell], widths: Sequence[int], used: Sequence[int], right: Sequence[int]) -> str:
    out, blanks = "", 0
    for at in used:
        cell = row[at] if at < len(row) else Cell("")
        text = clipped(cell.text, widths[at])
        pad = widths[at] - len(text)
        before, after = (pad, 0) if at in right else (0, pad)
        if text:
            out += " " * (blanks + before) + (cell.paint(text) if cell.paint else text)
            blanks = 0
        else:
            before = 0
            after = widths[at]
        blanks += after + _GAP
    return out


def clipped(text: str, limit: int) -> str:
    """As much of a text as fits, with a sign that there was more."""
    return text if len(text) <= limit else text[: max(limit - 1, 1)] + "…"


def bar(percent: int, canvas: Canvas, cells: int = 20) -> str:
    """How full, of so many cells."""
    full = min(max(percent, 0), 100) * cells // 100
    on, off = ("█", "░") if canvas.unicode else ("#", ".")
    return on * full + off * (cells - full)
