"""The Gateway API gateway of a local cluster: Contour as control plane and Envoy as data plane, in the node's network.

They run as plain processes, which saves their images; to routes, Services and clients there is no difference. On this
gateway weights and whole mirrors work; a mirror's `percent` is ignored by Contour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e.cluster.binaries import Binaries
from e2e.cluster.interface import GATEWAY_NAME, GATEWAY_NAMESPACE, Cluster, Gateway, wait_until

CONTROLLER = "projectcontour.io/gateway-controller"
LISTENER_PORT = 80
ENVOY_PORT = 8080
"""Contour maps listener port 80 to this one."""
XDS_PORT = 8001


def render_gateway(parameters: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Namespace, class (with its `parametersRef`) and a Gateway that takes HTTPRoutes of any namespace and host."""
    api = "gateway.networking.k8s.io/v1"
    listener = {
        "name": "http",
        "port": LISTENER_PORT,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY_NAMESPACE}},
        {
            "apiVersion": api,
            "kind": "GatewayClass",
            "metadata": {"name": "contour"},
            "spec": {"controllerName": CONTROLLER, **({"parametersRef": dict(parameters)} if parameters else {})},
        },
        {
            "apiVersion": api,
            "kind": "Gateway",
            "metadata": {"name": GATEWAY_NAME, "namespace": GATEWAY_NAMESPACE},
            "spec": {"gatewayClassName": "contour", "listeners": [listener]},
        },
    ]


def start(cluster: Cluster, binaries: Binaries, folder: Path) -> Gateway:
    """Install the CRDs, start both programs and wait until the Gateway is Programmed and Envoy listens."""
    folder.mkdir(exist_ok=True)
    crds = binaries.folder("contour") / "crds"
    for file in ("gateway-api.yaml", "contour.yaml"):
        cluster.kubectl("apply", "--server-side", "-f", str(crds / file))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    cluster.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": render_gateway()})
    )
    config = folder / "contour.yaml"
    config.write_text(json.dumps({"gateway": {"gatewayRef": {"name": GATEWAY_NAME, "namespace": GATEWAY_NAMESPACE}}}))
    contour = str(binaries.path("contour"))
    cluster.spawn(
        "contour",
        [
            contour,
            "serve",
            f"--kubeconfig={cluster.kubeconfig}",
            "--insecure",  # between two processes on loopback
            "--xds-address=127.0.0.1",
            f"--xds-port={XDS_PORT}",
            "--disable-leader-election",
            f"--config-path={config}",
            "--envoy-service-http-address=0.0.0.0",
            f"--envoy-service-http-port={ENVOY_PORT}",
            "--stats-address=127.0.0.1",
            "--stats-port=8002",
            "--http-address=127.0.0.1",
            "--http-port=8000",
            "--health-address=127.0.0.1",
            "--health-port=8003",
            "--debug-http-address=127.0.0.1",
            "--debug-http-port=6060",
        ],
    )
    bootstrap = folder / "envoy.json"
    cluster.run(
        [
            contour,
            "bootstrap",
            str(bootstrap),
            f"--admin-address={folder / 'admin.sock'}",
            "--xds-address=127.0.0.1",
            f"--xds-port={XDS_PORT}",
            f"--resources-dir={folder / 'resources'}",
            "--dns-lookup-family=v4",
        ]
    )
    envoy = [str(binaries.path("envoy")), "-c", str(bootstrap), "--service-cluster", "contour"]
    cluster.spawn(
        "envoy",
        [*envoy, "--service-node", "envoy-host", "--concurrency", "2", "--log-level", "warn", "--disable-hot-restart"],
    )

    def programmed() -> bool:
        status = cluster.get("gateway", GATEWAY_NAME, "-n", GATEWAY_NAMESPACE).get("status", {})
        return any(c["type"] == "Programmed" and c["status"] == "True" for c in status.get("conditions", ()))

    wait_until("a Programmed gateway", programmed, timeout_s=60)
    return Gateway(GATEWAY_NAME, GATEWAY_NAMESPACE, f"http://{cluster.host_ip}:{ENVOY_PORT}")
