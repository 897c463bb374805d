"""The cluster of the end-to-end tests; how a run gets into its network is told in `e2e/cluster/fixtures.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster.fixtures import session_cluster
from e2e.cluster.interface import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A whole cluster for the session, Ready and with nothing installed."""
    with session_cluster() as started:
        yield started
