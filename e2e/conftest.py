"""The cluster of the end-to-end tests; how a run gets into its network is told in `e2e/cluster/fixtures.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster.fixtures import session_cluster
from e2e.cluster.interface import Cluster
from e2e.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses the whole cluster runs in its network, everything else on the machine itself."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.inside)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A whole cluster for the session, Ready and with nothing installed."""
    with session_cluster() as started:
        yield started


@pytest.fixture(scope="session")
def stack(cluster: Cluster) -> Iterator[Stack]:
    """Gateway, Prometheus, MLflow with trained models, and the operator in a pod, on that cluster."""
    made = Stack(cluster, print)
    try:
        made.up()
        yield made
    finally:
        made.down()
