"""An event loop whose time is virtual, and a Prometheus with a pod of each arm, a proxy before it.

On the loop a wait costs nothing, and tests see exact seconds; a module asks for it with
`pytestmark = pytest.mark.virtual_time`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from e2e.fault_proxy import FaultProxy
from tests.clients.prometheus_server import Pod, Prometheus, pod, prometheus
from tests.engine.sampling import BAD, GOOD, SCRAPE_S


class VirtualSelector(selectors.DefaultSelector):
    """Where the loop would sleep until its next timer, moves its clock there instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits, and no timer is set: this test would hang")
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The ordinary event loop on a virtual clock; for code without sockets and threads."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual_time: run on VirtualTimeLoop; for code without sockets and threads")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
def pods() -> Iterator[tuple[Pod, Pod]]:
    with pod("s1", "aaaa") as stable, pod("c1", "bbbb") as canary:
        stable.samples, canary.samples = {GOOD: 1000, BAD: 7}, {GOOD: 50, BAD: 1}
        yield stable, canary


@pytest.fixture
def server(tmp_path: Path, pods: tuple[Pod, Pod]) -> Iterator[Prometheus]:
    with prometheus(tmp_path, *pods, scrape_interval_s=SCRAPE_S) as made:
        made.await_scrapes()
        yield made


@pytest.fixture
def proxy(server: Prometheus) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as made:
        yield made
