"""The users: how many requests each pod gets, how many of them are bad, and what a bad canary costs.

The gateway's share may change within an interval; the interval then has the share's average, as real counters would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodPoll

from .draws import binomial, poisson
from .scenario import Shares, Truth
from .subject import Subject

_GAUGE = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the pods of both arms counted in one interval; canary is empty where it has no pod."""

    stable: Mapping[str, PodPoll]
    canary: Mapping[str, PodPoll]


def canary_pod(number: int) -> str:
    """Name of a pod of the canary."""
    return f"canary-{number}"


class Users:
    """All requests of one run.

    harmed_s: when users first met the canary as it is after its onset. lost: requests expected to be bad because of the
    canary, by the first check that counts them. canary_requests: all that it was expected to get.
    """

    def __init__(self, subject: Subject, truth: Truth) -> None:
        self.stable_pods = tuple(f"stable-{number}" for number in range(subject.replicas))
        self.harmed_s: float | None = None
        self.lost = {quantity.name: 0.0 for quantity in truth.quantities}
        self.canary_requests = 0.0
        self._truth = truth
        self._gauges = dict.fromkeys(subject.gauges, _GAUGE)
        self._sent: list[tuple[float, float]] = [(0.0, 0.0)]

    def send(self, since_s: float, share: float) -> None:
        """From now on the gateway gives the canary this share."""
        self._sent.append((since_s, share))

    def come(self, begin: float, end: float, *, canary_pods: int, counted: bool) -> Seen | None:
        """Let the users of an interval come. Unless they are counted only what they suffer is kept."""
        if end <= begin:
            return None
        truth, middle, share = self._truth, (begin + end) / 2, self._share(begin, end)
        requests = truth.requests(middle, end - begin)
        stable = truth.shares(middle, canary=False)
        canary = truth.shares(middle, canary=True) if share > 0.0 else stable
        if share > 0.0:
            self._suffer(middle, requests * share, canary, stable)
        if not counted:
            return None
        names = tuple(canary_pod(number) for number in range(canary_pods))
        return Seen(
            self._arm(self.stable_pods, requests * (1.0 - share), stable, canary=False),
            self._arm(names, requests * share, canary, canary=True),
        )

    def _arm(self, pods: tuple[str, ...], requests: float, shares: Shares, *, canary: bool) -> dict[str, PodPoll]:
        out = {}
        for number, name in enumerate(pods):
            total = poisson(self._truth.random, requests / len(pods))
            own = self._truth.of_pod(shares, number, canary=canary)
            counts: dict[str, tuple[Counts, ...]] = {}
            for quantity, bounds in zip(self._truth.quantities, own, strict=True):
                bad = self._bad(total, bounds)
                for check, places in quantity.checks.items():
                    counts[check] = tuple(Counts(total, bad[place]) for place in places)
            out[name] = PodPoll(counts, self._gauges)
        return out

    def _bad(self, total: int, bounds: tuple[float, ...]) -> list[int]:
        """Bad requests at each bound: what is slower than a bound is slower than all smaller ones."""
        random = self._truth.random
        if len(bounds) == 1:
            return [binomial(random, total, bounds[0])]
        out, left, above = [0] * len(bounds), total, 1.0
        for place in sorted(range(len(bounds)), key=lambda item: -bounds[item]):
            left = binomial(random, left, bounds[place] / above if above > 0.0 else 0.0)
            out[place], above = left, bounds[place]
        return out

    def _share(self, begin: float, end: float) -> float:
        """The canary's average share of traffic within an interval."""
        since, share = self._sent[-1]
        if since <= begin:
            return share
        whole, until = 0.0, end
        for at, held in reversed(self._sent):
            since = max(at, begin)
            if since < until:
                whole += held * (until - since)
                until = since
            if at <= begin:
                break
        return whole / (end - begin)

    def _suffer(self, at: float, requests: float, canary: Shares, stable: Shares) -> None:
        self.canary_requests += requests
        onset = self._truth.scenario.onset_s
        if self.harmed_s is None and at >= onset:
            self.harmed_s = max(onset, next(since for since, share in self._sent if share > 0.0))
        for quantity, bad, good in zip(self._truth.quantities, canary, stable, strict=True):
            self.lost[quantity.name] += requests * max(bad[0] - good[0], 0.0)
