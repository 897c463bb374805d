"""Prometheus beside a local cluster: what it scrapes, and its command line.

It finds pods by the API server and keeps those with a container port named `metrics` or `http-metrics`, or with the
annotation `prometheus.io/scrape: "true"` (`prometheus.io/port` and `prometheus.io/path` are followed). Series carry
`namespace`, `pod`, `container` and the pod's labels that begin with `modelrelease_dev_`, so an arm of a release is
`{modelrelease_dev_revision="..."}`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e.cluster.binaries import Binaries

PORT = 9090
_POD = "__meta_kubernetes_pod"


def render_config(scrape_interval: str, kubeconfig: str | None) -> dict[str, Any]:
    """The configuration; without a kubeconfig Prometheus uses its own pod's service account."""
    discovery: dict[str, Any] = {"role": "pod"}
    if kubeconfig:
        discovery["kubeconfig_file"] = kubeconfig
    annotation = f"{_POD}_annotation_prometheus_io"
    return {
        "global": {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval},
        "scrape_configs": [
            {
                "job_name": "pods",
                "kubernetes_sd_configs": [discovery],
                "relabel_configs": [
                    {"source_labels": [f"{_POD}_phase"], "regex": "Running", "action": "keep"},
                    {
                        "source_labels": [f"{_POD}_container_port_name", f"{annotation}_scrape"],
                        "regex": "(metrics|http-metrics);.*|.*;true",
                        "action": "keep",
                    },
                    {
                        "source_labels": ["__address__", f"{annotation}_port"],
                        "regex": "([^:]+)(?::\\d+)?;(\\d+)",
                        "replacement": "$1:$2",
                        "target_label": "__address__",
                    },
                    {"source_labels": [f"{annotation}_path"], "regex": "(.+)", "target_label": "__metrics_path__"},
                    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                    {"source_labels": [f"{_POD}_name"], "target_label": "pod"},
                    {"source_labels": [f"{_POD}_container_name"], "target_label": "container"},
                    {"action": "labelmap", "regex": f"{_POD}_label_(modelrelease_dev_.+)"},
                ],
            }
        ],
    }


def command(binaries: Binaries, kubeconfig: Path, folder: Path, scrape_interval: str) -> list[str]:
    """Write the configuration into `folder`, where the data is kept too, and return the command line."""
    folder.mkdir(exist_ok=True)
    config = folder / "prometheus.json"
    config.write_text(json.dumps(render_config(scrape_interval, str(kubeconfig))))
    return [
        str(binaries.path("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={data(folder)}",
        "--storage.tsdb.retention.time=2h",
        f"--web.listen-address=0.0.0.0:{PORT}",
    ]


def data(folder: Path) -> Path:
    """Where below `folder` it stores what it has scraped."""
    return folder / "data"
