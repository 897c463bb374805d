"""Fixtures that need no cluster, for `pytest_plugins`: a real MLflow server with trained models, and model servers as
local processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from e2e.local_model_server import LocalModelServer
from e2e.mlflow_server import MlflowServer

if TYPE_CHECKING:
    from e2e.training import TrainedVersion


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[MlflowServer]:
    """A real MLflow server; `mlflow_server.url` is its tracking URI."""
    with MlflowServer() as server:
        yield server


@pytest.fixture(scope="session")
def trained(mlflow_server: MlflowServer) -> dict[str, TrainedVersion]:
    """The five versions of the registered model `digits`, by candidate name."""
    from e2e.training import train_all  # seconds to import

    return train_all(mlflow_server.url)


@pytest.fixture(scope="session")
def local_servers(
    mlflow_server: MlflowServer, trained: dict[str, TrainedVersion]
) -> Iterator[dict[str, LocalModelServer]]:
    """Ready model servers of the candidates `better`, `slow` and `brittle`, by candidate name."""
    with ExitStack() as stack:
        servers = {}
        for name in ("better", "slow", "brittle"):
            server = LocalModelServer(mlflow_server.url, trained[name].uri, version=str(trained[name].version))
            stack.callback(server.close)
            servers[name] = server.start()
        for server in servers.values():
            server.wait_ready()
        yield servers
