"""clients.prometheus against a real Prometheus, and against a server that fails in every way one can."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import Files
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint, Refused, Series
from modelrelease.core.observation import Unavailable
from tests.clients.loopback import HANG_UP, SILENCE, Answer, Request, serve
from tests.clients.prometheus_server import Pod, Prometheus, pod, prometheus

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Pod]]:
    """A Prometheus that has scraped one pod."""
    with pod("p1", "r1") as one:
        one.samples = {'requests_total{code="200"}': 12, 'requests_total{code="500"}': math.nan, "big": math.inf}
        with prometheus(tmp_path_factory.mktemp("prometheus"), one, scrape_interval_s=0.2) as server:
            client = PrometheusClient(PrometheusEndpoint(server.url))
            deadline = time.monotonic() + 20
            while client.instant("up == 1", datetime.now(UTC)) == [] and time.monotonic() < deadline:
                time.sleep(0.05)
            yield server, one


def labels(**more: str) -> dict[str, str]:
    return {"job": "pods", "namespace": "team", "pod": "p1", "modelrelease_dev_name": "chat"} | more


def test_an_instant_query_gives_labels_and_values(scraped: tuple[Prometheus, Pod]) -> None:
    server, one = scraped
    client = PrometheusClient(PrometheusEndpoint(server.url))

    found = client.instant('requests_total{code="200"}', datetime.now(UTC))

    instance = one.server.url.removeprefix("http://")
    names = labels(__name__="requests_total", code="200", instance=instance, modelrelease_dev_revision="r1")
    assert found == [Series(names, 12)]


def test_values_that_are_no_numbers_are_told_as_such(scraped: tuple[Prometheus, Pod]) -> None:
    client = PrometheusClient(PrometheusEndpoint(scraped[0].url))

    found = client.instant('{__name__=~"requests_total|big"}', datetime.now(UTC))

    assert isinstance(found, list)
    assert sorted(str(series.value) for series in found) == ["12.0", "nan", "nan"]


def test_before_the_first_scrape_there_is_nothing(scraped: tuple[Prometheus, Pod]) -> None:
    assert PrometheusClient(PrometheusEndpoint(scraped[0].url)).instant("up", datetime(2020, 1, 1, tzinfo=UTC)) == []


def test_a_query_of_100_kilobytes_is_answered(scraped: tuple[Prometheus, Pod]) -> None:
    names = "|".join(f"r{number}" for number in range(15_000))
    query = f'requests_total{{code="200",modelrelease_dev_revision=~"{names}"}}'

    found = PrometheusClient(PrometheusEndpoint(scraped[0].url)).instant(query, datetime.now(UTC))

    assert isinstance(found, list)
    assert len(found) == 1


def test_a_query_that_prometheus_refuses_is_told_apart(scraped: tuple[Prometheus, Pod]) -> None:
    client = PrometheusClient(PrometheusEndpoint(scraped[0].url))

    syntax = client.instant("sum(", datetime.now(UTC))
    several = client.instant("up * on() group_left() {pod='p1'}", datetime.now(UTC))

    assert isinstance(syntax, Refused)
    assert "(HTTP 400): invalid parameter" in syntax.message
    assert isinstance(several, Refused)
    assert "(HTTP 422)" in several.message


def test_a_scalar_is_not_a_vector(scraped: tuple[Prometheus, Pod]) -> None:
    found = PrometheusClient(PrometheusEndpoint(scraped[0].url)).instant("1", datetime.now(UTC))

    assert isinstance(found, Unavailable)


def test_a_frozen_prometheus_times_out_and_is_read_again_afterwards(scraped: tuple[Prometheus, Pod]) -> None:
    server, _ = scraped
    client = PrometheusClient(PrometheusEndpoint(server.url), timeout_s=0.4)
    server.freeze()
    try:
        started = time.monotonic()
        frozen = client.instant("up", datetime.now(UTC))
        took = time.monotonic() - started
    finally:
        server.thaw()

    assert isinstance(frozen, Unavailable)
    assert frozen.reason == Reason.PROMETHEUS_UNREACHABLE
    assert took < 1
    assert isinstance(client.instant("up", datetime.now(UTC)), list)


@dataclass(frozen=True)
class Failing:
    """One way to fail: the answer, the reason expected and words of the message."""

    answer: Answer
    reason: Reason
    words: str
    refused: bool = False


def vector(**beside: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}, **beside}).encode()


BAD_DATA = json.dumps({"status": "error", "errorType": "bad_data", "error": "parse\n error"}).encode()
WARNED = vector(warnings=["receive series from\nAddr: store-1: unavailable"])
FAILING = {
    "400": Failing(Answer(400, BAD_DATA), Reason.PROMETHEUS_ERROR, "refused a query (HTTP 400): parse error", True),
    "401": Failing(Answer(401), Reason.PROMETHEUS_UNAUTHORIZED, "does not accept the credentials"),
    "403": Failing(Answer(403), Reason.PROMETHEUS_UNAUTHORIZED, "does not accept the credentials"),
    "404": Failing(Answer(404, b"<html>"), Reason.PROMETHEUS_ERROR, "answers with an error (HTTP 404)"),
    "413": Failing(Answer(413, b"too large"), Reason.PROMETHEUS_ERROR, "(HTTP 413): too large", True),
    "422": Failing(Answer(422, BAD_DATA), Reason.PROMETHEUS_ERROR, "(HTTP 422)", True),
    "500": Failing(Answer(500), Reason.PROMETHEUS_ERROR, "answers with an error (HTTP 500)"),
    "503": Failing(Answer(503), Reason.PROMETHEUS_UNREACHABLE, "is not up or overloaded (HTTP 503)"),
    "a redirect": Failing(Answer(302, b"", {"Location": "http://127.0.0.1:9/"}), Reason.PROMETHEUS_ERROR, "HTTP 302"),
    "garbage": Failing(Answer(200, b"<html>hello"), Reason.PROMETHEUS_ERROR, "not Prometheus's"),
    "nothing": Failing(Answer(200), Reason.PROMETHEUS_ERROR, "not Prometheus's"),
    "another JSON": Failing(Answer(200, b"[1]"), Reason.PROMETHEUS_ERROR, "not Prometheus's"),
    "empty JSON": Failing(Answer(200, b"{}"), Reason.PROMETHEUS_ERROR, "not Prometheus's"),
    "warnings": Failing(Answer(200, WARNED), Reason.PROMETHEUS_ERROR, "not whole: receive series from Addr: store-1"),
    "isPartial": Failing(Answer(200, vector(isPartial=True)), Reason.PROMETHEUS_ERROR, "not whole: isPartial"),
    "a connection that breaks": Failing(HANG_UP, Reason.PROMETHEUS_UNREACHABLE, "breaks connections off"),
    "silence": Failing(SILENCE, Reason.PROMETHEUS_UNREACHABLE, "does not answer: timed out"),
}


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_failing_prometheus_is_unavailable_for_a_distinct_reason(case: Failing) -> None:
    with serve(lambda _: case.answer) as server:
        client = PrometheusClient(PrometheusEndpoint(server.url), timeout_s=0.3)
        started = time.monotonic()
        first, again = client.instant("up", AT), client.instant("up", AT)

    assert time.monotonic() - started < 3
    assert isinstance(first, Unavailable)
    assert first.reason == case.reason
    assert case.words in first.message
    assert isinstance(first, Refused) == case.refused
    assert again == first, "the same failure has the same words"
    assert len(server.requests) == 2, "nothing is retried"


def test_hints_and_empty_warnings_do_not_matter() -> None:
    body = vector(infos=["metric might not be a counter"], warnings=[], isPartial=False)
    with serve(lambda _: Answer(200, body)) as server:
        assert PrometheusClient(PrometheusEndpoint(server.url)).instant("up", AT) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{free}", "refuses connections"),
        ("http://prometheus.invalid", "does not resolve"),
        ("https://127.0.0.1:{plain}", "TLS failed"),
        ("not a url", "check the URL"),
    ],
)
def test_a_prometheus_that_cannot_be_reached_says_how(url: str, words: str) -> None:
    with serve(lambda _: HANG_UP) as server, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = url.format(free=free.getsockname()[1], plain=server.url.rpartition(":")[2])
        found = PrometheusClient(PrometheusEndpoint(url), timeout_s=2).instant("up", AT)

    assert isinstance(found, Unavailable)
    assert words in found.message


def test_the_query_goes_into_the_body_with_its_deadline_and_credentials(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    with serve(lambda _: Answer(200, vector())) as server:
        endpoint = PrometheusEndpoint(server.url + "/", Files({"token": str(token)}), {"X-Scope-OrgID": "ml"})
        client = PrometheusClient(endpoint, timeout_s=3)
        client.instant("up", AT)
        token.write_text("two")
        client.instant("up", AT)

    assert [_sent(request) for request in server.requests] == [
        ("POST", "/api/v1/query", "Bearer one", "ml"),
        ("POST", "/api/v1/query", "Bearer two", "ml"),
    ]
    body = {"query": ["up"], "time": [f"{AT.timestamp():.3f}"], "timeout": ["3000ms"]}
    assert parse_qs(server.requests[0].body.decode()) == body


def test_a_token_file_that_is_gone_is_said() -> None:
    with serve(lambda _: Answer(200, vector())) as server:
        found = PrometheusClient(PrometheusEndpoint(server.url, Files({"token": "/nonexistent"}))).instant("up", AT)

    assert isinstance(found, Unavailable)
    assert found.reason == Reason.SECRET_MISSING
    assert "the token file /nonexistent of the operator cannot be read" in found.message
    assert server.requests == []


def _sent(request: Request) -> tuple[str, str, str, str]:
    return request.method, request.path, request.headers["Authorization"], request.headers["X-Scope-OrgID"]
