"""The traffic generator against real model servers on the loopback interface."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from aiohttp import web

from e2e.local_model_server import LocalModelServer
from e2e.mlflow_server import MlflowServer
from e2e.traffic import NO_VERSION, Traffic
from e2e.training import MODEL_NAME, TrainedVersion, sample_requests

pytestmark = pytest.mark.long

Servers = dict[str, LocalModelServer]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of the loopback interface on which nobody listens."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def traffic_on(url: str, rate: float = 50, timeout_s: float = 10, max_in_flight: int = 100, **more: float) -> Traffic:
    return Traffic(
        url, "digits.example", MODEL_NAME, sample_requests(100), rate=rate, timeout_s=timeout_s,
        max_in_flight=max_in_flight, max_requests=int(more.get("max_requests", 1000)),
    )  # fmt: skip


def wait_for(traffic: Traffic, requests: int, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while sum(traffic.counts().values()) < requests:
        assert time.monotonic() < deadline, traffic.describe()
        time.sleep(0.02)


def test_requests_are_sent_at_the_rate_and_counted_by_version(local_servers: Servers) -> None:
    traffic = traffic_on(local_servers["better"].url, rate=50, max_requests=100)
    began = time.monotonic()

    traffic.start()
    wait_for(traffic, 100)
    elapsed = time.monotonic() - began
    traffic.stop()

    assert 1.9 < elapsed < 4
    assert traffic.counts() == {(200, "2"): 100}
    assert (traffic.by_version(), traffic.served("2"), traffic.failures()) == ({"2": 100}, 100, [])
    now = traffic.snapshot(last_s=60)
    assert now.total == 100
    assert 0 < now.p50_s <= now.p95_s < 1
    assert traffic.describe(60).startswith("100 x 200 v2 | last 60 s: v2 100%; p50 ")


def test_a_failing_model_is_told_apart_by_its_version_and_the_time_of_its_first_failure(local_servers: Servers) -> None:
    traffic = traffic_on(local_servers["brittle"].url, max_requests=100)
    began = time.time()

    traffic.start()
    wait_for(traffic, 100)
    traffic.stop()

    assert traffic.counts() == {(200, "5"): 65, (500, "5"): 35}
    assert began < traffic.first_failure_of("5") < time.time()
    assert len(traffic.failures()) == 35
    assert "500 from v5 after" in traffic.failures()[0]
    assert "ValueError" in traffic.failures()[0]
    assert traffic.failures(but_of={"5"}) == []
    with pytest.raises(LookupError):
        traffic.first_failure_of("2")


def test_a_request_without_an_answer_is_a_failure_of_no_version(closed_port: int) -> None:
    traffic = traffic_on(f"http://127.0.0.1:{closed_port}", max_requests=3)

    traffic.start()
    wait_for(traffic, 3)
    traffic.stop()

    assert traffic.counts() == {(None, NO_VERSION): 3}
    assert traffic.by_version() == {}
    assert "no answer from no model" in traffic.failures(but_of={"5"})[0]
    assert traffic.describe().endswith("no answers") or "-" in traffic.describe()


def test_a_slow_server_does_not_slow_the_sending_and_what_is_in_flight_is_bounded(local_servers: Servers) -> None:
    traffic = traffic_on(local_servers["slow"].url, rate=100, max_in_flight=5, max_requests=60)
    began = time.monotonic()

    traffic.start()
    while sum(traffic.counts().values()) + traffic.skipped < 55:
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    sending = time.monotonic() - began
    traffic.stop()

    assert sending < 3
    assert traffic.skipped > 30
    assert sum(traffic.counts().values()) + traffic.skipped == 60
    assert f"{traffic.skipped} not sent" in traffic.describe()


def test_a_stream_lasts_as_long_as_asked_and_says_which_version_served_it(local_servers: Servers) -> None:
    traffic = traffic_on(local_servers["brittle"].url)

    stream = traffic.open_stream(2)
    assert stream.version() == "5"
    result = stream.result(timeout_s=15)
    traffic.stop()

    assert (result.complete, result.version, result.items, result.problem) == (True, "5", 5, "")
    assert 1.9 < result.seconds < 5
    assert traffic.counts() == {}, "streams are not among the requests"


def test_a_stream_whose_server_dies_is_broken(mlflow_server: MlflowServer, trained: dict[str, TrainedVersion]) -> None:
    with LocalModelServer(mlflow_server.url, trained["better"].uri, version="2") as server:
        traffic = traffic_on(server.url)
        stream = traffic.open_stream(20)
        assert stream.version() == "2"
        assert server.process is not None
        server.process.kill()
        result = stream.result(timeout_s=15)
        traffic.stop()

    assert (result.complete, result.version) == (False, "2")
    assert "BROKEN" in result.describe()


def test_a_stream_that_is_let_go_ends_at_once(local_servers: Servers) -> None:
    traffic = traffic_on(local_servers["better"].url)
    stream = traffic.open_stream(30)
    stream.version()

    began = time.monotonic()
    stream.cancel()
    traffic.stop()

    assert time.monotonic() - began < 3


def test_the_host_header_is_the_hostname_and_an_answer_without_version_is_nobodys() -> None:
    hosts: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        hosts.append(request.headers["Host"])
        return web.Response(status=503, text="no healthy upstream")

    async def serve(ready: threading.Event, stop: asyncio.Event, ports: list[int]) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await stop.wait()
        await runner.cleanup()

    ready, loop = threading.Event(), asyncio.new_event_loop()
    ports: list[int] = []
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(ready, stop, ports)))
    thread.start()
    ready.wait(5)
    traffic = traffic_on(f"http://127.0.0.1:{ports[0]}", max_requests=2)
    traffic.start()
    wait_for(traffic, 2)
    traffic.stop()
    loop.call_soon_threadsafe(stop.set)
    thread.join(5)
    loop.close()

    assert hosts == ["digits.example"] * 2
    assert traffic.counts() == {(503, NO_VERSION): 2}
    assert "503 from no model" in traffic.failures()[0]
    assert "no healthy upstream" in traffic.failures()[0]
