"""Everything that a release needs around it, for real: cluster, gateway, Prometheus, MLflow, models, the operator.

Here lives what the demo and the end-to-end tests stand on; what they do on it is in `scenes`. Rule kept: everything
ends with `down()`, whatever failed before.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from e2e import images
from e2e.cluster.interface import Cluster, Gateway, Process, wait_until
from e2e.mlflow_server import MlflowServer
from e2e.training import TrainedVersion, train_all

ROOT = Path(__file__).resolve().parents[1]
SYSTEM_NAMESPACE, TEAM_NAMESPACE = "modelrelease-system", "vision"
HOSTNAME = "digits.example"
MLFLOW_PORT = 5000
GPUS = 8

Say = Callable[[str], None]


class Stack:
    """The world of one run. `tick_s` is the operator's poll interval; Prometheus scrapes every second."""

    def __init__(self, cluster: Cluster, say: Say, *, tick_s: int = 1) -> None:
        self.cluster = cluster
        self._say = say
        self._tick_s = tick_s
        self._began = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="modelrelease-stack-")
        self.gateway: Gateway
        self.prometheus_url: str
        self.mlflow_url: str
        self.versions: Mapping[str, TrainedVersion]
        self._mlflow: Process | None = None
        self.model_server_image: str

    def up(self) -> None:
        """Bring everything up; returns when the operator is ready. The cluster has been started by the caller."""
        cluster = self.cluster
        server = MlflowServer(Path(self._folder.name), host=self._mlflow_host(), port=MLFLOW_PORT)
        server.directory.mkdir(parents=True, exist_ok=True)
        self._mlflow = cluster.spawn("mlflow", server.argv(), server.env())
        self.mlflow_url = f"http://{cluster.host_ip}:{MLFLOW_PORT}"
        operator, model_server = images.operator(), images.model_server()
        self.model_server_image = model_server.reference
        with ThreadPoolExecutor() as beside:  # what waits for disks and other processes waits at the same time
            loading = beside.submit(self._load, operator, model_server)
            training = beside.submit(self._train, server)
            self.gateway = cluster.start_gateway()
            self.say(f"gateway {self.gateway.name} programmed")
            self.prometheus_url = cluster.start_prometheus()
            self.say("Prometheus scrapes")
            cluster.advertise_gpus(GPUS)
            cluster.kubectl("create", "namespace", TEAM_NAMESPACE)
            loading.result()
            self.install_operator(operator)
            self.say("the operator is ready")
            training.result()

    def _load(self, *loaded: images.Image) -> None:
        for image in loaded:
            self.cluster.load_image(image.archive)
        self.say("images loaded")

    def _train(self, server: MlflowServer) -> None:
        wait_until("MLflow", server.healthy, timeout_s=120)
        self.say("MLflow answers")
        self.versions = train_all(self.mlflow_url)
        self.say("models trained and registered: " + ", ".join(f"v{v.version} {n}" for n, v in self.versions.items()))

    def install_operator(self, image: images.Image) -> None:
        """Install the chart, as a user would."""
        repository, _, tag = image.reference.rpartition(":")
        self.cluster.helm(
            *("upgrade", "--install", "modelrelease", str(ROOT / "charts" / "modelrelease")),
            *("--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"),
            *("--set", f"image.repository={repository}", "--set", f"image.tag={tag}"),
            *("--set", f"registry.url={self.mlflow_url}", "--set", f"prometheus.url={self.prometheus_url}"),
            *("--set", "registry.allowAliasWrites=true"),
            *("--set", f"tickSeconds={self._tick_s}"),
        )

    def down(self) -> None:
        """End what `up` started outside the cluster; the cluster itself belongs to the caller."""
        if self._mlflow is not None:
            self._mlflow.stop()
        self._folder.cleanup()

    def say(self, text: str) -> None:
        """One line of progress, with the seconds since the beginning."""
        self._say(f"[{time.monotonic() - self._began:5.0f}s] {text}")

    # -- what scenes and tests do with it ---------------------------------------------------------------------------
    def apply(self, manifest: Mapping[str, Any]) -> None:
        """kubectl apply, as the model's team does it."""
        self.cluster.kubectl("apply", "-n", TEAM_NAMESPACE, "-f", "-", input=json.dumps(manifest))

    def release(self, name: str = "digits") -> dict[str, Any]:
        """The ModelRelease as it is now."""
        found: dict[str, Any] = self.cluster.get("modelrelease", name, "-n", TEAM_NAMESPACE)
        return found

    def status(self, name: str = "digits") -> dict[str, Any]:
        """Its status, empty while there is none."""
        status: dict[str, Any] = self.release(name).get("status") or {}
        return status

    def command(self, verb: str, revision: str, nonce: str, name: str = "digits") -> None:
        """Set the command annotation, as a person does."""
        text = f"modelrelease.dev/command={verb}@{revision}-{nonce}"
        self.cluster.kubectl("annotate", "--overwrite", "modelrelease", name, "-n", TEAM_NAMESPACE, text)

    def pods(self, name: str = "digits") -> list[dict[str, Any]]:
        """The model server's pods."""
        items: list[dict[str, Any]] = self.cluster.get(
            "pods", "-n", TEAM_NAMESPACE, "-l", f"modelrelease.dev/name={name}"
        )["items"]
        return items

    def operator_pod(self) -> dict[str, Any]:
        """The operator's running pod."""
        pods: list[dict[str, Any]] = self.cluster.get(
            "pods", "-n", SYSTEM_NAMESPACE, "-l", "app.kubernetes.io/name=modelrelease"
        )["items"]
        return next(pod for pod in pods if not pod["metadata"].get("deletionTimestamp"))

    def kill_operator(self) -> None:
        """kill -9 of the operator's process; the kubelet starts its container again. Raises when it is not seen."""
        command = ["python", "-m", "modelrelease"]
        found = [pid for pid, argv in _processes() if argv == command]
        if not found:
            raise RuntimeError("the operator's process cannot be seen from here; run inside the cluster's network")
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    def operator_restarts(self) -> int:
        """How often the operator's container was started again."""
        return sum(int(state["restartCount"]) for state in self.operator_pod()["status"].get("containerStatuses") or ())

    def operator_metric(self, name: str) -> float:
        """The sum of one metric of the operator's own /metrics, over all its series; 0 where there is none."""
        url = f"http://{self.operator_pod()['status']['podIP']}:8080/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def events(self, name: str = "digits") -> list[tuple[str, str]]:
        """(reason, note) of the Events about a release, oldest first."""
        items = self.cluster.get("events.events.k8s.io", "-n", TEAM_NAMESPACE)["items"]
        mine = [item for item in items if item["regarding"]["name"] == name]
        return [(item["reason"], item["note"]) for item in sorted(mine, key=lambda item: item["eventTime"])]

    def settle(self, seconds: float) -> None:
        """Let time pass in which nothing is asked of the release."""
        time.sleep(seconds)

    def _mlflow_host(self) -> str:
        return "0.0.0.0" if self.cluster.host_ip != "127.0.0.1" else "127.0.0.1"


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Process ids and command lines of all that can be seen."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:  # it has just ended
            continue
        yield int(folder.name), argv


def digits(stack: Stack, version: int, **changes: Any) -> dict[str, Any]:
    """The ModelRelease of the demo, at one version. changes replace fields of its spec."""
    resources = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"nvidia.com/gpu": "1"}}
    probe = {
        "httpGet": {"path": "/readyz", "port": 8080},
        "periodSeconds": 1,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    }
    container = {
        "name": "server",
        "image": stack.model_server_image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "MLFLOW_TRACKING_URI", "value": stack.mlflow_url}],
        "resources": resources,
        "readinessProbe": probe,
        "startupProbe": {**probe, "failureThreshold": 120},
    }
    spec: dict[str, Any] = {
        "model": {"name": "digits", "version": version},
        "workload": {
            "replicas": 2,
            "ports": {"http": 8080, "metrics": 9090},
            "drainTimeout": "32s",
            "template": {"spec": {"terminationGracePeriodSeconds": 60, "containers": [container]}},
        },
        "traffic": {
            "gateway": {
                "parentRefs": [{"name": stack.gateway.name, "namespace": stack.gateway.namespace}],
                "hostnames": [HOSTNAME],
                # the gateway's own limit (15 s for Envoy) would cut long streams
                "rule": {"timeouts": {"request": "10m"}},
            }
        },
        "gates": [
            {"name": "accuracy", "metric": {"name": "accuracy", "dataset": "holdout", "champion": {"maxDrop": 0.005}}},
            {
                "name": "conditions",
                "slices": {"metric": "recall", "required": ["day", "night"], "champion": {"maxDrop": 0.02}},
            },
        ],
        "checks": [
            {"name": "errors", "errorRate": {"margin": {"relative": 1.25, "absolute": 0.05}}},
            {"name": "latency", "latency": {"slowerThan": "100ms", "margin": {"relative": 1.25, "absolute": 0.05}}},
            {"name": "tripwire", "errorRate": {"max": 0.5, "minPolls": 1}},
        ],
        "rollout": {
            "phases": [
                {"name": "canary", "weight": 20, "duration": "3s"},
                {"name": "half", "weight": 50, "duration": "3s"},
                {"name": "full", "weight": 100},
            ],
            "bake": {"duration": "4s"},
            "progressDeadline": "3m",
        },
        "registry": {"setAlias": "champion"},
    }
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": "digits"},
        "spec": {**spec, **changes},
    }
