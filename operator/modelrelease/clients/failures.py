"""Words for what goes wrong between here and an HTTP server: the same cause has the same words at every try.

Used by the clients that are built on requests. Not here: what an answer means; each client maps that itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
import urllib3.exceptions as transport

_TLS = "an authority that is not known, another name, no TLS at all, or it asks for a certificate of ours"


class UnusableCertificateError(requests.exceptions.SSLError):
    """An authority, a certificate or a key that we were given is not PEM, or they do not belong together."""


class TooLargeError(requests.exceptions.RequestException):
    """The answer is larger than any that can be meant."""


_KINDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (UnusableCertificateError,),
        "cannot be called: ca.crt, tls.crt or tls.key is not usable PEM, or tls.key is of another certificate",
    ),
    ((TooLargeError,), "cannot be believed: its answer is larger than any that can be meant"),
    ((requests.exceptions.InvalidURL, requests.exceptions.MissingSchema), "cannot be called: the URL is not valid"),
    ((transport.SSLError,), f"cannot be trusted: TLS failed ({_TLS})"),
    ((transport.NameResolutionError,), "is not known: its host name does not resolve"),
    ((ConnectionRefusedError,), "refuses connections"),
    ((transport.NewConnectionError,), "cannot be reached: no route to it"),  # a ConnectTimeoutError to urllib3, too
    ((transport.ConnectTimeoutError,), "does not take connections: timed out"),
    ((transport.TimeoutError, requests.exceptions.Timeout), "does not answer: timed out"),
    ((ConnectionError, transport.ProtocolError), "breaks connections off"),
    ((requests.exceptions.ConnectionError,), "cannot be reached"),
)


def connection_problem(error: BaseException) -> str | None:
    """What kept a request from being answered at all, None if that is not what the error is about.

    Libraries wrap the cause up to three deep, hence the look at the whole chain.
    """
    chain = list(_chain(error))
    return next((what for types, what in _KINDS if any(isinstance(link, types) for link in chain)), None)


def is_tls_failure(error: BaseException) -> bool:
    """Whether TLS is what failed: nobody was reached that could be trusted, or nobody there trusts us."""
    return any(isinstance(link, transport.SSLError | requests.exceptions.SSLError) for link in _chain(error))


def public(url: str) -> str:
    """A URL without the credentials that someone may have written into it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def one_line(text: str, limit: int = 200) -> str:
    """A server's own words, fit for a status message."""
    return " ".join(text.split())[:limit]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        reason = getattr(error, "reason", None)  # urllib3's MaxRetryError keeps its cause here
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
