"""Talks to the first process of a local node (`node`): start, stop and look at programs there.

Works from outside the node's namespaces and from inside: the socket is a file, and nothing refers to process ids.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.interface import ClusterError


@dataclass(frozen=True, slots=True)
class Agent:
    """The node whose state folder is `state`."""

    state: Path

    def ask(self, request: Mapping[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
        """Send one request; raises `ClusterError` when the node is gone or refuses."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        with connection:
            try:
                connection.connect(str(self.state / "node.sock"))
                with connection.makefile("rw") as stream:
                    stream.write(json.dumps(request) + "\n")
                    stream.flush()
                    answer: dict[str, Any] = json.loads(stream.readline() or "{}")
            except OSError as error:
                raise ClusterError(f"the node at {self.state} does not answer: {error}") from error
        if "error" in answer:
            raise ClusterError(answer["error"])
        return answer

    def spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Program:
        """Start a program with this process's environment plus `env`; its output goes to `STATE/logs/<name>.log`."""
        request = {"do": "spawn", "name": name, "argv": list(argv), "env": {**os.environ, **(env or {})}}
        self.ask({**request, "cwd": os.getcwd()})
        return Program(self, name)

    def fetch(self, url: str, cert: Path | None = None, timeout_s: float = 2.0) -> tuple[int, str]:
        """GET in the node's network: status code (0 when nothing answered) and body or reason."""
        answer = self.ask({"do": "fetch", "url": url, "cert": str(cert or ""), "timeout_s": timeout_s})
        return answer["code"], answer["body"]


@dataclass(frozen=True, slots=True)
class Program:
    """One program on a node; see `interface.Process`."""

    agent: Agent
    name: str

    @property
    def log(self) -> Path:
        return self.agent.state / "logs" / f"{self.name}.log"

    def tail(self, lines: int = 15) -> str:
        """The end of its log, for error messages."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def exit_code(self) -> int | None:
        code: int | None = self.agent.ask({"do": "status", "name": self.name})["exit_code"]
        return code

    def signal(self, number: int) -> None:
        self.agent.ask({"do": "signal", "name": self.name, "number": number})

    def stop(self, timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        self.signal(signal.SIGTERM)
        while self.exit_code() is None:
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
            time.sleep(0.02)
