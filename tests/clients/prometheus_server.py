"""A real Prometheus as a process of the test's own, and the pods that it scrapes: small exposition servers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.binaries import ensure
from tests.clients.loopback import Answer, Request, Server, serve


@dataclass
class Pod:
    """Counters of one pod; the test changes `samples` between scrapes. down: its scrapes fail.

    text: its whole exposition, in place of `samples`.
    """

    name: str
    revision: str
    server: Server
    namespace: str = "team"
    release: str = "chat"
    samples: dict[str, float] = field(default_factory=dict)
    down: bool = False
    scrapes: int = 0
    text: Callable[[], str] | None = None

    def add(self, series: str, count: float = 1) -> None:
        """Count up a series, for example `http_requests_total{code="200"}`."""
        self.samples[series] = self.samples.get(series, 0) + count

    def _expose(self, _: Request) -> Answer:
        if self.down:
            return Answer(500)
        samples = "".join(f"{series} {value}\n" for series, value in self.samples.items())
        text = self.text() if self.text is not None else samples
        self.scrapes += 1
        return Answer(200, text.encode(), {"Content-Type": "text/plain; version=0.0.4"})


@contextlib.contextmanager
def pod(name: str, revision: str, *, namespace: str = "team", release: str = "chat") -> Iterator[Pod]:
    """A pod that can be scraped."""
    with serve(lambda _: Answer(500)) as server:
        made = Pod(name, revision, server, namespace, release)
        server.answer = made._expose
        yield made


@dataclass
class Prometheus:
    """One Prometheus with its data in `directory`; it may be stopped, started again, frozen and given other targets.

    A pod without a revision is scraped for many: its exposition carries all labels itself, and `up`.
    """

    directory: Path
    scrape_interval_s: float = 1
    flags: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    pods: list[Pod] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def scrape(self, *pods: Pod) -> None:
        """Scrape exactly these pods from now on."""
        self.pods = list(pods)
        interval = f"{round(self.scrape_interval_s * 1000)}ms"
        targets = [
            {
                "targets": [pod.server.url.removeprefix("http://")],
                "labels": {
                    "namespace": pod.namespace,
                    "pod": pod.name,
                    "modelrelease_dev_name": pod.release,
                    "modelrelease_dev_revision": pod.revision,
                },
            }
            for pod in pods
            if pod.revision
        ]
        many = [{"targets": [pod.server.url.removeprefix("http://")]} for pod in pods if not pod.revision]
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [
                {"job_name": "pods", "static_configs": targets},
                {"job_name": "many", "honor_labels": True, "static_configs": many},
            ],
        }
        (self.directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML, too
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        binary = ensure(["prometheus"]).path("prometheus")
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(binary),
                    f"--config.file={self.directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self.flags,
                ],
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("Prometheus did not get ready:\n" + (self.directory / "log").read_text()[-3000:])

    def kill(self) -> None:
        """End it without a goodbye; its data stay."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """It keeps its port and answers nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def prometheus(
    directory: Path, *pods: Pod, scrape_interval_s: float = 1, flags: tuple[str, ...] = ()
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes these pods until the block ends."""
    server = Prometheus(directory, scrape_interval_s, flags)
    server.scrape(*pods)
    try:
        server.start()
        yield server
    finally:
        server.kill()
