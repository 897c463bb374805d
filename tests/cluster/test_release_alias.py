"""Aliases in a real registry: the one that is followed, and the one that is moved on promotion."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from tests.cluster.conftest import register
from tests.cluster.stage import Stage, small_spec


class Aliases:
    """The aliases of one model, as people see and move them."""

    def __init__(self, server: MlflowServer, model: str) -> None:
        self._client, self._model = MlflowClient(server.url), model
        register(self._client, model, 0.90, 0.95, 0.96)

    def move(self, alias: str, version: int) -> None:
        self._client.set_registered_model_alias(self._model, alias, str(version))

    def all(self) -> dict[str, int]:
        found = self._client.get_registered_model(self._model).aliases
        return {alias: int(version) for alias, version in found.items()}


@pytest.fixture
def aliases(stage: Stage, mlflow_server: MlflowServer) -> Aliases:
    """Of a model of this test's own, with three good versions."""
    stage.model = stage.namespace
    return Aliases(mlflow_server, stage.model)


async def told(stage: Stage) -> list[tuple[str, str]]:
    events = await stage.events()
    return [(event["type"], event["note"]) for event in events if event["reason"].startswith("Alias")]


async def alias_state(stage: Stage) -> str | None:
    alias = (await stage.status()).alias
    return alias.state if alias else None


async def test_the_alias_moves_on_promotion_and_not_before(stage: Stage, aliases: Aliases) -> None:
    await stage.release(registry={"setAlias": "champion"})
    await stage.promoted(1)
    assert (aliases.all(), await alias_state(stage)) == ({"champion": 1}, "Written")
    await stage.want_version(2)
    await stage.until(lambda status: status.phase == "Baking")
    assert aliases.all() == {"champion": 1}
    await stage.promoted(2)

    assert (aliases.all(), await alias_state(stage)) == ({"champion": 2}, "Written")
    expected = [("Normal", "alias champion points at v1"), ("Normal", "alias champion points at v2")]
    assert await told(stage) == expected


async def test_a_command_to_roll_back_gives_the_alias_back(stage: Stage, aliases: Aliases) -> None:
    await promote_two(stage)
    await roll_back(stage)
    assert (aliases.all(), await alias_state(stage)) == ({"champion": 1}, "Restored")


async def test_an_alias_that_somebody_else_moved_is_left_alone_and_that_is_said(stage: Stage, aliases: Aliases) -> None:
    await promote_two(stage)
    aliases.move("champion", 3)
    await roll_back(stage)
    assert (aliases.all(), await alias_state(stage)) == ({"champion": 3}, "Lost")
    assert (await told(stage))[-1] == (
        "Warning",
        "alias champion was moved or removed by somebody else and is left alone",
    )


async def test_an_alias_that_somebody_else_moved_is_taken_over_by_the_next_promotion(
    stage: Stage, aliases: Aliases
) -> None:
    await promote_two(stage)
    aliases.move("champion", 1)
    await stage.want_version(3)
    await stage.promoted(3)
    assert (aliases.all(), await alias_state(stage)) == ({"champion": 3}, "Written")


async def test_a_registry_that_is_down_delays_the_alias_and_nothing_else(stage: Stage, aliases: Aliases) -> None:
    await stage.release(registry={"setAlias": "champion"})
    await stage.until(lambda status: status.candidate is not None and status.candidate.stage == "Shifting")
    await stage.process(RegistryClient(RegistryEndpoint("http://127.0.0.1:9"), retries=0))
    await stage.promoted(1)
    assert (aliases.all(), await alias_state(stage)) == ({}, "Pending")

    await stage.process()
    await stage.until(lambda status: status.alias is not None and status.alias.state == "Written")
    assert aliases.all() == {"champion": 1}


async def test_an_alias_that_is_followed_starts_a_rollout_when_it_moves(stage: Stage, aliases: Aliases) -> None:
    aliases.move("ready", 1)
    await stage.create({**small_spec(stage.model), "model": {"name": stage.model, "alias": "ready"}})
    await stage.promoted(1)
    aliases.move("ready", 2)
    stage.clock.skip(31)  # half of the age that a value may have
    await stage.operator.read_registry()
    assert stage.operator.woken
    await stage.promoted(2)
    assert aliases.all() == {"ready": 2}


async def promote_two(stage: Stage) -> None:
    await stage.release(registry={"setAlias": "champion"})
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.promoted(2)


async def roll_back(stage: Stage) -> None:
    """The command, as the CLI gives it."""
    stable = (await stage.status()).stable
    assert stable is not None
    await stage.command("rollback", stable.revision)
    await stage.until(lambda status: status.stable is not None and status.stable.version == "1")
    await stage.rest()
