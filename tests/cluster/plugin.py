"""The plugin as a person runs it against the real API server: a process of its own, piped or on a terminal (a pty)."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from e2e.cluster.interface import tool

RUN = "import sys; from modelrelease.cli.main import run; sys.exit(run(sys.argv[1:]))"
PATIENCE_S = 60


class Said(NamedTuple):
    """What a command said; `text` is both streams in one, blanks and line ends made one blank."""

    code: int
    text: str


@dataclass
class Person:
    """Somebody with a kubeconfig of their own. `env`: besides the test's."""

    kubeconfig: Path
    namespace: str
    env: Mapping[str, str] = field(default_factory=dict)

    def words(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-c", RUN, *words, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(tool('kubectl')).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "80", **self.env}

    async def run(self, *words: str, given: str | None = None) -> Said:
        """A command without a terminal; `given` is its standard input."""
        process = await asyncio.create_subprocess_exec(
            *self.words(*words),
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate((given or "").encode()), PATIENCE_S)
        assert process.returncode is not None
        return Said(process.returncode, " ".join(out.decode().split()))

    async def output(self, *words: str) -> str:
        """What a command that succeeds prints, as it is."""
        process = await asyncio.create_subprocess_exec(
            *self.words(*words), env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0, err.decode()
        return out.decode()


class Dialogue:
    """A command on a terminal: wait for what it says, answer it."""

    def __init__(self, person: Person, *words: str) -> None:
        self._person, self._words = person, words
        self.text = ""

    async def __aenter__(self) -> Dialogue:
        self._own, theirs = pty.openpty()
        self._process = await asyncio.create_subprocess_exec(
            *self._person.words(*self._words), env=self._person.environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        os.close(self._own)

    async def until(self, words: str) -> None:
        """Wait until it has said this since the last answer."""
        async with asyncio.timeout(PATIENCE_S):
            while words not in " ".join(self.text.split()):
                self.text += (await asyncio.to_thread(self._read)).decode()

    def answer(self, words: str) -> None:
        self.text = ""
        os.write(self._own, f"{words}\n".encode())

    async def end(self) -> Said:
        """Everything it says from here on, and its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            while part := await asyncio.to_thread(self._read):
                self.text += part.decode()
            return Said(await self._process.wait(), " ".join(self.text.split()))

    def _read(self) -> bytes:
        try:
            return os.read(self._own, 65536)
        except OSError:  # Linux says EIO when the other side has closed
            return b""


def kubeconfig_as(user: str, known: Path, folder: Path) -> Path:
    """Another kubeconfig, for somebody whom the API server takes for this user."""
    content = yaml.safe_load(known.read_text(encoding="utf-8"))
    content["users"] = [{"name": item["name"], "user": {**item["user"], "as": user}} for item in content["users"]]
    path = folder / f"{user}.kubeconfig"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
