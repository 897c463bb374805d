"""engine.custom: what may be put into a query of one's own, and what becomes of its answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from modelrelease.core.counters import Column, Pod, Query, Reading, Snapshot
from modelrelease.engine.custom import fill, with_found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a{namespace="$(namespace)"}', 'a{namespace="team"}'),
        ("a{rev='$(revision)', pod=~'$(pods)'}", "a{rev='0a1b', pod=~'chat-1|chat-2'}"),
        ("a{pod=~`$(pods)`}", "a{pod=~`chat-1|chat-2`}"),
        ("a{b='$(other)', c='$pods'}", "a{b='$(other)', c='$pods'}"),
    ],
    ids=["the namespace", "revision and pods", "raw quotes", "nothing else"],
)
def test_placeholders_are_filled_in(text: str, expected: str) -> None:
    assert fill(text, "team", "0a1b", ["chat-2", "chat-1"]) == expected


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    assert fill("a{pod=~'$(pods)'}", "team", "0a1b", ["revision"]) == "a{pod=~'revision'}"


@pytest.mark.parametrize("name", ['x"', "x'", "x`", "x\\", "x|.*", "x}", "x y", "x\n", "", "$(namespace)"])
def test_a_name_that_could_end_a_string_or_a_pattern_is_not_filled_in(name: str) -> None:
    assert fill("a{pod=~'$(pods)'}", "team", "0a1b", ["chat-1", name]) is None
    assert fill("a{pod=~'$(pods)'}", name, "0a1b", ["chat-1"]) is None
    assert fill("a{pod=~'$(pods)'}", "team", name, ["chat-1"]) is None


def test_a_dot_in_a_pods_name_stands_for_itself_in_every_kind_of_quotes() -> None:
    assert fill("a{pod=~'$(pods)'}", "team", "0a1b", ["chat.1"]) == "a{pod=~'chat[.]1'}"


def test_a_check_whose_query_failed_is_unknown_and_not_zero() -> None:
    pod = Pod("r", "p")
    snapshot = Snapshot(datetime(2030, 1, 1, tzinfo=UTC), {pod: Reading(0, {})}, {"r": frozenset()})
    total = Column(Query("good", "total"))

    found = with_found(snapshot, {"good": {pod: {total: {}}}, "bad": "its query for total: no"})

    assert found.knows("r", total)
    assert not found.knows("r", Column(Query("bad", "total")))
    assert found.failures == {"bad": "its query for total: no"}
    assert found.pods[pod].counters == {total: {}}
