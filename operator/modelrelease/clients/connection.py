"""Who we are at an HTTP endpoint, and the sessions that carry it there.

Here: credentials from files or from the data of a Secret, and the requests sessions of one client. Not here: which
Secret a release may use and when it is read (engine.secrets), what an answer means (each client).

The rules: credentials are asked for anew at every request, so that a rotated file or Secret counts at once. A session
belongs to one client and one thread: no cookie, connection or TLS session is shared by two endpoints or two tenants.
Nothing that process-wide settings say about users and passwords (netrc) is sent anywhere.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Generic, TypeVar

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_auth_from_url
from urllib3.util import Retry

from modelrelease.api.reasons import Reason
from modelrelease.core.observation import Unavailable

from .failures import TooLargeError, UnusableCertificateError

KEYS = ("username", "password", "token", "ca.crt", "tls.crt", "tls.key")
"""Keys of a Secret, and names of the files in a directory that stands for one."""

MAX_ANSWER = 64 * 2**20
"""Bytes of an answer that are read at most, so that no endpoint can fill the memory that all releases share."""

DEADLINE_FACTOR = 3
"""An answer that drips is given up after so many times the timeout of one read."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A bearer token, or user name and password, or neither; and what TLS needs, as PEM text.

    ca: the authorities that the server's certificate is checked against, None for the system's. certificate and key:
    our own side of mutual TLS.
    """

    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)


Session = TypeVar("Session", bound=requests.Session)
Source = Callable[[], Credentials | Unavailable]
"""The credentials as they are now, or why there are none. Called from several threads, before every request."""


def fixed(credentials: Credentials) -> Source:
    """Credentials that never change."""
    return lambda: credentials


ANONYMOUS = fixed(Credentials())


def from_contents(contents: Mapping[str, str]) -> Credentials | str:
    """Credentials from the six KEYS, or what is wrong with them in words that show none of them. An empty one counts
    as absent."""
    given = {key: contents.get(key, "").strip() for key in KEYS}
    if bool(given["username"]) != bool(given["password"]):
        return "it has one of username and password; give both or neither"
    if given["token"] and given["username"]:
        return "it has a token and a user name; give one of them"
    if bool(given["tls.crt"]) != bool(given["tls.key"]):
        return "it has one of tls.crt and tls.key; give both or neither"
    if any("\n" in given[key] or "\r" in given[key] for key in ("username", "password", "token")):
        return "its user name, password or token has more than one line"
    return Credentials(
        token=given["token"] or None,
        username=given["username"] or None,
        password=given["password"] or None,
        ca=given["ca.crt"] or None,
        certificate=given["tls.crt"] or None,
        key=given["tls.key"] or None,
    )


@dataclass(frozen=True, slots=True)
class Files:
    """A source that reads its files anew every time; `paths` by key, one of KEYS.

    directory: where files are named like the keys, as a Secret is mounted; those that are not there are not needed.
    """

    paths: Mapping[str, str]
    directory: str | None = None

    def __call__(self) -> Credentials | Unavailable:
        """As the files stand now. One that cannot be read is SecretMissing."""
        contents = {}
        for key, path in {**self._mounted(), **self.paths}.items():
            try:
                contents[key] = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                return Unavailable(Reason.SECRET_MISSING, f"the {key} file {path} of the operator cannot be read")
        found = from_contents(contents)
        if isinstance(found, str):
            return Unavailable(Reason.SECRET_MISSING, f"the credential files of the operator cannot be used: {found}")
        return found

    def _mounted(self) -> dict[str, str]:
        if self.directory is None:
            return {}
        # Kubernetes replaces all files of a mounted Secret at once, by this link.
        now = Path(self.directory, "..data").resolve()
        place = now if now.is_dir() else Path(self.directory)
        return {key: str(place / key) for key in KEYS if (place / key).is_file()}


class Connection(Generic[Session]):
    """The sessions of one client: one a thread, made anew when what TLS needs has changed."""

    def __init__(self, source: Source, make: Callable[[], Session], *, retries: int = 0) -> None:
        """make: makes a session. retries: how often a request is repeated at once on a broken connection or a 5xx."""
        self._source = source
        self._retries = retries
        self._make = make
        self._of_thread = threading.local()

    def session(self) -> Session | Unavailable:
        """This thread's session, with the credentials of now. Raises UnusableCertificateError."""
        found = self._source()
        if isinstance(found, Unavailable):
            return found
        mine = self._of_thread
        material = (found.ca, found.certificate, found.key)
        if getattr(mine, "material", None) != material:
            if hasattr(mine, "session"):
                mine.session.close()
            mine.session = self._made(found)
            mine.material = material
        mine.session.auth = _Authorization(found)
        session: Session = mine.session
        return session

    def _made(self, credentials: Credentials) -> Session:
        context = _context(credentials)
        session = self._make()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        again = Retry(
            total=self._retries,
            redirect=0,
            status_forcelist=[500, 502, 503, 504],
            allowed_methods=None,
            backoff_factor=0,
            raise_on_status=False,
            respect_retry_after_header=False,  # a server may ask for minutes, and has our thread meanwhile
        )
        session.mount("https://", _Adapter(context, max_retries=again))
        session.mount("http://", HTTPAdapter(max_retries=again))
        return session


class BoundedSession(requests.Session):
    """Follows no redirect, and gives up an answer that is too large or takes too long as a whole."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **more: Any) -> requests.Response:
        """As requests does, within the bounds; most_bytes: a narrower one for this answer."""
        most = int(more.pop("most_bytes", MAX_ANSWER))
        more["stream"] = True
        timeout_s = float(more["timeout"])
        until = time.monotonic() + DEADLINE_FACTOR * timeout_s
        response = super().request(method, url, *args, **more)
        with response:
            body = bytearray()
            for piece in response.iter_content(65536):
                body += piece
                if len(body) > most:
                    raise TooLargeError(f"more than {most} bytes")
                if time.monotonic() > until:
                    raise requests.exceptions.ReadTimeout("the answer takes too long as a whole")
        response._content = bytes(body)
        return response

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: credentials go to the configured endpoint only."""


class _Authorization(requests.auth.AuthBase):
    """Sets the header, or none at all: without it requests would look for a password in ~/.netrc."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        mine = self._credentials
        if mine.token is not None:
            request.headers["Authorization"] = f"Bearer {mine.token}"
            return request
        user, password = mine.username, mine.password
        if user is None:
            user, password = get_auth_from_url(request.url or "")
        if user:
            plain = base64.b64encode(f"{user}:{password}".encode())
            request.headers["Authorization"] = f"Basic {plain.decode('ascii')}"
        return request


class _Adapter(HTTPAdapter):
    """Lets one context decide about TLS; requests would add the authorities of its own bundle to it."""

    def __init__(self, context: ssl.SSLContext, **more: Any) -> None:
        self._context = context
        super().__init__(**more)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **more)

    def proxy_manager_for(self, *args: Any, **more: Any) -> Any:
        return super().proxy_manager_for(*args, ssl_context=self._context, **more)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        return super().build_connection_pool_key_attributes(request, True, None)

    def cert_verify(self, *_: Any) -> None:
        """The context has it all."""


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        if credentials.ca is not None:
            context = ssl.create_default_context(cadata=credentials.ca)
        else:
            named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
            context = ssl.create_default_context(cafile=named or DEFAULT_CA_BUNDLE_PATH)
        if credentials.certificate is not None and credentials.key is not None:
            # The ssl module loads a key from a file only: this one is gone before the first request.
            with tempfile.TemporaryDirectory() as directory:
                pair = Path(directory, "pair.pem")
                pair.touch(mode=0o600)
                pair.write_text(f"{credentials.certificate}\n{credentials.key}\n")
                context.load_cert_chain(pair, password="")  # else OpenSSL asks on the terminal
    except (ssl.SSLError, ValueError, OSError) as error:
        raise UnusableCertificateError(str(error)) from error
    return context
