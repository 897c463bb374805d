"""The CRDs of the Prometheus Operator, as they are released: what judges the chart's monitors and rules."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from e2e.cluster import gobuild
from e2e.cluster.controlplane import ControlPlane

_MODULE = "github.com/prometheus-operator/prometheus-operator@v0.85.0"


def install_crds(apiserver: ControlPlane, *plurals: str) -> None:
    """Serve these kinds. Server-side, as their schemas are too long for the annotation of kubectl apply."""
    with tempfile.TemporaryDirectory() as folder:
        said = subprocess.run(
            ["go", "mod", "download", "-json", _MODULE],
            env=gobuild.environment(),
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
    crds = Path(json.loads(said.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    for plural in plurals:
        file = crds / f"monitoring.coreos.com_{plural}.yaml"
        apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    names = [f"crd/{plural}.monitoring.coreos.com" for plural in plurals]
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
