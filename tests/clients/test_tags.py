"""Tags of model versions in a real MLflow server."""

from __future__ import annotations

from uuid import uuid4

from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.api.reasons import Reason
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.observation import Missing, TagWritten, Unavailable
from modelrelease.core.wants import TagWrite

KEY = "modelrelease.dev/crm.churn"


def client(url: str) -> RegistryClient:
    return RegistryClient(RegistryEndpoint(url), timeout_s=10, retries=0)


def test_a_tag_stands_beside_those_of_others_and_says_what_was_written_last(mlflow_server: MlflowServer) -> None:
    people, model = MlflowClient(mlflow_server.url), f"tagged-{uuid4().hex[:8]}"
    people.create_registered_model(model)
    people.create_model_version(model, "s3://bucket/model", tags={"owner": "ml"})
    ours = client(mlflow_server.url)
    for value in ("progressing since 1", "promoted since 2", "promoted since 2"):
        assert ours.write_tag(TagWrite(model, "1", KEY, value)) == TagWritten(value)
    assert people.get_model_version(model, "1").tags == {"owner": "ml", KEY: "promoted since 2"}


def test_a_version_that_is_not_there_is_missing(mlflow_server: MlflowServer) -> None:
    answer = client(mlflow_server.url).write_tag(TagWrite(f"none-{uuid4().hex[:8]}", "1", KEY, "x"))
    assert isinstance(answer, Missing)


def test_a_registry_that_is_away_is_unavailable() -> None:
    answer = client("http://127.0.0.1:9").write_tag(TagWrite("churn", "1", KEY, "x"))
    assert isinstance(answer, Unavailable)
    assert answer.reason is Reason.REGISTRY_UNREACHABLE
