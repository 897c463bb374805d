"""Tags in a real registry follow a release: where each version runs, and how its rollout ended."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from tests.cluster.conftest import register
from tests.cluster.stage import NAME, Stage


@pytest.fixture
def people(stage: Stage, mlflow_server: MlflowServer) -> MlflowClient:
    """A model of this test's own, with two good versions."""
    stage.model = stage.namespace
    client = MlflowClient(mlflow_server.url)
    register(client, stage.model, 0.90, 0.95)
    return client


def said(people: MlflowClient, stage: Stage) -> dict[str, str]:
    """The first words of our tag, by version."""
    key = f"modelrelease.dev/{stage.namespace}.{NAME}"
    found = {version: people.get_model_version(stage.model, version).tags.get(key, "") for version in ("1", "2")}
    return {version: value.partition(" since ")[0] for version, value in found.items()}


async def test_tags_follow_a_promotion(stage: Stage, people: MlflowClient) -> None:
    await stage.release()
    await stage.promoted(1)
    assert said(people, stage) == {"1": "promoted", "2": ""}
    await stage.want_version(2)
    await stage.promoted(2)
    assert said(people, stage) == {"1": "replaced", "2": "promoted"}
    assert {item.state for item in (await stage.status()).tags} == {"Written"}


async def test_tags_follow_a_rollback(stage: Stage, people: MlflowClient) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    status = await stage.until(lambda status: status.candidate is not None and status.candidate.exposed)
    assert status.candidate is not None
    stage.operator.feed.failing[status.candidate.revision] = 0.5
    await stage.until(lambda status: status.phase == "RolledBack")
    await stage.rest()
    assert said(people, stage) == {"1": "promoted", "2": "rolled back"}


async def test_a_registry_that_is_down_delays_its_tags_and_nothing_else(stage: Stage, people: MlflowClient) -> None:
    await stage.release()
    await stage.until(lambda status: status.candidate is not None and status.candidate.stage == "Shifting")
    await stage.process(RegistryClient(RegistryEndpoint("http://127.0.0.1:9"), retries=0))
    await stage.promoted(1)
    assert {item.state for item in (await stage.status()).tags} == {"Pending"}
    await stage.process()
    await stage.until(lambda status: {item.state for item in status.tags} == {"Written"})
    assert said(people, stage)["1"] == "promoted"
