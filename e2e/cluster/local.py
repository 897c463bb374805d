"""A real Kubernetes on this machine without Docker: one node, in namespaces of its own.

What lives here: bringing the node up and down, and the cluster's own programs. The process that ends it all is in
`keeper`, the node's first process in `node`, the command lines in `components`, the gateway and Prometheus that run
beside it in `gateway` and `prometheus`.

The rule: the node has its own network, mounts, process ids and cgroups, so its addresses (node 172.31.99.1, pods
10.244.0.0/24, services 10.96.0.0/16) never clash with another cluster or with the machine, no test traffic leaves it,
and ending one process ends everything. Nothing outside the namespaces is changed but the cgroups and the state folder,
and `keeper` removes those.

Commands that talk to pods or to the API server must run in the node's network: prefix them with `enter`, or run the
whole test with `python -m e2e.cluster run -- pytest ...`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster import binaries, components, gateway, keeper, kwok, prometheus
from e2e.cluster.agent import Agent, Program
from e2e.cluster.debian import ensure_debian_packages
from e2e.cluster.interface import Cluster, ClusterError, Gateway
from e2e.cluster.launch import end, launch, state_root, wait_for
from e2e.cluster.node import NODE_IP, NODE_NAME
from e2e.cluster.pause import pack_image

STATE_VARIABLE = "MODELRELEASE_CLUSTER_STATE"
"""Set inside `run`: the state folder of the cluster that the command is in."""


class LocalCluster(Cluster):
    """See the module. `detached` keeps the cluster when this process ends, until `stop` is called by any process."""

    def __init__(self, name: str = "test", *, detached: bool = False) -> None:
        self.name = name
        self.state = state_root() / name
        self.kubeconfig = self.state / "pki" / "admin.kubeconfig"
        self.node_ip = NODE_IP
        self.host_ip = NODE_IP
        self.agent = Agent(self.state)
        self._detached = detached
        self._keeper: subprocess.Popen[bytes] | None = None

    @classmethod
    def running(cls, state: Path) -> LocalCluster:
        """The cluster with this state folder, which some process has started. Raises `ClusterError` if it is gone."""
        cluster = cls(state.name)
        cluster.state = state
        cluster.kubeconfig = state / "pki" / "admin.kubeconfig"
        cluster.agent = Agent(state)
        cluster.agent.ask({"do": "list"})
        return cluster

    # -- lifecycle

    def start(self) -> None:
        """Returns when pods can be scheduled; takes 6 to 10 s when the binaries are cached, minutes when not."""
        if os.geteuid() != 0:
            raise ClusterError("the local cluster needs root: it makes namespaces, cgroups and containers")
        built = binaries.ensure(binaries.NODE)
        ensure_debian_packages()
        server = f"https://{NODE_IP}:6443"
        try:
            self._keeper, node = launch(self.state, whole_node=True, detached=self._detached)
            authority = components.create_credentials(self.state / "pki", server, NODE_IP)
            components.add_node_credentials(authority, server)
            self._start_daemons(built, node.cgroup)
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _start_daemons(self, built: binaries.Binaries, cgroup: str) -> None:
        ports, pki, spawn = components.Ports(), self.state / "pki", self.agent.spawn
        containerd = spawn("containerd", components.containerd(self.state, _snapshotter(self.state)))
        etcd = spawn("etcd", components.etcd(built, self.state, ports))
        server = spawn("kube-apiserver", components.apiserver(built, pki, ports, "0.0.0.0", NODE_IP))
        image = pack_image(built.path("pause"), components.PAUSE_IMAGE, self.state / "pause.tar")
        wait_for("containerd", Path(f"/proc/{self._node().pid}/root{components.CONTAINERD_SOCKET}").exists, containerd)
        self.load_image(image)
        wait_for("the API server", lambda: self._api("/readyz") == "ok", etcd, server, containerd)
        spawn("kube-controller-manager", components.controller_manager(built, pki))
        spawn("kube-scheduler", components.scheduler(built, pki))
        spawn("kubelet", components.kubelet(built, self.state, cgroup))
        spawn("kube-proxy", components.kube_proxy(built, self.state))

    def _wait_ready(self) -> None:
        names = ("kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler", "kube-apiserver", "etcd")
        programs = [Program(self.agent, name) for name in names]

        def ready() -> bool:
            node = self._api(f"/api/v1/nodes/{NODE_NAME}")
            conditions = json.loads(node)["status"].get("conditions", ()) if node else ()
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        wait_for("the node to be Ready", ready, *programs)
        # Pods are refused until their namespace has its service account.
        wait_for(
            "the default service account",
            lambda: self._api("/api/v1/namespaces/default/serviceaccounts/default"),
            *programs,
        )

    def stop(self) -> None:
        """Works from any process outside the node; returns when nothing is left."""
        end(self.state, self._keeper)
        self._keeper = None

    # -- reaching in

    def inside(self) -> bool:
        """Whether this process is in the node's namespaces."""
        node = keeper.Node.load(self.state)
        return node is not None and os.readlink("/proc/self/ns/pid") == node.pid_namespace

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Runs in all of the node's namespaces, in the current folder; ended when its caller ends."""
        if self.inside():
            return list(argv)
        prefix = ["nsenter", f"--target={self._node().pid}", "--net", "--mount", "--pid", "--ipc", "--uts"]
        return [*prefix, f"--wd={os.getcwd()}", "--", "setpriv", "--pdeathsig", "TERM", "--", *argv]

    def _reach(self, argv: Sequence[str]) -> list[str]:
        return list(argv) if self.inside() else ["nsenter", f"--target={self._node().pid}", "--net", "--", *argv]

    def _node(self) -> keeper.Node:
        node = keeper.Node.load(self.state)
        if node is None:
            raise ClusterError(f"cluster {self.name} is not running")
        return node

    def environment(self) -> dict[str, str]:
        return {**super().environment(), STATE_VARIABLE: str(self.state)}

    def spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Program:
        return self.agent.spawn(name, argv, env)

    def load_image(self, archive: Path) -> None:
        self._containerd("--namespace=k8s.io", "images", "import", "--all-platforms", str(archive.resolve()))

    def _containerd(self, *args: str) -> str:
        return self.run(self.enter(["ctr", f"--address={components.CONTAINERD_SOCKET}", *args]))

    def _api(self, path: str) -> str:
        """The body of a GET that succeeded, else nothing."""
        code, body = self.agent.fetch(f"https://{NODE_IP}:6443{path}", self.state / "pki" / "admin")
        return body if code == 200 else ""

    # -- beside the cluster

    def start_gateway(self) -> Gateway:
        return gateway.start(self, binaries.ensure(("envoy", "contour")), self.state / "gateway")

    def start_prometheus(self, scrape_interval: str = "1s") -> str:
        built, folder = binaries.ensure(("prometheus",)), self.state / "prometheus"
        process = self.spawn("prometheus", prometheus.command(built, self.kubeconfig, folder, scrape_interval))
        url = f"http://{self.host_ip}:{prometheus.PORT}"
        wait_for("Prometheus", lambda: self.agent.fetch(f"{url}/-/ready")[0] == 200, process)
        return url

    def stop_prometheus(self) -> None:
        Program(self.agent, "prometheus").stop()

    def lose_prometheus_data(self) -> None:
        shutil.rmtree(prometheus.data(self.state / "prometheus"))

    def add_kwok_nodes(self, count: int) -> None:
        """Add `count` simulated nodes, see `kwok`; builds kwok when it is not there."""
        kwok.add_nodes(self, binaries.ensure(("kwok",)), count)


def _snapshotter(state: Path) -> str:
    """Overlays cannot be laid on an overlay, which is what a container's own files are."""
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(state)], capture_output=True, text=True, check=True
    )
    return "native" if kind.stdout.strip() == "overlayfs" else "overlayfs"
