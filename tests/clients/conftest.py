"""Fixtures of the client tests: the real systems that the clients talk to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from e2e.mlflow_server import MlflowServer

if TYPE_CHECKING:
    from e2e.training import TrainedVersion


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[MlflowServer]:
    """A real MLflow server with an empty store; `mlflow_server.url` is its tracking URI."""
    with MlflowServer() as server:
        yield server


@pytest.fixture(scope="session")
def trained(mlflow_server: MlflowServer) -> dict[str, TrainedVersion]:
    """The five versions of the registered model `digits`, by candidate name."""
    from e2e.training import train_all  # seconds to import, and only a few tests need it

    return train_all(mlflow_server.url)
