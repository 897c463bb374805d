"""The Helm chart as tests use it: rendered by the real helm, applied by the real kubectl."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries

CHART = Path(__file__).parents[2] / "charts" / "modelrelease"


class ChartRefused(RuntimeError):
    """helm did not render the chart; the message is what helm says."""


def helm(*arguments: str) -> str:
    """What helm prints. It is built when it is missing. Raises ChartRefused with its standard error."""
    command = [str(binaries.ensure(("helm",)).path("helm")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise ChartRefused(done.stderr.strip())
    return done.stdout


def render(*options: str, namespace: str = "modelrelease-system", name: str = "modelrelease") -> list[dict[str, Any]]:
    """The objects of the chart; `options` are those of `helm template`, such as `--set=replicas=2`."""
    text = helm("template", name, str(CHART), "--namespace", namespace, "--kube-version=1.36.3", *options)
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def find(objects: list[dict[str, Any]], kind: str, name: str = "modelrelease") -> dict[str, Any]:
    """The only object of this kind and name."""
    [found] = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def of_kinds(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] in kinds]
