"""Reads the counters of checks whose queries a person wrote.

Here: how such a query is filled in, asked and believed. They are never batched, and asked within a time and for a
number of series that they cannot exceed: a bad one fails alone, its release's other checks go on. Blocking; runs in
threads of its own.

The rule: what is filled in can end neither a string nor a pattern, in whichever quotes it stands; and series that fall
for reasons of their own never pass for a restart of the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from modelrelease.core import counters
from modelrelease.core.counters import Column, Pod, Query, Reading, Snapshot
from modelrelease.core.observation import Unavailable
from modelrelease.core.wants import Measure, SampleWant

from .readings import Instant

TIME_LIMIT_S = 2.0
SERIES_LIMIT = 1_000

_PLAIN = re.compile(r"[A-Za-z0-9.-]+")

Found = Mapping[Pod, Mapping[Column, Mapping[counters.Series, float]]]


def measures(want: SampleWant) -> dict[str, Measure]:
    """The checks of a release that are asked for here."""
    return {measure.check: measure for arm in want.arms.values() for measure in arm if measure.custom is not None}


def read(prometheus: Instant, want: SampleWant, measure: Measure, snapshot: Snapshot) -> Found | str:
    """The counters of one check on all pods of a snapshot, or why they cannot be had."""
    assert measure.custom is not None, "only such checks are read here"
    found: dict[Pod, dict[Column, dict[counters.Series, float]]] = {}
    for revision in want.arms:
        pods = {pod.name: pod for pod in snapshot.pods if pod.revision == revision}
        if not pods:
            continue
        for part, text in (("total", measure.custom.total), ("bad", measure.custom.bad)):
            query = fill(text, want.namespace, revision, pods)
            if query is None:
                return "a name that is not made of letters, digits, - and . cannot be put into its query"
            series = prometheus.instant(query, snapshot.at, timeout_s=TIME_LIMIT_S, limit=SERIES_LIMIT)
            if isinstance(series, Unavailable):
                return f"its query for {part}: {series.message}"
            for one in series:
                if "pod" not in one.labels:
                    return f"its query for {part} gives series without the label pod; write sum by (pod) (...)"
                pod = pods.get(one.labels["pod"])
                if pod is not None:
                    column = Column(Query(measure.check, part))
                    found.setdefault(pod, {}).setdefault(column, {})[_identity(measure.check, one.labels)] = one.value
    return found


def with_found(snapshot: Snapshot, found: Mapping[str, Found | str]) -> Snapshot:
    """The snapshot with what was found for each check; those that failed have no columns."""
    pods = dict(snapshot.pods)
    new: set[Column] = set()
    for check, of_check in found.items():
        if isinstance(of_check, str):
            continue
        new |= {Column(Query(check, "total")), Column(Query(check, "bad"))}
        for pod, values in of_check.items():
            pods[pod] = _extended(pods[pod], values)
    return replace(
        snapshot,
        pods=pods,
        columns={revision: columns | new for revision, columns in snapshot.columns.items()},
        failures={check: words for check, words in found.items() if isinstance(words, str)},
    )


def fill(text: str, namespace: str, revision: str, pods: Iterable[str]) -> str | None:
    """The query of one revision; None where a name holds more than names of Kubernetes do.

    In $(pods) a dot is written as a class of characters: a backslash means another thing in each kind of quotes.
    """
    names = sorted(pods)
    if not all(_PLAIN.fullmatch(name) for name in (namespace, revision, *names)):
        return None
    alternation = "|".join(name.replace(".", "[.]") for name in names)
    words = {"$(namespace)": namespace, "$(revision)": revision, "$(pods)": alternation}
    return re.sub(r"\$\((?:namespace|revision|pods)\)", lambda match: words[match.group()], text)


def _extended(reading: Reading, values: Mapping[Column, Mapping[counters.Series, float]]) -> Reading:
    return replace(reading, counters={**reading.counters, **values})


def _identity(check: str, labels: Mapping[str, str]) -> counters.Series:
    rest = frozenset(item for item in labels.items() if item[0] != "pod")
    return counters.Series(f"{check}@{labels.get('instance', '')}", hash(rest))
