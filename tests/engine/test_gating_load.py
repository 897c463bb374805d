"""Many releases that gate at once against one real MLflow server with one worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.api.endpoints import Endpoints
from modelrelease.clients.kube import Kube
from modelrelease.core.observation import AliasTarget, ModelVersion
from modelrelease.core.wants import RegistryWant
from modelrelease.engine.directory import Directory
from modelrelease.engine.endpoints import REGISTRY_THREADS, Registries

MODELS, EACH = 20, 10
SLICES = 20
LIMIT_S = 60.0


@dataclass
class Door:
    """A way to a server that counts who is inside; a connection carries one request at a time."""

    url: str = ""
    inside: int = 0
    most: int = 0


@contextlib.asynccontextmanager
async def counted(url: str) -> AsyncIterator[Door]:
    door, behind = Door(), urlsplit(url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        door.inside += 1
        door.most = max(door.most, door.inside)
        there_reader, there_writer = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        door.inside -= 1

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    door.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield door
    server.close()


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """An MLflow server with MODELS models; version 1 of each is its champion, EACH more are candidates."""
    with MlflowServer() as server:
        client = MlflowClient(server.url)
        run = client.create_run("0")
        logged = client.create_logged_model("0", name="m", source_run_id=run.info.run_id)
        for slice_ in range(SLICES):
            client.log_metric(
                run.info.run_id,
                f"slice/{slice_}/auc",
                0.9,
                model_id=logged.model_id,
                dataset_name="holdout",
                dataset_digest="h1",
            )
        client.finalize_logged_model(logged.model_id, "READY")
        for number in range(MODELS):
            client.create_registered_model(f"m{number}")
            for _ in range(EACH + 1):
                client.create_model_version(
                    f"m{number}", f"models:/{logged.model_id}", run.info.run_id, model_id=logged.model_id
                )
            client.set_registered_model_alias(f"m{number}", "champion", "1")
        yield server.url


async def test_200_releases_that_gate_at_once_end_within_a_minute_with_8_requests_under_way_at_most(
    registry: str,
) -> None:
    async with counted(registry) as door:
        one = {"name": "one", "url": door.url, "allow": [{"namespaces": ["*"]}]}
        directory = Directory(
            cast(Kube, None), Endpoints.model_validate({"registries": [one], "defaultRegistry": "one"})
        )
        registries = Registries(directory, lambda _: None, lambda: datetime.now(UTC))
        running = asyncio.create_task(registries.run())
        gating = {
            ("crm", f"m{model}-v{version}"): RegistryWant(
                f"m{model}",
                frozenset([str(version), "1"]),
                frozenset(["champion"]),
                timedelta(seconds=60),
            )
            for model in range(MODELS)
            for version in range(2, EACH + 2)
        }
        began = time.monotonic()
        for key, want in gating.items():
            registries.want(key, want)
        waiting = set(gating)
        async with asyncio.timeout(2 * LIMIT_S):
            while waiting:
                await asyncio.sleep(0.1)
                for key in list(waiting):
                    view = registries.view(key)
                    found = [*view.versions.values(), *view.aliases.values()]
                    if len(found) == 3 and all(isinstance(item, ModelVersion | AliasTarget) for item in found):
                        waiting.discard(key)
        took_s = time.monotonic() - began
        running.cancel()
        await registries.close()

    print(f"200 releases: {took_s:.1f} s, at most {door.most} requests under way")
    assert door.most <= REGISTRY_THREADS
    assert took_s < LIMIT_S
