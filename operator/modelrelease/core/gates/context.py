"""What a gate may know besides the evaluations of candidate and champion. Values only; nothing is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..observation import Approvals, OtherRelease
from ..revision import Revision


@dataclass(frozen=True, slots=True)
class Context:
    """The moment and the revisions that are judged.

    revision: what is judged, None where it is not known. champion_revision: what serves today, None while nothing does.
    releases: other releases of the namespace that gates name, None where one does not exist.
    pinned: digests of the files that the release began with, by where they are from (core.gates.artifact).
    release: its name. approvals: what people said. step: index of the phase whose weight is to be given, -1 while no
    pod exists.
    """

    now: datetime
    revision: Revision | None = None
    champion_revision: Revision | None = None
    pinned: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, OtherRelease | None] = field(default_factory=dict)
    release: str = ""
    approvals: Approvals = field(default_factory=Approvals)
    step: int = -1
