"""How long `kubectl modelrelease status` takes, beyond the start of Python and of kubectl, on a real API server.

`python -m bench.cli` takes about a minute, prints its table and ends with status 1 when the bar is missed. Each round
times every program once, so that load of the machine falls on all alike; the medians are compared.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import tool
from tests.cli.scenes import told_by
from tests.core import builders

ROOT = Path(__file__).parent.parent
ROUNDS = 15
BAR_S = 0.3
NAMESPACE, NAME = "default", "churn"
PATH = f"/apis/modelrelease.dev/v1alpha1/namespaces/{NAMESPACE}/modelreleases/{NAME}"


def fill(cluster: ControlPlane) -> None:
    """One release in mid-rollout, with pods of neither arm."""
    scene = told_by("held-evidence").release
    cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/modelreleases.modelrelease.dev")
    body = {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": builders.spec().model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(body))
    status = {"status": scene.status.model_dump(mode="json", by_alias=True, exclude_none=True)}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
    cluster.kubectl("patch", "modelrelease", NAME, "-n", NAMESPACE, *patch)


def seconds(command: Sequence[str], env: Mapping[str, str]) -> float:
    """How long a program runs. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    """Measure, print, and judge."""
    with ControlPlane() as cluster, tempfile.TemporaryDirectory() as cache:
        fill(cluster)
        env = {
            "PATH": f"{Path(tool('kubectl')).parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.kubeconfig),
            "HOME": cache,
            "PYTHONPATH": str(ROOT / "operator"),
            "PYTHONPYCACHEPREFIX": cache,  # what an installation has compiled
        }
        plugin = [sys.executable, "-m", "modelrelease.cli.main"]
        programs = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "kubectl get --raw (the release)": ["kubectl", "get", "--raw", PATH],
            "kubectl-modelrelease --help": [*plugin, "--help"],
            "kubectl-modelrelease list": [*plugin, "list"],
            "kubectl-modelrelease status": [*plugin, "status", NAME],
        }
        for command in programs.values():
            seconds(command, env)
        rounds = [[seconds(command, env) for command in programs.values()] for _ in range(ROUNDS)]
    medians = dict(zip(programs, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    python, kubectl, *_, status = medians.values()
    for name, value in medians.items():
        print(f"{name:34} {value * 1000:6.0f} ms {value / python:6.1f} times python")
    beyond = status - python - kubectl
    print(f"status beyond both starts: {beyond * 1000:.0f} ms, bar {BAR_S * 1000:.0f} ms")
    return 0 if beyond <= BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
