"""One bad pod or a bad model: what is told when a rollback is near."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from scipy.stats import binom  # type: ignore[import-untyped]

from modelrelease.core.checks import Fleet, advance, begin, judge
from modelrelease.core.checks.suspects import alike, binomial_tail, standing_out
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodFacts, PodPoll, Poll, Samples
from tests.core.builders import NOW, POLL, revision

MADE = revision("8")
CANARY, STABLE = MADE.revision, revision("7").revision
FLEET = Fleet({CANARY: {name: PodFacts(f"node-{name}", "", NOW, NOW) for name in "abcd"}})


def told(pods: Mapping[str, Counts], number: int = 12) -> tuple[str, str | None]:
    """The message and what it says of pods after so many polls, stable failing 0.3 % of its requests."""
    seen = {name: PodPoll({"errors": (counts,)}) for name, counts in pods.items()}
    beside = {"s": PodPoll({"errors": (Counts(4000, 12),)})}
    polls = [Poll(NOW + (at + 1) * POLL, {CANARY: seen, STABLE: beside}) for at in range(number)]
    held = advance(begin(MADE, NOW), MADE, polls, STABLE)
    status = judge(held, MADE, Samples(), has_stable=True, fleet=FLEET).checks[0]
    return status.message, status.pods


def test_a_pod_that_fails_alone_is_named_with_its_node() -> None:
    message, pods = told({"a": Counts(1000, 3), "b": Counts(1000, 400), "c": Counts(1000, 3)})
    assert pods == "pod b on node node-b fails 40%, its siblings 0.3%"
    assert message == f"errors 14% (4,872 of 36,000) against 0.3%, allowed 1.4%; {pods}"


def test_pods_that_fail_alike_point_at_the_model() -> None:
    assert told({"a": Counts(1000, 100), "b": Counts(1000, 102)})[1] == "all pods alike: the model, not one node"


UNTOLD = {
    "nothing is near a rollback": {"a": Counts(1000, 3), "b": Counts(1000, 3)},
    "there is one pod only": {"b": Counts(1000, 400)},
    "the siblings have no requests": {"a": Counts(0, 0), "b": Counts(1000, 400)},
    "two pods are bad and one is not": {"a": Counts(1000, 3), "b": Counts(1000, 400), "c": Counts(1000, 300)},
}


@pytest.mark.parametrize("pods", UNTOLD.values(), ids=UNTOLD.keys())
def test_no_pod_is_named_where(pods: Mapping[str, Counts]) -> None:
    assert told(pods)[1] is None


def test_a_pod_with_few_requests_is_not_named_on_chance() -> None:
    assert standing_out([Counts(2, 1), Counts(1000, 3)], Counts(1002, 4), 0.015) is None
    assert standing_out([Counts(40, 8), Counts(1000, 3)], Counts(1040, 11), 0.015) == 0


def test_pods_that_differ_beyond_chance_are_not_alike() -> None:
    assert not alike([Counts(1000, 100), Counts(1000, 300)], Counts(2000, 400), 0.015)


@pytest.mark.parametrize(("bad", "total"), [(0, 10), (1, 10), (5, 10), (10, 10), (40, 1000), (3, 1000), (900, 100_000)])
@pytest.mark.parametrize("rate", [1e-5, 0.003, 0.01, 0.3, 0.9])
def test_the_tail_is_the_exact_one(bad: int, total: int, rate: float) -> None:
    assert binomial_tail(bad, total, rate) == pytest.approx(binom.sf(bad - 1, total, rate), rel=1e-6, abs=1e-12)
