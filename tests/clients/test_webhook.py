"""Webhooks against a real HTTP receiver that verifies what it is sent, and against receivers that misbehave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from e2e.cluster.pki import create_authority
from modelrelease.clients.webhook import Webhook, WebhookEndpoint, read_secrets
from tests.clients.loopback import HANG_UP, SILENCE, Answer, Request, serve

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRET = b"0123456789abcdef0123456789abcdef"
WRITTEN = f"whsec_{base64.b64encode(SECRET).decode()}"
EVENT = {"specversion": "1.0", "id": "u-1.promoted", "type": "dev.modelrelease.promoted", "data": {"message": "gut é"}}

Make = Callable[..., Webhook]


@pytest.fixture
async def webhook(tmp_path: Path) -> AsyncIterator[Make]:
    """`webhook(url, **more)`: a client whose secret is in a file."""
    made: list[Webhook] = []

    def make(url: str, *, secret: str = WRITTEN, ca_file: str | None = None, timeout_s: float = 5) -> Webhook:
        file = tmp_path / "secret"
        file.write_text(secret)
        made.append(Webhook(WebhookEndpoint(url, str(file), ca_file), timeout_s=timeout_s))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def verified(request: Request, secret: bytes) -> dict[str, Any]:
    """What a receiver does, written down independently: the event, if one of the signatures is right."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    given = [item.partition(",") for item in headers["webhook-signature"].split(" ")]
    assert any(version == "v1" and hmac.compare_digest(mac, expected) for version, _, mac in given)
    event: dict[str, Any] = json.loads(request.body)
    return event


async def test_a_delivery_is_a_cloud_event_that_its_receiver_can_verify(webhook: Make) -> None:
    with serve(lambda _: Answer(204)) as receiver:
        assert await webhook(f"{receiver.url}/hook?team=ml").post(EVENT, NOW) is None
    [request] = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook?team=ml")
    assert request.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert request.headers["webhook-id"] == "u-1.promoted"
    assert request.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert verified(request, SECRET) == EVENT


async def test_a_changed_body_or_another_secret_does_not_verify(webhook: Make) -> None:
    with serve(lambda _: Answer(204)) as receiver:
        await webhook(receiver.url).post(EVENT, NOW)
    [request] = receiver.requests
    with pytest.raises(AssertionError):
        verified(Request(request.method, request.path, request.headers, request.body.replace(b"u-1", b"u-2")), SECRET)
    with pytest.raises(AssertionError):
        verified(request, b"another")


async def test_two_secrets_sign_so_that_one_can_be_replaced_without_a_gap(webhook: Make, tmp_path: Path) -> None:
    with serve(lambda _: Answer(204)) as receiver:
        client = webhook(receiver.url, secret=f"{WRITTEN}\nold words\n")
        await client.post(EVENT, NOW)
        (tmp_path / "secret").write_text("new words\n")
        await client.post(EVENT, NOW)
    both, new = receiver.requests
    assert verified(both, SECRET) == verified(both, b"old words") == verified(new, b"new words") == EVENT


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(Answer(500, b"secret words"), "does not acknowledge (HTTP 500)", id="an error"),
        pytest.param(Answer(401), "does not acknowledge (HTTP 401)", id="no access"),
        pytest.param(
            Answer(302, headers={"Location": "/elsewhere"}), "redirects, which is not followed", id="elsewhere"
        ),
        pytest.param(HANG_UP, "breaks connections off", id="hanging up"),
        pytest.param(SILENCE, "does not answer: timed out", id="silence"),
    ],
)
async def test_what_is_not_acknowledged_has_words_of_its_own_and_none_of_the_receivers(
    webhook: Make, answer: Answer, says: str
) -> None:
    with serve(lambda _: answer) as receiver:
        problem = await webhook(f"{receiver.url}/hook?token=hidden", timeout_s=0.5).post(EVENT, NOW)
    assert problem is not None
    assert says in problem
    assert "secret words" not in problem
    assert "hidden" not in problem
    assert {request.path.partition("?")[0] for request in receiver.requests} <= {"/hook"}


async def test_a_receiver_that_is_away_is_said_to_be(webhook: Make) -> None:
    problem = await webhook("http://127.0.0.1:9").post(EVENT, NOW)
    assert problem == "the receiver at http://127.0.0.1:9 refuses connections or cannot be reached"


async def test_an_answer_without_end_is_not_read_to_its_end(webhook: Make) -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    application = web.Application()
    application.router.add_post("/", pour)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        assert await webhook(url).post(EVENT, NOW) is None
    finally:
        await runner.cleanup()
    assert sent < 64 * 2**20


@pytest.mark.parametrize("secret", [pytest.param("", id="empty"), pytest.param(" \n\n", id="blank")])
async def test_nothing_is_sent_unsigned(webhook: Make, secret: str) -> None:
    with serve(lambda _: Answer(204)) as receiver:
        assert (
            await webhook(receiver.url, secret=secret).post(EVENT, NOW) == "the file with the webhook's secret is empty"
        )
    assert receiver.requests == []


async def test_the_secret_is_in_no_log_and_no_representation(webhook: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(lambda _: Answer(500)) as receiver:
        client = webhook(receiver.url, secret="tell-nobody")
        problem = await client.post(EVENT, NOW)
    assert "tell-nobody" not in f"{caplog.text}{problem}{client!r}{vars(client)}"


async def test_tls_needs_a_certificate_that_the_authorities_vouch_for(webhook: Make, tmp_path: Path) -> None:
    authority = create_authority(tmp_path)
    authority.server("receiver", "receiver", ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "receiver.crt", tmp_path / "receiver.key")
    application = web.Application()

    async def accept(_: web.Request) -> web.Response:
        return web.Response(status=202)

    application.router.add_post("/", accept)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        assert await webhook(url, ca_file=str(authority.ca_file)).post(EVENT, NOW) is None
        problem = await webhook(url).post(EVENT, NOW)
    finally:
        await runner.cleanup()
    assert problem is not None
    assert "TLS failed" in problem


def test_secrets_are_one_a_line() -> None:
    assert read_secrets(f"{WRITTEN}\n\n plain text \nwhsec_not base64") == [SECRET, b"plain text", b"whsec_not base64"]
