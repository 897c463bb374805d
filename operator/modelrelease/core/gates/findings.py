"""What a gate that asks several questions found, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelrelease.api.status import GateStatus

SHOWN = 3


@dataclass(slots=True)
class Findings:
    """failed: what contradicts the gate. lacking: what nobody logged. away: what could not be read. seen: the rest."""

    failed: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def conclude(self, name: str, **facts: Any) -> GateStatus:
        """The worst found decides and is told first: Fail, then InsufficientData, then Unavailable, then Pass."""
        if bad := self.failed + self.lacking:
            verdict = "Fail" if self.failed else "InsufficientData"
            return GateStatus.model_validate({"name": name, "verdict": verdict, "message": told(bad), **facts})
        if self.away:
            return GateStatus(name=name, verdict="Unavailable", message=told(self.away), **facts)
        return GateStatus(name=name, verdict="Pass", message="; ".join(self.seen), **facts)


def told(words: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    more = f"; and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return "; ".join(words[:SHOWN]) + more


def unread(name: str, what: str) -> GateStatus:
    """Nothing is known yet of a part of the version that this gate needs."""
    return GateStatus(name=name, verdict="Unavailable", message=f"{what} has not been read from the registry yet")
