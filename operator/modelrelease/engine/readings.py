"""Reads the counters of many releases at one time with few queries.

Here: the queries, and how their series become one `Snapshot` a release. Not here: which times (engine.sampler), what
differences mean (core.counters), how a query is sent (clients.prometheus). Blocking; runs in the sampler's threads.

Pods are found by the labels modelrelease_dev_name and modelrelease_dev_revision of their scrape targets, so Prometheus'
own `up` has them too and tells which pods were scraped, and when. The rule: a release's snapshot is whole or it is
Unavailable; a query that Prometheus refuses is asked again for halves of the releases, until it fails for the one alone
that it cannot be answered for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from modelrelease.clients.prometheus import Refused, Series
from modelrelease.core import counters
from modelrelease.core.counters import Column, Pod, Reading, Snapshot
from modelrelease.core.observation import Unavailable
from modelrelease.core.wants import SampleWant
from modelrelease.presets import Selector

REVISION = "modelrelease_dev_revision"
NAME = "modelrelease_dev_name"
GAP_MEMORY = "10m"
"""A pod that was scraped within this time before an interval, but not at its begin, has a gap."""


class Instant(Protocol):
    """What is needed of `clients.prometheus.PrometheusClient`."""

    def instant(self, query: str, at: datetime) -> list[Series] | Unavailable:
        """The vector of a query at a time."""


@dataclass(slots=True)
class Release:
    """One release that is sampled.

    before: the snapshot that the current interval began with, None before the first. bounds: `le` labels of its
    histograms as far as found; those of a revision never change.
    """

    want: SampleWant
    before: Snapshot | None = None
    bounds: dict[tuple[str, Selector], frozenset[str]] = field(default_factory=dict)


class Read(NamedTuple):
    """A release at the end of its interval. gaps: the newcomers that are not new."""

    snapshot: Snapshot
    gaps: frozenset[Pod] = frozenset()


class _Failed(Exception):
    """Carries a value out of a reading; never leaves this module."""

    def __init__(self, problem: Unavailable) -> None:
        super().__init__(problem.message)
        self.problem = problem


Arm = tuple[str, str, str]  # namespace, release, revision


def read(prometheus: Instant, releases: Sequence[Release], at: datetime) -> list[Read | Unavailable]:
    """Each release at that time, in the order given."""
    try:
        return list(_read(prometheus, releases, at))
    except _Failed as failure:
        if len(releases) == 1 or not isinstance(failure.problem, Refused):
            return [failure.problem] * len(releases)
    half = len(releases) // 2
    return read(prometheus, releases[:half], at) + read(prometheus, releases[half:], at)


def _read(prometheus: Instant, releases: Sequence[Release], at: datetime) -> Iterable[Read]:
    def ask(query: str, when: datetime = at) -> list[Series]:
        found = prometheus.instant(query, when)
        if isinstance(found, Unavailable):
            raise _Failed(found)
        return found

    scraped = _scraped(ask, releases)
    _find_bounds(ask, releases)
    chosen = [_choose_bounds(release) for release in releases]
    wanted: dict[Column, set[str]] = {}  # by column the revisions that need it
    for release, bounds in zip(releases, chosen, strict=True):
        for revision, columns in _columns(release.want, bounds).items():
            for column in columns:
                wanted.setdefault(column, set()).add(revision)
    values = _values(ask, wanted, releases)
    snapshots = [
        _snapshot(release, bounds, at, scraped, values) for release, bounds in zip(releases, chosen, strict=True)
    ]
    yield from _with_gaps(ask, releases, snapshots)


def _scraped(ask: Callable[[str], list[Series]], releases: Sequence[Release]) -> dict[Arm, dict[str, float]]:
    """When each pod was scraped last, for those whose last scrape succeeded."""
    pods = f"up{{{_of(_revisions(releases))}}}"
    found: dict[Arm, dict[str, float]] = {}
    for series in ask(f"timestamp({pods}) * ({pods} == 1)"):
        arm = found.setdefault(_arm(series), {})
        name = series.labels.get("pod", "")
        arm[name] = max(series.value, arm.get(name, 0))
    return found


def _find_bounds(ask: Callable[[str], list[Series]], releases: Sequence[Release]) -> None:
    """Learn the bucket bounds of histograms that were not there before."""
    missing: dict[Selector, dict[Arm, Release]] = {}
    for release in releases:
        for revision, measures in release.want.arms.items():
            for measure in measures:
                if measure.slower_than_s is not None and (revision, measure.total) not in release.bounds:
                    arms = missing.setdefault(measure.total, {})
                    arms[release.want.namespace, release.want.release, revision] = release
    for selector, arms in missing.items():
        buckets = _vector(selector, "_bucket", _of({revision for _, _, revision in arms}))
        found: dict[Arm, set[str]] = {}
        for series in ask(f"count by (namespace, {NAME}, {REVISION}, le) ({buckets})"):
            found.setdefault(_arm(series), set()).add(series.labels.get("le", ""))
        for arm in found.keys() & arms.keys():
            arms[arm].bounds[arm[2], selector] = frozenset(found[arm])


def _choose_bounds(release: Release) -> dict[tuple[str, str], float]:
    """By revision and latency check the bound that stands for it; a check without a common bound is absent."""
    chosen: dict[tuple[str, str], float] = {}
    by_check: dict[str, list[tuple[str, Selector, float]]] = {}
    for revision, measures in release.want.arms.items():
        for measure in measures:
            if measure.slower_than_s is not None:
                by_check.setdefault(measure.check, []).append((revision, measure.total, measure.slower_than_s))
    for check, arms in by_check.items():
        known = [_floats(release.bounds.get((revision, selector), frozenset())) for revision, selector, _ in arms]
        for revision, selector, threshold in arms:
            bound = counters.common_bound(threshold, known)
            if bound is not None and (revision, selector) in release.bounds:
                chosen[revision, check] = bound
    return chosen


def _columns(want: SampleWant, bounds: Mapping[tuple[str, str], float]) -> dict[str, frozenset[Column]]:
    found: dict[str, frozenset[Column]] = {}
    for revision, measures in want.arms.items():
        columns: set[Column] = set()
        for measure in measures:
            if measure.slower_than_s is None:
                columns.update({Column(measure.total), *([Column(measure.bad)] if measure.bad else [])})
            elif (revision, measure.check) in bounds:
                bound = bounds[revision, measure.check]
                columns.update({Column(measure.total, math.inf), Column(measure.total, bound)})
        found[revision] = frozenset(columns)
    return found


Values = dict[Arm, dict[str, dict[Column, dict[counters.Series, float]]]]  # by arm and pod


def _values(
    ask: Callable[[str], list[Series]], wanted: Mapping[Column, set[str]], releases: Sequence[Release]
) -> Values:
    """One query a counter, and one a histogram for all the bounds that somebody needs of it."""
    found: Values = {}
    texts: dict[Selector, set[str]] = {}
    for release in releases:
        for (_, selector), labels in release.bounds.items():
            texts.setdefault(selector, set()).update(labels)
    for selector, histogram in sorted({(column.selector, column.le is not None) for column in wanted}, key=repr):
        columns = [column for column in wanted if column.selector == selector and (column.le is not None) == histogram]
        matchers = [_of(set().union(*(wanted[column] for column in columns)))]
        if histogram:
            # Bounds are compared as numbers: Prometheus 3 writes 1.0 where Prometheus 2 wrote 1.
            needed = {column.le for column in columns}
            matchers.append(f'le=~"{_any(text for text in texts[selector] if _float(text) in needed)}"')
        for series in ask(_vector(selector, "_bucket" if histogram else "", *matchers)):
            column = Column(selector, _float(series.labels.get("le", "")) if histogram else None)
            pod = found.setdefault(_arm(series), {}).setdefault(series.labels.get("pod", ""), {})
            pod.setdefault(column, {})[_identity(series)] = series.value
    return found


def _snapshot(
    release: Release,
    bounds: Mapping[tuple[str, str], float],
    at: datetime,
    scraped: Mapping[Arm, Mapping[str, float]],
    values: Values,
) -> Snapshot:
    want = release.want
    columns = _columns(want, bounds)
    pods: dict[Pod, Reading] = {}
    for revision in want.arms:
        arm = (want.namespace, want.release, revision)
        for name, scraped_at in scraped.get(arm, {}).items():
            read_of = values.get(arm, {}).get(name, {})
            pods[Pod(revision, name)] = Reading(
                scraped_at, {column: found for column, found in read_of.items() if column in columns[revision]}
            )
    histograms = {
        (revision, measure.total)
        for revision, measures in want.arms.items()
        for measure in measures
        if measure.slower_than_s is not None
    }
    return Snapshot(at, pods, columns, frozenset(histograms - release.bounds.keys()), bounds)


def _with_gaps(
    ask: Callable[[str, datetime], list[Series]], releases: Sequence[Release], snapshots: Sequence[Snapshot]
) -> Iterable[Read]:
    """Tell the newcomers that are new from those that Prometheus had scraped before. Asks only where there are any."""
    newcomers: dict[datetime, list[tuple[Release, frozenset[Pod]]]] = {}
    for release, snapshot in zip(releases, snapshots, strict=True):
        if release.before is not None and (pods := counters.newcomers(release.before, snapshot)):
            newcomers.setdefault(release.before.at, []).append((release, pods))
    earlier: set[tuple[Arm, str, datetime]] = set()
    blind: set[datetime] = set()
    for began, arrived in newcomers.items():
        names = {pod.name for _, pods in arrived for pod in pods}
        pods_of = f'up{{{_of(_revisions([release for release, _ in arrived]))}, pod=~"{_any(names)}"}}'
        by = f"max by (namespace, {NAME}, {REVISION}, pod)"
        for series in ask(f"{by} (max_over_time({pods_of}[{GAP_MEMORY}])) == 1", began):
            earlier.add((_arm(series), series.labels.get("pod", ""), began))
        if not ask("count(up)", began):
            blind.add(began)  # Prometheus knew nothing at all then: nobody can tell who was new
    for release, snapshot in zip(releases, snapshots, strict=True):
        before, want = release.before, release.want
        if before is None:
            yield Read(snapshot)
            continue
        gaps = {
            pod
            for pod in counters.newcomers(before, snapshot)
            if before.at in blind or ((want.namespace, want.release, pod.revision), pod.name, before.at) in earlier
        }
        yield Read(snapshot, frozenset(gaps))


def _arm(series: Series) -> Arm:
    labels = series.labels
    return labels.get("namespace", ""), labels.get(NAME, ""), labels.get(REVISION, "")


def _identity(series: Series) -> counters.Series:
    """Which series of its pod it is; the hash of its labels alone is kept, since thousands are."""
    rest = frozenset(
        item for item in series.labels.items() if item[0] not in ("le", "namespace", "pod", NAME, REVISION)
    )
    return counters.Series(series.labels.get("instance", ""), hash(rest))


def _revisions(releases: Iterable[Release]) -> set[str]:
    return {revision for release in releases for revision in release.want.arms}


def _of(revisions: Iterable[str]) -> str:
    return f'{REVISION}=~"{_any(revisions)}"'


def _any(texts: Iterable[str]) -> str:
    """An alternation of literal texts for use inside a PromQL string."""
    special = str.maketrans({char: f"\\\\{char}" for char in ".+*?()|[]{}^$"})
    return "|".join(sorted(text.translate(special) for text in texts))


def _vector(selector: Selector, suffix: str, *matchers: str) -> str:
    return f"{selector.metric}{suffix}{{{', '.join((*selector.matchers, *matchers))}}}"


def _float(le: str) -> float:
    try:
        return float(le)
    except ValueError:
        return math.nan


def _floats(labels: Iterable[str]) -> frozenset[float]:
    return frozenset(bound for bound in map(_float, labels) if math.isfinite(bound))
