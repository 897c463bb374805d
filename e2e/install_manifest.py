"""Renders the chart into one file for `kubectl apply -f`: `python -m e2e.install_manifest FILE [OPTION OF HELM ...]`.

The file is not kept in Git, where it would repeat the chart and the CRDs line by line: `make install-manifest` writes
dist/install.yaml, and a release attaches it. It holds the namespace and the CRDs first, and nothing that says Helm.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries

CHART = Path(__file__).resolve().parents[1] / "charts" / "modelrelease"
NAMESPACE = "modelrelease-system"
REGISTRY = "http://mlflow.mlflow.svc:5000"
PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
_FIRST = ("Namespace", "CustomResourceDefinition")
_HEAD = f"""\
# modelrelease {{version}}: kubectl apply -f install.yaml
#
# It reads models from {REGISTRY} and metrics from {PROMETHEUS}.
# Where yours are elsewhere:
#   kubectl -n {NAMESPACE} set env deployment/modelrelease \\
#     MODELRELEASE_REGISTRY_URL=http://... MODELRELEASE_PROMETHEUS_URL=http://...
# Everything else is a value of the Helm chart. Deleting the CRDs deletes every ModelRelease and all that it serves.
"""


def manifest(*options: str) -> str:
    """The whole file; options are those of `helm template`. Raises subprocess.CalledProcessError."""
    command = [str(binaries.ensure(("helm",)).path("helm")), "template", "modelrelease", str(CHART)]
    command += ["--namespace", NAMESPACE, "--set", f"registry.url={REGISTRY},prometheus.url={PROMETHEUS}", *options]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    objects = [_namespace(), *(_without_helm(item) for item in yaml.safe_load_all(text) if item)]
    objects.sort(key=lambda item: _FIRST.index(item["kind"]) if item["kind"] in _FIRST else len(_FIRST))
    documents = (yaml.safe_dump(item, sort_keys=False, width=120) for item in objects)
    return _HEAD.format(version=version) + "---\n" + "---\n".join(documents)


def _namespace() -> dict[str, Any]:
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": enforce}}


def _without_helm(item: Any) -> Any:
    """The object without the labels and annotations by which Helm knows its own, in templates of pods as well."""
    if isinstance(item, list):
        return [_without_helm(one) for one in item]
    if not isinstance(item, dict):
        return item
    kept = {
        key: _without_helm(value)
        for key, value in item.items()
        if not str(key).startswith("helm.sh/") and (key, value) != ("app.kubernetes.io/managed-by", "Helm")
    }
    return {key: value for key, value in kept.items() if not (key == "annotations" and value == {} and item[key])}


def main() -> None:
    """Entry point."""
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(manifest(*sys.argv[2:]), encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
