"""Fixtures for tests against a real kube-apiserver: no nodes, no controllers, seconds to start."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from mlflow import MlflowClient

from e2e.cluster import binaries
from e2e.cluster.controlplane import ControlPlane
from e2e.mlflow_server import MlflowServer
from modelrelease.clients.kube import Kube
from tests.cluster import chart
from tests.cluster.stage import NAMESPACE, SERVICE_ACCOUNT, Stage

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ControlPlane]:
    """`kubeconfig` (path) and `url` of an API server for the whole session; tests keep to namespaces of their own."""
    with ControlPlane() as started:
        yield started


@pytest.fixture(scope="session")
def kube(apiserver: ControlPlane) -> Callable[..., str]:
    """`kube(*args, input=None) -> str` runs kubectl as administrator.

    Raises `e2e.cluster.interface.ClusterError` with what kubectl wrote to standard error.
    """
    return apiserver.kubectl


# -- what the engine's tests need besides -----------------------------------------------------------------------------
@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[MlflowServer]:
    """A real MLflow server with an empty store, which releases alone read and write."""
    with MlflowServer() as server:
        yield server


@pytest.fixture(scope="session")
def kinds(apiserver: ControlPlane) -> None:
    """The project's CRDs and the Gateway API's, served."""
    gateway = binaries.ensure(("contour",)).folder("contour") / "crds" / "gateway-api.yaml"
    for path in (ROOT / "crds", gateway):
        apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    names = ("modelreleases.modelrelease.dev", "httproutes.gateway.networking.k8s.io")
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))


@pytest.fixture(scope="session")
def operator_kubeconfig(apiserver: ControlPlane, kinds: None) -> Path:
    """Credentials with the rights that the chart gives the operator, and no others."""
    wanted = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
    rights = chart.of_kinds(chart.render(namespace="default", name="engine"), *wanted)
    apiserver.kubectl("apply", "-n", "default", "-f", "-", input=yaml.safe_dump_all(rights))
    [account] = [item["metadata"]["name"] for item in rights if item["kind"] == "ServiceAccount"]
    token = apiserver.kubectl("create", "token", account, "-n", "default", "--duration=1h").strip()
    known = yaml.safe_load(apiserver.kubeconfig.read_text())
    known["users"] = [{"name": user["name"], "user": {"token": token}} for user in known["users"]]
    path = apiserver.state / "operator.kubeconfig"
    path.write_text(json.dumps(known))
    return path


@pytest.fixture(scope="session")
def model(mlflow_server: MlflowServer) -> str:
    """A registered model. Versions 1, 2 and 4 are good, version 3 fails the gate of `stage.small_spec`."""
    register(MlflowClient(mlflow_server.url), "churn", 0.90, 0.95, 0.80, 0.96)
    return "churn"


@pytest.fixture
async def stage(
    apiserver: ControlPlane, operator_kubeconfig: Path, mlflow_server: MlflowServer, model: str
) -> AsyncIterator[Stage]:
    """A namespace of its own and one process of the operator."""
    admin = await Kube.connect(str(apiserver.kubeconfig))
    name = f"release-{uuid4().hex[:8]}"
    live = await admin.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await admin.create(SERVICE_ACCOUNT, name, account)
    stage = Stage(admin, name, operator_kubeconfig, mlflow_server.url, model)
    await stage.process()
    yield stage
    await stage.end()
    await admin.delete(NAMESPACE, None, name, uid=live["metadata"]["uid"])
    await admin.close()


def register(writer: MlflowClient, model: str, *accuracies: float) -> None:
    """Register versions 1, 2, ... of a model, each with a LoggedModel that has this accuracy."""
    writer.create_registered_model(model)
    for accuracy in accuracies:
        run = writer.create_run("0")
        logged: Any = writer.create_logged_model("0", name="m", source_run_id=run.info.run_id)
        writer.log_metric(
            run.info.run_id,
            "accuracy",
            accuracy,
            model_id=logged.model_id,
            dataset_name="holdout",
            dataset_digest="h1",
        )
        writer.finalize_logged_model(logged.model_id, "READY")
        writer.create_model_version(model, f"models:/{logged.model_id}", run.info.run_id, model_id=logged.model_id)
