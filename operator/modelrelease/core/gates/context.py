"""What a gate may know besides the evaluations of candidate and champion. Values only; nothing is read here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..revision import Revision


@dataclass(frozen=True, slots=True)
class Context:
    """The moment and the revisions that are judged.

    revision: what is judged, None where it is not known. champion_revision: what serves today, None while nothing does.
    """

    now: datetime
    revision: Revision | None = None
    champion_revision: Revision | None = None
