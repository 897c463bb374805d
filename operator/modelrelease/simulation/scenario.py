"""What is true in a simulated world: how much traffic, how bad each arm is, and what happens to both over time.

A scenario is a value; `Truth` is one draw of it (when bursts come, which pod is worse, at what time of day it begins).
Every disturbance acts on shares of bad requests, for each check alike. Times are seconds since the rollout began.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from random import Random
from statistics import NormalDist
from typing import assert_never

from modelrelease.api.checks import Check

from .draws import sibling

DAY_S = 86400.0
Shares = tuple[tuple[float, ...], ...]
"""Bad shares by quantity, then by bound."""


@dataclass(frozen=True, slots=True)
class Failing:
    """So large a share of requests fails."""

    share: float


@dataclass(frozen=True, slots=True)
class Lasting:
    """Requests last a lognormal time: its median in seconds, and sigma of its logarithm."""

    median_s: float
    sigma: float

    def slower_than(self, bound_s: float) -> float:
        """Share of requests slower than the bound."""
        return 1.0 - NormalDist().cdf(math.log(bound_s / self.median_s) / self.sigma)


Law = Failing | Lasting


@dataclass(frozen=True, slots=True)
class Drift:
    """The bad shares of both arms are multiplied by a factor that grows evenly from 1 to `factor` within `over_s`."""

    factor: float
    over_s: float

    def at(self, time_s: float) -> float:
        """The factor at this time; it stays where it has arrived."""
        return 1.0 + (self.factor - 1.0) * min(max(time_s / self.over_s, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Bursts:
    """Incidents of fixed length that come at random, `every_s` apart on average; `share` of all requests are bad then.

    canary_only: they strike the canary alone, else both arms alike.
    """

    share: float
    length_s: float
    every_s: float
    canary_only: bool = False


@dataclass(frozen=True, slots=True)
class Outage:
    """Prometheus is away from `start_s` on; what was not scraped is lost."""

    start_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that may be said about the world.

    traffic_per_s: users' requests, on average over a day. stable, canary: by check. onset_s: until then the canary is
    as good as stable. diurnal: amplitude of the daily wave as a share of the traffic. pod_noise: correlation of
    requests within one pod (ICC), for the pod's life; every_poll draws it anew at each poll instead.
    """

    traffic_per_s: float
    stable: Mapping[str, Law]
    canary: Mapping[str, Law]
    onset_s: float = 0.0
    drift: Drift | None = None
    bursts: tuple[Bursts, ...] = ()
    diurnal: float = 0.0
    outages: tuple[Outage, ...] = ()
    pod_noise: float = 0.0
    every_poll: bool = False
    poll_s: float = 5.0
    pod_start_s: float = 20.0
    gateway_s: float = 1.0

    def away(self, time_s: float) -> Outage | None:
        """The outage of Prometheus at this time, if there is one."""
        return next((item for item in self.outages if item.start_s <= time_s < item.start_s + item.length_s), None)


def bad_shares(check: Check, law: Law) -> tuple[float, ...]:
    """The share of bad requests that a check counts under a law, one for each bound it has."""
    match law:
        case Failing(share):
            return (share,)
        case Lasting():
            assert check.latency is not None, "a law of times belongs to a latency check"
            return tuple(law.slower_than(bound) for bound in check.latency.bounds_s)
        case _ as unreachable:
            assert_never(unreachable)


@dataclass(frozen=True, slots=True)
class Quantity:
    """What one or several checks count: a request that fails for one of them fails for all.

    checks: by name, the places of its bounds among those of the quantity. name: of the first check.
    """

    checks: Mapping[str, tuple[int, ...]]
    stable: tuple[float, ...]
    canary: tuple[float, ...]

    @property
    def name(self) -> str:
        """Of the first check that counts it."""
        return next(iter(self.checks))


def quantities(checks: Sequence[Check], scenario: Scenario) -> tuple[Quantity, ...]:
    """What the checks count, each thing once."""
    found: dict[object, list[Check]] = {}
    for check in checks:
        of = check.error_rate.of if check.error_rate else check.latency.metric if check.latency else check.name
        law = (scenario.stable[check.name], scenario.canary[check.name])
        found.setdefault((check.kind, of, law), []).append(check)
    out = []
    for same in found.values():
        stable = [bad_shares(check, scenario.stable[check.name]) for check in same]
        canary = [bad_shares(check, scenario.canary[check.name]) for check in same]
        if len(stable[0]) == 1 and len(set(stable)) == 1:  # not a latency at several bounds
            out.append(Quantity({check.name: (0,) for check in same}, stable[0], canary[0]))
            continue
        places, start = {}, 0
        for check, bounds in zip(same, stable, strict=True):
            places[check.name] = tuple(range(start, start + len(bounds)))
            start += len(bounds)
        out.append(Quantity(places, tuple(chain.from_iterable(stable)), tuple(chain.from_iterable(canary))))
    return tuple(out)


@dataclass(slots=True)
class Truth:
    """One draw of a scenario. `horizon_s`: bursts are drawn up to there."""

    scenario: Scenario
    quantities: tuple[Quantity, ...]
    random: Random
    horizon_s: float
    stable: Shares = ()
    canary: Shares = ()
    _phase: float = 0.0
    _bursts: tuple[tuple[float, Bursts], ...] = ()
    _factors: dict[tuple[bool, int], tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scenario, random = self.scenario, self.random
        self.stable = tuple(item.stable for item in self.quantities)
        self.canary = tuple(item.canary for item in self.quantities)
        self._phase = random.random() if scenario.diurnal else 0.0
        self._bursts = tuple(self._strikes())

    def _strikes(self) -> list[tuple[float, Bursts]]:
        found = []
        for kind in self.scenario.bursts:
            at = self.random.expovariate(1.0 / kind.every_s)
            while at < self.horizon_s:
                found.append((at, kind))
                at += kind.length_s + self.random.expovariate(1.0 / kind.every_s)
        return sorted(found, key=lambda item: item[0])

    def requests(self, time_s: float, length_s: float) -> float:
        """Requests expected within `length_s` around this time, both arms together."""
        wave = self.scenario.diurnal
        rise = 1.0 + wave * math.sin(2.0 * math.pi * (time_s / DAY_S + self._phase)) if wave else 1.0
        return self.scenario.traffic_per_s * rise * length_s

    def shares(self, time_s: float, *, canary: bool) -> Shares:
        """Bad shares of one arm at this time, before what tells its pods apart."""
        scenario = self.scenario
        shares = self.canary if canary and time_s >= scenario.onset_s else self.stable
        if scenario.drift is not None:
            factor = scenario.drift.at(time_s)
            shares = tuple(tuple(min(share * factor, 1.0) for share in bounds) for bounds in shares)
        for at, kind in self._bursts:
            if at > time_s:
                break
            if time_s < at + kind.length_s and (canary or not kind.canary_only):
                keep = 1.0 - kind.share
                shares = tuple(tuple(1.0 - (1.0 - share) * keep for share in bounds) for bounds in shares)
        return shares

    def of_pod(self, shares: Shares, number: int, *, canary: bool) -> Shares:
        """The bad shares of one pod, which may be better or worse than its siblings."""
        scenario = self.scenario
        if not scenario.pod_noise:
            return shares
        held = self._factors.get((canary, number))
        if held is None:
            base = self.canary if canary else self.stable
            held = tuple(
                sibling(self.random, bounds[0], scenario.pod_noise) / bounds[0] if bounds[0] > 0.0 else 1.0
                for bounds in base
            )
            if not scenario.every_poll:
                self._factors[canary, number] = held
        return tuple(
            tuple(min(share * factor, 1.0) for share in bounds) for bounds, factor in zip(shares, held, strict=True)
        )
