"""core.counters as tables: what two snapshots make of each other."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.core.counters import (
    Column,
    Pod,
    Query,
    Reading,
    Series,
    Snapshot,
    closes,
    common_bound,
    counts,
    first_point,
    gauges,
    in_flight,
    increments,
    newcomers,
    newest_point,
    progress,
)
from modelrelease.core.evidence import Counts
from modelrelease.core.wants import Measure, Queries
from modelrelease.presets import Matcher, Selector

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
REQUESTS, ERRORS, SECONDS = (
    Selector("requests"),
    Selector("requests", (Matcher("code", "=", "500"),)),
    Selector("seconds"),
)
ALL, BAD = Column(REQUESTS), Column(ERRORS)
P1, P2 = Pod("r1", "p1"), Pod("r1", "p2")


def snapshot(seconds: float, *pods: tuple[Pod, dict[str, float]], scraped: float | None = None) -> Snapshot:
    """Pods with the counter ALL as series -> value, scraped 1 s before the point or at `scraped` seconds."""
    at = BEGIN + timedelta(seconds=seconds)
    scraped_at = BEGIN.timestamp() + (seconds - 1 if scraped is None else scraped)
    readings = {pod: Reading(scraped_at, {ALL: series(values)} if values else {}) for pod, values in pods}
    return Snapshot(at, readings, {pod.revision: frozenset({ALL, BAD}) for pod in (P1, Pod("r2", "q"))})


def series(values: dict[str, float]) -> dict[Series, float]:
    """By name; `target/name` stands for another scraped endpoint of the pod."""
    return {Series(name.rpartition("/")[0], name.rpartition("/")[2]): value for name, value in values.items()}


@pytest.mark.parametrize(
    ("before", "after", "gaps", "expected"),
    [
        pytest.param([(P1, {"a": 3})], [(P1, {"a": 5})], [], 2, id="a counter grows"),
        pytest.param([(P1, {"a": 3})], [(P1, {"a": 3})], [], 0, id="a counter stands still"),
        pytest.param([(P1, {"a": 2**53 - 1})], [(P1, {"a": 2**53})], [], 1, id="large counters stay exact"),
        pytest.param([(P1, {"a": 10})], [(P1, {"a": 4})], [], 4, id="a counter that fell began at 0"),
        pytest.param([(P1, {"a": 10, "b": 2})], [(P1, {"a": 4, "b": 3})], [], 7, id="and so did its neighbours"),
        pytest.param([(P1, {"x/a": 9, "y/b": 2})], [(P1, {"x/a": 4, "y/b": 3})], [], 5, id="other endpoints did not"),
        pytest.param([(P1, {"a": 3})], [(P1, {"a": 3, "b": 1})], [], 1, id="a series that is born counts from 0"),
        pytest.param([(P1, {})], [(P1, {"a": 1})], [], 1, id="the first series of a scraped pod as well"),
        pytest.param([(P1, {"a": 3})], [(P1, {"a": 3}), (P2, {"a": 4})], [], 4, id="a new pod counts from 0"),
        pytest.param([(P1, {"a": 3})], [(P1, {"a": 5}), (P2, {"a": 400})], [P2], 2, id="a pod with a gap is skipped"),
        pytest.param([(P1, {"a": 3}), (P2, {"a": 9})], [(P1, {"a": 4})], [], 1, id="a pod that vanished takes nothing"),
        pytest.param([(P1, {"a": 3, "b": 7})], [(P1, {"a": 4})], [], 1, id="a series that vanished takes nothing"),
        pytest.param([(P1, {"a": 3})], [(P1, {})], [], None, id="without any series nothing is known"),
        pytest.param([(P1, {"a": 3})], [], [], None, id="without pods nothing is known"),
        pytest.param([(P1, {"a": 3})], [(P2, {"a": 5})], [P2], None, id="with gaps only nothing is known"),
        pytest.param([(P1, {"a": 3, "b": 1})], [(P1, {"a": math.nan, "b": 2})], [], None, id="NaN at the end"),
        pytest.param([(P1, {"a": math.nan, "b": 1})], [(P1, {"a": 900, "b": 2})], [], None, id="NaN at the begin"),
        pytest.param([(P1, {"a": math.nan, "b": 1})], [(P1, {"b": 2})], [], None, id="NaN that went away"),
    ],
)
def test_increments(
    before: list[tuple[Pod, dict[str, float]]],
    after: list[tuple[Pod, dict[str, float]]],
    gaps: list[Pod],
    expected: float | None,
) -> None:
    found = increments(snapshot(0, *before), snapshot(5, *after), gaps)

    counted = [grown[ALL] for grown in found.values() if ALL in grown]
    assert (sum(counted) if counted else None) == expected


def test_a_column_that_was_not_asked_for_before_is_skipped_and_one_that_was_not_born_counts() -> None:
    bucket = Column(SECONDS, 0.5)
    reading = {P1: Reading(4, {bucket: series({"a": 7})})}
    after = Snapshot(BEGIN, reading, {"r1": frozenset({bucket})})
    unknown = Snapshot(BEGIN, {P1: Reading(0, {})}, {"r1": frozenset()})
    unborn = Snapshot(BEGIN, {P1: Reading(0, {})}, {"r1": frozenset()}, unborn=frozenset({("r1", SECONDS)}))

    assert increments(unknown, after, []) == {P1: {}}
    assert increments(unborn, after, []) == {P1: {bucket: 7}}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(snapshot(5, (P1, {})), True, id="every arm was scraped"),
        pytest.param(snapshot(5, (P1, {}), scraped=-1), False, id="no scrape since it began"),
        pytest.param(snapshot(5, (P1, {}), scraped=0), False, id="a scrape at the very begin belongs to before"),
        pytest.param(snapshot(5), False, id="no pod lives"),
    ],
)
def test_closes(after: Snapshot, expected: bool) -> None:
    assert closes(snapshot(0, (P1, {})), after) == expected


def test_an_interval_stays_open_until_each_living_arm_was_scraped() -> None:
    fresh, stale = BEGIN.timestamp() + 3, BEGIN.timestamp() - 1
    pods = {P1: Reading(fresh, {}), P2: Reading(stale, {}), Pod("r2", "q"): Reading(stale, {})}
    before, after = snapshot(0), snapshot(5)

    assert not closes(before, Snapshot(after.at, pods, {}))
    pods[Pod("r2", "other")] = Reading(fresh, {})
    assert closes(before, Snapshot(after.at, pods, {}))


def test_newcomers_are_pods_that_were_not_there_before() -> None:
    assert newcomers(snapshot(0, (P1, {})), snapshot(5, (P1, {}), (P2, {}))) == {P2}


OTHER, SUM = Selector("failures"), Selector("score_sum")
SLOW, SLOWER = Column(SECONDS, 0.5), Column(SECONDS, 2.0)
EVERY = Column(SECONDS, math.inf)
OWN, OWN_BAD = Column(Query("own", "total")), Column(Query("own", "bad"))
MEASURES = {
    "errors": Measure("errors", (REQUESTS,), bad=((1, ERRORS),)),
    "both": Measure("both", (REQUESTS, OTHER), bad=((1, OTHER),)),
    "score": Measure("score", (REQUESTS,), bad=((1, REQUESTS), (-1, SUM))),
    "wins": Measure("wins", (REQUESTS,), bad=((1, REQUESTS), (-1, SUM), (-0.5, OTHER))),
    "slow": Measure("slow", (SECONDS,), slower_than_s=(0.5, 2)),
    "own": Measure("own", custom=Queries("t", "b")),
    "lacks": Measure("lacks", lacks="the runtime has none"),
    "gauge": Measure("gauge", gauge=OTHER),
}


@pytest.mark.parametrize(
    ("check", "grown", "bounds", "expected"),
    [
        pytest.param("errors", {ALL: 10, BAD: 3}, (), (Counts(10, 3),), id="errors"),
        pytest.param("errors", {ALL: 10}, (), (Counts(10, 0),), id="no error series yet"),
        pytest.param("errors", {BAD: 3}, (), None, id="no total, no entry"),
        pytest.param("errors", {ALL: 2, BAD: 3}, (), (Counts(2, 2),), id="bad is cut to total"),
        pytest.param("both", {ALL: 8, Column(OTHER): 2}, (), (Counts(10, 2),), id="successes and failures apart"),
        pytest.param("both", {Column(OTHER): 2}, (), (Counts(2, 2),), id="failures only"),
        pytest.param("score", {ALL: 10, Column(SUM): 9.5}, (), (Counts(10, 0.5),), id="what a score lacks to 1"),
        pytest.param("score", {ALL: 10, Column(SUM): 12}, (), (Counts(10, 0),), id="a score above 1 is cut"),
        pytest.param("wins", {ALL: 10, Column(SUM): 6, Column(OTHER): 2}, (), (Counts(10, 3),), id="ties are half"),
        pytest.param("wins", {ALL: 10}, (), (Counts(10, 10),), id="nothing won yet"),
        pytest.param(
            "slow", {EVERY: 10, SLOW: 7, SLOWER: 9}, (0.5, 2.0), (Counts(10, 3), Counts(10, 1)), id="one a bound"
        ),
        pytest.param("slow", {EVERY: 10, SLOW: 7}, (0.5, 2.0), None, id="a bucket that is not known"),
        pytest.param("slow", {EVERY: 10}, (), None, id="without bounds no entry"),
        pytest.param("own", {OWN: 10, OWN_BAD: 1}, (), (Counts(10, 1),), id="own queries"),
        pytest.param("own", {OWN_BAD: 1}, (), None, id="own queries without a total"),
        pytest.param("lacks", {ALL: 10}, (), None, id="what the runtime does not have"),
        pytest.param("gauge", {Column(OTHER): 10}, (), None, id="a gauge counts nothing"),
    ],
)
def test_counts(
    check: str, grown: dict[Column, float], bounds: tuple[float, ...], expected: tuple[Counts, ...] | None
) -> None:
    found = counts([MEASURES[check]], grown, {check: bounds} if bounds else {})

    assert found == ({check: expected} if expected else {})


def test_gauges_are_means_and_load_is_a_sum() -> None:
    running, waiting = Selector("running"), Selector("waiting")
    reading = Reading(0, {}, {OTHER: (0.25, 0.75), running: (3, 1), waiting: (2,)})

    assert gauges(MEASURES.values(), reading) == {"gauge": 0.5}
    assert in_flight((running, waiting), reading) == 6
    assert in_flight((Selector("unknown"),), reading) is None
    assert progress((REQUESTS, OTHER), {ALL: 7}) == 7
    assert progress((OTHER,), {ALL: 7}) is None


@pytest.mark.parametrize(
    ("threshold", "arms", "expected"),
    [
        pytest.param(0.5, [{0.1, 0.5, 1.0}], 0.5, id="the threshold is a bound"),
        pytest.param(0.6, [{0.1, 0.5, 1.0}], 0.5, id="the next lower bound"),
        pytest.param(0.5, [{0.1, 0.5}, {0.1, 0.25}], 0.1, id="a bound that both arms have"),
        pytest.param(0.5, [{0.5}, {0.25}], None, id="no bound in common"),
        pytest.param(0.05, [{0.1, 0.5}], None, id="no bound so low"),
        pytest.param(0.5, [{0.5}, set()], 0.5, id="an arm without histogram has no say"),
        pytest.param(0.5, [set()], None, id="no histogram at all"),
        pytest.param(0.3, [{0.1 + 0.2}], 0.1 + 0.2, id="rounding does not matter"),
    ],
)
def test_common_bound(threshold: float, arms: list[set[float]], expected: float | None) -> None:
    assert common_bound(threshold, arms) == expected


STEP = timedelta(seconds=5)


@pytest.mark.parametrize(
    ("now_s", "lag_s", "newest_s"), [(0, 0, 0), (4.999, 0, 0), (5, 0, 5), (9, 5, 0), (10, 5, 5), (0, 1, -5)]
)
def test_newest_point(now_s: float, lag_s: float, newest_s: float) -> None:
    found = newest_point(BEGIN + timedelta(seconds=now_s), STEP, timedelta(seconds=lag_s))

    assert found == BEGIN + timedelta(seconds=newest_s)


@pytest.mark.parametrize(("since_s", "first_s"), [(0, 0), (0.001, 5), (5, 5), (7, 10)])
def test_first_point(since_s: float, first_s: float) -> None:
    assert first_point(BEGIN + timedelta(seconds=since_s), STEP) == BEGIN + timedelta(seconds=first_s)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12))
def test_what_happened_is_counted_once(history: list[tuple[int, bool]]) -> None:
    """history: requests of each interval, and whether the process restarts at its begin."""
    values = [100]
    for requests, restarts in history:
        values.append(requests if restarts else values[-1] + requests)
    shots = [snapshot(5 * index, (P1, {"a": value})) for index, value in enumerate(values)]

    counted = sum(increments(before, after, [])[P1][ALL] for before, after in pairwise(shots))

    outgrown = sum(
        before for before, (requests, restarts) in zip(values, history, strict=False) if restarts and requests >= before
    )
    assert counted == sum(requests for requests, _ in history) - outgrown, "no restart can be seen that was outgrown"
