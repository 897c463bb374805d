"""A cluster that exists already: a kubeconfig context that was named explicitly, never the current one by chance.

Untested by this repository's own checks. The cluster is not this repository's: nothing is installed that is there, and
`stop` removes nothing but files of its own. Its nodes must be able to pull the images under test, and its pods to
reach this machine at `MODELRELEASE_HOST_IP`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from e2e.cluster.incluster import ForeignCluster
from e2e.cluster.interface import ClusterError, Gateway, tool


class ExistingCluster(ForeignCluster):
    """The cluster of `context`; its credentials are copied to a kubeconfig that names nothing else."""

    def __init__(self, context: str) -> None:
        super().__init__(context)
        self._context = context

    def start(self) -> None:
        argv = [tool("kubectl"), "config", "view", "--raw", "--flatten", "--minify", f"--context={self._context}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"no context {self._context!r} in the kubeconfig: {done.stderr.strip()}")
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(done.stdout)
        addresses = self.get("node", self.node_name())["status"]["addresses"]
        by_type = {a["type"]: a["address"] for a in addresses}
        self.node_ip = by_type.get("ExternalIP") or by_type["InternalIP"]
        self.host_ip = _required("MODELRELEASE_HOST_IP", "the address at which the cluster's pods reach this machine")

    def load_image(self, archive: Path) -> None:
        raise ClusterError(f"{archive.name} cannot be loaded into a cluster that is not ours: push it to its registry")

    def start_gateway(self) -> Gateway:
        """The gateway that is there: `MODELRELEASE_GATEWAY` (namespace/name) and `MODELRELEASE_GATEWAY_URL`."""
        namespace, _, name = _required("MODELRELEASE_GATEWAY", "a Gateway as namespace/name").partition("/")
        self.kubectl("get", "gateway", name, "-n", namespace)
        return Gateway(name, namespace, _required("MODELRELEASE_GATEWAY_URL", "where that Gateway takes requests"))


def _required(variable: str, meaning: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise ClusterError(f"an existing cluster needs {variable}: {meaning}")
    return value
