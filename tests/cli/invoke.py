"""Runs the plugin as a person would: in this process for most tests, in its own where imports and streams matter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from modelrelease.cli.main import run

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = str(ROOT / "examples" / "http.yaml")


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def invoke(capsys: pytest.CaptureFixture[str], *words: str) -> Answer:
    """Run a command line in this process."""
    code = run(list(words))
    seen = capsys.readouterr()
    return Answer(code, seen.out, seen.err)


def own_process(code: str, *words: str, env: dict[str, str] | None = None) -> Answer:
    """Run Python code in its own process, with these arguments."""
    known = {**os.environ, **(env or {})}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, env=known, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)
