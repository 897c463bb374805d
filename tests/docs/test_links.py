"""Links of the documentation: what they name within the checkout is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, anchors, links, pages, slug


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not _leads(page, link)]
    assert not broken, f"{page.relative_to(ROOT)} links to what is not there: {broken}"


def test_the_index_names_every_page() -> None:
    index = DOCS / "index.md"
    named = {(DOCS / link.partition("#")[0]).resolve() for link in links(index) if "://" not in link}
    missing = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page not in {*named, index}]
    assert not missing, f"docs/index.md does not name {missing}"


def test_alerts_link_to_what_is_there() -> None:
    alerts = (ROOT / "charts" / "modelrelease" / "files" / "alerts.yaml").read_text(encoding="utf-8")
    found = re.findall(r"DOCS/(\S+\.md)#([a-z]+)", alerts)
    assert found
    missing = [f"{page}#{anchor}" for page, anchor in found if not _leads(DOCS / "index.md", f"{page}#{anchor}")]
    assert not missing


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("4. Rules that never break (each a property test)", "4-rules-that-never-break-each-a-property-test"),
        ("`make demo`, and more", "make-demo-and-more"),
        ("A [link](x.md) in it", "a-link-in-it"),
    ],
)
def test_slug_is_that_of_github(heading: str, expected: str) -> None:
    assert slug(heading) == expected


def _leads(page: Path, link: str) -> bool:
    if "://" in link or link.startswith("mailto:"):
        return link.startswith(("https://", "http://", "mailto:"))
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target))
