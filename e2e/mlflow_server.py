"""A real MLflow server as a process of our own.

Here live its command line, its environment and its start and stop. Where it runs is the caller's choice: `start()` runs
it here, `argv()` and `env()` let something else run it, for instance inside a network namespace. Rule kept: nothing is
left behind; state is in one directory, and `stop()` ends every process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

_LOOPBACK_AND_PRIVATE = "localhost*,127.0.0.1*,10.*,172.*,192.168.*"
ALLOWED_HOSTS = f"{_LOOPBACK_AND_PRIVATE},mlflow,mlflow:*,mlflow.*,*.svc,*.svc:*,*.svc.cluster.local*"
"""MLflow answers 403 to any other Host header; setting the option replaces its defaults, hence the loopback names."""


class MlflowServerError(Exception):
    """The server did not start; the message ends with the tail of its log."""


class MlflowServer:
    """One MLflow server with an SQLite store and served artifacts in `directory`, or in a temporary one.

    A context manager: `with MlflowServer() as server: server.url`.
    """

    def __init__(self, directory: Path | None = None, *, host: str = "127.0.0.1", port: int | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="mlflow-") if directory is None else None
        self.directory = Path(self._temporary.name) if self._temporary else Path(directory or ".")
        self.host = host
        self.port = port or _free_port(host)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where a client on this machine reaches it."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        """The log of a server that `start()` started."""
        return self.directory / "server.log"

    def argv(self) -> list[str]:
        """The command line, free of relative paths."""
        state = self.directory.resolve()
        return [
            *(
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                self.host,
                "--port",
                str(self.port),
                "--workers",
                "1",
            ),
            *("--backend-store-uri", f"sqlite:///{state}/mlflow.db", "--serve-artifacts"),
            *("--artifacts-destination", f"{state}/artifacts", "--allowed-hosts", ALLOWED_HOSTS),
        ]

    def env(self) -> dict[str, str]:
        """This process's environment without its MLflow settings, and with what keeps the server small and silent."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        # Without bytecode on disk each start compiles some 3,000 files again.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        return inherited | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def start(self, timeout_s: float = 120) -> Self:
        """Start it here and wait until it answers; raises MlflowServerError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self.argv(), env=self.env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + timeout_s
        while not self.healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                code = self._process.poll()
                what = f"did not answer within {timeout_s:.0f} s" if code is None else f"ended with code {code}"
                message = f"MLflow on {self.url} {what}; the end of {self.log_path}:\n{self._log_tail()}"
                self.stop()
                raise MlflowServerError(message)
            time.sleep(0.1)
        return self

    def healthy(self) -> bool:
        """Whether `/health` answers 200 now."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End the server and its workers; twice does no harm. A temporary directory goes with it."""
        if self._process is not None:
            # The workers are children of the server: the whole session is ended, not the first process alone.
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self._process.pid, number)
                    self._process.wait(timeout=10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
            self._process = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
