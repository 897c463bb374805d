"""Prometheus, or what speaks its query API: prometheus-api-client behind one small class.

Here: how an instant query is sent, what of an answer may be believed, how every failure is told apart. Not here: which
queries are sent and when (engine.readings, engine.sampler).

The rule: an answer that is not whole is no answer. The library drops `warnings` and `isPartial`, puts even POSTed
queries into the URL and reports failures in six ways; the session that it is given here mends that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

from modelrelease.api.reasons import Reason
from modelrelease.core.observation import Unavailable

from .connection import ANONYMOUS, BoundedSession, Connection, Source
from .failures import connection_problem, is_tls_failure, one_line, public


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an instant vector; a value that is not finite is NaN: whoever reads it says what follows."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Refused(Unavailable):
    """Prometheus works but does not answer this query (400, 413, 422): another one may pass."""


@dataclass(frozen=True, slots=True)
class PrometheusEndpoint:
    """One Prometheus and who we are there, asked for anew at every query.

    headers: sent with every query; a tenant's is X-Scope-OrgID (Mimir, Cortex, Loki) or THANOS-TENANT.
    """

    url: str
    credentials: Source = field(default=ANONYMOUS, repr=False)
    headers: Mapping[str, str] | None = None


class PrometheusClient:
    """Instant queries to one Prometheus. Blocking; several threads may share it."""

    def __init__(self, endpoint: PrometheusEndpoint, *, timeout_s: float = 10) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._connection = Connection(endpoint.credentials, _BodySession)

    def instant(
        self, query: str, at: datetime, *, timeout_s: float | None = None, limit: int | None = None
    ) -> list[Series] | Unavailable:
        """The vector that `query` has at that time; empty if there is none.

        timeout_s: how long it may take, if less than usual. limit: how many series it may have.
        """
        patience_s = min(timeout_s or self._timeout_s, self._timeout_s)
        try:
            session = self._connection.session()
        except requests.RequestException as error:
            return self._unreached(error)
        if isinstance(session, Unavailable):
            return session
        try:
            params = {"time": f"{at.timestamp():.3f}", "timeout": f"{round(patience_s * 1000)}ms"}
            if limit is not None:
                params["limit"] = str(limit + 1)  # Prometheus 2 does not know it
            found = self._believed(self._over(session, patience_s).custom_query(query, params=params))
            return found if limit is None or len(found) <= limit else self._too_many(limit)
        except _NotWholeError as error:
            if limit is not None and "truncated due to limit" in str(error):
                return self._too_many(limit)
            return self._unavailable(Reason.PROMETHEUS_ERROR, f"gave an answer that is not whole: {error}")
        except PrometheusApiClientException:
            return self._status(session.last)
        except (ValueError, TypeError, KeyError, AttributeError):
            # requests' JSON error is a ValueError as well; this comes before its other errors for that reason
            return self._unavailable(Reason.PROMETHEUS_ERROR, "gave an answer that is not Prometheus's; check the URL")
        except requests.RequestException as error:
            return self._unreached(error)

    def _believed(self, result: Any) -> list[Series]:
        values = ((item["metric"], float(item["value"][1])) for item in result)
        return [Series(labels, value if math.isfinite(value) else math.nan) for labels, value in values]

    def _too_many(self, limit: int) -> Unavailable:
        return self._unavailable(Reason.PROMETHEUS_ERROR, f"gave more than {limit:,} series; aggregate them by pod")

    def _over(self, session: _BodySession, timeout_s: float) -> Any:
        make: Any = PrometheusConnect  # it holds nothing but what it is given
        return make(
            url=self._endpoint.url.rstrip("/"),
            headers=dict(self._endpoint.headers or {}),
            method="POST",
            timeout=timeout_s,
            session=session,
        )

    # -- failures ------------------------------------------------------------------------------------------------
    def _unreached(self, error: requests.RequestException) -> Unavailable:
        reason = Reason.PROMETHEUS_TLS_FAILED if is_tls_failure(error) else Reason.PROMETHEUS_UNREACHABLE
        return self._unavailable(reason, connection_problem(error) or "cannot be reached")

    def _unavailable(self, reason: Reason, what: str) -> Unavailable:
        return Unavailable(reason, f"{self._where} {what}")

    @property
    def _where(self) -> str:
        return f"Prometheus at {public(self._endpoint.url)}"

    def _status(self, response: requests.Response) -> Unavailable:
        status = response.status_code
        match status:
            case 401 | 403:
                what = f"does not accept the credentials (HTTP {status})"
                return self._unavailable(Reason.PROMETHEUS_UNAUTHORIZED, what)
            case 502 | 503 | 504:
                return self._unavailable(Reason.PROMETHEUS_UNREACHABLE, f"is not up or overloaded (HTTP {status})")
            case 400 | 413 | 422:
                return Refused(
                    Reason.PROMETHEUS_ERROR, f"{self._where} refused a query (HTTP {status}): {_words(response)}"
                )
        return self._unavailable(Reason.PROMETHEUS_ERROR, f"answers with an error (HTTP {status})")


class _NotWholeError(Exception):
    """The answer says itself that something is missing."""


class _BodySession(BoundedSession):
    """Sends the query as the body, and looks at what the library drops from the answer."""

    last: requests.Response

    def mount(self, prefix: str | bytes, adapter: Any) -> None:
        """By scheme only: the library would put an adapter without our TLS before them, for its URL."""
        if prefix in ("https://", "http://"):
            super().mount(prefix, adapter)

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **more: Any) -> requests.Response:
        if method == "POST":
            more["data"] = more.pop("params", None)
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
