"""Aliases that many releases follow, at one real MLflow server: what a poll costs, and how soon a move is seen."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.api.reasons import Reason
from modelrelease.clients import registry as registry_module
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.observation import AliasTarget, Missing
from modelrelease.core.wants import RegistryWant
from modelrelease.engine.refresh import RegistryRefresher

RELEASES, MODELS = 50, 25
NAMES = [f"team model-{number}" for number in range(MODELS)]
FOLLOWED = [(name, "champion") for name in NAMES]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A registry of MODELS models with two versions; champion is 1."""
    with MlflowServer() as server:
        client = MlflowClient(server.url)
        for name in NAMES:
            client.create_registered_model(name)
            for _ in range(2):
                client.create_model_version(name, "s3://bucket/model", await_creation_for=0)
            client.set_registered_model_alias(name, "champion", "1")
        client.create_registered_model("it's")
        yield server.url


@dataclass
class Door:
    """A way to a server that writes down what is asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def counted(url: str) -> AsyncIterator[Door]:
    door, behind = Door(), urlsplit(url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if asks:
                    lines = re.findall(rb"(?:GET|POST) (/api[^ ?]*)[^ ]* HTTP/1", data)
                    door.asked += [line.decode() for line in lines]
                writer.write(data)
                await writer.drain()
        writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pump(reader, there_writer, asks=True), pump(there_reader, writer, asks=False))

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    door.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield door
    server.close()


async def test_fifty_releases_over_25_models_cost_one_request_a_poll_and_see_a_move_in_the_next(server: str) -> None:
    skipped = timedelta()

    def now() -> datetime:
        return datetime.now(UTC) + skipped

    async with counted(server) as door:
        client = RegistryClient(RegistryEndpoint(door.url), timeout_s=60, retries=0, now=now)
        refresher = RegistryRefresher(client, lambda _: None, now)
        keys = [("team", f"r{number}") for number in range(RELEASES)]
        for number, key in enumerate(keys):
            want = RegistryWant(NAMES[number % MODELS], frozenset(), frozenset({"champion"}), timedelta(seconds=60))
            refresher.want(key, want)

        async def poll() -> set[str]:
            """One look at what is due; where the aliases of all releases are afterwards."""
            door.asked.clear()
            refresher.start_due()
            async with asyncio.timeout(120):
                while refresher.start_due() in (None, 0) or not door.asked:
                    await asyncio.sleep(0.01)
            seen = [refresher.view(key).aliases["champion"] for key in keys]
            return {item.version if isinstance(item, AliasTarget) else repr(item) for item in seen}

        assert await poll() == {"1"}
        assert door.asked == ["/api/2.0/mlflow/registered-models/search"]
        for name in NAMES:
            MlflowClient(server).set_registered_model_alias(name, "champion", "2")
        skipped = timedelta(seconds=30)
        assert await poll() == {"2"}
        assert door.asked == ["/api/2.0/mlflow/registered-models/search"], "half a minute later, one request for all"
        await refresher.close()


def test_what_a_search_tells_and_what_it_does_not(server: str) -> None:
    client = RegistryClient(RegistryEndpoint(server), timeout_s=60)
    told = client.read_aliases([*FOLLOWED, (NAMES[0], "prod"), ("nobody", "champion"), ("it's", "champion")])

    assert isinstance(told, dict)
    assert told.keys() == {*FOLLOWED, (NAMES[0], "prod")}
    assert isinstance(told[NAMES[0], "champion"], AliasTarget)
    missing = told[NAMES[0], "prod"]
    assert isinstance(missing, Missing)
    assert missing.reason is Reason.ALIAS_NOT_FOUND
    assert missing == client.read_alias(NAMES[0], "prod"), "in the same words as by itself"


@pytest.mark.parametrize("page", [1000, 10], ids=["one page", "several pages"])
def test_names_that_are_too_long_for_a_url_are_found_by_listing(
    server: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_FILTER_MAX", 100)
    monkeypatch.setattr(registry_module, "_PAGE", page)
    client = RegistryClient(RegistryEndpoint(server), timeout_s=60)

    told = client.read_aliases(FOLLOWED)

    assert isinstance(told, dict)
    assert told.keys() == set(FOLLOWED)
    assert all(isinstance(item, AliasTarget) for item in told.values())
