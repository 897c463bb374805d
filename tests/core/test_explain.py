"""What is told first of a release in each phase: is anyone hurt, what has to be done, what comes next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.core import told
from modelrelease.core.explain import Known, Urgency, Users, explain
from modelrelease.core.openings import openings
from tests.cli.scenes import SCENES, Scene, told_by
from tests.core.builders import NOW

NOTHING = "nothing"


def explained(scene: Scene, later: float = 0) -> tuple[Users, Urgency, str, str]:
    """Users, urgency, what to do, what comes next."""
    seen = explain(scene.release.status, scene.release.known, scene.now + timedelta(seconds=later))
    return seen.users, seen.urgency, seen.do, seen.next


@pytest.mark.parametrize(
    ("scene", "users", "urgency", "do", "following"),
    [
        ("pending-unschedulable", "SAFE", "SOON", "make room or add nodes", "v8 gets 20% once 1 pod is ready"),
        ("pending-suspended", "SAFE", "SOON", "set spec.suspend to false", "nothing, while spec.suspend is true"),
        (
            "gating-registry-away",
            "SAFE",
            "SOON",
            "see whether the registry answers",
            "once they pass, pods of v8 start",
        ),
        ("blocked", "SAFE", "LATER", "register a better version", "a corrected evaluation lets it go on"),
        ("progressing-canary", "SAFE", "MOVING", NOTHING, "phase canary ends at 12:01:00Z, in 52s"),
        ("progressing-half", "SAFE", "MOVING", NOTHING, "then full, 100%"),
        ("progressing-unconfirmed", "SAFE", "MOVING", NOTHING, "usually within seconds"),
        ("progressing-route-refused", "UNKNOWN", "SOON", "see why the gateway refuses it", "as soon as the gateway"),
        ("held-evidence", "SAFE", "MOVING", NOTHING, "about 360 more requests decide, about 13m"),
        ("held-no-data", "UNKNOWN", "SOON", "see whether its pods are scraped", "the weight stays at 20%"),
        ("held-prometheus-away", "UNKNOWN", "SOON", "see whether Prometheus answers", "the weight stays at 20%"),
        ("held-paused", "SAFE", "SOON", "resume when it shall go on", "the weight stays at 50%"),
        ("held-suspended", "SAFE", "SOON", "set spec.suspend to false", "the weight stays at 50%"),
        ("held-inconclusive", "SAFE", "SOON", "decide whether to go on", "the weight stays at 20%"),
        ("held-gate-failed", "SAFE", "SOON", "register a better version", "v8 stays at 20%"),
        ("retreat", "SAFE", "MOVING", NOTHING, "once 2 pods are ready; if not by 12:10:00Z"),
        ("baking", "SAFE", "MOVING", NOTHING, "v8 is promoted at 12:05:00Z, in 4m52s, and v7 ends"),
        ("baking-prometheus-away", "UNKNOWN", "SOON", "see whether Prometheus answers", "5m of the bake are left"),
        ("rolling-back", "HURT", "NOW", "nothing yet: the traffic is on its way back", "sends all traffic to v7"),
        ("rolling-back-draining", "SAFE", "MOVING", NOTHING, "end within 52s (12:01:01Z), then its pods go"),
        ("rolled-back", "SAFE", "LATER", "nothing tonight", "nothing, until the spec asks for something else"),
        ("aborted", "UNKNOWN", "MOVING", NOTHING, "sends all traffic to v7"),
        ("promoted", "SAFE", "STEADY", NOTHING, "nothing, until the spec asks for something else"),
        ("promoted-short-of-pods", "SAFE", "SOON", "see why pods are not ready", "nothing, until the spec"),
        ("promoted-no-pods", "HURT", "NOW", "bring its pods back now", "as soon as one of its pods is ready"),
        ("invalid", "SAFE", "LATER", "correct the spec", "what serves goes on serving"),
        ("first-starting", "NOBODY", "MOVING", NOTHING, "once 2 pods are ready"),
        ("first-blocked", "HURT", "NOW", "release a version that works now", "as soon as one of its pods is ready"),
    ],
)
def test_explain_when_a_release_is_in_a_phase_says_who_is_hurt_what_to_do_and_what_comes_next(
    scene: str, users: str, urgency: str, do: str, following: str
) -> None:
    seen = explained(told_by(scene))
    assert (seen[0].value, seen[1].name) == (users, urgency)
    assert do in seen[2]
    assert following in seen[3]


@pytest.mark.parametrize("name", SCENES)
def test_explain_when_nobody_has_to_do_anything_calls_for_nobody(name: str) -> None:
    scene = told_by(name)
    seen = explain(scene.release.status, scene.release.known, scene.now)
    assert seen.ill == (seen.users is Users.HURT or seen.do != NOTHING)


@pytest.mark.parametrize("name", SCENES)
def test_explain_when_only_the_status_can_be_read_guesses_nothing(name: str) -> None:
    scene = told_by(name)
    bare = replace(scene.release, known=Known("churn", "crm"))
    seen = explain(bare.status, bare.known, scene.now)
    assert seen.next
    assert seen.users == explain(scene.release.status, scene.release.known, scene.now).users
    openings(bare.status, bare.known, scene.now)


def test_explain_when_the_operator_has_said_nothing_asks_whether_it_runs() -> None:
    seen = explain(ModelReleaseStatus(), Known("churn", "crm"), NOW)
    assert (seen.users, seen.urgency) == (Users.NOBODY, Urgency.SOON)
    assert "see whether the operator runs" in seen.do


def test_explain_when_the_gateway_takes_long_calls_for_somebody() -> None:
    scene = told_by("progressing-unconfirmed")
    assert explained(scene)[2] == NOTHING
    assert "see why the gateway has not taken the weights for 1m8s" in explained(scene, later=60)[2]
    assert "see now why the gateway" in explained(told_by("rolling-back"), later=60)[2]


def test_explain_when_users_are_hurt_names_since_when_and_how_many() -> None:
    scene = told_by("rolling-back")
    seen = explain(scene.release.status, scene.release.known, scene.now)
    assert (seen.since, seen.because) == (NOW, "up to 50% still on v8")


def test_explain_when_a_command_helps_names_the_namespace_and_can_be_copied() -> None:
    scene = told_by("held-paused")
    seen = explain(scene.release.status, scene.release.known, scene.now)
    assert seen.command == "kubectl modelrelease resume churn -n crm"


@pytest.mark.parametrize("reason", list(Reason))
def test_explain_when_it_rests_for_any_reason_says_something(reason: Reason) -> None:
    scene = told_by("held-paused")
    status = scene.release.status
    conditions = tuple(
        item.model_copy(update={"reason": reason.value}) if item.type == "Progressing" else item
        for item in status.conditions
    )
    for phase in ("Pending", "Gating", "Blocked", "Progressing", "Held", "Baking", "Promoted", "RolledBack", "Invalid"):
        told_status = status.model_copy(update={"conditions": conditions, "phase": phase})
        seen = explain(told_status, scene.release.known, scene.now)
        assert "{" not in seen.do + seen.command
        assert seen.next


def test_explain_when_an_approval_is_missing_names_the_command_for_it() -> None:
    scene = told_by("held-paused")
    conditions = tuple(
        item.model_copy(update={"reason": "ApprovalMissing"}) if item.type == "Progressing" else item
        for item in scene.release.status.conditions
    )
    seen = explain(scene.release.status.model_copy(update={"conditions": conditions}), scene.release.known, scene.now)
    assert (seen.urgency, seen.command) == (Urgency.SOON, "kubectl modelrelease approve churn -n crm")


def test_takes_when_traffic_was_counted_goes_by_the_weight_it_came_at() -> None:
    scene = told_by("held-evidence")  # 108 requests in four minutes at 20%
    [check] = scene.release.status.checks
    long = told.takes(scene.release.status, check, scene.now)
    assert long is not None
    assert timedelta(minutes=12) < long < timedelta(minutes=15)


@pytest.mark.parametrize(
    ("scene", "open_conditions"),
    [
        ("pending-unschedulable", ["pods of v8"]),
        ("blocked", ["gate auc"]),
        ("progressing-half", ["phase half"]),
        ("held-evidence", ["check errors"]),
        ("held-no-data", ["evidence", "check errors"]),
        ("held-paused", ["a person", "phase half"]),
        ("held-suspended", ["a person", "phase half"]),
        ("retreat", ["pods of v8", "the gateway"]),
        ("baking", ["the bake"]),
        ("rolling-back-draining", ["requests in flight"]),
        ("rolled-back", ["another version"]),
        ("invalid", ["InvalidSpec"]),
        ("promoted", []),
    ],
)
def test_openings_when_a_release_is_in_a_phase_are_what_keeps_it_there(scene: str, open_conditions: list[str]) -> None:
    one = told_by(scene)
    found = openings(one.release.status, one.release.known, one.now)
    assert [item.what for item in found] == open_conditions
