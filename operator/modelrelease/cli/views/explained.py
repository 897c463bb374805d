"""The screen of `explain`: the first two lines of `status`, then what would move it, one condition at a time."""

from __future__ import annotations

from datetime import datetime

from modelrelease.core import told
from modelrelease.core.explain import explain
from modelrelease.core.openings import Opening, openings

from ..screen import bold
from .layout import INDENT, Canvas, wrapped
from .status import head
from .values import Release

_FIELD = 10


def render(release: Release, now: datetime, canvas: Canvas) -> str:
    """The whole screen."""
    status = release.status
    found = openings(status, release.known, now)
    lines = head(release, explain(status, release.known, now), now, canvas)
    if not found:
        lines += ["", f"{INDENT}Nothing is in the way: see Next."]
    for number, item in enumerate(found, 1):
        lines += ["", f"{INDENT}{bold(f'{number}. {item.what}')}", *_fields(item, canvas)]
    step = status.step
    if step is not None and step.forecast:
        lines += ["", *_field("forecast", step.forecast, canvas)]
    evidence = told.condition(status, "EvidenceAvailable")
    if evidence is not None and evidence.status == "True" and evidence.message:
        lines += ["", *_field("blind", evidence.message, canvas)]
    return "\n".join(lines)


def _fields(item: Opening, canvas: Canvas) -> list[str]:
    fields = (("seen", item.seen), ("needed", item.needed), ("likely", item.likely), ("could", item.could))
    return [line for name, words in fields if words for line in _field(name, words, canvas)]


def _field(name: str, words: str, canvas: Canvas) -> list[str]:
    words, blank, command = words.partition(" kubectl ")  # a command stands in a line of its own, to be copied
    first, *rest = wrapped(words, Canvas(canvas.width - 6))
    lines = [f"     {name.ljust(_FIELD)}{first}", *(f"     {' ' * _FIELD}{line}" for line in rest)]
    return [*lines, f"       {blank.strip()} {command}"] if command else lines
