"""The words in which a preset names metrics: label matchers, selectors of series, and the preset itself.

Pure data; who reads series by it is engine.readings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, NamedTuple

from modelrelease.api.checks import Check


class Matcher(NamedTuple):
    """A condition on one label, as in PromQL: a label that is not there is the empty text, a pattern fits the whole."""

    label: str
    operator: Literal["=", "!=", "=~", "!~"]
    value: str

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is meant."""
        return _TESTS[self.operator](labels.get(self.label, ""), self.value)

    def __str__(self) -> str:
        text = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.label}{self.operator}"{text}"'


_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "=": lambda seen, value: seen == value,
    "!=": lambda seen, value: seen != value,
    "=~": lambda seen, value: re.fullmatch(value, seen) is not None,
    "!~": lambda seen, value: re.fullmatch(value, seen) is None,
}


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of one metric: counters, gauges, or a histogram by its name without `_bucket`.

    unit_s: what one unit of a histogram's bounds is in seconds.
    """

    metric: str
    matchers: tuple[Matcher, ...] = ()
    unit_s: float = 1

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether a series of this metric with these labels is meant."""
        return all(matcher.fits(labels) for matcher in self.matchers)

    def __str__(self) -> str:
        return f"{self.metric}{{{', '.join(map(str, self.matchers))}}}" if self.matchers else self.metric


@dataclass(frozen=True, slots=True)
class Preset:
    """One runtime. Where a tuple names several selectors, their series are added up.

    requests, errors, client_errors: counters of finished requests, of those that the server failed, and of those that
    it refused as wrong; empty where the runtime does not count them. histograms: by the name that a latency check
    gives. gauges: by the name that a gauge check gives. in_flight: gauges of running and of waiting requests. progress:
    counters of what the engine worked off. warm_up: time after readiness before traffic and evidence count.
    cannot_see: what its metrics hide, as a sentence for people.
    """

    name: str
    requests: tuple[Selector, ...]
    errors: tuple[Selector, ...]
    client_errors: tuple[Selector, ...] = ()
    histograms: Mapping[str, Selector] = field(default_factory=dict)
    gauges: Mapping[str, Selector] = field(default_factory=dict)
    in_flight: tuple[Selector, ...] = ()
    progress: tuple[Selector, ...] = ()
    http_port: int = 8080
    metrics_port: int = 8080
    warm_up: timedelta = timedelta(seconds=2)
    drain_timeout: timedelta = timedelta(seconds=60)
    checks: tuple[Check, ...] = ()
    cannot_see: str = ""
