"""A release that waits for people, on a real API server with the chart's approval policy.

The approvals are made by the users themselves; the operator has the chart's rights and no others.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import ClusterError, wait_until
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.kube import (
    DEPLOYMENT,
    RELEASE_APPROVAL,
    RELEASE_RECORD,
)
from modelrelease.engine.approvals import ApprovalReader
from modelrelease.engine.reconcile import Reconciler
from tests.cluster.chart import of_kinds, render
from tests.cluster.stage import NAME, Process, Stage
from tests.cluster.test_admission_approval import approval, bites

pytestmark = pytest.mark.long

POLICY = "engine-modelrelease-approval"  # of the chart's release whose rights the operator has (conftest)
POLICY_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
MINUTE = 61
SIGN_OFF = {"name": "sign-off", "approval": {"group": "ml-leads"}}


class People:
    """Users who approve with the approver role, and an administrator who may take the policy away."""

    def __init__(self, apiserver: ControlPlane, stage: Stage) -> None:
        self.apiserver = apiserver
        self.stage = stage
        objects = of_kinds(render(namespace="default", name="engine"), *POLICY_KINDS)
        self.policies = [item for item in objects if item["metadata"]["name"] == POLICY]

    def install(self) -> None:
        """Bring the policy in force."""
        self.apiserver.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(self.policies))
        wait_until("the policy bites", lambda: bites(self.apiserver, self.stage.namespace), 30, interval_s=0.5)

    def remove(self, *kinds: str) -> None:
        for kind in kinds:
            self.apiserver.kubectl("delete", kind, POLICY, "--ignore-not-found")
        wait_until("the policy bites no more", lambda: not bites(self.apiserver, self.stage.namespace), 30)

    def let_approve(self, user: str) -> None:
        """Give the role to one more user."""
        role = "--clusterrole=engine-modelrelease-approver"
        self.apiserver.kubectl("create", "rolebinding", user, "-n", self.stage.namespace, role, f"--user={user}")
        asked = ("auth", "can-i", "create", "releaseapprovals", "-n", self.stage.namespace, f"--as={user}", "-q")
        wait_until("the role is in force", lambda: _works(self.apiserver, *asked), 30, interval_s=0.2)

    async def say(self, user: str, decision: str = "Approve", group: str = "ml-leads", **spec: Any) -> str:
        """The user's own word to the candidate; returns its name."""
        candidate = (await self.stage.status()).candidate
        assert candidate is not None
        known = {"revision": candidate.revision, "rules": candidate.rules, "decision": decision}
        body = json.dumps(approval(user, group=group, release=NAME, **known | spec))
        who = ("-n", self.stage.namespace, f"--as={user}", f"--as-group={group}")
        made = json.loads(self.apiserver.kubectl("create", *who, "-o", "json", "-f", "-", input=body))
        return str(made["metadata"]["name"])

    async def take_back(self, name: str) -> None:
        live = await self.stage.live(RELEASE_APPROVAL, name)
        await self.stage.admin.delete(RELEASE_APPROVAL, self.stage.namespace, name, uid=live["metadata"]["uid"])


def _works(apiserver: ControlPlane, *command: str) -> bool:
    try:
        apiserver.kubectl(*command)
    except ClusterError:
        return False
    return True


def listen(process: Process, settles: timedelta = timedelta()) -> None:
    """Let the process believe approvals as soon as the policy is there: here one API server follows at once."""
    reader = ApprovalReader(process.kube, POLICY, settles)
    registry, feed = process.refresher, process.feed
    process.reconciler = Reconciler(process.kube, registry, feed, process.clock, process.records, approvals=reader)


@pytest.fixture
async def people(apiserver: ControlPlane, stage: Stage) -> AsyncIterator[People]:
    """The policy in force, and users with the approver role in the namespace of the stage."""
    people = People(apiserver, stage)
    roles = of_kinds(render(namespace="default", name="engine"), "ClusterRole")
    apiserver.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(roles))
    for user in ("alice", "bob", "carol"):
        people.let_approve(user)
    people.install()
    listen(stage.operator)
    yield people
    people.remove(*POLICY_KINDS)


def waits(status: ModelReleaseStatus) -> bool:
    return (status.phase, reason(status)) == ("Held", "ApprovalMissing")


def reason(status: ModelReleaseStatus) -> str:
    return next((item.reason for item in status.conditions if item.type == "Progressing"), "")


def gated(gate: dict[str, Any] = SIGN_OFF) -> dict[str, Any]:
    return {"gates": [{"name": "accuracy", "metric": {"name": "accuracy", "min": 0.85}}, gate]}


async def test_a_release_waits_for_the_right_user_and_the_record_names_him(stage: Stage, people: People) -> None:
    await stage.release(1, **gated())
    held = await stage.until(waits)
    assert held.message == (
        "gate sign-off: 0 of 1 approvals from group ml-leads; kubectl modelrelease approve churn --gate sign-off"
    )
    assert await stage.all(DEPLOYMENT) == [], "nothing runs before people agree"

    await people.say("carol", group="sre")
    stage.clock.skip(MINUTE)  # words alone are written once a minute
    still = await stage.until(
        lambda status: "that of carol does not count: it is given for group sre" in status.message
    )
    assert waits(still)

    name = await people.say("alice", comment="reviewed the slices")
    await stage.promoted(1)
    notes = {event["reason"]: event["note"] for event in await stage.events()}
    assert notes["ApprovalGiven"] == "alice (group ml-leads) approved v1 at gate sign-off: reviewed the slices"
    (record,) = await stage.all(RELEASE_RECORD)
    (kept,) = record["spec"]["approvals"]
    assert (kept["name"], kept["user"], kept["group"], kept["decision"]) == (name, "alice", "ml-leads", "Approve")
    live = await stage.live(RELEASE_APPROVAL, name)
    assert kept["at"].startswith(live["metadata"]["creationTimestamp"].removesuffix("Z"))


async def test_a_no_blocks_until_it_is_deleted(stage: Stage, people: People) -> None:
    await stage.release(1, **gated())
    await stage.until(waits)
    await people.say("alice")
    denial = await people.say("bob", "Deny", comment="not this week")
    blocked = await stage.until(lambda status: status.phase == "Blocked")
    assert f"denied by bob: 'not this week'; it fails until ReleaseApproval {denial} is deleted" in blocked.message
    await stage.rest()
    assert await stage.all(DEPLOYMENT) == []
    await people.take_back(denial)
    await stage.promoted(1)


async def test_an_approval_dies_with_its_revision(stage: Stage, people: People) -> None:
    await stage.release(1, **gated())
    await stage.until(waits)
    await people.say("alice")
    await stage.promoted(1)
    await stage.want_version(2)
    assert waits(await stage.rest())
    await people.say("alice", revision="0123456789")
    assert waits(await stage.rest()), "of another revision"
    await people.say("alice", rules="0123456789")
    assert waits(await stage.rest()), "under other rules"
    await people.say("alice")
    await stage.promoted(2)


async def test_a_phase_waits_at_the_weight_before_it(stage: Stage, people: People) -> None:
    await stage.release(1)
    await stage.promoted(1)
    await stage.edit(**gated({"name": "sign-off", "approval": {"beforePhase": "full"}}), model={"version": 2})
    await stage.until(waits)
    assert await stage.weights() == (80, 20)
    assert waits(await stage.passes(5, apart_s=60)), "time does not stand in for people"
    assert await stage.weights() == (80, 20)
    await people.say("bob")
    await stage.promoted(2)


async def test_without_the_binding_nothing_is_believed(stage: Stage, people: People) -> None:
    await stage.release(1, **gated())
    await stage.until(waits)
    people.remove("ValidatingAdmissionPolicyBinding")
    stage.clock.skip(MINUTE)
    away = await stage.until(lambda status: "approvals cannot be believed" in status.message)
    assert reason(away) == "GatesUnavailable"
    assert (
        f"gate sign-off: approvals cannot be believed: ValidatingAdmissionPolicyBinding {POLICY} does not exist: "
        "install the chart's admission policies"
    ) in away.message

    people.let_approve("mallory")
    await people.say("mallory", approver={"username": "alice", "group": "ml-leads"})
    stage.clock.skip(MINUTE)
    await stage.rest()
    assert reason(await stage.status()) == "GatesUnavailable"

    forged_by = int(time.time())  # the API server tells times in whole seconds, and nothing has to settle here
    wait_until("a later second", lambda: int(time.time()) > forged_by, 5)
    people.install()
    stage.clock.skip(MINUTE)
    await stage.until(lambda status: "that of alice does not count: it is older than" in status.message)
    await people.say("alice")
    await stage.promoted(1)


async def test_an_approval_that_is_seen_first_makes_the_policy_be_read_again(stage: Stage, people: People) -> None:
    """Within the minute for which the policy is believed to be there, too."""
    await stage.release(1, **gated())
    await stage.until(waits)
    people.remove("ValidatingAdmissionPolicyBinding")
    await people.say("alice")
    await stage.work()
    status = await stage.status()
    assert reason(status) == "GatesUnavailable"
    assert await stage.all(DEPLOYMENT) == []


async def test_an_approval_right_after_the_policy_came_does_not_count(stage: Stage, people: People) -> None:
    """API servers follow a new policy one after the other."""
    listen(stage.operator, timedelta(hours=1))
    await stage.release(1, **gated())
    await stage.until(waits)
    await people.say("alice")
    stage.clock.skip(MINUTE)
    status = await stage.until(lambda status: "that of alice does not count: it is older than" in status.message)
    assert waits(status)
    assert "since when the admission policy checks" in status.message


async def test_an_approval_of_a_release_that_was_deleted_does_not_count_for_its_namesake(
    stage: Stage, people: People
) -> None:
    await stage.release(1, **gated())
    await stage.until(waits)
    await people.say("alice")
    await stage.delete()
    await stage.work()
    wait_until("another second has begun", lambda: _newer(stage, people), 10, interval_s=0.2)
    await stage.release(1, **gated())
    status = await stage.until(waits)
    assert "that of alice does not count: it is older than the release" in status.message


def _newer(stage: Stage, people: People) -> bool:
    """Times of objects are whole seconds of the API server's clock: ask it whether the next one has come."""
    listed = people.apiserver.kubectl("get", "ra", "-n", stage.namespace, "-o", "json")
    last = max(item["metadata"]["creationTimestamp"] for item in json.loads(listed)["items"])
    probe = ("create", "configmap", "clock", "-n", stage.namespace, "--dry-run=server", "-o", "json")
    now = json.loads(people.apiserver.kubectl(*probe))["metadata"].get("creationTimestamp")
    return bool(now and now > last)
