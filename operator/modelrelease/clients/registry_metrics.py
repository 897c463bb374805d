"""Which logged values describe a model version: those of its LoggedModel, else those of its run.

Here: MLflow's traps with metrics. A run keeps one value a name and forgets its data set, so it counts only where the
LoggedModel has none. A LoggedModel returns every point ever logged, and MLflow stores its NaN as 0.0 (the tables of
runs have a column for that, those of LoggedModels have none): a loss that is NaN would pass every maximum. Only a 0.0
is doubted, and the run that it was logged in is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from modelrelease.core.observation import MetricValue

HISTORIES_LIMIT = 8
"""Requests for the history of one metric; zeros beyond them count as NaN, which passes nothing."""


class Point(NamedTuple):
    """One logged value."""

    key: str
    value: float
    step: int
    timestamp: int
    dataset_name: str | None
    dataset_digest: str | None
    run_id: str | None = None


def evaluation(
    runs: Any, logged: Any, found: Callable[[Callable[[], Any]], Any], run_id: str | None, run: Any = None
) -> tuple[tuple[MetricValue, ...], str]:
    """The metrics of a version and where they are from, "LoggedModel" or "Run".

    logged: the LoggedModel, None where it was deleted: then nothing is known. runs: MLflow's store of runs. found:
    calls, and gives None for what does not exist. run: of this id, where it was read already. No request but for zeros
    and for a LoggedModel without metrics: then one, and one more a metric that is zero among several data sets.
    """
    if logged is None:
        return (), "LoggedModel"
    points = latest(logged.metrics or ())
    if points:
        known = {run_id: _last_values(run)} if run_id and run else {}
        return values(_with_nan(runs, points, found, known)), "LoggedModel"
    if run is None and run_id:
        run = found(lambda: runs.get_run(run_id))
    of_run = latest(run.data._metric_objs) if run else ()
    return (values(of_run), "Run") if of_run else ((), "LoggedModel")


def latest(points: Iterable[Any]) -> tuple[Point, ...]:
    """The latest point by (step, timestamp) of every key and data set."""
    held: dict[tuple[str, str, str], Point] = {}
    for item in points:
        name, digest = item.dataset_name or None, item.dataset_digest or None
        point = Point(
            item.key, float(item.value), item.step, item.timestamp, name, digest, getattr(item, "run_id", None)
        )
        series = (point.key, name or "", digest or "")
        former = held.get(series)
        if former is None or (point.step, point.timestamp) >= (former.step, former.timestamp):
            held[series] = point
    return tuple(held[series] for series in sorted(held))


def latest_points(points: Iterable[Any]) -> tuple[MetricValue, ...]:
    """The latest values as the core knows them; MLflow returns all that were ever logged."""
    return values(latest(points))


def values(points: Iterable[Point]) -> tuple[MetricValue, ...]:
    """As the core knows them."""
    return tuple(MetricValue(item.key, item.value, item.dataset_name, item.dataset_digest) for item in points)


def _last_values(run: Any) -> dict[str, Point]:
    return {item.key: item for item in latest(run.data._metric_objs)} if run else {}


def _with_nan(
    runs: Any,
    points: Sequence[Point],
    found: Callable[[Callable[[], Any]], Any],
    told: dict[str, dict[str, Point]],
) -> list[Point]:
    """The points, with NaN in place of each 0.0 that was NaN when it was logged. told: last values by run and name."""
    histories: dict[tuple[str, str], list[Any]] = {}
    out = []
    for point in points:
        run_id = point.run_id
        if point.value != 0 or not run_id:
            out.append(point)
            continue
        if run_id not in told:
            run = found(lambda run_id=run_id: runs.get_run(run_id))  # type: ignore[misc]
            told[run_id] = _last_values(run)
        last = told[run_id].get(point.key)
        if last is None:
            out.append(point)  # the run is gone: nothing says otherwise
            continue
        if (last.step, last.timestamp) == (point.step, point.timestamp) and (last.value == 0 or math.isnan(last.value)):
            out.append(point._replace(value=last.value))
            continue
        # The run's last value of this name is of another data set.
        place = (run_id, point.key)
        if place not in histories and len(histories) < HISTORIES_LIMIT:
            histories[place] = found(lambda place=place: runs.get_metric_history(*place)) or []  # type: ignore[misc]
        same = [
            float(item.value)
            for item in histories.get(place, ())
            if (item.step, item.timestamp) == (point.step, point.timestamp)
        ]
        doubtful = place not in histories or any(math.isnan(value) for value in same)
        out.append(point._replace(value=math.nan) if doubtful else point)
    return out
