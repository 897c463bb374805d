"""What a snapshot lacks for the checks that it was read for, in words for people.

Here: the sentence, the same at every poll while the same thing is missing. Not here: what follows from it (core).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelrelease.api.reasons import Reason
from modelrelease.core.counters import Column, Reading, Snapshot
from modelrelease.core.observation import Unavailable
from modelrelease.core.wants import Measure, SampleWant

from .readings import REVISION


def shortage(want: SampleWant, snapshot: Snapshot) -> Unavailable | None:
    """The first thing that is missing for some check of some revision, None if nothing is."""
    for revision, measures in want.arms.items():
        arm = [reading for pod, reading in snapshot.pods.items() if pod.revision == revision]
        if not arm:
            hint = f"is {REVISION} a label of their scrape target?"
            return Unavailable(Reason.NO_DATA, f"Prometheus has scraped no pod of revision {revision}; {hint}")
        for measure in measures:
            if words := _missing(measure, revision, snapshot, arm):
                return Unavailable(Reason.NO_DATA, f"check {measure.check}: {words}")
    for check, words in snapshot.failures.items():
        return Unavailable(Reason.PROMETHEUS_ERROR, f"check {check}: {words}")
    return None


def _missing(measure: Measure, revision: str, snapshot: Snapshot, arm: Sequence[Reading]) -> str:
    if measure.lacks:
        return f"cannot be counted on revision {revision}: {measure.lacks}"
    if measure.custom is not None:
        return ""  # told by engine.custom
    late = "it may appear with their first request"
    if measure.gauge is not None:
        there = any(measure.gauge in reading.gauges for reading in arm)
        return "" if there else f"pods of revision {revision} give no {measure.gauge.metric}"
    names = " or ".join(dict.fromkeys(selector.metric for selector in measure.total))
    if measure.slower_than_s:
        if all((revision, selector) in snapshot.unborn for selector in measure.total):
            return f"pods of revision {revision} give no {names}_bucket; {late}"
        if (revision, measure.check) not in snapshot.bounds:
            return (
                f"no bucket of {names}_bucket at or below {min(measure.slower_than_s):g} s is common to all revisions"
            )
        columns = {column for reading in arm for column in reading.counters if column.selector in measure.total}
    else:
        columns = {Column(selector) for selector in measure.total}
    values = [value for reading in arm for column in columns for value in reading.counters.get(column, {}).values()]
    if not values:
        return f"pods of revision {revision} give no {names}; {late}"
    return f"pods of revision {revision} give NaN for {names}" if any(map(math.isnan, values)) else ""
