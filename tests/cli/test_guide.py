"""The page about the simulator says what its commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from .guide import commands, printed

_COMMANDS = commands()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guide")


def test_the_page_when_read_has_commands_with_outputs() -> None:
    assert len(_COMMANDS) >= 7
    assert all(lines for _, lines in _COMMANDS)


@pytest.mark.parametrize("number", range(len(_COMMANDS)))
def test_a_command_of_the_page_when_run_prints_what_stands_there(number: int, files: Path) -> None:
    command, lines = _COMMANDS[number]
    said = "\n".join(lines).rstrip()
    assert "\n".join(printed(command, files)).rstrip() == said, "python -m tests.cli.guide writes the page anew"
