"""Whether a live object still says what was rendered: added fields and rewritten quantities are no drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12, "P": Decimal(10) ** 15,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
}  # fmt: skip


def covers(live: Any, wanted: Any) -> bool:
    """True when everything in `wanted` stands in `live`: lists item by item, empty wanted values are not missed."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return not wanted and live is None
        return all(covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if not isinstance(live, Sequence) or isinstance(live, str):
            return not wanted and live is None
        return len(live) == len(wanted) and all(covers(a, b) for a, b in zip(live, wanted, strict=True))
    if wanted is None or wanted == "":
        return live is None or live == wanted
    if live == wanted and isinstance(live, bool) == isinstance(wanted, bool):
        return True
    if isinstance(live, bool) or isinstance(wanted, bool):
        return False
    left, right = _quantity(live), _quantity(wanted)
    return left is not None and left == right


def _quantity(value: Any) -> Decimal | None:
    """A Kubernetes quantity as a number, or None."""
    text = str(value)
    for size in (2, 1, 0):
        suffix = text[len(text) - size :] if size else ""
        if suffix in _SUFFIXES and len(text) > size:
            try:
                return Decimal(text[: len(text) - size] if size else text) * _SUFFIXES[suffix]
            except InvalidOperation:
                continue
    return None
