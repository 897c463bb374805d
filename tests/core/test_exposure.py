"""Requests that do not arrive, and engines that hang: what is watched, what is found, what a restart forgets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from modelrelease.core import exposure
from modelrelease.core.evidence import Counts
from modelrelease.core.exposure import Exposure, Missed
from modelrelease.core.observation import PodFacts, PodPoll, Poll
from tests.core.builders import NOW, POLL, revision

CANARY, STABLE = revision("8").revision, revision("7").revision


def counted(total: float) -> PodPoll:
    return PodPoll({"errors": (Counts(total, 0),)})


def engine(in_flight: float | None, progress: float | None) -> PodPoll:
    return PodPoll({}, in_flight=in_flight, progress=progress)


def polls(canary: dict[str, PodPoll], stable: dict[str, PodPoll], number: int, since: int = 0) -> tuple[Poll, ...]:
    arms = {CANARY: canary, STABLE: stable}
    return tuple(
        Poll(NOW + (since + at + 1) * POLL, {arm: pods for arm, pods in arms.items() if pods}) for at in range(number)
    )


def watched(found: Sequence[Poll], held: Exposure | None = None) -> Exposure:
    return exposure.watch(held or exposure.begin(NOW), revision("8"), found, STABLE)


@pytest.mark.parametrize(
    ("canary", "stable", "number", "found"),
    [
        pytest.param(counted(0), counted(10), 24, Missed(0, 46), id="none of many"),
        pytest.param(counted(0), counted(10), 23, None, id="not two minutes yet"),
        pytest.param(counted(0.2), counted(10), 24, Missed(5, 47), id="a tenth of what is expected is too little"),
        pytest.param(counted(1), counted(10), 24, None, id="half of what is expected is too much to be sure"),
        pytest.param(counted(0), counted(4), 24, None, id="too few expected to be sure"),
        pytest.param(PodPoll(), counted(10), 24, Missed(0, 46), id="a counter that is born with its first request"),
        pytest.param(None, counted(10), 24, None, id="a canary that nobody scrapes tells nothing"),
        pytest.param(counted(0), PodPoll(), 24, None, id="a stable revision that does not count tells nothing"),
        pytest.param(counted(0), None, 24, None, id="a stable revision that nobody scrapes tells nothing"),
    ],
)
def test_requests_are_missed(canary: PodPoll | None, stable: PodPoll | None, number: int, found: Missed | None) -> None:
    arms = [{"pod": pod} if pod is not None else {} for pod in (canary, stable)]
    assert exposure.missed(watched(polls(*arms, number=number)), 20) == found


def test_requests_of_two_minutes_ago_do_not_count_any_more() -> None:
    before = polls({"pod": counted(100)}, {"pod": counted(400)}, 24)
    after = polls({"pod": counted(0)}, {"pod": counted(400)}, 24, since=24)
    assert exposure.missed(watched(before), 20) is None
    assert exposure.missed(watched((*before, *after[:12])), 20) is None
    assert exposure.missed(watched((*before, *after)), 20) is not None


def test_after_an_outage_a_whole_window_must_have_passed_without_a_gap() -> None:
    before = polls({"pod": counted(100)}, {"pod": counted(400)}, 24)
    none, many = {"pod": counted(0)}, {"pod": counted(400)}
    one = polls(none, many, 1, since=24 + 26)  # the first after more than two minutes, perhaps with a long history
    assert exposure.missed(watched((*before, *one)), 20) is None
    assert exposure.missed(watched((*before, *one, *polls(none, many, 11, since=24 + 27))), 20) is None
    assert exposure.missed(watched((*before, *one, *polls(none, many, 24, since=24 + 27))), 20) is not None


def test_pauses_double_up_to_half_an_hour() -> None:
    assert [exposure.pause(count).total_seconds() / 60 for count in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert exposure.pause(10_000) == timedelta(minutes=30)


HANGS, WORKS, IDLE, SILENT = engine(3, 0), engine(3, 40), engine(0, 0), engine(None, None)


@pytest.mark.parametrize(
    ("canary", "stable", "number", "found"),
    [
        pytest.param({"a": HANGS}, {"s": WORKS}, 13, ("a",), id="requests in flight and no progress for a minute"),
        pytest.param({"a": HANGS}, {"s": WORKS}, 12, (), id="not a minute yet"),
        pytest.param({"a": HANGS}, {"s": IDLE}, 13, ("a",), id="stable has nothing to do"),
        pytest.param({"a": HANGS}, {}, 13, ("a",), id="nothing else serves"),
        pytest.param({"a": HANGS}, {"s": HANGS}, 13, (), id="stable hangs as well: what both need is away"),
        pytest.param({"a": HANGS}, {"s": HANGS, "t": WORKS}, 13, ("a",), id="one pod of stable is no excuse"),
        pytest.param({"a": HANGS, "b": WORKS}, {"s": WORKS}, 13, ("a",), id="one of several"),
        pytest.param({"a": HANGS, "b": HANGS}, {"s": WORKS}, 13, ("a", "b"), id="all of them"),
        pytest.param({"a": WORKS}, {"s": WORKS}, 13, (), id="requests that take their time"),
        pytest.param({"a": IDLE}, {"s": WORKS}, 13, (), id="no requests"),
        pytest.param({"a": SILENT}, {"s": WORKS}, 13, (), id="a runtime that does not tell"),
    ],
)
def test_engines_hang(
    canary: dict[str, PodPoll], stable: dict[str, PodPoll], number: int, found: tuple[str, ...]
) -> None:
    assert exposure.hung(watched(polls(canary, stable, number))) == found


@pytest.mark.parametrize("between", [WORKS, IDLE, SILENT], ids=["progress", "nothing in flight", "not told"])
def test_a_hang_is_without_a_break(between: PodPoll) -> None:
    stable = {"s": WORKS}
    found = (
        *polls({"a": HANGS}, stable, 8),
        *polls({"a": between}, stable, 1, since=8),
        *polls({"a": HANGS}, stable, 8, since=9),
    )
    assert exposure.hung(watched(found)) == ()


@pytest.mark.parametrize(
    ("hung", "pods", "words"),
    [
        (("a",), "a", "pod a on node n-a has had requests in flight and worked off nothing for a minute: no pod of v8"),
        (
            ("a",),
            "abc",
            "pod a on node n-a has had requests in flight and worked off nothing for a minute; the other 2",
        ),
        (("a", "b"), "abc", "pod a on node n-a and 1 more have had requests in flight"),
        (("a",), "", "pod a has had requests in flight"),
    ],
    ids=["the only one", "one of three", "two of three", "a pod that is gone"],
)
def test_a_hang_names_the_pod_and_its_node(hung: tuple[str, ...], pods: str, words: str) -> None:
    facts = {name: PodFacts(f"n-{name}", "", None, None) for name in pods}
    assert exposure.hung_in_words("8", hung, facts).startswith(words)


@pytest.mark.parametrize("killed_at", range(0, 40, 3))
def test_a_restart_at_any_poll_finds_the_same_at_the_same_poll(killed_at: int) -> None:
    stable = {"s": PodPoll({"errors": (Counts(7, 0),)}, in_flight=1, progress=9)}
    canary = {"a": PodPoll({"errors": (Counts(0, 0),)}, in_flight=2, progress=0), "b": engine(1, 0)}
    found = polls(canary, stable, 40)
    whole, halves = exposure.begin(NOW), exposure.begin(NOW)
    for number, poll in enumerate(found):
        whole = watched((poll,), whole)
        if number == killed_at:
            restored = exposure.decode(exposure.encode(halves))
            assert restored is not None
            halves = restored
        halves = watched((poll,), halves)
        assert exposure.missed(whole, 20) == exposure.missed(halves, 20)
        assert exposure.hung(whole) == exposure.hung(halves)
    assert whole == halves
    assert exposure.missed(whole, 20)
    assert exposure.hung(whole) == ("a", "b")


def test_polls_that_were_watched_are_not_watched_again() -> None:
    found = polls({"a": counted(1)}, {"s": counted(4)}, 5)
    assert watched(found, held=watched(found)) == watched(found)


def test_what_is_kept_is_small_however_many_pods_hang() -> None:
    canary = {f"{'x' * 57}-{number:05}": HANGS for number in range(500)}
    found = polls({**canary, "b": counted(1e6 / 3)}, {"s": counted(1e6 / 7)}, 200)
    assert len(exposure.encode(watched(found))) < 4096


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"v":2}', '{"v":1,"since":"x"}', "not json"])
def test_what_cannot_be_read_is_begun_anew(text: str | None) -> None:
    assert exposure.decode(text) is None
