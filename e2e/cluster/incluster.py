"""What the two providers on foreign clusters (`kind`, `existing`) share: programs as pods instead of processes.

Such a cluster can pull images, so the gateway and Prometheus run inside it from their published ones. Untested by this
repository's own checks, whose machines have no container engine: `local` is the provider that they exercise.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.cluster import gateway, prometheus
from e2e.cluster.interface import GATEWAY_NAME, GATEWAY_NAMESPACE, Cluster, ClusterError, Gateway, wait_until

MONITORING_NAMESPACE = "monitoring"
PROMETHEUS_IMAGE = "prom/prometheus:v3.11.3"
ENVOY_ON_NODE_PORT: dict[str, Any] = {
    "apiVersion": "projectcontour.io/v1alpha1",
    "kind": "ContourDeployment",
    "metadata": {"name": "node-port", "namespace": "projectcontour"},
    "spec": {"envoy": {"networkPublishing": {"type": "NodePortService"}}},
}
"""A load balancer's address, the default, is never given out on a cluster without one."""


class HostProcess:
    """A program on this machine that ends with the cluster object; see `interface.Process`."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def exit_code(self) -> int | None:
        return self._process.poll()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self, timeout_s: float = 10.0) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ForeignCluster(Cluster):
    """A cluster whose network this machine is part of, and whose nodes can pull images."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix="modelrelease-")
        self.state = Path(self._folder.name)
        self.kubeconfig = self.state / "kubeconfig"
        self._processes: dict[str, HostProcess] = {}
        self._losses = 0

    def stop(self) -> None:
        for process in self._processes.values():
            process.stop()
        self._processes.clear()
        self._folder.cleanup()

    def enter(self, argv: Sequence[str]) -> list[str]:
        return list(argv)

    def spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> HostProcess:
        earlier = self._processes.get(name)
        if earlier is not None and earlier.exit_code() is None:
            raise ClusterError(f"{name} is running already")
        self._processes[name] = HostProcess(name, argv, env or {}, self.state / f"{name}.log")
        return self._processes[name]

    def install_gateway(self, manifest: Path) -> Gateway:
        """Install Contour's gateway provisioner from `manifest` and a Gateway, reached at a port of the node."""
        self.kubectl("apply", "--server-side", "-f", str(manifest))
        self.kubectl("-n", "projectcontour", "rollout", "status", "deployment/contour-gateway-provisioner")
        parameters = {"group": "projectcontour.io", "kind": "ContourDeployment", **ENVOY_ON_NODE_PORT["metadata"]}
        self.apply([ENVOY_ON_NODE_PORT, *gateway.render_gateway(parameters)])
        reference = ("gateway", GATEWAY_NAME, "-n", GATEWAY_NAMESPACE)
        self.kubectl("wait", "--for=condition=Programmed", *reference, "--timeout=180s", timeout_s=200)
        service = self.get("service", f"envoy-{GATEWAY_NAME}", "-n", GATEWAY_NAMESPACE)
        port = next(p["nodePort"] for p in service["spec"]["ports"] if p["port"] == gateway.LISTENER_PORT)
        return Gateway(GATEWAY_NAME, GATEWAY_NAMESPACE, f"http://{self.node_ip}:{port}")

    def start_prometheus(self, scrape_interval: str = "1s") -> str:
        self.apply(render_prometheus(scrape_interval, f"/data/{self._losses}"))
        reference = ("-n", MONITORING_NAMESPACE, "deployment/prometheus")
        self.kubectl("scale", "--replicas=1", *reference)
        self.kubectl("rollout", "status", *reference, "--timeout=180s", timeout_s=200)
        service = self.get("service", "prometheus", "-n", MONITORING_NAMESPACE)
        return f"http://{self.node_ip}:{service['spec']['ports'][0]['nodePort']}"

    def stop_prometheus(self) -> None:
        self.kubectl("scale", "--replicas=0", "-n", MONITORING_NAMESPACE, "deployment/prometheus")
        wait_until(
            "the end of Prometheus",
            lambda: not self.get("pods", "-n", MONITORING_NAMESPACE, "-l", "app=prometheus")["items"],
            timeout_s=60,
        )

    def lose_prometheus_data(self) -> None:
        self._losses += 1

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> None:
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def render_prometheus(scrape_interval: str, data: str = "/data/0") -> list[dict[str, Any]]:
    """Prometheus as a Deployment with the rights to find pods, its data on the node, behind a NodePort. data: folder
    below /data."""
    meta = {"name": "prometheus", "namespace": MONITORING_NAMESPACE}
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", **meta}
    container = {
        "name": "prometheus",
        "image": PROMETHEUS_IMAGE,
        "args": ["--config.file=/etc/prometheus/prometheus.json", f"--storage.tsdb.path={data}"],
        "ports": [{"name": "web", "containerPort": prometheus.PORT}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "web"}, "periodSeconds": 1},
        "securityContext": {"runAsUser": 0},  # to write into the folder of the node
        "volumeMounts": [{"name": "config", "mountPath": "/etc/prometheus"}, {"name": "data", "mountPath": "/data"}],
    }
    volumes = [
        {"name": "config", "configMap": {"name": "prometheus"}},
        {"name": "data", "hostPath": {"path": "/var/lib/modelrelease-prometheus", "type": "DirectoryOrCreate"}},
    ]
    pod = {
        "metadata": {"labels": {"app": "prometheus"}},
        "spec": {"serviceAccountName": "prometheus", "containers": [container], "volumes": volumes},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING_NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "modelrelease-test-prometheus"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "modelrelease-test-prometheus"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "modelrelease-test-prometheus"},
            "subjects": [subject],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"prometheus.json": json.dumps(prometheus.render_config(scrape_interval, None))},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"app": "prometheus"}},
                "template": pod,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "type": "NodePort",
                "selector": {"app": "prometheus"},
                "ports": [{"name": "web", "port": prometheus.PORT}],
            },
        },
    ]
