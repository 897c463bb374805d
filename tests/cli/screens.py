"""Keeps screens as text: compares what is drawn with tests/cli/screens/*.txt, or writes it there.

python -m tests.cli.screens        rewrites all of them; read the diff before it is committed
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from modelrelease.cli.views import explained, listing, record, status
from modelrelease.cli.views.layout import Canvas
from modelrelease.cli.where import places_of

from .scenes import SCENES, records

FOLDER = Path(__file__).parent / "screens"
WIDTHS = (80, 140)
EXPLAINED = (
    "pending-unschedulable",
    "blocked",
    "starting",
    "progressing-half",
    "held-evidence",
    "held-no-data",
    "held-paused",
    "retreat",
    "baking",
    "rolling-back-draining",
    "rolled-back",
    "promoted",
)


def screens() -> Iterator[tuple[str, int, str]]:
    """Name, width and text of every screen."""
    for name, told in SCENES.items():
        one = told()
        for width in WIDTHS:
            yield f"status-{name}", width, click.unstyle(status.render(one.release, one.now, Canvas(width)))
    for width in WIDTHS:
        for name, text in _others(Canvas(width)):
            yield name, width, click.unstyle(text)


def _others(canvas: Canvas) -> Iterator[tuple[str, str]]:
    """Screens of the other verbs."""
    found = {name: told() for name, told in SCENES.items()}
    for name in EXPLAINED:
        yield f"explain-{name}", explained.render(found[name].release, found[name].now, canvas)
    all_of = [replace(one.release, name=name[:40]) for name, one in found.items()]
    now = max(one.now for one in found.values())
    yield "list", listing.releases(all_of, now, canvas, everywhere=False)
    yield "list-all", listing.releases(all_of[::4], now, canvas, everywhere=True)
    places = [place for release in all_of[::4] for place in places_of(release, "churn", "8", {})]
    yield "where", listing.places(places, now, canvas)
    release, told = records()
    yield "history", listing.history(release, told, now, canvas)
    yield "history-without-records", listing.history(release, (), now, canvas)
    yield "record", record.render(told[-1], "The chain of 2 records holds.", now, canvas)
    yield "record-first", record.render(told[0], "The chain of 2 records holds.", now, canvas)


def main() -> None:
    """Write all screens, and remove those that are no more."""
    FOLDER.mkdir(exist_ok=True)
    drawn = {f"{name}-{width}.txt": text for name, width, text in screens()}
    for path in FOLDER.glob("*.txt"):
        if path.name not in drawn:
            path.unlink()
    for file, text in drawn.items():
        (FOLDER / file).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
