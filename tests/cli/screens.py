"""Keeps screens as text: compares what is drawn with tests/cli/screens/*.txt, or writes it there.

python -m tests.cli.screens        rewrites all of them; read the diff before it is committed
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from modelrelease.cli.views import status
from modelrelease.cli.views.layout import Canvas

from .scenes import SCENES

FOLDER = Path(__file__).parent / "screens"
WIDTHS = (80, 140)


def screens() -> Iterator[tuple[str, int, str]]:
    """Name, width and text of every screen."""
    for name, told in SCENES.items():
        one = told()
        for width in WIDTHS:
            yield f"status-{name}", width, click.unstyle(status.render(one.release, one.now, Canvas(width)))


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
