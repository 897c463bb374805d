"""Evidence as bytes: the compact form of wealths and counts that status keeps.

Here: numbers of a few bytes, one wealth, and a text of one wealth alone. Not here: what a whole rollout remembers
(checks.memory). The rule: what is read back equals what was written, to the last bit, and whatever else the bytes may
hold is refused with a ValueError.
"""

import binascii
import struct

from .evidence import FRACTION, MOST_KEPT, REGRESSION_BETS, SAFETY_BETS, WEALTH_LIMIT, Counts, Wealth

_FORMAT = "2"
_PACKED = struct.Struct(f"<{len(REGRESSION_BETS) + len(SAFETY_BETS)}fd")


def encode(wealth: Wealth) -> str:
    """At most 200 ASCII characters, without spaces or quotes, from which `decode` restores an equal value."""
    packed = bytearray()
    pack(wealth, packed)
    return _FORMAT + binascii.b2a_base64(packed, newline=False).decode("ascii")


def decode(text: str) -> Wealth:
    """The wealth that `encode` wrote. Text of another version, damaged or with impossible values raises ValueError."""
    if not text.startswith(_FORMAT):
        raise ValueError(f"evidence has version {text[:1]!r}, this program reads {_FORMAT!r}")
    packed = Packed(binascii.a2b_base64(text[1:], strict_mode=True))
    wealth = unpack(packed)
    packed.end()
    return wealth


def pack(wealth: Wealth, out: bytearray) -> None:
    """Append a wealth, as `unpack` reads it: 56 bytes of wealth, then ten numbers of a few bytes each."""
    out += _PACKED.pack(*wealth.regression, *wealth.safety, wealth.cash)
    put(out, wealth.polls)
    put(out, wealth.phase_polls)
    for counts in (wealth.canary, wealth.stable, wealth.rollout_canary, wealth.rollout_stable):
        put(out, counts.total)
        put(out, counts.bad)


def put(out: bytearray, value: float) -> None:
    """Append a number that is not negative, in whole units or 256ths: seven bits a byte, the lowest first."""
    whole = int(value)
    left = whole << 1 if whole == value else round(value * FRACTION) << 1 | 1
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)


class Packed:
    """Reads bytes that `pack` and `put` wrote, from the first to the last; ValueError where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        """The next bytes as they stand."""
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError(f"evidence ends after {len(self._data)} bytes, in the middle of a value")
        self._at += size
        return taken

    def number(self) -> float:
        """A number that `put` wrote."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return (value >> 1) / FRACTION if value & 1 else float(value >> 1)
            if shift > 63:
                raise ValueError("evidence holds a number of more than 63 bits")

    def whole(self) -> int:
        """A whole number."""
        value = self.number()
        if value != int(value):
            raise ValueError(f"evidence holds {value} where a whole number is expected")
        return int(value)

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise ValueError(f"evidence has {len(self._data) - self._at} bytes too many")


def unpack(packed: Packed) -> Wealth:
    """The next wealth that `pack` wrote; ValueError where a value is impossible."""
    *wealths, cash = _PACKED.unpack(packed.take(_PACKED.size))
    if not all(0.0 <= value <= WEALTH_LIMIT for value in (*wealths, cash)):
        raise ValueError("evidence holds a negative, endless or unknown wealth")
    polls, phase_polls = packed.whole(), packed.whole()
    totals = [Counts(packed.number(), packed.number()) for _ in range(4)]
    if not all(0.0 <= counts.bad <= counts.total <= MOST_KEPT for counts in totals):
        raise ValueError("evidence holds impossible counts")
    bets = len(REGRESSION_BETS)
    canary, stable, rollout_canary, rollout_stable = totals
    return Wealth(
        polls,
        tuple(wealths[:bets]),
        cash,
        tuple(wealths[bets:]),
        canary,
        stable,
        phase_polls,
        rollout_canary,
        rollout_stable,
    )
