"""The terminal and the time, read here so that views and words stay pure; and a screen that is redrawn in place.

Only lines that changed are written again, within one synchronized update, so that nothing flickers. Where output is no
terminal a screen is printed again when it differs, after a blank line.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click

from .cluster import ClusterError
from .views.layout import NARROW, WIDE, Canvas

EVERY_S = 2.0
_BEGIN, _END = "\x1b[?2026h\x1b[?7l", "\x1b[?7h\x1b[?2026l"


def now() -> datetime:
    """The time of this machine, aware UTC."""
    return datetime.now(UTC)


def canvas() -> Canvas:
    """As wide as the terminal within bounds, 80 columns where there is none."""
    width = shutil.get_terminal_size((NARROW, 24)).columns if _shown() or "COLUMNS" in os.environ else NARROW
    letters = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    return Canvas(min(max(width, NARROW), WIDE), letters)


def watch(draw: Callable[[], tuple[str, int]], *, pause_s: float = EVERY_S) -> int:
    """Show what `draw` gives again and again until Ctrl-C; returns the last exit code.

    draw: the text and the exit code. While the cluster does not answer, the last screen stays and says since when.
    """
    shown: list[str] = []
    size, code, text, ill_since = shutil.get_terminal_size(), 0, "", ""
    try:
        while True:
            try:
                text, code = draw()
                ill_since = ""
            except ClusterError as error:
                if not text or error.reason in ("NotFound", "Forbidden"):
                    raise
                ill_since = ill_since or f"{now():%H:%M:%SZ}"
                code = 2
            stale = (
                f"\n  NOT REFRESHED since {ill_since}: the cluster does not answer; trying again" if ill_since else ""
            )
            lines = (text + stale).splitlines()
            if not _shown():
                if lines != shown:
                    click.echo("\n".join([*([""] if shown else []), *lines]))
                    sys.stdout.flush()
                shown = lines
            else:
                room = shutil.get_terminal_size()
                if room != size:
                    shown, size = [], room
                    sys.stdout.write("\x1b[H\x1b[2J")
                lines = fitted([_drawn(line) for line in lines], room.lines - 1)
                sys.stdout.write(redraw(shown, lines))
                sys.stdout.flush()
                shown = lines
            time.sleep(pause_s)
    except KeyboardInterrupt:
        return code


def redraw(before: list[str], after: list[str]) -> str:
    """What to write so that `after` stands where `before` does; the cursor is in the line below, before and after."""
    out = [_BEGIN, f"\r\x1b[{len(before)}A" if before else ""]
    for place, line in enumerate(after):
        same = place < len(before) and before[place] == line
        out.append("\n" if same else f"{line}\x1b[K\n")
    return "".join([*out, "\x1b[J" if len(after) < len(before) else "", _END])


def fitted(lines: list[str], most: int) -> list[str]:
    """No more lines than the terminal has."""
    return lines if len(lines) <= most else [*lines[: most - 1], f"  ... {len(lines) - most + 1} lines more"]


def _shown() -> bool:
    return sys.stdout.isatty()


def _drawn(line: str) -> str:
    """Without colours where none are wanted."""
    ctx = click.get_current_context(silent=True)
    return click.unstyle(line) if ctx is not None and ctx.color is False else line
