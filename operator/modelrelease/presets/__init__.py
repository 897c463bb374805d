"""What each inference runtime calls its metrics, and its default ports, checks, warm-up and drain.

Pure data, used by `core`. Metric names are those the servers export; where they come from is said at each preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from modelrelease.api.checks import Check, ErrorRateCheck, LatencyCheck


@dataclass(frozen=True, slots=True)
class Selector:
    """Counter series: a metric name and PromQL label matchers, for example `code=~"5.."`."""

    metric: str
    matchers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preset:
    """One runtime.

    requests, errors: counters of finished and of failed requests. histograms: by the name a latency check gives, the
    histogram's metric (without `_bucket`) in seconds. warm_up: time after readiness before traffic and evidence count.
    """

    name: str
    requests: Selector
    errors: Selector
    histograms: Mapping[str, Selector] = field(default_factory=dict)
    http_port: int = 8080
    metrics_port: int = 8080
    warm_up: timedelta = timedelta(seconds=2)
    drain_timeout: timedelta = timedelta(seconds=60)
    checks: tuple[Check, ...] = ()


# Requests of probes and scrapes are not users' requests.
_USERS = 'handler!~"/?(metrics|healthz?|readyz?|livez?|ready|live)"'

_HTTP = Preset(
    name="http",
    requests=Selector("http_requests_total", (_USERS,)),
    errors=Selector("http_requests_total", (_USERS, 'code=~"5.."')),
    histograms={"requestDuration": Selector("http_request_duration_seconds", (_USERS,))},
    checks=(
        Check(name="errors", error_rate=ErrorRateCheck()),
        Check(name="latency", latency=LatencyCheck(slower_than="1s")),
    ),
)

_PRESETS = {preset.name: preset for preset in (_HTTP,)}


def preset(runtime: str) -> Preset:
    """The preset of a runtime. Raises KeyError for one that the schema does not know."""
    return _PRESETS[runtime]
