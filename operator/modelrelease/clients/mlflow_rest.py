"""How MLflow's REST stores send their requests here: over a session of their own, and keeping the HTTP status.

Importing this module imports mlflow (seconds, tens of MiB): clients.registry does so at its first look-up and nothing
else does. As they come, the stores take credentials, timeout, retries and redirects from process-wide variables (with
the defaults one look-up took over four minutes on a server that answers 500), share their sessions, cookies included,
between all servers of the process, and lose the status of answers that are not MLflow's.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read while mlflow is imported

import requests
from google.protobuf import json_format  # type: ignore[import-untyped]
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.protos.model_registry_pb2 import ModelRegistryService
from mlflow.protos.service_pb2 import MlflowService
from mlflow.store.model_registry.rest_store import RestStore as ModelStore
from mlflow.store.tracking.rest_store import RestStore as RunStore
from mlflow.utils import proto_json_utils, rest_utils

FAILURES = (MlflowException, json_format.Error, ValueError, TypeError, KeyError, AttributeError, OSError)
"""What a store raises besides RefusedError: no answer at all, or one that is not what MLflow would say."""

_rest: Any = rest_utils  # untyped in MLflow, as the next two
_stores: Any = (ModelStore, RunStore)
_Tag: Any = ModelVersionTag
_parse: Any = proto_json_utils.parse_dict
_ENDPOINTS = {
    **_rest.extract_api_info_for_service(ModelRegistryService, "/api/2.0"),
    **_rest.extract_api_info_for_service(MlflowService, "/api/2.0"),
}


class RefusedError(Exception):
    """The server answered with something else than 200. code: MLflow's, empty where the answer was not MLflow's."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(f"HTTP {status} {code}")
        self.status = status
        self.code = code
        self.text = text


class Server(NamedTuple):
    """Where requests go, seconds to wait for an answer, and the session of the calling thread."""

    url: str
    timeout_s: float
    session: Callable[[], requests.Session]


def connect(server: Server) -> tuple[Any, Any]:
    """The stores of registered models and of runs; no request is made. What `session` raises comes out of each call."""
    nobody = _rest.MlflowHostCreds(server.url)
    models, runs = (store(lambda: nobody) for store in _stores)
    models._call_endpoint = runs._call_endpoint = functools.partial(_call, server)
    runs.download = functools.partial(_download, server)
    return models, runs


def version_tag(key: str, value: str) -> Any:
    """A tag as the store of models takes it."""
    return _Tag(key, value)


def _call(server: Server, api: Any, json_body: str | None = None, *, endpoint: str | None = None) -> Any:
    """Send one request of a store and parse the answer; stands in for the store's own method of this name."""
    path, method = _ENDPOINTS[api]
    body = json.loads(json_body) if json_body else None
    response = server.session().request(
        method,
        f"{server.url.rstrip('/')}{endpoint or path}",
        params=body if method == "GET" else None,
        json=None if method == "GET" else body,
        timeout=server.timeout_s,
    )
    if response.status_code != 200:
        raise _refused(response)
    answer = api.Response()
    _parse(response.json(), answer)
    return answer


def _download(server: Server, path: str, params: Mapping[str, str], most_bytes: int) -> bytes:
    """GET what is no call of a store, such as a file. Raises TooLargeError beyond so many bytes."""
    session: Any = server.session()
    url = f"{server.url.rstrip('/')}{path}"
    response = session.request("GET", url, params=dict(params), timeout=server.timeout_s, most_bytes=most_bytes)
    if response.status_code != 200:
        raise _refused(response)
    content: bytes = response.content
    return content


def _refused(response: Any) -> RefusedError:
    code, text = "", str(response.text)
    try:
        body = response.json()
        if isinstance(body, dict) and isinstance(body.get("error_code"), str):
            code, text = body["error_code"], str(body.get("message", ""))
    except ValueError:
        pass
    return RefusedError(response.status_code, code, text)
