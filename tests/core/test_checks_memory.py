"""What the checks remember: it fits into status, survives its string, and does not depend on how polls are split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from modelrelease.core.checks import Evidence, Fleet, advance, begin, begin_phase, decode, encode, judge, planned_polls
from modelrelease.core.checks.memory import LIMIT, PODS_KEPT
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodFacts, PodPoll, Poll, Samples
from modelrelease.core.revision import Revision
from tests.core.builders import NOW, PHASES, POLL, revision, spec

CANARY, STABLE = revision("8").revision, revision("7").revision
CHECKS = [
    {"name": "errors", "errorRate": {}},
    {"name": "limit", "errorRate": {"max": 0.3}},
    {"name": "slow", "latency": {"slowerThan": "500ms", "alsoSlowerThan": ["1s"]}},
    {"name": "score", "score": {"metric": "confidence"}},
    {"name": "cache", "gauge": {"metric": "cache_use", "tolerance": 0.1, "polls": 3}},
]
MADE = revision("8", spec(checks=CHECKS))
FLEET = Fleet(
    {
        CANARY: {
            "c0": PodFacts("n1", "L4", NOW - timedelta(hours=1), NOW),
            "c1": PodFacts("n2", "A100", NOW + 3 * POLL, NOW),
        },
        STABLE: {
            "s0": PodFacts("n3", "A100", NOW - timedelta(hours=1), NOW),
            "s1": PodFacts("n1", "L4", None, NOW),
        },
    },
    {CANARY: 2 * POLL, STABLE: 2 * POLL},
)


def counts_of(bad_share: st.SearchStrategy[float], most: int = 400) -> st.SearchStrategy[Counts]:
    return st.builds(lambda total, bad: Counts(total, round(total * bad)), st.integers(0, most), bad_share)


@st.composite
def pods(draw: st.DrawFn) -> PodPoll:
    rate = st.sampled_from([0.0, 0.01, 0.02, 0.1, 0.6])
    total = draw(st.integers(0, 400))
    slow = (Counts(total, round(total * draw(rate))), Counts(total, round(total * draw(rate))))
    score = Counts(total, total * draw(rate) / 3)
    counts: dict[str, tuple[Counts, ...]] = {
        "errors": (draw(counts_of(rate)),), "limit": (draw(counts_of(rate)),), "slow": slow, "score": (score,)
    }  # fmt: skip
    kept = draw(st.sets(st.sampled_from(sorted(counts)), min_size=3))
    gauges = draw(st.dictionaries(st.just("cache"), st.sampled_from([0.5, 0.55, 0.7])))
    return PodPoll({name: counts[name] for name in kept}, gauges)


def arm(prefix: str) -> st.SearchStrategy[dict[str, PodPoll]]:
    return st.dictionaries(st.sampled_from([f"{prefix}{number}" for number in range(3)]), pods(), min_size=0)


arms = st.fixed_dictionaries({CANARY: arm("c"), STABLE: arm("s")})
histories = st.lists(arms, min_size=1, max_size=14).map(
    lambda seen: [Poll(NOW + (number + 1) * POLL, one) for number, one in enumerate(seen)]
)


def said(held: Evidence) -> tuple[object, ...]:
    judged = judge(held, MADE, Samples(), has_stable=True, fleet=FLEET)
    return (judged, held)


@given(histories, st.data())
@settings(deadline=None, max_examples=40)
def test_polls_in_any_split_and_through_any_checkpoints_give_the_same_verdict_at_the_same_poll(
    polls: Sequence[Poll], data: st.DataObject
) -> None:
    straight = split = begin(MADE, NOW)
    waiting: list[Poll] = []
    for number, poll in enumerate(polls):
        if data.draw(st.integers(0, 5)) == 0 and not waiting:
            straight, split = begin_phase(straight, straight.at), begin_phase(split, split.at)
        straight = advance(straight, MADE, [poll], STABLE, FLEET)
        waiting.append(poll)
        if data.draw(st.booleans()) or number == len(polls) - 1:
            split = advance(split, MADE, waiting, STABLE, FLEET)  # a pass comes now and then only
            waiting = []
            assert said(split) == said(straight)
        if data.draw(st.booleans()) and not waiting:
            stored = decode(encode(split), MADE)  # another leader goes on from the checkpoint
            assert stored == split
            split = stored
            split = advance(split, MADE, polls[: number + 1], STABLE, FLEET)  # and is given old polls again


@given(histories)
@settings(deadline=None, max_examples=20)
def test_a_failure_is_seen_at_the_poll_where_the_evidence_sufficed_and_stays(polls: Sequence[Poll]) -> None:
    held, failed = begin(MADE, NOW), None
    for poll in polls:
        held = advance(held, MADE, [poll], STABLE, FLEET)
        failed = failed or held.failed
        assert held.failed == failed


def crowded() -> Revision:
    """As many checks as a release and its policy may have, each with as many bounds as it may have."""
    latency = {"slowerThan": "500ms", "alsoSlowerThan": ["1s", "2s"]}
    own = revision("8", spec(checks=[{"name": f"{'c' * 58}{n}z", "latency": latency} for n in range(16)]))
    policy = tuple(check.model_copy(update={"name": f"{'p' * 63}/{check.name}"}) for check in own.checks)
    return replace(own, checks=own.checks + policy)


CROWDED = crowded()


@given(st.floats(1, 2.0**49), st.floats(0, 1), st.integers(1, 12), st.booleans())
@settings(deadline=None, max_examples=10)
def test_the_evidence_of_all_the_checks_that_there_may_be_fits_into_the_status(
    total: float, rate: float, number: int, whole: bool
) -> None:
    made = CROWDED
    counts = Counts(float(int(total)), float(int(total * rate))) if whole else Counts(total, total * rate)
    pod = PodPoll({check.name: (counts,) * 3 for check in made.checks})
    seen = {CANARY: {f"{'r' * 52}-{CANARY}-{n:05}": pod for n in range(number)}, STABLE: {"s": pod}}
    held = advance(begin(made, NOW), made, [Poll(NOW + (at + 1) * POLL, seen) for at in range(3)], STABLE)
    text = encode(held)
    assert len(text) <= LIMIT
    stored = decode(text, made)
    assert stored is not None
    assert [stored.checks[name].wealths for name in held.checks] == [  # type: ignore[union-attr]
        memory.wealths
        for memory in held.checks.values()  # type: ignore[union-attr]
    ]
    assert (stored.failed, stored.at, stored.planned_polls) == (held.failed, held.at, held.planned_polls)


def test_the_evidence_of_a_busy_release_keeps_its_pods() -> None:
    """A day of a thousand requests a second on eight pods, with 32 checks of three bounds."""
    made = CROWDED
    pod = PodPoll({check.name: (Counts(86_400_000 / 8, 12_345),) * 3 for check in made.checks})
    seen = {CANARY: {f"chat-{CANARY}-{n:05}": pod for n in range(8)}, STABLE: {"s": pod}}
    held = advance(begin(made, NOW), made, [Poll(NOW + POLL, seen)], STABLE)
    assert decode(encode(held), made) == held
    assert len(held.pods) == 8


def test_pods_that_stand_out_are_remembered_among_many() -> None:
    def seen(poll: int) -> dict[str, PodPoll]:
        return {
            f"pod-{n:02}": PodPoll({"errors": (Counts(100, 40 if n == 17 and poll > 30 else n % 3),)})
            for n in range(20)
        }

    polls = [Poll(NOW + (at + 1) * POLL, {CANARY: seen(at), STABLE: {}}) for at in range(40)]
    held = advance(begin(MADE, NOW), MADE, polls, STABLE)
    assert len(held.pods) == PODS_KEPT
    assert "pod-17" in held.pods


def test_a_share_of_the_timeouts_and_a_bake_that_compares_are_planned_for() -> None:
    quiet = [{**phase, "timeout": "1m"} for phase in PHASES]
    exact = [{**phase, "duration": "5m", "timeout": "5m"} for phase in PHASES]
    short = revision("8", spec(rollout={"phases": exact}))
    assert planned_polls(revision("8", spec(rollout={"phases": quiet}))) == 50
    assert planned_polls(short) == 180
    assert planned_polls(short, timedelta(minutes=10)) == 300
    patient = [{**phase, "duration": "5m", "timeout": "5h"} for phase in PHASES]
    assert planned_polls(revision("8", spec(rollout={"phases": patient}))) == 180 + 107  # 1 % of 3 * 295 minutes


def test_the_stake_is_spread_over_what_was_planned_when_the_rollout_began() -> None:
    held = begin(MADE, NOW, 333)
    assert decode(encode(held), MADE) == held
    assert held.planned_polls == 333
