"""A real Prometheus as a process of the test's own, and the pods that it scrapes: small exposition servers.

On a busy machine a scrape may fail, and what its pod counted until the next one rightly belongs to no poll. Tests that
count exactly are `undisturbed`: Prometheus itself tells whether that happened, and then they begin again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec

from e2e.cluster.binaries import ensure
from tests.clients.loopback import Answer, Request, Server, serve


@dataclass
class Pod:
    """Counters of one pod; the test changes `samples` between scrapes. down: its scrapes fail.

    refused: how many did because of that. text: its whole exposition, in place of `samples`.
    """

    name: str
    revision: str
    server: Server
    namespace: str = "team"
    release: str = "chat"
    samples: dict[str, float] = field(default_factory=dict)
    down: bool = False
    scrapes: int = 0
    refused: int = 0
    text: Callable[[], str] | None = None

    def add(self, series: str, count: float = 1) -> None:
        """Count up a series, for example `http_requests_total{code="200"}`."""
        self.samples[series] = self.samples.get(series, 0) + count

    def _expose(self, _: Request) -> Answer:
        if self.down:
            self.refused += 1
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

    def start_anew(self) -> None:
        """Start it with no data and wait until it has scraped all its pods."""
        self.kill()
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        self.start()
        self.await_scrapes()

    def await_scrapes(self) -> None:
        """Wait until it holds a scrape of every pod: one that it comes to know later counts as a new pod."""
        deadline = time.monotonic() + 120
        while self.ask("count(up == 1)") != [len(self.pods)]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"Prometheus scraped not all of {[pod.name for pod in self.pods]}")
            time.sleep(0.05)

    def ask(self, query: str) -> list[float]:
        """The values that a query has now; none where it does not answer."""
        url = f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as response:
            return [float(series["value"][1]) for series in json.load(response)["data"]["result"]]
        return []

    def missed_a_scrape(self, seconds: float) -> bool:
        """Whether in the last seconds a scrape failed of a pod that was never down."""
        if self.process is None:
            self.start()
        self.thaw()
        down = "|".join(pod.name for pod in self.pods if pod.refused)
        return 0 in self.ask(f'min(min_over_time(up{{pod!~"{down}"}}[{math.ceil(seconds)}s]))')

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


P = ParamSpec("P")


def undisturbed(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """Begin again, with a new Prometheus and the pods as they were, where a scrape had failed that should not have."""

    @functools.wraps(test)
    async def repeated(*args: P.args, **kwargs: P.kwargs) -> None:
        server = kwargs["server"]
        assert isinstance(server, Prometheus)
        pods = [(pod, dict(pod.samples)) for pod in server.pods]
        for left in (3, 2, 1, 0):
            began = time.monotonic()
            try:
                return await test(*args, **kwargs)
            except AssertionError:
                missed = await asyncio.to_thread(server.missed_a_scrape, time.monotonic() - began)
                if not left or not missed:
                    raise
            for pod, samples in pods:
                pod.samples, pod.down = dict(samples), False
            server.scrape(*(pod for pod, _ in pods))
            await asyncio.to_thread(server.start_anew)

    return repeated
