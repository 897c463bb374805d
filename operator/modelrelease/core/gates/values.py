"""Finding the one value of a metric in an evaluation, and the words for it.

Every look-up returns a value or a sentence that says why there is none. MLflow's traps are met here: a metric logged
for several data sets is ambiguous, a value of a run has lost its data set, and what is not a finite number is no value
(MLflow stores an infinite one as the largest float).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..observation import MetricValue, ModelVersion

TOLERANCE = 1e-9  # of floats that went through a database and JSON
_INFINITE = 1.7e308


@dataclass(frozen=True, slots=True)
class Data:
    """Which data set is asked for: a name, or a name and its digest, or neither."""

    name: str | None = None
    digest: str | None = None


def lookup(version: ModelVersion, key: str, data: Data) -> MetricValue | str:
    """The one finite value of a metric, or words that say why there is none."""
    found = list(version.by_key.get(key, ()))
    what = f"metric {key} of version {version.version}"
    if not found:
        return f"metric {key} was not logged for version {version.version}"
    if version.metrics_from != "LoggedModel":
        if data.digest is not None:
            return f"{what} was logged for its run only, which does not tell the state of a data set"
        return _finite(found[-1], what)
    if data.name is not None:
        found = [item for item in found if item.dataset == data.name]
        if not found:
            return f"{what} was not logged for data set {data.name}"
    if data.digest is not None:
        states = sorted({item.digest or "-" for item in found})
        found = [item for item in found if item.digest == data.digest]
        if not found:
            return f"{what} was logged for {data.name}@{', '.join(states)}, not for {data.name}@{data.digest}"
    names = sorted({item.dataset or "-" for item in found})
    if len(names) > 1:
        return f"{what} was logged for data sets {', '.join(names)}: name one in the gate"
    if len(found) > 1:
        states = [dataset_words(item) or "-" for item in found]
        return f"{what} was logged for {', '.join(states)}: name the datasetDigest in the gate"
    return _finite(found[0], what)


def counterpart(champion: ModelVersion, key: str, value: MetricValue) -> MetricValue | str:
    """The champion's value of the same metric on the same data, or words that say why there is none.

    Where both tell the state of the data set, it must be the same one.
    """
    found = lookup(champion, key, Data(value.dataset))
    if isinstance(found, MetricValue) and not (value.digest and found.digest and value.digest != found.digest):
        return found
    if value.digest is not None:
        same = lookup(champion, key, Data(value.dataset, value.digest))
        if isinstance(same, MetricValue):
            return same
    return found


def figure(version: ModelVersion, key: str, beside: MetricValue) -> float | str:
    """A figure that belongs to a value: logged on the same data, or without any data set."""
    found = lookup(version, key, Data(beside.dataset, beside.digest))
    if isinstance(found, str):
        plain = [item for item in version.by_key.get(key, ()) if item.dataset is None]
        return _finite_value(plain[0], version) if plain else found
    return found.value


def sample_count(version: ModelVersion, key: str, beside: MetricValue) -> float | str:
    """The number of samples that a value rests on, at least 1, or words."""
    found = figure(version, key, beside)
    if not isinstance(found, str) and found < 1:
        return f"metric {key} of version {version.version} is {number(found)}, not a number of samples"
    return found


def standard_error(version: ModelVersion, key: str, beside: MetricValue) -> float | str:
    """The standard error of a value, never negative, or words."""
    found = figure(version, key, beside)
    if not isinstance(found, str) and found < 0:
        return f"metric {key} of version {version.version} is {number(found)}, not a standard error"
    return found


def source_words(version: ModelVersion) -> str:
    """Where the values come from."""
    return "LoggedModel" if version.metrics_from == "LoggedModel" else "Run: the data set of this value is not recorded"


def dataset_words(value: MetricValue) -> str | None:
    """name@digest, as far as it was logged."""
    return f"{value.dataset}@{value.digest}" if value.dataset and value.digest else value.dataset


def number(value: float, digits: int = 4) -> str:
    """Significant digits, as people compare them."""
    return f"{value:.{digits}g}"


def count(value: float) -> str:
    """A number of samples."""
    return f"{math.floor(value + 0.5):,}"


def among(slices: int) -> str:
    """What stands before the words of the slice that decides."""
    return "1 slice: " if slices == 1 else f"{slices} slices, the tightest "


def told_apart(value: float, limit: float) -> tuple[str, str]:
    """Both with four significant digits, or as many more as it takes to see that they differ."""
    for digits in range(4, 9):
        if number(value, digits) != number(limit, digits):
            return number(value, digits), number(limit, digits)
    return number(value), number(limit)


def _finite_value(found: MetricValue, version: ModelVersion) -> float | str:
    finite = _finite(found, f"metric {found.key} of version {version.version}")
    return finite if isinstance(finite, str) else finite.value


def _finite(found: MetricValue, what: str) -> MetricValue | str:
    if math.isfinite(found.value) and abs(found.value) < _INFINITE:
        return found
    shown = "nan" if math.isnan(found.value) else "infinite"
    return f"{what} is {shown}: no bound can be held against it, evaluate again"
