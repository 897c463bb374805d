"""clients.registry against a real MLflow server, and against a server that fails in every way a registry can."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest
from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import Credentials, fixed
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint, source_problem
from modelrelease.clients.registry_metrics import latest_points
from modelrelease.core.observation import AliasTarget, MetricValue, Missing, ModelVersion, Unavailable
from modelrelease.core.wants import AliasWrite
from tests.clients.loopback import HANG_UP, SILENCE, Answer, Request, serve


@pytest.fixture
def writer(mlflow_server: MlflowServer) -> MlflowClient:
    return MlflowClient(mlflow_server.url)


@pytest.fixture
def client(mlflow_server: MlflowServer) -> RegistryClient:
    return RegistryClient(RegistryEndpoint(mlflow_server.url))


@pytest.fixture
def model(writer: MlflowClient, request: pytest.FixtureRequest) -> str:
    """A registered model of this test's own, without versions."""
    name: str = request.node.name.replace("[", "-").replace("]", "")
    writer.create_registered_model(name)
    return name


def log_model(writer: MlflowClient, model: str, points: list[dict[str, Any]], **version: Any) -> tuple[str, str]:
    """Register a version with a run and a LoggedModel that has these metric points; returns (version, model id)."""
    run = writer.create_run("0", tags={"mlflow.source.git.commit": "abc", "owner": "run"})
    logged = writer.create_logged_model("0", name="m", source_run_id=run.info.run_id)
    for point in points:
        writer.log_metric(run.info.run_id, model_id=logged.model_id, **point)
    writer.finalize_logged_model(logged.model_id, "READY")
    source = f"models:/{logged.model_id}"
    created = writer.create_model_version(model, source, run.info.run_id, model_id=logged.model_id, **version)
    return str(created.version), logged.model_id


def holdout(value: float, **more: Any) -> dict[str, Any]:
    return {"key": "auc", "value": value, "dataset_name": "holdout", "dataset_digest": "h1", **more}


def test_one_metric_on_two_data_sets_keeps_both_values(
    writer: MlflowClient, client: RegistryClient, model: str
) -> None:
    night = {"key": "auc", "value": 0.7, "dataset_name": "night", "dataset_digest": "n1"}
    version, model_id = log_model(writer, model, [holdout(0.9), night], tags={"owner": "version"})

    found = client.read_version(model, version)

    assert isinstance(found, ModelVersion)
    assert found.metrics == (MetricValue("auc", 0.9, "holdout", "h1"), MetricValue("auc", 0.7, "night", "n1"))
    assert (found.metrics_from, found.status, found.source) == ("LoggedModel", "READY", f"models:/{model_id}")
    assert found.tags["mlflow.source.git.commit"] == "abc", "tags of the run are there"
    assert found.tags["owner"] == "version", "and those of the version stand above them"


def test_a_metric_logged_again_counts_by_step_then_time(
    writer: MlflowClient, client: RegistryClient, model: str
) -> None:
    points = [
        holdout(0.3, step=2, timestamp=1000),
        holdout(0.5, step=2, timestamp=3000),
        holdout(0.4, step=2, timestamp=2000),
        holdout(0.9, step=1, timestamp=9000),
    ]
    version, _ = log_model(writer, model, points)

    found = client.read_version(model, version)

    assert isinstance(found, ModelVersion)
    assert found.metrics == (MetricValue("auc", 0.5, "holdout", "h1"),)


def test_a_version_without_logged_model_has_the_metrics_of_its_run(
    writer: MlflowClient, client: RegistryClient, model: str
) -> None:
    run = writer.create_run("0")
    writer.log_metric(run.info.run_id, "accuracy", 0.8)
    created = writer.create_model_version(model, "s3://bucket/churn/7", run.info.run_id)

    found = client.read_version(model, str(created.version))

    assert isinstance(found, ModelVersion)
    assert (found.metrics, found.metrics_from) == ((MetricValue("accuracy", 0.8),), "Run")


@pytest.mark.parametrize("source", ["s3://bucket/a/b", "hf://org/model@v1", "oci://reg.example/m:1"])
def test_a_version_without_run_has_no_metrics(
    writer: MlflowClient, client: RegistryClient, source: str, request: pytest.FixtureRequest
) -> None:
    name = f"bare-{source.partition(':')[0]}"
    writer.create_registered_model(name)
    created = writer.create_model_version(name, source)

    found = client.read_version(name, str(created.version))

    assert isinstance(found, ModelVersion)
    assert (found.source, found.metrics, found.run_id) == (source, (), None)


def test_a_deleted_logged_model_leaves_no_metrics(writer: MlflowClient, client: RegistryClient, model: str) -> None:
    version, model_id = log_model(writer, model, [holdout(0.9)])
    writer.delete_logged_model(model_id)

    found = client.read_version(model, version)

    assert isinstance(found, ModelVersion)
    assert (found.metrics, found.metrics_from) == ((), "LoggedModel")


def test_what_does_not_exist_is_told_apart(writer: MlflowClient, client: RegistryClient, model: str) -> None:
    log_model(writer, model, [])

    assert _reason(client.read_version("no-such-model", "1"), Missing) == Reason.MODEL_NOT_FOUND
    assert _reason(client.read_version(model, "9"), Missing) == Reason.VERSION_NOT_FOUND
    assert _reason(client.read_version(model, "latest"), Missing) == Reason.VERSION_NOT_FOUND
    assert _reason(client.read_alias("no-such-model", "champion"), Missing) == Reason.MODEL_NOT_FOUND
    assert _reason(client.read_alias(model, "champion"), Missing) == Reason.ALIAS_NOT_FOUND


def test_an_alias_is_set_moved_given_back_and_removed(writer: MlflowClient, client: RegistryClient, model: str) -> None:
    for _ in range(3):
        log_model(writer, model, [])

    assert _version(client.write_alias(AliasWrite(model, "champion", "1"))) == "1"
    assert _version(client.write_alias(AliasWrite(model, "champion", "2"))) == "2"
    assert _version(client.write_alias(AliasWrite(model, "champion", "1", only_from="2"))) == "1"
    assert _version(client.write_alias(AliasWrite(model, "champion", "3", only_from="2"))) == "1", "not ours any more"
    assert _version(client.read_alias(model, "champion")) == "1"
    assert _reason(client.write_alias(AliasWrite(model, "champion", None)), Missing) == Reason.ALIAS_NOT_FOUND
    assert writer.get_registered_model(model).aliases == {}
    given_back = client.write_alias(AliasWrite(model, "champion", "3", only_from="1"))
    assert _reason(given_back, Missing) == Reason.ALIAS_NOT_FOUND, "an alias that someone removed stays removed"


def test_an_alias_that_cannot_be_moved_says_why(writer: MlflowClient, client: RegistryClient, model: str) -> None:
    log_model(writer, model, [])

    refused = client.write_alias(AliasWrite(model, "champion", "9"))

    assert _reason(refused, Unavailable) == Reason.ALIAS_WRITE_FAILED
    assert isinstance(refused, Unavailable)
    assert "was not moved to version 9" in refused.message
    assert _reason(client.write_alias(AliasWrite("nope", "champion", "1")), Missing) == Reason.MODEL_NOT_FOUND


def test_a_host_name_that_mlflow_does_not_allow_is_recognised(
    mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = mlflow_server.url.rpartition(":")[2]
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)
    )  # stands in for cluster DNS

    found = RegistryClient(RegistryEndpoint(f"http://ml.example:{port}")).read_alias("m", "champion")

    assert _reason(found, Unavailable) == Reason.REGISTRY_REFUSED_HOST
    assert isinstance(found, Unavailable)
    assert f"--allowed-hosts that include 'ml.example:{port}'" in found.message


@dataclass(frozen=True)
class Failing:
    """One way to fail: the answer, the reason expected and words of the message."""

    answer: Answer
    reason: Reason
    words: str


MLFLOW_500 = json.dumps({"error_code": "INTERNAL_ERROR", "message": "at 12:00:01"}).encode()
MLFLOW_400 = json.dumps({"error_code": "BAD_REQUEST", "message": "no\nsuch thing"}).encode()
FAILING = {
    "401": Failing(Answer(401, b"log in"), Reason.REGISTRY_UNAUTHORIZED, "does not accept the credentials"),
    "401 in JSON of a proxy": Failing(Answer(401, b'{"detail": "x"}'), Reason.REGISTRY_UNAUTHORIZED, "(HTTP 401)"),
    "403": Failing(Answer(403, b"Permission denied"), Reason.REGISTRY_UNAUTHORIZED, "does not allow this"),
    "403 for the host name": Failing(
        Answer(403, b"Invalid Host header - possible attack"), Reason.REGISTRY_REFUSED_HOST, "--allowed-hosts"
    ),
    "404 of something else": Failing(Answer(404, b"<html>"), Reason.REGISTRY_ERROR, "HTTP 404"),
    "400": Failing(Answer(400, MLFLOW_400), Reason.REGISTRY_ERROR, "refused (HTTP 400): no such thing"),
    "429": Failing(Answer(429, b"", {"Retry-After": "100"}), Reason.REGISTRY_ERROR, "HTTP 429"),
    "500": Failing(Answer(500, MLFLOW_500), Reason.REGISTRY_ERROR, "answers with an error (HTTP 500)"),
    "503": Failing(Answer(503, b"", {"Retry-After": "100"}), Reason.REGISTRY_ERROR, "HTTP 503"),
    "a redirect": Failing(Answer(302, b"", {"Location": "http://127.0.0.1:9/"}), Reason.REGISTRY_ERROR, "redirects"),
    "garbage": Failing(Answer(200, b"<html>hello"), Reason.REGISTRY_ERROR, "not MLflow's"),
    "nothing": Failing(Answer(200, b""), Reason.REGISTRY_ERROR, "not MLflow's"),
    "JSON of another kind": Failing(Answer(200, b"[1]"), Reason.REGISTRY_ERROR, "not MLflow's"),
    "JSON of a wrong type": Failing(Answer(200, b'{"registered_model": 5}'), Reason.REGISTRY_ERROR, "not MLflow's"),
    "empty JSON": Failing(Answer(200, b"{}"), Reason.REGISTRY_ERROR, "another model than asked for"),
    "a connection that breaks": Failing(HANG_UP, Reason.REGISTRY_UNREACHABLE, "breaks connections off"),
    "silence": Failing(SILENCE, Reason.REGISTRY_UNREACHABLE, "does not answer: timed out"),
}


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_failing_registry_is_unavailable_for_a_distinct_reason(case: Failing) -> None:
    with serve(lambda _: case.answer) as server:
        client = RegistryClient(RegistryEndpoint(server.url), timeout_s=0.3)
        started = time.monotonic()
        first, again = client.read_alias("churn", "champion"), client.read_alias("churn", "champion")
        version = client.read_version("churn", "7")

    assert time.monotonic() - started < 10
    assert isinstance(first, Unavailable)
    assert (first.reason, first.since) == (case.reason, None)
    assert case.words in first.message
    assert again == first, "the same failure has the same words"
    assert _reason(version, Unavailable) == case.reason


@pytest.mark.parametrize(
    ("url", "reason", "words"),
    [
        ("http://127.0.0.1:{free}", Reason.REGISTRY_UNREACHABLE, "refuses connections"),
        ("http://registry.invalid", Reason.REGISTRY_UNREACHABLE, "does not resolve"),
        ("https://127.0.0.1:{plain}", Reason.REGISTRY_TLS_FAILED, "TLS failed"),
        ("not a url", Reason.REGISTRY_UNREACHABLE, "URL is not valid"),
    ],
)
def test_a_registry_that_cannot_be_reached_says_how(url: str, reason: Reason, words: str) -> None:
    with serve(lambda _: HANG_UP) as server, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = url.format(free=free.getsockname()[1], plain=server.url.rpartition(":")[2])
        found = RegistryClient(RegistryEndpoint(url), timeout_s=2).read_version("churn", "7")

    assert _reason(found, Unavailable) == reason
    assert isinstance(found, Unavailable)
    assert words in found.message


def test_credentials_go_with_each_client_and_into_no_message() -> None:
    def refuse(_: Request) -> Answer:
        return Answer(401)

    with serve(refuse) as one, serve(refuse) as other:
        with_token = RegistryEndpoint(one.url, fixed(Credentials(token="tok-1")))
        secret_url = other.url.replace("http://", "http://user:hidden@")
        first = RegistryClient(with_token).read_alias("m", "a")
        second = RegistryClient(RegistryEndpoint(secret_url)).read_alias("m", "a")
        user = fixed(Credentials(username="u", password="p"))
        third = RegistryClient(RegistryEndpoint(other.url, user)).read_alias("m", "a")

    assert [request.headers["Authorization"] for request in one.requests] == ["Bearer tok-1"]
    assert [request.headers["Authorization"] for request in other.requests] == ["Basic dXNlcjpoaWRkZW4=", "Basic dTpw"]
    for text in (repr(first), repr(second), repr(third), repr(with_token)):
        assert "tok-1" not in text
        assert "hidden" not in text


def test_an_error_that_passes_is_retried_once_and_then_believed() -> None:
    with serve(lambda _: Answer(503)) as server:
        RegistryClient(RegistryEndpoint(server.url)).read_alias("m", "a")

    assert len(server.requests) == 2


@pytest.mark.parametrize("version", ["READY", "PENDING_REGISTRATION", "FAILED_REGISTRATION"])
def test_the_status_of_a_version_is_passed_on(version: str) -> None:
    body = {"name": "m", "version": "7", "status": version, "source": "s3://b/m"}
    with serve(lambda _: Answer(200, json.dumps({"model_version": body}).encode())) as server:
        found = RegistryClient(RegistryEndpoint(server.url)).read_version("m", "7")

    assert isinstance(found, ModelVersion)
    assert found.status == version
    assert len(server.requests) == 1


def test_a_source_that_must_not_be_served_is_refused() -> None:
    body = {"name": "m", "version": "7", "status": "READY", "source": "file:///etc/passwd"}
    with serve(lambda _: Answer(200, json.dumps({"model_version": body}).encode())) as server:
        endpoint = RegistryEndpoint(server.url)
        refused = RegistryClient(endpoint).read_version("m", "7")
        allowed = RegistryClient(endpoint, allow_file_sources=True).read_version("m", "7")

    assert _reason(refused, Unavailable) == Reason.SOURCE_REFUSED
    assert isinstance(allowed, ModelVersion)


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("models:/m-0123abc", False),
        ("models:/churn/7", False),
        ("runs:/0123/model", False),
        ("mlflow-artifacts:/1/models/m-1/artifacts", False),
        ("s3://bucket/a=b/c+d,e~f%20", False),
        ("gs://bucket/a", False),
        ("abfss://container@account.dfs.core.windows.net/a", False),
        ("hf://org/model@main", False),
        ("oci://reg.example:5000/m:1@sha256:00", False),
        ("https://models.example/m.tar.gz", False),
        ("", True),
        ("m-0123", True),
        ("/local/path", True),
        ("file:///local/path", True),
        ("dbfs:/a", True),
        ("javascript:/x", True),
        ("S3://bucket/a", True),
        ("s3://bucket/$(HOME)", True),
        ("s3://bucket/a b", True),
        ("s3://bucket/a\n--flag", True),
        ("s3://bucket/a;rm", True),
        ("s3://bucket/../other", True),
        ("models:/..", True),
        ("https://user:secret@models.example/m", True),
        ("https://models.example/m?token=1", True),
        ("s3://bucket/" + "a" * 3000, True),
    ],
)
def test_sources_are_held_to_an_allow_list(source: str, refused: bool) -> None:
    assert (source_problem(source) is not None) == refused


def test_no_points_make_no_metrics() -> None:
    assert latest_points([]) == ()


def test_importing_the_client_does_not_import_mlflow() -> None:
    code = "import sys, modelrelease.clients.registry; sys.exit('mlflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _reason(found: object, kind: type[Missing] | type[Unavailable]) -> Reason:
    assert isinstance(found, kind), found
    return found.reason


def _version(found: object) -> str:
    assert isinstance(found, AliasTarget), found
    return found.version
