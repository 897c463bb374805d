"""A proxy in front of a Prometheus that breaks in the ways that Prometheus breaks.

Here: the proxy and its modes, for tests on loopback and, with another `host`, on a whole cluster. Each mode changes
what clients see from the next request on; requests that hang are let go, unanswered, when it changes.

    with FaultProxy("http://127.0.0.1:9090") as proxy:
        client(proxy.url)
        proxy.mode = "hang"
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, get_args

Mode = Literal["pass", "hang", "error", "empty", "nan", "partial", "refuse"]

_QUERIES = ("/api/v1/query", "/api/v1/query_range")
_KEPT = ("content-type", "authorization", "x-scope-orgid")


class FaultProxy:
    """Forwards to `upstream`, or does not.

    pass: as it is. hang: takes requests and answers none. error: status 500. empty: answers without a series. nan:
    every value is NaN. partial: half of the series, with a warning beside them, as Thanos does. refuse: nobody listens.
    requests: how many came in, whatever the mode. only: what a request's body must hold to be met like that; else it
    passes.
    """

    def __init__(self, upstream: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.upstream = upstream.rstrip("/")
        self.requests = 0
        self.only = b""
        self._host = host
        self._mode: Mode = "pass"
        self._changed = threading.Event()
        self._server: _Server | None = None
        self._port = port
        self._listen()

    @property
    def url(self) -> str:
        """Where clients find it; the same for as long as it lives."""
        return f"http://{self._host}:{self._port}"

    @property
    def mode(self) -> Mode:
        """How requests are met."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"no such mode: {mode}")
        self._mode = mode
        self._changed.set()
        self._changed = threading.Event()
        if mode == "refuse":
            self._deafen()
        elif self._server is None:
            self._listen()

    def close(self) -> None:
        """Let go of all requests and stop listening."""
        self._changed.set()
        self._deafen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes] | None:
        """Status and body for one request; None leaves it unanswered."""
        self.requests += 1
        mode, changed = self._mode if self.only in body else "pass", self._changed
        if mode == "hang":
            changed.wait()
            return None
        if mode == "error":
            return 500, b"upstream is broken\n"
        queried = path.partition("?")[0] in _QUERIES
        if mode == "empty" and queried:
            return 200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
        status, found = self._forward(method, path, headers, body)
        if mode in ("nan", "partial") and queried and status == 200:
            found = json.dumps(_broken(json.loads(found), mode)).encode()
        return status, found

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        kept = {name: value for name, value in headers.items() if name.lower() in _KEPT}
        request = urllib.request.Request(self.upstream + path, body or None, kept, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 502, b"upstream is away\n"

    def _listen(self) -> None:
        self._server = _Server((self._host, self._port), _Handler)
        self._server.proxy = self
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _deafen(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _broken(answer: dict[str, Any], mode: Mode) -> dict[str, Any]:
    result = answer["data"]["result"]
    if mode == "partial":
        answer["data"]["result"] = result[: len(result) // 2]
        answer["warnings"] = ["No StoreAPIs matched for this query"]
        return answer
    for series in result:
        for point in [series["value"]] if "value" in series else series["values"]:
            point[1] = "NaN"
    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: FaultProxy


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 60

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.proxy.answer(self.command, self.path, dict(self.headers.items()), body)
        if answer is None:
            self.close_connection = True
            return
        status, content = answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
