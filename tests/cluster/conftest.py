"""Fixtures for tests against a real kube-apiserver: no nodes, no controllers, seconds to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from e2e.cluster.controlplane import ControlPlane


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ControlPlane]:
    """`kubeconfig` (path) and `url` of an API server for the whole session; tests keep to namespaces of their own."""
    with ControlPlane() as started:
        yield started


@pytest.fixture(scope="session")
def kube(apiserver: ControlPlane) -> Callable[..., str]:
    """`kube(*args, input=None) -> str` runs kubectl as administrator.

    Raises `e2e.cluster.interface.ClusterError` with what kubectl wrote to standard error.
    """
    return apiserver.kubectl
