"""One receiver of signed webhooks: a CloudEvent in structured JSON by POST, in the form of Standard Webhooks.

The signature is HMAC-SHA256 over `<id>.<timestamp>.<body>`, one for each secret in the file, so that a secret can be
replaced without a gap. The file is read at every attempt. Redirects are not followed, of the answer no more is read
than a bound, and neither the secret nor what the receiver says gets into a log or a status: only its HTTP status does.

Not here: when to try and how often (engine.outbox).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from .failures import public

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
ANSWER_MAX_BYTES = 64 * 1024
_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where to. secret_file: one secret a line, `whsec_<base64>` or plain text. ca_file: None for the system's."""

    url: str
    secret_file: str
    ca_file: str | None = None


class Webhook:
    """One receiver; `close()` ends its connections."""

    def __init__(self, endpoint: WebhookEndpoint, *, timeout_s: float = 10) -> None:
        self._endpoint = endpoint
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, event: dict[str, Any], now: datetime) -> str | None:
        """Deliver one event; None when the receiver acknowledged it with a 2xx, else what went wrong, for people."""
        body = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
        where = f"the receiver at {public(self._endpoint.url)}"
        try:
            secrets = read_secrets(Path(self._endpoint.secret_file).read_text())
        except (OSError, UnicodeDecodeError):
            return "the file with the webhook's secret cannot be read"
        if not secrets:
            return "the file with the webhook's secret is empty"
        timestamp = str(int(now.timestamp()))
        headers = {
            "Content-Type": CONTENT_TYPE,
            "webhook-id": event["id"],
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(secrets, event["id"], timestamp, body),
        }
        try:
            async with self._connections().post(
                self._endpoint.url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                await response.content.read(ANSWER_MAX_BYTES)
                status = response.status
                if response.content.at_eof() is False:
                    response.close()  # the rest is not read, so the connection cannot be used again
        except TimeoutError:
            return f"{where} does not answer: timed out"
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError):
            return f"{where} cannot be trusted: TLS failed (unknown authority, wrong name or not TLS at all)"
        except aiohttp.ClientConnectorError:
            return f"{where} refuses connections or cannot be reached"
        except (aiohttp.ClientError, OSError):
            return f"{where} breaks connections off"
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return f"{where} redirects, which is not followed (HTTP {status})"
        return f"{where} does not acknowledge (HTTP {status})"

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = ssl.create_default_context(cafile=self._endpoint.ca_file)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=8),
                headers={"User-Agent": "modelrelease"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        return self._session


def read_secrets(text: str) -> list[bytes]:
    """The keys in a secret file. What follows whsec_ is base64; where it is not, the line is taken as it stands."""
    out = []
    for line in text.splitlines():
        word = line.strip()
        if not word:
            continue
        try:
            encoded = word.startswith(_PREFIX)
            out.append(base64.b64decode(word.removeprefix(_PREFIX), validate=True) if encoded else word.encode())
        except binascii.Error:
            out.append(word.encode())
    return out


def signature(secrets: list[bytes], event_id: str, timestamp: str, body: bytes) -> str:
    """The value of webhook-signature: `v1,<base64>` for each secret, separated by spaces."""
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    macs = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(mac).decode('ascii')}" for mac in macs)
