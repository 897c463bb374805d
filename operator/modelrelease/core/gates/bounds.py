"""One value against its bounds: fixed ones, the champion's, or both; and the words for what was seen."""

from __future__ import annotations

from dataclasses import dataclass

from modelrelease.api.metric_gates import ChampionBound

from ..observation import MetricValue, ModelVersion
from .values import TOLERANCE, count, counterpart, dataset_words, number, told_apart


@dataclass(frozen=True, slots=True)
class Finding:
    """One value against its bounds. lacking: it could not be judged; else ok says whether it holds.

    headroom: how far from its bound, negative where it is broken; None where nothing was compared.
    """

    ok: bool
    words: str
    value: float | None = None
    champion: float | None = None
    threshold: float | None = None
    lacking: bool = False
    samples: float | None = None
    champion_samples: float | None = None
    headroom: float | None = None
    dataset: str | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a value must keep to."""

    least: float | None = None
    most: float | None = None
    champion: ChampionBound | None = None


def former_value(
    champion: ModelVersion, shown: str, found: MetricValue, candidate: ModelVersion
) -> MetricValue | Finding:
    """The champion's value of the same metric on the same data, or the finding that nothing can be compared.

    A run cannot tell its data set, so that its values are compared all the same; a LoggedModel could have.
    """
    former = counterpart(champion, found.key, found)
    if isinstance(former, str):
        words = f"{shown}: {number(found.value)}, but of the champion {former}"
        return Finding(False, words, found.value, lacking=True, dataset=dataset_words(found))
    if found.dataset is None and former.dataset is not None and candidate.metrics_from == "LoggedModel":
        words = (
            f"{shown}: logged without a data set, the champion's on {dataset_words(former)}: "
            "the values cannot be compared"
        )
        return Finding(False, words, found.value, former.value, lacking=True)
    if found.digest and former.digest and found.digest != former.digest:
        words = (
            f"{shown}: evaluated on data set {dataset_words(found)}, the champion on {dataset_words(former)}: "
            "the values cannot be compared"
        )
        return Finding(False, words, found.value, former.value, lacking=True, dataset=dataset_words(found))
    return former


def judge(
    shown: str, found: MetricValue, bounds: Bounds, former: MetricValue | None, samples: float | None = None
) -> Finding:
    """Hold one value against all its bounds; the one that leaves least room gives the words.

    former: the champion's value, None where there is nothing to compare with.
    """
    value = found.value
    limits = [(bounds.least, True), (bounds.most, False)]
    if bounds.champion is not None and former is not None:
        margin = bounds.champion.margin(former.value)
        downward = bounds.champion.downward
        limits.append((former.value - margin if downward else former.value + margin, downward))
    kept = [(limit, lower) for limit, lower in limits if limit is not None]
    kept.sort(key=lambda item: _room(value, *item))
    champion = former.value if former else None
    dataset = dataset_words(found)
    if not kept:
        words = f"{shown}: {number(value)}, nothing to compare with yet"
        return Finding(True, words, value, champion, samples=samples, dataset=dataset)
    limit, lower = kept[0]
    room = _room(value, limit, lower)
    seen, bound_shown = told_apart(value, limit)
    words = f"{shown}: {seen}, {'needs' if lower else 'allowed'} {bound_shown}{against(former, samples)}"
    return Finding(room >= -TOLERANCE, words, value, champion, limit, samples=samples, headroom=room, dataset=dataset)


def against(former: MetricValue | None, samples: float | None) -> str:
    """What stands in brackets behind a value."""
    parts = [f"champion {number(former.value)}"] if former else []
    if samples is not None:
        parts.append(f"{count(samples)} samples")
    return f" ({', '.join(parts)})" if parts else ""


def _room(value: float, limit: float, lower: bool) -> float:
    return value - limit if lower else limit - value
