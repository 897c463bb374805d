"""Text on a terminal: tables, folded paragraphs, a few colours. Plain where output is piped or NO_COLOR is set.

Everything fits in 80 columns where its words do; a wider terminal is not filled.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import click

WIDTH = 80


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "") -> str:
    """A table without lines, its columns two blanks apart; `right` are the numbers of right-aligned columns."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return (indent + "  ".join(cells)).rstrip()

    return "\n".join([bold(line(head)), *(line(row) for row in rows)])


def fold(text: str, indent: str = "", width: int = WIDTH) -> str:
    """A paragraph of lines within the width."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def bold(text: str) -> str:
    """Emphasis; `click.echo` takes it out again where nobody can see it."""
    return click.style(text, bold=True)


def good(text: str) -> str:
    """Nothing to worry about."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """Harm."""
    return click.style(text, fg="red")


def doubtful(text: str) -> str:
    """Something to look at."""
    return click.style(text, fg="yellow")
