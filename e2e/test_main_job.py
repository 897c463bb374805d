"""The main job end to end: the scenes of the demo, on a real cluster under real traffic, held to account one by one.

They build on each other, so the first that fails ends the story; the tests after it fail as well, saying so.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.scenes import REQUESTS_PER_S, SCENES, SceneError, Theatre, slow_model, weight
from e2e.stack import Stack


@pytest.fixture(scope="module")
def theatre(stack: Stack) -> Theatre:
    return Theatre(stack, print)


_failed: list[str] = []


PLAYED = (*SCENES, ("The slow model is rolled back", slow_model))


@pytest.mark.parametrize(("title", "scene"), PLAYED, ids=[title for title, _ in PLAYED])
def test_scene(theatre: Theatre, title: str, scene: Callable[[Theatre], None]) -> None:
    assert not _failed, f"the story ended at: {_failed[0]}"
    try:
        scene(theatre)
    except SceneError:
        _failed.append(title)
        raise


def test_no_user_request_failed_because_of_the_operator(theatre: Theatre) -> None:
    theatre.traffic.stop()
    assert sum(theatre.traffic.counts().values()) > 60 * REQUESTS_PER_S
    assert theatre.failures() == []


def test_the_events_tell_the_story_with_distinct_reasons(theatre: Theatre) -> None:
    reasons = [reason for reason, _ in theatre.stack.events()]
    for reason in (
        "RolloutStarted",
        "GatesPassed",
        "WeightChanged",
        "Promoted",
        "AliasWritten",
        "GateFailed",
        "CheckFailed",
        "RolledBack",
        "WeightRestored",
    ):
        assert reason in reasons, f"{reason} is missing among {sorted(set(reasons))}"


def test_at_rest_the_operator_writes_nothing(theatre: Theatre) -> None:
    """Rule 9: a settled world causes no writes."""
    before = theatre.stack.release()["metadata"]["resourceVersion"]
    assert weight(theatre.stack.status()) == 0
    theatre.stack.settle(seconds=10)
    assert theatre.stack.release()["metadata"]["resourceVersion"] == before
