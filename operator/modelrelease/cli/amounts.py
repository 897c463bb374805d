"""How amounts are written on a command line: rates, shares, durations, and what is put together of them.

Each is a click type: it reads the text into a value of `simulation`, or says in one line how to write it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from modelrelease.api.base import parse_duration
from modelrelease.simulation.scenario import Bursts, Drift, Lasting, Outage

_PER = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([0-9.]+)(k?)/(s|min|m|h|d)")


class Amount(click.ParamType[Any]):
    """A type made of a function that raises ValueError, and an example."""

    def __init__(self, name: str, read: Callable[[str], Any], example: str) -> None:
        self.name, self._read, self._example = name, read, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value.strip())
        except ValueError as error:
            said = f": {error}" if str(error) and "could not convert" not in str(error) else ""
            self.fail(f"{value!r} is no {self.name}, write for example {self._example}{said}", param, ctx)


def _rate(text: str) -> float:
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError
    per_s = float(match[1]) * (1000.0 if match[2] else 1.0) / _PER[match[3]]
    if per_s <= 0.0:
        raise ValueError("must be above 0")
    return per_s


def share(text: str) -> float:
    """`3%` or `0.03`. Raises ValueError outside of 0 to 100 %."""
    value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError("must be from 0 to 100%")
    return value


def seconds(text: str) -> float:
    """`10m` in seconds. Raises ValueError for anything but a duration above 0."""
    value = parse_duration(text).total_seconds()
    if value <= 0.0:
        raise ValueError("must be above 0")
    return value


def _named(read: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    def named(text: str) -> tuple[str, Any]:
        name, found, value = text.rpartition("=")
        return (name if found else ""), read(value)

    return named


def _lasting(text: str) -> Lasting:
    median, found, sigma = text.partition("~")
    value = float(sigma) if found else 0.6
    if not 0.0 < value <= 5.0:
        raise ValueError("sigma must be above 0 and at most 5")
    return Lasting(seconds(median), value)


def _drift(text: str) -> Drift:
    factor, found, over = text.partition("x/")
    if not found or float(factor) < 0.0:
        raise ValueError
    return Drift(float(factor), seconds(over))


def _bursts(text: str) -> Bursts:
    who, found, rest = text.rpartition(":")
    size, plus, times = rest.partition("+")
    length, slash, every = times.partition("/")
    if not (plus and slash) or (found and who not in ("canary", "shared")):
        raise ValueError
    return Bursts(share(size), seconds(length), seconds(every), canary_only=who == "canary")


def _outage(text: str) -> Outage:
    start, found, length = text.partition("+")
    if not found:
        raise ValueError
    return Outage(parse_duration(start).total_seconds(), seconds(length))


def _noise(text: str) -> tuple[float, bool]:
    size, found, how = text.partition("/")
    value = share(size)
    if value >= 1.0 or (found and how != "poll"):
        raise ValueError
    return value, bool(found)


def _margin(text: str) -> tuple[float, float]:
    relative, found, absolute = text.partition("+")
    if not found:
        raise ValueError
    return float(relative), share(absolute)


RATE = Amount("rate", _rate, "20/s, 300/min or 5000/h")
SHARE = Amount("share", share, "3% or 0.03")
NAMED_SHARE = Amount("share", _named(share), "3% or errors=3%")
NAMED_TIMES = Amount("latency", _named(_lasting), "300ms~0.6 (median ~ sigma) or ttft=300ms~0.6")
DURATION = Amount("duration", seconds, "30s, 10m or 1h30m")
DRIFT = Amount("drift", _drift, "3x/1h")
BURSTS = Amount("burst", _bursts, "30%+1m/2h, shared or canary:30%+1m/2h")
OUTAGE = Amount("outage", _outage, "20m+10m (start + length)")
NOISE = Amount("pod noise", _noise, "0.01 or 1%/poll")
MARGIN = Amount("margin", _margin, "1.25+1% (relative + absolute)")
