"""Clusters as context managers for pytest fixtures; see `e2e/conftest.py` and `tests/cluster/conftest.py`.

Tests of the whole cluster run in its network: `python -m e2e.cluster run -- python -m pytest e2e`. That is one command
that starts the cluster, runs pytest inside and ends the cluster, rather than a fixture that moves a running pytest
into the network: a process cannot move its threads, nor its view of names and mounts, and would act in two networks at
once. On `kind` and `existing`, whose network is the machine's, `run` only sets the environment, and plain pytest works.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from e2e.cluster.interface import Cluster, ClusterError
from e2e.cluster.local import LocalCluster
from e2e.cluster.selection import select_cluster, surrounding_cluster

RUN_INSIDE = "these tests must run in the cluster's network: python -m e2e.cluster run -- python -m pytest e2e"


@contextlib.contextmanager
def session_cluster() -> Iterator[Cluster]:
    """The cluster around this process, else one for as long as the block runs. Raises `ClusterError` when this process
    would not reach it."""
    around = surrounding_cluster(os.environ)
    if around is not None:
        yield around
        return
    cluster = select_cluster(os.environ)
    if isinstance(cluster, LocalCluster):
        raise ClusterError(RUN_INSIDE)
    with cluster:
        yield cluster
