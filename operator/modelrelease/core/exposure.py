"""Whether the canary really serves what it is sent: requests that never reach it, and engines that hang.

Counters of finished requests see neither: a canary without requests and one that never answers look alike, and well.
Here: what is watched from poll to poll, and what is found in it. Not here: what follows (core.stops, core.draft). The
rules: requests that do not arrive are nobody's fault, a hang is harm; what is watched is in status, so that it survives
a restart, and the polls since then are watched again, so that whoever decides finds the same at the same poll.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from .observation import PodFacts, PodPoll, Poll
from .revision import Revision

WINDOW = timedelta(minutes=2)
LEAST_EXPECTED = 20
"""Requests that must be expected in a window: none of 20 comes by chance once in 500 million windows."""
LEAST_SHARE = 0.1
LEAST_SEEN = timedelta(seconds=20)
"""Of traffic, before anything is said of how much there is."""
LONGEST_GAP = timedelta(seconds=45)
"""Between two polls with requests of both arms in a window."""
HUNG_AFTER = timedelta(seconds=60)
MAY_HANG_AFTER = timedelta(seconds=20)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)
_SLICE_S = 10
_STUCK_KEPT = 16
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Exposure:
    """What was watched of a canary that has traffic.

    since: when the gateway took the present weight; at: the last poll. slices: requests of the canary and of both arms
    since then, by number of their ten seconds since the epoch, for one window. stuck: canary pods with requests in
    flight and no progress, since which poll without a break. stable_stuck: the same of all pods of stable together,
    None while it makes progress or is idle. per_second: requests of both arms under the weight before, None while not
    known.
    """

    since: datetime
    at: datetime
    slices: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    stuck: Mapping[str, datetime] = field(default_factory=dict)
    stable_stuck: datetime | None = None
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """Requests of the canary in a window: seen, and expected by its weight."""

    seen: int
    expected: int


def begin(at: datetime) -> Exposure:
    """Nothing watched yet; polls after `at` count."""
    return Exposure(at, at)


def reweighed(exposure: Exposure, since: datetime) -> Exposure:
    """The gateway has another weight since then: requests are counted anew, a hang goes on."""
    return replace(exposure, since=since, slices={}, per_second=traffic(exposure))


def traffic(exposure: Exposure) -> float | None:
    """Requests of both arms per second; None while not known."""
    seconds = min(exposure.at - exposure.since, WINDOW).total_seconds()
    if seconds < LEAST_SEEN.total_seconds() or not exposure.slices:
        return exposure.per_second
    return sum(total for _, total in exposure.slices.values()) / seconds


def watch(exposure: Exposure, revision: Revision, polls: Sequence[Poll], stable: str | None) -> Exposure:
    """Watch the polls after `exposure.at`, in order. stable: digest of the other arm."""
    for poll in polls:
        if poll.at > exposure.at:
            exposure = _watch_one(exposure, revision, poll, stable)
    return exposure


def _watch_one(exposure: Exposure, revision: Revision, poll: Poll, stable: str | None) -> Exposure:
    slices = {number: held for number, held in exposure.slices.items() if number > _slice(poll.at - WINDOW)}
    requests = _requests(revision, poll, stable) if stable and poll.at > exposure.since else None
    if requests is not None:
        seen, total = slices.get(_slice(poll.at), (0.0, 0.0))
        slices[_slice(poll.at)] = (seen + requests[0], total + sum(requests))
    stuck = {
        name: exposure.stuck.get(name, poll.at)
        for name, pod in poll.arms.get(revision.revision, {}).items()
        if _is_stuck([pod])
    }
    oldest = dict(sorted(stuck.items(), key=lambda item: (item[1], item[0]))[:_STUCK_KEPT])
    others = list(poll.arms.get(stable, {}).values()) if stable else []
    stable_stuck = (exposure.stable_stuck or poll.at) if _is_stuck(others) else None
    return replace(exposure, at=poll.at, slices=slices, stuck=oldest, stable_stuck=stable_stuck)


def _requests(revision: Revision, poll: Poll, stable: str) -> tuple[float, float] | None:
    """Finished requests of canary and stable; None where one arm was not scraped, or stable does not tell.

    A canary that was scraped and has no such counter has finished none yet: counters are born with the first request.
    """
    if not poll.arms.get(revision.revision):
        return None
    for check in revision.checks:
        if check.error_rate is None and check.latency is None:
            continue
        other = poll.counts(stable, check.name)
        if other:
            own = poll.counts(revision.revision, check.name)
            return (own[0].total if own else 0.0, other[0].total)
    return None


def _is_stuck(pods: Sequence[PodPoll]) -> bool:
    told = [pod for pod in pods if pod.in_flight is not None and pod.progress is not None]
    return sum(pod.in_flight or 0 for pod in told) > 0 and sum(pod.progress or 0 for pod in told) <= 0


def missed(exposure: Exposure, weight: int) -> Missed | None:
    """Less than a tenth of what the weight should bring, for a whole window and beyond chance.

    None after a gap in the data, until a window without one has passed: after an outage one poll alone says nothing.
    """
    ends = (_slice(exposure.at - WINDOW), *sorted(exposure.slices), _slice(exposure.at))
    longest = max(later - earlier for earlier, later in pairwise(ends)) * _SLICE_S
    if exposure.at - exposure.since < WINDOW or longest > LONGEST_GAP.total_seconds():
        return None
    seen = sum(seen for seen, _ in exposure.slices.values())
    expected = weight / 100 * sum(total for _, total in exposure.slices.values())
    if expected < LEAST_EXPECTED or seen >= LEAST_SHARE * expected:
        return None
    return Missed(round(seen), round(expected))


def hung(exposure: Exposure) -> tuple[str, ...]:
    """Canary pods that hold requests and have done nothing for a minute; none while stable as a whole is no better."""
    if exposure.stable_stuck is not None and exposure.at - exposure.stable_stuck >= HUNG_AFTER:
        return ()
    return tuple(name for name, since in exposure.stuck.items() if exposure.at - since >= HUNG_AFTER)


def hanging(exposure: Exposure) -> str | None:
    """The pod that may hang: for a while already, and not for long enough to say so."""
    return next((name for name, since in exposure.stuck.items() if exposure.at - since >= MAY_HANG_AFTER), None)


def hung_in_words(version: str, hung_pods: Sequence[str], pods: Mapping[str, PodFacts]) -> str:
    """Which pods hang, where they run, and whether their siblings do, too."""
    node = pods[hung_pods[0]].node if hung_pods[0] in pods else ""
    where = f"pod {hung_pods[0]}{f' on node {node}' if node else ''}"
    others = len(pods.keys() - set(hung_pods))
    who = where if len(hung_pods) == 1 else f"{where} and {len(hung_pods) - 1} more"
    of = f"; the other {others} of v{version} go on" if others else f": no pod of v{version} goes on"
    has = "has" if len(hung_pods) == 1 else "have"
    return f"{who} {has} had requests in flight and worked off nothing for a minute{of}"


def pause(retreats: int) -> timedelta:
    """How long no traffic is given after so many retreats for want of requests: doubled each time, to half an hour."""
    doubled: int = 2 ** min(max(retreats - 1, 0), 10)
    return min(FIRST_PAUSE * doubled, LONGEST_PAUSE)


def encode(exposure: Exposure) -> str:
    """One versioned compact string, for status; at most 4 KiB, as names of a Deployment's pods have 63 characters."""
    data = {
        "v": _FORMAT,
        "since": exposure.since.timestamp(),
        "at": exposure.at.timestamp(),
        "slices": [[number, *counts] for number, counts in exposure.slices.items()],
        "stuck": {name: since.timestamp() for name, since in exposure.stuck.items()},
        "rate": exposure.per_second,
        "stable": exposure.stable_stuck.timestamp() if exposure.stable_stuck else None,
    }
    return json.dumps(data, separators=(",", ":"))


def decode(text: str | None) -> Exposure | None:
    """Read it back; None where there is none, or one of another format."""
    if not text:
        return None
    try:
        data = json.loads(text)
        if data["v"] != _FORMAT:
            return None
        return Exposure(
            since=_time(data["since"]),
            at=_time(data["at"]),
            slices={int(number): (float(seen), float(total)) for number, seen, total in data["slices"]},
            stuck={str(name): _time(since) for name, since in data["stuck"].items()},
            stable_stuck=_time(data["stable"]) if data["stable"] is not None else None,
            per_second=float(data["rate"]) if data["rate"] is not None else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _slice(at: datetime) -> int:
    return int(at.timestamp() // _SLICE_S)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
