"""What is kept of nodes: read once, never in the way of a pass, and nothing where they may not be read."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from modelrelease.clients.kube import Kube, KubeError, Refused, Unreachable
from modelrelease.engine.nodes import MAX_AGE, RETRY_AFTER, Nodes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
L4 = {"nvidia.com/gpu.product": "L4"}


class Cluster:
    """Nodes that answer with labels, or not at all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: dict[str, str] | KubeError | None = L4

    async def get(self, _kind: Any, _namespace: None, name: str) -> dict[str, Any] | None:
        self.asked.append(name)
        if isinstance(self.answer, KubeError):
            raise self.answer
        return None if self.answer is None else {"metadata": {"name": name, "labels": self.answer}}


def nodes(cluster: Cluster) -> Nodes:
    return Nodes(cast(Kube, cluster))


async def test_a_node_is_read_once_until_its_labels_are_old() -> None:
    cluster = Cluster()
    known = nodes(cluster)
    for at in (NOW, NOW + MAX_AGE / 2, NOW + MAX_AGE):
        assert await known.labels(["n1", "n1", ""], at) == {"n1": L4}
    assert cluster.asked == ["n1", "n1"]


async def test_labels_known_before_are_kept_while_the_api_server_does_not_answer() -> None:
    cluster = Cluster()
    known = nodes(cluster)
    await known.labels(["n1"], NOW)
    cluster.answer = Unreachable("no answer")
    assert await known.labels(["n1", "n2"], NOW + MAX_AGE) == {"n1": L4, "n2": {}}
    cluster.answer = L4
    assert await known.labels(["n1", "n2"], NOW + MAX_AGE + RETRY_AFTER) == {"n1": L4, "n2": L4}


async def test_an_operator_that_may_not_read_nodes_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.answer = Refused("nodes is forbidden")
    known = nodes(cluster)
    with caplog.at_level(logging.INFO):
        assert await known.labels(["n1", "n2"], NOW) == {"n1": {}, "n2": {}}
        assert await known.labels(["n3"], NOW) == {"n3": {}}
    assert caplog.messages == ["nodes cannot be read, so hardware is not compared: nodes is forbidden"]


async def test_a_node_that_is_gone_has_no_labels() -> None:
    cluster = Cluster()
    cluster.answer = None
    assert await nodes(cluster).labels(["n1"], NOW) == {"n1": {}}
