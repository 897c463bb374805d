"""Any server with Prometheus HTTP metrics of the usual names.

`http_requests_total` and `http_request_duration_seconds` are what client libraries' middleware exports: Go's promhttp
with the label `code` (404), Python's prometheus-fastapi-instrumentator with the labels `handler` and `status` (4xx).
`http_requests_in_flight` is the usual gauge in Go, `http_requests_inprogress` that of the instrumentator where it is
asked for; without a handler it may count the scrape that reads it, so that an idle server would never be idle.
"""

from __future__ import annotations

from modelrelease.api.checks import Check, ErrorRateCheck, LatencyCheck

from .metrics import Matcher, Preset, Selector

# Requests of probes and scrapes are not users' requests.
_USERS = Matcher("handler", "!~", "/?(metrics|healthz?|readyz?|livez?|ready|live)")


def _answered(digit: str) -> tuple[Selector, ...]:
    """Requests by the first digit of the answer's status, under either label but never under both."""
    return (
        Selector("http_requests_total", (_USERS, Matcher("code", "=~", f"{digit}.."))),
        Selector("http_requests_total", (_USERS, Matcher("code", "=", ""), Matcher("status", "=~", f"{digit}.."))),
    )


_REQUESTS = Selector("http_requests_total", (_USERS,))
_IN_FLIGHT = (
    Selector("http_requests_in_flight", (_USERS,)),
    Selector("http_requests_inprogress", (_USERS, Matcher("handler", "!=", ""))),
)

HTTP = Preset(
    name="http",
    requests=(_REQUESTS,),
    errors=_answered("5"),
    client_errors=_answered("4"),
    histograms={"requestDuration": Selector("http_request_duration_seconds", (_USERS,))},
    gauges={"runningRequests": _IN_FLIGHT[0]},
    in_flight=_IN_FLIGHT,
    progress=(_REQUESTS,),
    checks=(
        Check(name="errors", error_rate=ErrorRateCheck()),
        Check(name="client-errors", error_rate=ErrorRateCheck(of="client")),
        Check(name="latency", latency=LatencyCheck(slower_than="1s")),
    ),
    cannot_see="wrong answers that are sent with status 200",
)
