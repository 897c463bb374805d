"""What the checks of one rollout remember between polls, as values, and the string that status keeps of it.

Nothing is computed here: `feed` makes the next memory from a poll, `verdicts` reads it. The rule: what is decoded
equals what was encoded, so that whoever goes on from a checkpoint comes to the same verdict at the same poll.
"""

from __future__ import annotations

import binascii
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from modelrelease.core import evidence as e
from modelrelease.core import packing
from modelrelease.core.revision import Revision

from .plans import bounds_of, plan, planned_polls

FORMAT = 3
LIMIT = 16 * 1024
"""Characters that status has for it."""
PODS_KEPT = 8
"""Pods of the canary whose totals are remembered: all of them, or those that stand out most."""
_SHOWN = struct.Struct("<2d")


@dataclass(frozen=True, slots=True)
class Shares:
    """A check judged by its test.

    wealths: one a bound. loads: requests of the canary and of stable, each for one of its counted pods, summed over the
    phase's polls in which both arms had pods to compare. apart: whether the last poll with canary requests had no
    hardware in common. left_out: requests of both arms in this phase that ran on hardware the other arm lacks.
    at_parity: whether it has passed near load parity in this rollout. pods: totals over the rollout, in the order of
    `Evidence.pods`.
    """

    wealths: tuple[e.Wealth, ...]
    loads: tuple[float, float] = (0.0, 0.0)
    apart: bool = False
    left_out: tuple[float, float] = (0.0, 0.0)
    at_parity: bool = False
    pods: tuple[e.Counts, ...] = ()

    @property
    def load(self) -> float | None:
        """What a canary pod got for each request of a stable pod in this phase, None before anybody knows."""
        canary, stable = self.loads
        return None if canary + stable <= 0 else math.inf if stable <= 0 else canary / stable


@dataclass(frozen=True, slots=True)
class Streak:
    """A gauge: polls in a row beyond its tolerance, the most of them and all polls in this phase, the last means."""

    run: int = 0
    longest: int = 0
    polls: int = 0
    canary: float = 0.0
    stable: float = 0.0


Memory = Shares | Streak


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks of one rollout remember.

    key: of the revision; at: the last grid point that was fed in; planned_polls: over which the stake is spread, fixed
    when the rollout begins; pods: names of the canary's pods whose totals are kept; failed: the check that was to blame
    when the evidence first sufficed for a rollback.
    """

    key: str
    at: datetime
    planned_polls: int
    checks: Mapping[str, Memory]
    pods: tuple[str, ...] = ()
    failed: str | None = None


def begin(revision: Revision, at: datetime, polls: int | None = None) -> Evidence:
    """No evidence yet; polls after `at` will count. polls: over which the stake is spread, from the phases if None."""
    polls = polls or planned_polls(revision)
    fresh: dict[str, Memory] = {}
    for check in revision.checks:
        bounds = bounds_of(check)
        fresh[check.name] = Shares((e.start(plan(revision, check, polls)),) * bounds) if bounds else Streak()
    return Evidence(revision.key, at, polls, fresh)


def begin_phase(evidence: Evidence, at: datetime) -> Evidence:
    """A new weight: what must be shown per phase starts anew, evidence of harm is kept; polls after `at` count."""
    return replace(evidence, at=at, checks={name: _next_phase(memory) for name, memory in evidence.checks.items()})


def _next_phase(memory: Memory) -> Memory:
    match memory:
        case Shares():
            wealths = tuple(e.start_phase(wealth) for wealth in memory.wealths)
            return replace(memory, wealths=wealths, loads=(0.0, 0.0), apart=False, left_out=(0.0, 0.0))
        case Streak():
            return replace(memory, longest=memory.run, polls=0)


def encode(evidence: Evidence) -> str:
    """One versioned compact string, at most 16 KiB; the pods, which only explain, are left out where it is longer."""
    text = _encode(evidence)
    if len(text) <= LIMIT:
        return text
    bare = {
        name: replace(memory, pods=()) if isinstance(memory, Shares) else memory
        for name, memory in evidence.checks.items()
    }
    return _encode(replace(evidence, pods=(), checks=bare))


def decode(text: str | None, revision: Revision) -> Evidence | None:
    """Read it back; None where there is none, or where it belongs to another revision or format."""
    if not text:
        return None
    try:
        data = json.loads(text)
        if data["v"] != FORMAT or data["key"] != revision.key:
            return None
        packed = packing.Packed(binascii.a2b_base64(data["data"], strict_mode=True))
        pods = tuple(str(name) for name in data["pods"])
        planned = packed.whole()
        checks: dict[str, Memory] = {}
        for check in revision.checks:
            bounds = bounds_of(check)
            checks[check.name] = _shares(packed, bounds, len(pods)) if bounds else _streak(packed)
        packed.end()
        failed = data.get("failed")
        if planned < 1 or (failed is not None and failed not in checks):
            return None
        return Evidence(data["key"], datetime.fromtimestamp(data["at"], UTC), planned, checks, pods, failed)
    except (KeyError, TypeError, ValueError, OverflowError, struct.error):
        return None


def _encode(evidence: Evidence) -> str:
    out = bytearray()
    packing.put(out, evidence.planned_polls)
    for memory in evidence.checks.values():
        match memory:
            case Shares():
                for wealth in memory.wealths:
                    packing.pack(wealth, out)
                packing.put(out, memory.apart | memory.at_parity << 1)
                for value in (*memory.loads, *memory.left_out):
                    packing.put(out, value)
                for counts in memory.pods:
                    packing.put(out, counts.total)
                    packing.put(out, counts.bad)
            case Streak():
                for number in (memory.run, memory.longest, memory.polls):
                    packing.put(out, number)
                out += _SHOWN.pack(memory.canary, memory.stable)
    data = {
        "v": FORMAT,
        "key": evidence.key,
        "at": evidence.at.timestamp(),
        **({"failed": evidence.failed} if evidence.failed is not None else {}),
        "pods": evidence.pods,
        "data": binascii.b2a_base64(out, newline=False).decode("ascii"),
    }
    return json.dumps(data, separators=(",", ":"))


def _shares(packed: packing.Packed, bounds: int, pods: int) -> Shares:
    wealths = tuple(packing.unpack(packed) for _ in range(bounds))
    flags = packed.whole()
    loads, left_out = (packed.number(), packed.number()), (packed.number(), packed.number())
    totals = tuple(e.Counts(packed.number(), packed.number()) for _ in range(pods))
    return Shares(wealths, loads, bool(flags & 1), left_out, bool(flags & 2), totals)


def _streak(packed: packing.Packed) -> Streak:
    run, longest, polls = packed.whole(), packed.whole(), packed.whole()
    canary, stable = _SHOWN.unpack(packed.take(_SHOWN.size))
    if not (math.isfinite(canary) and math.isfinite(stable)):
        raise ValueError("evidence holds a gauge without a value")
    return Streak(run, longest, polls, canary, stable)
