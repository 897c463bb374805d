"""Credentials from a Secret in a release's own namespace, kept as they are now.

Here: one Secret, read again and again. Not here: who may use it (engine.directory), and how it is sent
(clients.connection). Concurrency: the reading belongs to the event loop; clients call the source from their threads.

The rules: a Secret is used for the one URL that stands in it, so that nobody who writes a policy or changes it can have
a tenant's credentials sent elsewhere. What it holds is in no message. An API server that is away takes no credentials
away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Mapping
from typing import Any

from modelrelease.api.base import GROUP
from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import KEYS, Credentials, from_contents
from modelrelease.clients.failures import public
from modelrelease.clients.kube import Kind, Kube, KubeError, Refused
from modelrelease.core.observation import Unavailable

SECRET = Kind("v1", "secrets", True, "Secret")
URL = "url"
URL_ANNOTATION = f"{GROUP}/url"
READ_AGAIN_S = 30.0
"""How soon a rotated Secret counts."""

RETRY_S = 5.0

logger = logging.getLogger(__name__)


class NamespaceSecret:
    """One Secret as the credentials for one URL; the object is the source that a client calls."""

    def __init__(self, kube: Kube, namespace: str, name: str, url: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._url = url
        self._where = f"Secret {namespace}/{name}"
        self._found: Credentials | Unavailable = self._missing("has not been read yet")

    def __call__(self) -> Credentials | Unavailable:
        """What was read last."""
        return self._found

    async def read(self) -> float:
        """Read it now; returns the seconds after which it should be read again. Raises nothing."""
        try:
            secret = await self._kube.get(SECRET, self._namespace, self._name)
        except Refused:
            role = f"give it a Role with get on Secrets of {self._namespace} (chart value secretNamespaces)"
            self._found = self._missing(f"may not be read by the operator; {role}")
            return RETRY_S
        except KubeError as error:
            logger.warning("%s was not read: %s", self._where, error)
            if isinstance(self._found, Unavailable):
                self._found = self._missing("could not be read: the Kubernetes API gave no answer")
            return RETRY_S
        self._found = self._judge(secret)
        return RETRY_S if isinstance(self._found, Unavailable) else READ_AGAIN_S

    async def keep(self, wait_s: float) -> None:
        """Read it again after so many seconds, and again and again, until cancelled."""
        while True:
            await asyncio.sleep(wait_s)
            wait_s = await self.read()

    def _judge(self, secret: Mapping[str, Any] | None) -> Credentials | Unavailable:
        if secret is None:
            return self._missing("does not exist")
        try:
            data = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
        except (binascii.Error, UnicodeDecodeError):
            return self._missing("has a value that is not text")
        meant = data.get(URL) or (secret["metadata"].get("annotations") or {}).get(URL_ANNOTATION)
        if not meant:
            return self._missing(f"does not say which URL it is for; set its key {URL} to {public(self._url)}")
        if meant.strip().rstrip("/") != self._url:
            return self._missing(f"is for another URL than {public(self._url)}; it is not sent there")
        found = from_contents({key: data[key] for key in KEYS if key in data})
        return self._missing(f"cannot be used: {found}") if isinstance(found, str) else found

    def _missing(self, what: str) -> Unavailable:
        return Unavailable(Reason.SECRET_MISSING, f"{self._where} {what}")
