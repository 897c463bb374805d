"""The commands of docs/simulator.md and what they print, for the test; `python -m tests.cli.guide` writes them anew.

Commands run with the repository as their working directory; files that they write go to a directory given for it. What
follows a line that begins with `Played` depends on the machine, and is neither compared nor kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modelrelease.cli.main import run

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "simulator.md"
PROMPT = "$ kubectl modelrelease "
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    """Each command and the lines it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith(PROMPT):
                found.append((line, []))
            else:
                found[-1][1].append(line)
    return found


def printed(command: str, directory: Path) -> list[str]:
    """What a command prints, up to what depends on the machine; the files it writes and reads are in `directory`."""
    words = shlex.split(command.removeprefix(PROMPT))
    words = [
        str(directory / Path(word).name) if word.endswith(("simulator.png", "churn.yaml")) else word for word in words
    ]
    out = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = run(words)
    if code != 0:
        raise AssertionError(f"{command}: exit code {code}")
    return list(_stable(out.getvalue().splitlines()))


def _stable(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("Played"):
            return
        yield line


def main() -> None:
    """Write the page's outputs and its picture anew."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        answers = {command: printed(command, directory) for command, _ in commands()}
        os.replace(directory / "simulator.png", PAGE.parent / "simulator.png")

    def filled(match: re.Match[str]) -> str:
        lines = []
        for line in match[1].splitlines():
            if line.startswith(PROMPT):
                lines += [line, *answers[line]]
        return "```console\n" + "\n".join(lines).rstrip() + "\n```"

    PAGE.write_text(_BLOCK.sub(filled, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
