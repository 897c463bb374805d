"""Reads the counters of many releases at one time with few queries.

Here: the queries, and how their series become one `Snapshot` a release. Not here: which times (engine.sampler), what
differences mean (core.counters), a person's own queries (engine.custom), how a query is sent (clients.prometheus).
Blocking; runs in the sampler's threads.

Pods are found by the labels modelrelease_dev_name and modelrelease_dev_revision of their scrape targets, so Prometheus'
own `up` has them too and tells which pods were scraped, and when. One query gives all of it: the metrics of every
runtime by name, and which of their series a selector means is sorted out here. So all that is known of a release at a
time comes from one answer, and what it costs does not depend on how many checks there are.

The rule: a release's snapshot is whole or it is Unavailable, and depends on what Prometheus holds for that time and on
nothing that was read before. A query that Prometheus refuses is asked again for halves of the releases, until it fails
for the one alone that it cannot be answered for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from modelrelease.api.reasons import Reason
from modelrelease.clients.prometheus import Refused, Series
from modelrelease.core import counters
from modelrelease.core.counters import Column, Pod, Reading, Snapshot
from modelrelease.core.observation import Unavailable
from modelrelease.core.wants import SampleWant
from modelrelease.presets import Selector

REVISION = "modelrelease_dev_revision"
NAME = "modelrelease_dev_name"
SCRAPED = "modelrelease_scraped"
"""Label of the series that hold when a pod was scraped; no exposition has it."""

GAP_MEMORY = "10m"
"""A pod that was scraped within this time before an interval, but not at its begin, has a gap."""

QUERY_LENGTH = 7_500
"""About how long a query may become; VictoriaMetrics takes 16 KiB, proxies often 8."""


class Instant(Protocol):
    """What is needed of `clients.prometheus.PrometheusClient`."""

    def instant(
        self, query: str, at: datetime, *, timeout_s: float | None = None, limit: int | None = None
    ) -> list[Series] | Unavailable:
        """The vector of a query at a time; Unavailable where it takes longer or has more series."""


class Wanted(NamedTuple):
    """What one revision's pods are read for, by the name of the metric as it stands in the exposition."""

    counters: Mapping[str, frozenset[Selector]]
    histograms: Mapping[str, frozenset[Selector]]
    gauges: Mapping[str, frozenset[Selector]]


@dataclass(slots=True)
class Release:
    """One release that is sampled.

    before: the snapshot that the current interval began with, None before the first. bounds: `le` labels of its
    histograms by revision and metric, as far as found; those of a revision never change. wanted: by revision.
    """

    want: SampleWant
    before: Snapshot | None = None
    bounds: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    wanted: Mapping[str, Wanted] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted = {revision: _wanted(self.want, revision) for revision in self.want.arms}


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
Ask = Callable[[str], list[Series]]


def batches(releases: Iterable[Release]) -> Iterator[list[Release]]:
    """Cut into groups that one query can ask for."""
    batch: list[Release] = []
    revisions, names = 0, set[str]()
    for release in releases:
        own = 2 * sum(len(revision) + 1 for revision in release.want.arms)
        wanted = _names(release)
        if batch and revisions + own + sum(len(name) + 1 for name in names | wanted) > QUERY_LENGTH:
            yield batch
            batch, revisions, names = [], 0, set()
        batch.append(release)
        revisions, names = revisions + own, names | wanted
    if batch:
        yield batch


def read(prometheus: Instant, releases: Sequence[Release], at: datetime) -> list[Read | Unavailable]:
    """Each release at that time, in the order given."""
    try:
        return _read(prometheus, releases, at)
    except _Failed as failure:
        if len(releases) == 1 or not isinstance(failure.problem, Refused):
            return [failure.problem] * len(releases)
    half = len(releases) // 2
    return read(prometheus, releases[:half], at) + read(prometheus, releases[half:], at)


def _read(prometheus: Instant, releases: Sequence[Release], at: datetime) -> list[Read | Unavailable]:
    def ask(query: str, when: datetime = at) -> list[Series]:
        found = prometheus.instant(query, when)
        if isinstance(found, Unavailable):
            raise _Failed(found)
        return found

    _find_bounds(ask, releases)
    seen = _see(ask, releases)
    found: list[Snapshot | Unavailable] = [_snapshot(release, at, seen) for release in releases]
    return _with_gaps(ask, releases, found)


# -- what is asked for ------------------------------------------------------------------------------------------------
def _wanted(want: SampleWant, revision: str) -> Wanted:
    of_counters, of_histograms, of_gauges = set[Selector](), set[Selector](), set[Selector]()
    for measure in want.arms[revision]:
        if measure.slower_than_s:
            of_histograms.update(measure.total)
        else:
            of_counters.update(measure.total, (selector for _, selector in measure.bad))
        if measure.gauge is not None:
            of_gauges.add(measure.gauge)
    of_counters.update(want.progress.get(revision, ()))
    of_gauges.update(want.in_flight.get(revision, ()))
    return Wanted(_by_name(of_counters), _by_name(of_histograms, "_bucket"), _by_name(of_gauges))


def _by_name(selectors: Iterable[Selector], suffix: str = "") -> dict[str, frozenset[Selector]]:
    found: dict[str, set[Selector]] = {}
    for selector in selectors:
        found.setdefault(selector.metric + suffix, set()).add(selector)
    return {name: frozenset(of) for name, of in found.items()}


def _names(release: Release) -> set[str]:
    return {name for wanted in release.wanted.values() for part in wanted for name in part}


def _find_bounds(ask: Ask, releases: Sequence[Release]) -> None:
    """Learn the bucket bounds of histograms that were not there before."""
    arms: dict[Arm, Release] = {}
    names: set[str] = set()
    for release in releases:
        want = release.want
        for revision in want.arms:
            missing = {
                name
                for name, of in release.wanted[revision].histograms.items()
                if any((revision, selector.metric) not in release.bounds for selector in of)
            }
            if missing:
                arms[want.namespace, want.release, revision] = release
                names |= missing
    if not arms:
        return
    buckets = f"{{{_named(names)}, {_of(revision for _, _, revision in arms)}}}"
    found: dict[tuple[Arm, str], set[str]] = {}
    for series in ask(f"count by (__name__, namespace, {NAME}, {REVISION}, le) ({buckets})"):
        metric = series.labels.get("__name__", "").removesuffix("_bucket")
        found.setdefault((_arm(series), metric), set()).add(series.labels.get("le", ""))
    for (arm, metric), labels in found.items():
        if arm in arms:
            arms[arm].bounds[arm[2], metric] = frozenset(labels)


Seen = dict[Arm, dict[str, dict[str, list[Series]]]]  # by arm, pod and metric


def _see(ask: Ask, releases: Sequence[Release]) -> Seen:
    """All series of all pods of these releases that anybody asks for, with `up` and, as SCRAPED, its timestamp."""
    revisions = _of(revision for release in releases for revision in release.want.arms)
    names = set().union({"up"}, *(_names(release) for release in releases))
    buckets = {text for release in releases for text in _bucket_texts(release)}
    # A series without the label has the empty one; of histograms only the buckets that somebody needs.
    le = f', le=~"|{_any(buckets)}"' if any(name.endswith("_bucket") for name in names) else ""
    query = (
        f"{{{_named(names)}, {revisions}{le}}} or "
        f'label_replace(timestamp(up{{{revisions}}}), "{SCRAPED}", "yes", "", "")'
    )
    seen: Seen = {}
    for series in ask(query):
        name = SCRAPED if SCRAPED in series.labels else series.labels.get("__name__", "")
        pod = seen.setdefault(_arm(series), {}).setdefault(series.labels.get("pod", ""), {})
        pod.setdefault(name, []).append(series)
    return seen


def _bucket_texts(release: Release) -> set[str]:
    """Labels `le` of the buckets that any choice of bounds could need, as Prometheus 2 and 3 write them."""
    found: set[str] = set()
    for revision, measures in release.want.arms.items():
        for measure in measures:
            if not measure.slower_than_s:
                continue
            for arms in (release.want.arms, (revision,)):
                chosen = set(_choose(release, measure.check, arms) or ())
                for selector in measure.total:
                    for text in release.bounds.get((revision, selector.metric), ()):
                        if _bound(text, selector.unit_s) in chosen or text == "+Inf":
                            found |= {text, *_spellings(text)}
    return found


def _spellings(text: str) -> Iterator[str]:
    try:
        value = float(text)
    except ValueError:
        return
    if math.isfinite(value):
        yield repr(value)
        yield repr(value).removesuffix(".0")


def _choose(release: Release, check: str, arms: Iterable[str]) -> tuple[float, ...] | None:
    """The bounds that stand for those of a latency check, common to these revisions; None if one of them has none."""
    thresholds: tuple[float, ...] = ()
    known: list[frozenset[float]] = []
    for revision in arms:
        for measure in release.want.arms[revision]:
            if measure.check == check and measure.slower_than_s:
                thresholds = measure.slower_than_s
                known += (_bounds(release, revision, selector) for selector in measure.total)
    chosen = [counters.common_bound(threshold, known) for threshold in thresholds]
    found = tuple(bound for bound in chosen if bound is not None)
    return found if found and len(found) == len(chosen) else None


def _bounds(release: Release, revision: str, selector: Selector) -> frozenset[float]:
    return _finite(release.bounds.get((revision, selector.metric), frozenset()), selector.unit_s)


@functools.lru_cache(1024)  # the releases of one runtime have the same ones
def _finite(labels: frozenset[str], unit_s: float) -> frozenset[float]:
    return frozenset(bound for text in labels if math.isfinite(bound := _bound(text, unit_s)))


def _bound(text: str, unit_s: float) -> float:
    """A bucket's upper bound in seconds, without what the change of units does to the last digits."""
    try:
        return float(f"{float(text) * unit_s:.9g}")
    except ValueError:
        return math.nan


# -- what was answered ------------------------------------------------------------------------------------------------
def _snapshot(release: Release, at: datetime, seen: Seen) -> Snapshot | Unavailable:
    want = release.want
    of = {revision: seen.get((want.namespace, want.release, revision), {}) for revision in want.arms}
    up = [series.value for pods in of.values() for pod in pods.values() for series in pod.get("up", ())]
    if any(map(math.isnan, up)):
        return Unavailable(Reason.PROMETHEUS_ERROR, "Prometheus says neither yes nor no to which pods it scraped (NaN)")
    scraped = {revision: {name: pod for name, pod in pods.items() if _is_up(pod)} for revision, pods in of.items()}
    born = {
        (revision, selector)
        for revision, pods in scraped.items()
        for name, selectors in release.wanted[revision].histograms.items()
        for selector in selectors
        if any(selector.fits(series.labels) for pod in pods.values() for series in pod.get(name, ()))
    }
    bounds = _chosen(release, born)
    columns = {revision: _columns(release, revision, bounds) for revision in want.arms}
    readings = {
        Pod(revision, name): _reading(pod, release.wanted[revision], columns[revision])
        for revision, pods in scraped.items()
        for name, pod in pods.items()
    }
    histograms = {
        (revision, selector)
        for revision in want.arms
        for selectors in release.wanted[revision].histograms.values()
        for selector in selectors
    }
    return Snapshot(at, readings, columns, frozenset(histograms - born), bounds)


def _is_up(pod: Mapping[str, Sequence[Series]]) -> bool:
    return any(series.value == 1 for series in pod.get("up", ())) and SCRAPED in pod


def _chosen(release: Release, born: set[tuple[str, Selector]]) -> dict[tuple[str, str], tuple[float, ...]]:
    """By revision and latency check the bounds that stand for its own; a revision without the histogram has no say."""
    found: dict[tuple[str, str], tuple[float, ...]] = {}
    for check in {measure.check for arm in release.want.arms.values() for measure in arm if measure.slower_than_s}:
        arms = [
            revision
            for revision, measures in release.want.arms.items()
            for measure in measures
            if measure.check == check and any((revision, selector) in born for selector in measure.total)
        ]
        chosen = _choose(release, check, arms)
        if chosen is not None:
            found |= {(revision, check): chosen for revision in arms}
    return found


def _columns(release: Release, revision: str, bounds: Mapping[tuple[str, str], tuple[float, ...]]) -> frozenset[Column]:
    columns = {Column(selector) for of in release.wanted[revision].counters.values() for selector in of}
    for measure in release.want.arms[revision]:
        for selector in measure.total if measure.slower_than_s else ():
            own = bounds.get((revision, measure.check), ())
            columns |= {Column(selector, bound) for bound in (*own, *((math.inf,) if own else ()))}
    return frozenset(columns)


def _reading(pod: Mapping[str, Sequence[Series]], wanted: Wanted, columns: frozenset[Column]) -> Reading:
    values: dict[Column, dict[counters.Series, float]] = {}
    for name, selectors in wanted.counters.items():
        for series in pod.get(name, ()):
            for selector in selectors:
                if selector.fits(series.labels):
                    values.setdefault(Column(selector), {})[_identity(series)] = series.value
    for name, selectors in wanted.histograms.items():
        for series in pod.get(name, ()):
            for selector in selectors:
                column = Column(selector, _bound(series.labels.get("le", ""), selector.unit_s))
                if column in columns and selector.fits(series.labels):
                    values.setdefault(column, {})[_identity(series)] = series.value
    gauges = {
        selector: tuple(series.value for series in pod.get(name, ()) if selector.fits(series.labels))
        for name, selectors in wanted.gauges.items()
        for selector in selectors
    }
    finite = {selector: tuple(value for value in of if math.isfinite(value)) for selector, of in gauges.items()}
    scraped_at = max(series.value for series in pod[SCRAPED])
    return Reading(scraped_at, values, {selector: of for selector, of in finite.items() if of})


def _with_gaps(
    ask: Callable[[str, datetime], list[Series]],
    releases: Sequence[Release],
    snapshots: Sequence[Snapshot | Unavailable],
) -> list[Read | Unavailable]:
    """Tell the newcomers that are new from those that Prometheus had scraped before. Asks only where there are any."""
    newcomers: dict[datetime, set[str]] = {}
    for release, snapshot in zip(releases, snapshots, strict=True):
        if release.before is not None and isinstance(snapshot, Snapshot):
            for pod in counters.newcomers(release.before, snapshot):
                newcomers.setdefault(release.before.at, set()).add(pod.revision)
    earlier: set[tuple[Arm, str, datetime]] = set()
    blind: set[datetime] = set()
    for began, revisions in newcomers.items():
        by = f"max by (namespace, {NAME}, {REVISION}, pod)"
        found = ask(f"{by} (max_over_time(up{{{_of(revisions)}}}[{GAP_MEMORY}])) == 1 or count(up)", began)
        earlier |= {(_arm(series), series.labels.get("pod", ""), began) for series in found if series.labels}
        if all(series.labels for series in found):
            blind.add(began)  # Prometheus knew nothing at all then: nobody can tell who was new
    reads: list[Read | Unavailable] = []
    for release, snapshot in zip(releases, snapshots, strict=True):
        before, want = release.before, release.want
        if before is None or isinstance(snapshot, Unavailable):
            reads.append(snapshot if isinstance(snapshot, Unavailable) else Read(snapshot))
            continue
        gaps = {
            pod
            for pod in counters.newcomers(before, snapshot)
            if before.at in blind or ((want.namespace, want.release, pod.revision), pod.name, before.at) in earlier
        }
        reads.append(Read(snapshot, frozenset(gaps)))
    return reads


# -- words ------------------------------------------------------------------------------------------------------------
_ARM = frozenset({"__name__", "le", "namespace", "pod", NAME, REVISION})


def _arm(series: Series) -> Arm:
    labels = series.labels
    return labels.get("namespace", ""), labels.get(NAME, ""), labels.get(REVISION, "")


def _identity(series: Series) -> counters.Series:
    """Which series of its pod it is; the hash of its labels alone is kept, since thousands are."""
    rest = frozenset(item for item in series.labels.items() if item[0] not in _ARM)
    return counters.Series(series.labels.get("instance", ""), hash(rest))


def _of(revisions: Iterable[str]) -> str:
    return f'{REVISION}=~"{_any(revisions)}"'


def _named(names: Iterable[str]) -> str:
    return f'__name__=~"{_any(names)}"'


def _any(texts: Iterable[str]) -> str:
    """An alternation of literal texts for use inside a PromQL string."""
    special = str.maketrans({char: f"\\\\{char}" for char in ".+*?()|[]{}^$"})
    return "|".join(sorted(text.translate(special) for text in set(texts)))
