"""A bare control plane: etcd and kube-apiserver on free ports of this machine's loopback, and nothing else.

For tests of what the API server itself decides (schemas, CEL rules, admission, RBAC, watches, conflicts). No node, no
scheduler, no controllers: Deployments stay as they were written, and deleting an owner deletes no child.

It needs no namespaces to be reached, so tests run as they are; a process id namespace makes sure that both programs
end with the process that started them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.cluster import binaries, components
from e2e.cluster.agent import Agent
from e2e.cluster.interface import ClusterError, tool
from e2e.cluster.launch import end, launch, state_root, wait_for

LOOPBACK = "127.0.0.1"
UNCACHED = (
    "pods",
    "deployments.apps",
    "controllerrevisions.apps",
    "services",
    "endpointslices.discovery.k8s.io",
)


class ControlPlane:
    """Use it as a context manager; ready in 3 to 5 s. Several do not disturb each other."""

    def __init__(self) -> None:
        root = state_root()
        root.mkdir(parents=True, exist_ok=True)
        self.state = Path(tempfile.mkdtemp(prefix="api-", dir=root))
        self.kubeconfig = self.state / "pki" / "admin.kubeconfig"
        self.url = ""
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        built = binaries.ensure(binaries.CONTROL_PLANE)
        ports = components.Ports(*free_ports(3))
        self.url = f"https://{LOOPBACK}:{ports.apiserver}"
        try:
            self._keeper, _ = launch(self.state, whole_node=False, detached=False)
            pki, agent = self.state / "pki", Agent(self.state)
            components.create_credentials(pki, self.url, LOOPBACK)
            etcd = agent.spawn("etcd", components.etcd(built, self.state, ports))
            # Without its watch cache the API server answers a list at once, not after the cache has caught up with it.
            uncached = ",".join(f"{kind}#0" for kind in UNCACHED)
            # Advertised is an address that is not loopback, which the API server refuses; nothing connects to it.
            server = agent.spawn(
                "kube-apiserver",
                components.apiserver(built, pki, ports, LOOPBACK, "192.0.2.1", [f"--watch-cache-sizes={uncached}"]),
            )
            wait_for(
                "the API server",
                lambda: agent.fetch(f"{self.url}/readyz", pki / "admin") == (200, "ok"),
                etcd,
                server,
            )
            wait_for("the default namespace", lambda: self._has_default(agent, pki / "admin"), server)
        except BaseException:
            end(self.state, self._keeper)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        end(self.state, self._keeper)

    def kubectl(self, *args: str, input: str | None = None, timeout_s: float = 60.0) -> str:
        """Run kubectl as administrator; raises `ClusterError` with what it wrote to standard error."""
        done = subprocess.run(
            [tool("kubectl"), "--kubeconfig", str(self.kubeconfig), *args],
            input=input,
            env={**os.environ, "KUBECACHEDIR": str(self.state / "kube-cache")},
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(args)} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _has_default(self, agent: Agent, cert: Path) -> bool:
        return agent.fetch(f"{self.url}/api/v1/namespaces/default", cert)[0] == 200


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind((LOOPBACK, 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()
