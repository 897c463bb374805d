"""Prometheus, or what speaks its query API: prometheus-api-client behind one small class.

Here: how an instant query is sent, what of an answer may be believed, how every failure is told apart. Not here: which
queries are sent and when (engine.readings, engine.sampler).

The rule: an answer that is not whole is no answer. The library drops `warnings` and `isPartial`, puts even POSTed
queries into the URL and reports failures in six ways; the session that it is given here mends that.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util import Retry

from modelrelease.api.reasons import Reason
from modelrelease.core.observation import Unavailable

from .failures import connection_problem, one_line, public


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an instant vector; the value is finite."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Refused(Unavailable):
    """Prometheus works but does not answer this query (400, 413, 422): another one may pass."""


@dataclass(frozen=True, slots=True)
class PrometheusEndpoint:
    """One Prometheus and who we are there.

    token_file: read anew for every query, since such tokens are rotated. headers: for example X-Scope-OrgID. ca_file:
    PEM bundle for its certificate, None for the system's.
    """

    url: str
    token_file: str | None = None
    headers: Mapping[str, str] | None = None
    ca_file: str | None = None


class PrometheusClient:
    """Instant queries to one Prometheus. Blocking; several threads may share it."""

    def __init__(self, endpoint: PrometheusEndpoint, *, timeout_s: float = 10) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._of_thread = threading.local()  # a requests session is not made for several threads
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many series were left out because their value was NaN or infinite."""
        return self._dropped

    def instant(self, query: str, at: datetime) -> list[Series] | Unavailable:
        """The vector that `query` has at that time; empty if there is none. A NaN or infinite value is left out."""
        try:
            params = {"time": f"{at.timestamp():.3f}", "timeout": f"{round(self._timeout_s * 1000)}ms"}
            return self._believed(self._connection().custom_query(query, params=params))
        except _NotWholeError as error:
            return self._unavailable(Reason.PROMETHEUS_ERROR, f"gave an answer that is not whole: {error}")
        except PrometheusApiClientException:
            return self._status(self._session().last)
        except (ValueError, TypeError, KeyError, AttributeError):
            # requests' JSON error is a ValueError as well; this comes before its other errors for that reason
            return self._unavailable(Reason.PROMETHEUS_ERROR, "gave an answer that is not Prometheus's; check the URL")
        except requests.RequestException as error:
            return self._unavailable(Reason.PROMETHEUS_UNREACHABLE, connection_problem(error) or "cannot be reached")
        except OSError:
            return self._unavailable(Reason.PROMETHEUS_ERROR, "cannot be asked: its token file cannot be read")

    def _believed(self, result: Any) -> list[Series]:
        series = []
        for item in result:
            value = float(item["value"][1])
            if math.isfinite(value):
                series.append(Series(item["metric"], value))
            else:
                self._dropped += 1
        return series

    def _session(self) -> _BodySession:
        session: _BodySession = self._of_thread.session
        return session

    def _connection(self) -> Any:
        here = self._endpoint
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.session = _BodySession()
            self._of_thread.session.verify = here.ca_file or True
            make: Any = PrometheusConnect
            self._of_thread.connection = make(
                url=here.url.rstrip("/"),
                headers=dict(here.headers or {}),
                method="POST",
                timeout=self._timeout_s,
                retry=Retry(total=0),
                session=self._of_thread.session,
            )
        if here.token_file is not None:
            with open(here.token_file, encoding="utf-8") as file:
                self._of_thread.connection.headers["Authorization"] = f"Bearer {file.read().strip()}"
        return self._of_thread.connection

    # -- failures ------------------------------------------------------------------------------------------------
    def _unavailable(self, reason: Reason, what: str) -> Unavailable:
        return Unavailable(reason, f"{self._where} {what}")

    @property
    def _where(self) -> str:
        return f"Prometheus at {public(self._endpoint.url)}"

    def _status(self, response: requests.Response) -> Unavailable:
        status = response.status_code
        match status:
            case 401 | 403:
                return self._unavailable(Reason.PROMETHEUS_ERROR, f"does not accept the credentials (HTTP {status})")
            case 502 | 503 | 504:
                return self._unavailable(Reason.PROMETHEUS_UNREACHABLE, f"is not up or overloaded (HTTP {status})")
            case 400 | 413 | 422:
                return Refused(
                    Reason.PROMETHEUS_ERROR, f"{self._where} refused a query (HTTP {status}): {_words(response)}"
                )
        return self._unavailable(Reason.PROMETHEUS_ERROR, f"answers with an error (HTTP {status})")


class _NotWholeError(Exception):
    """The answer says itself that something is missing."""


class _BodySession(requests.Session):
    """Sends the query as the body, follows no redirect, and looks at what the library drops from the answer."""

    last: requests.Response

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **more: Any) -> requests.Response:
        if method == "POST":
            more["data"] = more.pop("params", None)
        more["allow_redirects"] = False
        self.last = super().request(method, url, *args, **more)
        if self.last.status_code == 200:
            _check_whole(self.last.json())
        return self.last


def _check_whole(answer: Any) -> None:
    """Raise if the answer is partial (Thanos and VictoriaMetrics say so beside the data) or not a vector.

    Its `infos` are hints about the query and do not matter.
    """
    if answer["status"] != "success":
        raise _NotWholeError("its status is not success")
    if answer.get("isPartial"):
        raise _NotWholeError("isPartial")
    if warnings := answer.get("warnings"):
        raise _NotWholeError(one_line(str(warnings[0])))
    if answer["data"]["resultType"] != "vector":
        raise TypeError(answer["data"]["resultType"])


def _words(response: requests.Response) -> str:
    try:
        return one_line(str(json.loads(response.text)["error"]))
    except (ValueError, TypeError, KeyError):
        return one_line(response.text)
