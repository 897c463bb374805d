"""When a live object still says what was rendered."""

from __future__ import annotations

from typing import Any

import pytest

from modelrelease.core.drift import covers

SAME: dict[str, tuple[Any, Any]] = {
    "the same": ({"a": 1}, {"a": 1}),
    "fields that the API server added": ({"a": 1, "defaulted": True}, {"a": 1}),
    "a nested field that was added": ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
    "a field added to an item of a list": ([{"name": "x", "protocol": "TCP"}], [{"name": "x"}]),
    "1000m of CPU is 1": ({"cpu": "1"}, {"cpu": "1000m"}),
    "a number written as text": ({"cpu": "2"}, {"cpu": 2}),
    "0.5 is 500m": ({"cpu": "500m"}, {"cpu": 0.5}),
    "1024Mi is 1Gi": ({"memory": "1Gi"}, {"memory": "1024Mi"}),
    "1G is 1000M": ({"memory": "1G"}, {"memory": "1000M"}),
    "an empty list was wanted and dropped": ({}, {"args": []}),
    "an empty object was wanted and dropped": ({}, {"securityContext": {}}),
    "an empty text was wanted and dropped": ({}, {"group": ""}),
    "nothing was wanted": ({}, {"a": None}),
}
DRIFTED: dict[str, tuple[Any, Any]] = {
    "another value": ({"a": 2}, {"a": 1}),
    "a missing field": ({}, {"a": 1}),
    "an item too many": ([1, 2], [1]),
    "an item too few": ([1], [1, 2]),
    "another order": ([1, 2], [2, 1]),
    "true is not 1": ({"a": True}, {"a": 1}),
    "0 is not false": ({"a": 0}, {"a": False}),
    "1Gi is not 1G": ({"memory": "1Gi"}, {"memory": "1G"}),
    "a text instead of a list": ("ab", ["a", "b"]),
    "a list instead of an object": ([], {"a": 1}),
    "a weight edited by hand": ({"weight": 30}, {"weight": 20}),
    "another unit": ({"cpu": "1k"}, {"cpu": "1m"}),
    "text that only looks like a quantity": ({"name": "m"}, {"name": "k"}),
}


@pytest.mark.parametrize(("live", "wanted"), SAME.values(), ids=SAME.keys())
def test_no_drift(live: Any, wanted: Any) -> None:
    assert covers(live, wanted)


@pytest.mark.parametrize(("live", "wanted"), DRIFTED.values(), ids=DRIFTED.keys())
def test_drift(live: Any, wanted: Any) -> None:
    assert not covers(live, wanted)
