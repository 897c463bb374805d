"""What a cluster offers to the demo and the end-to-end tests, whichever provider it comes from.

What lives here: the promise (`Cluster`), the values it hands out and what is the same for every provider. How a cluster
comes to be is in `local`, `kind` and `existing`; which one is used is decided in `selection`.

The rule: nothing here or in a provider reads or writes `~/.kube/config`; each cluster has a kubeconfig file of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from e2e.cluster import binaries
from e2e.cluster.gobuild import BuildError

GATEWAY_NAME = "edge"
GATEWAY_NAMESPACE = "gateway"
GPU = "nvidia.com/gpu"


class ClusterError(RuntimeError):
    """The cluster, or what was asked of it, failed; the message says what and where to look."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running Gateway API gateway: what an HTTPRoute names as its parent, and where requests are sent."""

    name: str
    namespace: str
    url: str


class Process(Protocol):
    """A program that runs beside the cluster, in its network, and ends with it."""

    @property
    def name(self) -> str: ...

    @property
    def log(self) -> Path: ...

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal, as in `subprocess`."""

    def signal(self, number: int) -> None: ...

    def stop(self, timeout_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after `timeout_s`; returns when the process is gone."""


class Cluster(ABC):
    """One Kubernetes cluster to test against. Use it as a context manager, or call `start` and `stop`."""

    name: str
    kubeconfig: Path
    node_ip: str
    """Address of the (first) node, for traffic from tests."""
    host_ip: str
    """Address at which pods reach a process that `spawn` started."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Bring the cluster up; returns when its node is Ready."""

    @abstractmethod
    def stop(self) -> None:
        """Take down what `start` made, and nothing else. Safe to call twice and after a failed start."""

    @abstractmethod
    def load_image(self, archive: Path) -> None:
        """Make the images of a docker or OCI archive known to the nodes."""

    @abstractmethod
    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` where the cluster's addresses can be reached."""

    @abstractmethod
    def spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a long-running program in the cluster's network; a second one of the same name is refused while the
        first runs. `env` is added to this process's environment."""

    @abstractmethod
    def start_gateway(self) -> Gateway:
        """Install the Gateway API and run a gateway; returns when it is Programmed."""

    @abstractmethod
    def start_prometheus(self, scrape_interval: str = "1s") -> str:
        """Run Prometheus, scraping the pods that `prometheus.render_config` describes; returns its URL when ready.
        Called again after `stop_prometheus`, it goes on with the data it had."""

    @abstractmethod
    def stop_prometheus(self) -> None:
        """Stop Prometheus and keep its data."""

    @abstractmethod
    def lose_prometheus_data(self) -> None:
        """All that a stopped Prometheus has stored is gone when it is started again."""

    def environment(self) -> dict[str, str]:
        """What a command needs in its environment to talk to this cluster and no other."""
        folders = [str(binaries.available().folder(p)) for p in ("kubernetes", "helm") if binaries.available().has(p)]
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.kubeconfig.parent / "kube-cache"),
            "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]),
        }

    def run(self, argv: Sequence[str], input: str | None = None, timeout_s: float = 120.0) -> str:
        """Run a command in the cluster's network and return its standard output.

        Raises `ClusterError` with its standard error when it fails or takes longer than `timeout_s`."""
        try:
            done = subprocess.run(
                self._reach(argv),
                input=input,
                env={**os.environ, **self.environment()},
                stdin=None if input is not None else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{' '.join(argv)} took longer than {timeout_s:.0f} s") from error
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip()[-3000:]}")
        return done.stdout

    def kubectl(self, *args: str, input: str | None = None, timeout_s: float = 120.0) -> str:
        """Run kubectl as cluster administrator and return what it printed."""
        return self.run([tool("kubectl"), "--kubeconfig", str(self.kubeconfig), *args], input, timeout_s)

    def helm(self, *args: str, timeout_s: float = 300.0) -> str:
        """Run helm as cluster administrator and return what it printed."""
        return self.run([tool("helm"), "--kubeconfig", str(self.kubeconfig), *args], None, timeout_s)

    def node_name(self) -> str:
        """The first real node (kwok's nodes are not)."""
        return self.kubectl("get", "nodes", "-l", "type!=kwok", "-o", "jsonpath={.items[0].metadata.name}").strip()

    def advertise_gpus(self, count: int) -> None:
        """Let the node offer `count` units of `nvidia.com/gpu`; the scheduler counts them as it does real ones.

        The kubelet keeps a resource that it does not know, so this holds until the cluster ends.
        """
        offer = {GPU: str(count)}
        patch = json.dumps({"status": {"capacity": offer, "allocatable": offer}})
        self.kubectl("patch", "node", self.node_name(), "--subresource=status", "--type=merge", "-p", patch)

    def get(self, *args: str) -> Any:
        """`kubectl get ARGS -o json`, parsed."""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def _reach(self, argv: Sequence[str]) -> list[str]:
        """As `enter`, but for a short command that needs the network only."""
        return self.enter(argv)


def tool(name: str) -> str:
    """The path of `kubectl` or `helm`: the one built for these clusters, else the one of the machine."""
    try:
        return str(binaries.available().path(name))
    except BuildError:
        found = shutil.which(name)
        if found is None:
            raise
        return found


def wait_until(what: str, check: Callable[[], object], timeout_s: float, interval_s: float = 0.1) -> None:
    """Call `check` until it returns something true; raises `ClusterError` naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} not within {timeout_s:.0f} s")
        time.sleep(interval_s)
