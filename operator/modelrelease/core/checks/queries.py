"""PromQL that a person can paste to see what a check counted: raw counters, by revision.

It shows, it is never asked: the sampler reads counters for each pod and takes the differences itself. Without a rate,
since what a check compares are counts from the beginning of its evidence.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelrelease.api.base import REVISION_LABEL
from modelrelease.core.wants import Measure
from modelrelease.presets import Selector

LONGEST = 512
"""As status bounds it. A longer one is left out: cut short it would not be PromQL."""
_REVISION = REVISION_LABEL.replace(".", "_").replace("/", "_")
"""The pod label as Prometheus knows it."""


def query_of(measure: Measure, revisions: Iterable[str], bound: int = 0) -> str:
    """The counters of bad requests of these revisions; for a latency the buckets of one bound and of all.

    A gauge is shown as its mean, a custom query as it was written. Empty where there is nothing to ask or it would be
    too long.
    """
    of = f'{_REVISION}=~"{"|".join(sorted(revisions))}"'
    if measure.custom is not None:
        text = measure.custom.bad
    elif measure.gauge is not None:
        text = f"avg by ({_REVISION}) ({_series(measure.gauge, '', of)})"
    elif measure.slower_than_s:
        slower_than_s = measure.slower_than_s[min(bound, len(measure.slower_than_s) - 1)]
        text = " or ".join(
            f"sum by ({_REVISION}, le) ({_series(item, '_bucket', _le(slower_than_s / item.unit_s), of)})"
            for item in measure.total
        )
    else:
        by_factor: dict[float, list[str]] = {}
        for factor, item in measure.bad:
            by_factor.setdefault(factor, []).append(_series(item, "", of))
        terms = [(factor, f"sum by ({_REVISION}) ({' or '.join(found)})") for factor, found in by_factor.items()]
        text = "".join(_signed(factor, term, first=not place) for place, (factor, term) in enumerate(terms))
    return text if len(text) <= LONGEST else ""


def _signed(factor: float, term: str, *, first: bool) -> str:
    scaled = term if abs(factor) == 1 else f"{abs(factor):g} * {term}"
    if first:
        return scaled if factor > 0 else f"-{scaled}"
    return f" + {scaled}" if factor > 0 else f" - {scaled}"


def _series(selector: Selector, suffix: str, *matchers: str) -> str:
    return f"{selector.metric}{suffix}{{{', '.join((*map(str, selector.matchers), *matchers))}}}"


def _le(bound: float) -> str:
    """Bucket bounds are texts, and `1` is written as 1 or as 1.0."""
    text = f"{bound:.12g}".replace(".", "[.]")
    whole = bound == int(bound)
    return f'le=~"{text}{"([.]0)?" if whole else ""}|[+]Inf"'
