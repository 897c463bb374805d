"""What checks accept, what they say when they refuse, and the margin that each kind is judged by."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modelrelease.api.checks import KINDS, Check
from modelrelease.core.revision import margin_of

POD = '{pod=~"$(pods)"}'
GAUGE = {"metric": "kvCacheUsage", "tolerance": 0.1}
WINS = {"wins": "wins_total", "judgements": "judged_total"}
OWN = {"total": f"t_total{POD}", "bad": f"b_total{POD}"}


def check(**kind: Any) -> Check:
    return Check.model_validate({"name": "c", **kind})


@pytest.mark.parametrize(
    ("kind", "margin", "polls"),
    [
        pytest.param({"errorRate": {}}, (1.25, 0.01), 3, id="errors"),
        pytest.param({"errorRate": {"of": "client"}}, (1.25, 0.01), 3, id="client errors"),
        pytest.param({"errorRate": {"max": 0.5, "minPolls": 1}}, (0, 0.5), 1, id="a tripwire"),
        pytest.param({"errorRate": {"margin": {"relative": 2}}}, (2, 0.01), 3, id="a margin of one's own"),
        pytest.param({"latency": {"slowerThan": "1s"}}, (1.25, 0.02), 3, id="latency"),
        pytest.param({"latency": {"slowerThan": "1s", "max": 0.1}}, (0, 0.1), 3, id="a latency objective"),
        pytest.param({"score": {"metric": "confidence"}}, (1, 0.02), 3, id="a score"),
        pytest.param({"score": {"metric": "confidence", "min": 0.75}}, (0, 0.25), 3, id="the least score"),
        pytest.param({"winRate": WINS}, (0, 0.53), 3, id="wins"),
        pytest.param({"winRate": {**WINS, "min": 0.5}}, (0, 0.5), 3, id="wins of half"),
        pytest.param({"gauge": GAUGE}, None, 3, id="a gauge has none"),
        pytest.param({"custom": OWN}, (1.25, 0.01), 3, id="own queries"),
        pytest.param({"custom": {**OWN, "max": 0.2}}, (0, 0.2), 3, id="own queries with a maximum"),
    ],
)
def test_the_margin_of(kind: dict[str, Any], margin: tuple[float, float] | None, polls: int) -> None:
    made = check(**kind)
    found = margin_of(made)
    assert (pytest.approx((found.relative, found.absolute)) if found else None) == margin
    assert made.min_polls == polls
    assert made.kind in KINDS
    assert made.part is getattr(made, made.kind)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        pytest.param({}, "exactly one of error_rate, latency, score, win_rate, gauge, custom", id="no kind"),
        pytest.param({"errorRate": {}, "gauge": GAUGE}, "exactly one of", id="two kinds"),
        pytest.param({"errorRate": {"of": "gateway"}}, "'server' or 'client'", id="errors of somebody else"),
        pytest.param({"latency": {"metric": "mood", "slowerThan": "1s"}}, "'queueTime'", id="an unknown latency"),
        pytest.param(
            {"latency": {"slowerThan": "1s", "alsoSlowerThan": ["2s", "3s", "4s"]}}, "at most 2", id="four bounds"
        ),
        pytest.param(
            {"latency": {"slowerThan": "1s", "alsoSlowerThan": ["1000ms"]}}, "must differ", id="one bound twice"
        ),
        pytest.param({"latency": {"slowerThan": "1s", "margin": {}, "max": 0.1}}, "not both", id="margin and max"),
        pytest.param({"score": {"metric": "c", "margin": {}, "min": 0.5}}, "not both", id="margin and min"),
        pytest.param(
            {"score": {"metric": "loss", "higherIsBetter": False, "min": 0.5}}, "higher is better", id="min loss"
        ),
        pytest.param({"score": {"metric": "a b"}}, "should match pattern", id="no name of a metric"),
        pytest.param({"winRate": {"wins": "w"}}, "judgements", id="wins of unknown judgements"),
        pytest.param({"gauge": {"metric": "m"}}, "tolerance", id="a gauge without tolerance"),
        pytest.param({"gauge": {**GAUGE, "polls": 1}}, "greater than or equal to 2", id="a gauge of one poll"),
        pytest.param(
            {"custom": {"total": "t", "bad": f"b{POD}"}}, "total must select a revision's pods", id="all pods"
        ),
        pytest.param({"custom": {**OWN, "bad": "b{a='$(node)'}"}}, r"bad has \$\(node\); known are", id="no such word"),
        pytest.param({"custom": {**OWN, "bad": "b{a='$(pods'}"}}, r"bad has \$\(pods", id="an open word"),
        pytest.param({"custom": {**OWN, "minPolls": 1}}, "minPolls belongs to max", id="minPolls alone"),
    ],
)
def test_a_check_is_refused_with_its_reason(kind: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        check(**kind)


def test_what_was_not_asked_for_is_not_written() -> None:
    """Digests of revisions that are older than a field stay what they are."""
    plain = check(latency={"slowerThan": "1s"}).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert plain == {"name": "c", "latency": {"metric": "requestDuration", "slowerThan": "1s"}}
    errors = check(errorRate={}).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert errors == {"name": "c", "errorRate": {}}


def test_bounds_stand_in_their_order() -> None:
    made = check(latency={"slowerThan": "1s", "alsoSlowerThan": ["500ms", "2500ms"]})
    assert made.latency is not None
    assert made.latency.bounds_s == (1, 0.5, 2.5)
