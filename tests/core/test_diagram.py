"""The page of the state machine is what the table says."""

from __future__ import annotations

from pathlib import Path

from modelrelease.cli.diagram import main
from modelrelease.core.decide import TRANSITIONS
from modelrelease.core.diagram import mermaid, page

PAGE = Path(__file__).parents[2] / "docs" / "state-machine.md"


def test_the_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_edge_of_the_table_is_drawn() -> None:
    assert [line for line in mermaid().splitlines() if "-->" in line and "[*]" not in line] == [
        f"    {origin} --> {to}" for origin, to in TRANSITIONS
    ]


def test_a_stale_page_is_found_and_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "state-machine.md"
    file.write_text("old")
    assert main(["--check", str(file)]) == 1
    assert main([str(file)]) == 0
    assert main(["--check", str(file)]) == 0
