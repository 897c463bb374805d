"""From raw counters at two grid points to how many requests each arm had in between, and how many of them were bad.

Here: the grid, the differences, which bucket stands for a latency bound. Not here: where counters are read
(engine.readings), when (engine.sampler), and what the counts prove (core.evidence). The rule: counts are exact
integers, and the same counters at the same grid points always give the same counts, whoever takes the difference.

Why not PromQL's increase(): it extrapolates, and it does not see the first events of a series that is born with them,
which is how error counters are usually born.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from modelrelease.presets import Selector

from .evidence import Counts
from .wants import Measure


class Pod(NamedTuple):
    """One pod of one arm."""

    revision: str
    name: str


class Query(NamedTuple):
    """Counters by PromQL of a person's own: `part` (total or bad) of a check."""

    check: str
    part: str


class Column(NamedTuple):
    """One quantity that is read: counters, or a histogram's bucket with the upper bound `le` (inf: all requests)."""

    selector: Selector | Query
    le: float | None = None


class Series(NamedTuple):
    """One series of a pod. target: the scraped endpoint; when its process restarts all its counters begin at 0."""

    target: str
    labels: Hashable


Counters = Mapping[Column, Mapping[Series, float]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A pod whose last scrape before the grid point succeeded.

    scraped_at: of that scrape, seconds since the epoch. A counter that is not a number is kept as NaN: it is there, and
    tells nothing. gauges: values of the series of each, those that are numbers.
    """

    scraped_at: float
    counters: Counters
    gauges: Mapping[Selector, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One release at one grid point.

    columns: what was read, by revision; a column that is not there is unknown, not zero. unborn: histograms of which
    the revision had no series yet, so that every one of their buckets is known to be 0. bounds: those that stand for
    each latency check's, in their order, by revision and check. failures: custom queries that gave nothing, by check.
    """

    at: datetime
    pods: Mapping[Pod, Reading]
    columns: Mapping[str, frozenset[Column]]
    unborn: frozenset[tuple[str, Selector]] = frozenset()
    bounds: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def knows(self, revision: str, column: Column) -> bool:
        """Whether a series that is missing here was not there, and not merely not asked for."""
        return column in self.columns.get(revision, ()) or (revision, column.selector) in self.unborn


def newest_point(now: datetime, step: timedelta, lag: timedelta) -> datetime:
    """The last grid point (a multiple of `step` since the epoch) that is at least `lag` ago."""
    return datetime.fromtimestamp(
        math.floor((now - lag).timestamp() / step.total_seconds()) * step.total_seconds(), UTC
    )


def first_point(since: datetime, step: timedelta) -> datetime:
    """The first grid point that is not before `since`."""
    return datetime.fromtimestamp(math.ceil(since.timestamp() / step.total_seconds()) * step.total_seconds(), UTC)


def closes(before: Snapshot, after: Snapshot) -> bool:
    """Whether the interval between two snapshots makes a poll: every arm that lives has been scraped within it.

    Where pods are scraped less often than the grid steps, intervals grow until they hold a scrape of each arm; else one
    arm's requests would never meet the other's.
    """
    scraped: dict[str, bool] = {}
    for pod, reading in after.pods.items():
        scraped[pod.revision] = scraped.get(pod.revision, False) or reading.scraped_at > before.at.timestamp()
    return bool(scraped) and all(scraped.values())


def newcomers(before: Snapshot, after: Snapshot) -> frozenset[Pod]:
    """Pods without a successful scrape before the interval: new ones, or old ones with a gap in their data."""
    return frozenset(after.pods.keys() - before.pods.keys())


def increments(before: Snapshot, after: Snapshot, gaps: Collection[Pod]) -> dict[Pod, dict[Column, float]]:
    """What each pod counted between two snapshots.

    gaps: newcomers that had been scraped earlier; nothing is counted for them, as what they counted during the gap
    belongs to no interval. Other newcomers, and series that a known pod did not have before, count from 0. What a pod
    that vanished had counted stays counted. A column is absent of which the pod has no series, or one that is NaN at
    either end.
    """
    grown: dict[Pod, dict[Column, float]] = {}
    for pod, reading in after.pods.items():
        if pod in gaps:
            continue
        earlier = before.pods.get(pod)
        known: Counters = earlier.counters if earlier else {}
        restarted = _restarted(known, reading.counters)
        own = grown.setdefault(pod, {})
        for column, values in reading.counters.items():
            if not values or not before.knows(pod.revision, column):
                continue
            base = known.get(column, {})
            if any(map(math.isnan, base.values())):
                continue
            sum_of = sum(
                value - (0 if series.target in restarted else base.get(series, 0)) for series, value in values.items()
            )
            if not math.isnan(sum_of):
                own[column] = sum_of
    return grown


def _restarted(before: Counters, after: Counters) -> frozenset[str]:
    """Targets of which any counter fell: their process is a new one, and all its counters began at 0."""
    return frozenset(
        series.target
        for column, values in after.items()
        for series, value in values.items()
        if value < before.get(column, {}).get(series, 0)
    )


def counts(
    measures: Iterable[Measure], grown: Mapping[Column, float], bounds: Mapping[str, tuple[float, ...]]
) -> dict[str, tuple[Counts, ...]]:
    """Requests and bad ones by check, one Counts a bound, from one pod's increments. bounds: of its revision's checks.

    A check whose total is not there has no entry; a bad counter that is not there has counted nothing. Counters of one
    pod are never scraped apart, but if they disagree bad is cut to total.
    """
    found: dict[str, tuple[Counts, ...]] = {}
    for measure in measures:
        if measure.slower_than_s:
            parts = [_slower(measure, grown, bound) for bound in bounds.get(measure.check, ())]
        elif measure.custom is not None:
            total, bad = grown.get(Column(Query(measure.check, "total"))), Column(Query(measure.check, "bad"))
            parts = [None if total is None else _cut(total, grown.get(bad, 0))]
        else:
            total = _sum(grown, map(Column, measure.total))
            parts = [
                None
                if total is None
                else _cut(total, sum(factor * grown.get(Column(selector), 0) for factor, selector in measure.bad))
            ]
        whole = tuple(part for part in parts if part is not None)
        if whole and len(whole) == len(parts):
            found[measure.check] = whole
    return found


def gauges(measures: Iterable[Measure], reading: Reading) -> dict[str, float]:
    """By gauge check the mean of the pod's series; a check without one has no entry."""
    return {
        measure.check: sum(values) / len(values)
        for measure in measures
        if measure.gauge is not None and (values := reading.gauges.get(measure.gauge))
    }


def in_flight(selectors: Iterable[Selector], reading: Reading) -> float | None:
    """Running and waiting requests at the end; None where the pod tells neither."""
    found = [sum(values) for selector in selectors if (values := reading.gauges.get(selector))]
    return sum(found) if found else None


def progress(selectors: Iterable[Selector], grown: Mapping[Column, float]) -> float | None:
    """What the engine worked off; None where the pod does not tell."""
    return _sum(grown, map(Column, selectors))


def _slower(measure: Measure, grown: Mapping[Column, float], bound: float) -> Counts | None:
    """Both columns are needed: a histogram has all its buckets or none."""
    total = _sum(grown, (Column(selector, math.inf) for selector in measure.total))
    below = _sum(grown, (Column(selector, bound) for selector in measure.total))
    return None if total is None or below is None else _cut(total, total - below)


def _cut(total: float, bad: float) -> Counts:
    return Counts(total, min(max(bad, 0), total))


def _sum(grown: Mapping[Column, float], columns: Iterable[Column]) -> float | None:
    found = [grown[column] for column in columns if column in grown]
    return sum(found) if found else None


def common_bound(threshold: float, arms: Iterable[Collection[float]]) -> float | None:
    """The largest bucket bound at or below the threshold that all arms have; None if there is none.

    An arm without bounds has no histogram yet and has no say. The next lower bound judges more strictly, and both arms
    alike.
    """
    known = [frozenset(arm) for arm in arms if arm]
    if not known:
        return None
    common = frozenset.intersection(*known)
    return max((bound for bound in common if bound <= threshold * (1 + 1e-9)), default=None)
