"""The model server as a process on this machine: the same program as in the image, for tests that need no cluster."""

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
from typing import Self

PROGRAM = Path(__file__).parent / "model_server" / "server.py"


class LocalModelServer:
    """One server of one model version; `start()` returns at once, `wait_ready()` waits.

    `environment` adds to what is set here, for example DRAIN_DELAY_S.
    """

    def __init__(
        self, tracking_uri: str, model_uri: str, *, name: str = "digits", version: str = "1", **environment: str
    ) -> None:
        self.http_port, self.metrics_port = _free_ports(2)
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.metrics_url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        self._environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": tracking_uri,
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MODEL_URI": model_uri,
            "MODEL_NAME": name,
            "MODEL_VERSION": version,
            "HTTP_PORT": str(self.http_port),
            "METRICS_PORT": str(self.metrics_port),
            "OMP_NUM_THREADS": "1",
            "DRAIN_DELAY_S": "0.5",
            **environment,
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM)], env=self._environment, stdout=self._log, stderr=self._log
        )
        return self

    def wait_ready(self, timeout_s: float = 90) -> Self:
        """Raises RuntimeError with the log when it ends, TimeoutError when it is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while get_status(f"{self.url}/readyz") != 200:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the model server ended:\n{self.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the model server is not ready after {timeout_s:.0f} s:\n{self.log()}")
            time.sleep(0.05)
        return self

    def terminate(self) -> None:
        """Send SIGTERM, as a kubelet does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def wait_ended(self, timeout_s: float = 60) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        assert self.process is not None, "started before"
        return self.process.wait(timeout_s)

    def log(self) -> str:
        """All that it wrote so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def __enter__(self) -> Self:
        try:
            return self.start().wait_ready()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill it if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


def get_status(url: str) -> int | None:
    """The status of a GET, or None when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
