"""What the documentation consists of, for its tests: pages, headings and their anchors, links, and blocks of commands.

Pure reading of Markdown as GitHub renders it. The rule for commands: a fenced block marked `sh` is run by a test as it
stands, or the line before it is a comment `<!-- not run: why -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PLAYED = (ROOT / "README.md", DOCS / "tutorial.md")
"""Pages whose commands are run on a whole cluster, in this order, by `e2e/test_tutorial.py`."""
_FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_NAMED = re.compile(r'<a (?:id|name)="([^"]+)"')
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[`*]|</?[a-z][^>]*>")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, the line it begins in, and why it is not run, empty where it is."""

    page: Path
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page of the documentation."""
    return sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        reason = _NOT_RUN.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[2], match[3], reason[1] if reason else ""))
    return found


def commands(page: Path) -> list[Block]:
    """The blocks of a page that are run, in order."""
    return [block for block in blocks(page) if block.language == "sh" and not block.reason]


def prose(page: Path) -> str:
    """A page without its fenced blocks and indented code."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"(?<=\n\n)(    [^\n]*\n)+", "", text)


def anchors(page: Path) -> set[str]:
    """What a link to a part of the page may name: headings as GitHub writes them, and named anchors."""
    text = prose(page)
    found: set[str] = set(_NAMED.findall(text))
    for heading in _HEADING.findall(text):
        anchor, number = slug(heading), 0
        while anchor in found:
            number += 1
            anchor = f"{slug(heading)}-{number}"
        found.add(anchor)
    return found


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, spaces to hyphens, no punctuation."""
    plain = _MARKUP.sub(lambda match: match[1] or "", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(page: Path) -> Iterator[str]:
    """The targets of links and pictures of a page, in order."""
    yield from _LINK.findall(re.sub(r"`[^`]*`", "", prose(page)))
