"""Puts samples into a Prometheus as if it had scraped them: the remote-write protocol, written by hand.

Here: samples with their times, stale markers included, to a Prometheus with --web.enable-remote-write-receiver. So a
history of an hour is there in a second, and every query on it is answered by the real engine.
"""

from __future__ import annotations

import math
import struct
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""What a scrape stores for a series that it found no more: other bits than any other NaN."""


class Sample(NamedTuple):
    """One value at a time, in seconds since the epoch."""

    at: float
    value: float


def write(url: str, series: Iterable[tuple[Mapping[str, str], Sequence[Sample]]]) -> None:
    """Store these samples, in order of time for each series."""
    body = b"".join(_field(1, _series(labels, samples)) for labels, samples in series)
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    request = urllib.request.Request(f"{url}/api/v1/write", _snappy(body), headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status in (200, 204), response.status


def _series(labels: Mapping[str, str], samples: Sequence[Sample]) -> bytes:
    named = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in sorted(labels.items())
    )
    return named + b"".join(_field(2, _sample(sample)) for sample in samples)


def _sample(sample: Sample) -> bytes:
    bits = struct.pack("<Q", 0x7FF0000000000002) if sample.value is STALE else struct.pack("<d", sample.value)
    if math.isnan(sample.value) and sample.value is not STALE:
        bits = struct.pack("<Q", 0x7FF8000000000001)
    return b"\x09" + bits + b"\x10" + _varint(round(sample.at * 1000))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _snappy(content: bytes) -> bytes:
    """Uncompressed, in the format of snappy: literals of at most 64 KiB."""
    out = bytearray(_varint(len(content)))
    for begin in range(0, len(content), 65536):
        piece = content[begin : begin + 65536]
        out += b"\xf4" + struct.pack("<H", len(piece) - 1) + piece
    return bytes(out)
