"""A cluster by `kind`, where a docker or podman engine runs.

Untested by this repository's own checks, whose machines have no container engine. It expects Linux, where the engine's
network is reachable from the machine: tests talk to the node's address, and pods to the network's gateway address.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from e2e.cluster import binaries
from e2e.cluster.incluster import ForeignCluster
from e2e.cluster.interface import ClusterError, Gateway

NODE_IMAGE = f"kindest/node:{binaries.KUBERNETES}"


def engine() -> str | None:
    """`docker` or `podman`, whichever answers; None when neither does."""
    for command in ("docker", "podman"):
        if shutil.which(command):
            done = subprocess.run([command, "info"], capture_output=True, timeout=20, check=False)
            if done.returncode == 0:
                return command
    return None


class KindCluster(ForeignCluster):
    """One node, named after the cluster. Needs the `kind` command."""

    def start(self) -> None:
        running = engine()
        if running is None:
            raise ClusterError("kind needs a docker or podman engine, and none answers")
        if not shutil.which("kind"):
            raise ClusterError("a container engine answers, but there is no `kind` command; install it, or use local")
        create = ["kind", "create", "cluster", "--name", self.name, "--image", NODE_IMAGE, "--wait", "180s"]
        self.run([*create, "--kubeconfig", str(self.kubeconfig)], timeout_s=600)
        node = self.get("node", self.node_name())
        addresses = node["status"]["addresses"]
        self.node_ip = next(a["address"] for a in addresses if a["type"] == "InternalIP")
        network = json.loads(self.run([running, "network", "inspect", "kind"]))[0]
        subnets = network["IPAM"]["Config"] if running == "docker" else network["subnets"]
        self.host_ip = next(
            s.get("Gateway") or s["gateway"] for s in subnets if ":" not in (s.get("Subnet") or s["subnet"])
        )

    def stop(self) -> None:
        if shutil.which("kind"):
            subprocess.run(
                ["kind", "delete", "cluster", "--name", self.name, "--kubeconfig", str(self.kubeconfig)],
                capture_output=True,
                check=False,
            )
        super().stop()

    def load_image(self, archive: Path) -> None:
        self.run(["kind", "load", "image-archive", str(archive), "--name", self.name], timeout_s=300)

    def start_gateway(self) -> Gateway:
        return self.install_gateway(binaries.ensure(("contour",)).folder("contour") / "provisioner.yaml")
