"""The two traffic slots of a release, and the Service of each."""

from __future__ import annotations

from modelrelease.api.status import Slot

SLOTS: tuple[Slot, ...] = ("a", "b")


def service_name(release: str, slot: Slot) -> str:
    """Name of a slot's Service."""
    return f"{release}-{slot}"
