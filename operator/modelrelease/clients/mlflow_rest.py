"""How MLflow's REST stores send their requests here: with limits of their own, and keeping the HTTP status.

Importing this module imports mlflow (seconds, tens of MiB): clients.registry does so at its first look-up and nothing
else does. As they come, the stores take timeout, retries and redirects from process-wide variables (with the defaults
one look-up took over four minutes on a server that answers 500) and lose the status of answers that are not MLflow's.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any, NamedTuple

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read while mlflow is imported

from google.protobuf import json_format  # type: ignore[import-untyped]
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


class Limits(NamedTuple):
    """Seconds to wait for an answer, and how often a request is repeated on a broken connection or a 5xx."""

    timeout_s: float
    retries: int


def connect(limits: Limits, credentials: dict[str, Any]) -> tuple[Any, Any]:
    """The stores of registered models and of runs. credentials: arguments of MlflowHostCreds. No request is made."""
    creds = _rest.MlflowHostCreds(**credentials)
    models, runs = (store(lambda: creds) for store in _stores)
    models._call_endpoint = runs._call_endpoint = functools.partial(_call, creds, limits)
    return models, runs


def _call(
    credentials: Any, limits: Limits, api: Any, json_body: str | None = None, *, endpoint: str | None = None
) -> Any:
    """Send one request of a store and parse the answer; stands in for the store's own method of this name."""
    path, method = _ENDPOINTS[api]
    body = json.loads(json_body) if json_body else None
    response = _rest.http_request(
        credentials,
        endpoint or path,
        method,
        timeout=limits.timeout_s,
        max_retries=limits.retries,
        backoff_factor=0,
        backoff_jitter=0,
        raise_on_status=False,
        respect_retry_after_header=False,  # a server may ask for minutes, and has our thread meanwhile
        allow_redirects=False,  # credentials go to the configured endpoint only
        **{"params" if method == "GET" else "json": body},
    )
    if response.status_code != 200:
        raise _refused(response)
    answer = api.Response()
    _parse(response.json(), answer)
    return answer


def _refused(response: Any) -> RefusedError:
    code, text = "", str(response.text)
    try:
        body = response.json()
        if isinstance(body, dict) and isinstance(body.get("error_code"), str):
            code, text = body["error_code"], str(body.get("message", ""))
    except ValueError:
        pass
    return RefusedError(response.status_code, code, text)
