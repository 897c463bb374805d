"""`approve` and `deny` by the plugin on a real API server: what is written, in whose name, and what is said instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from tests.api.builders import release
from tests.cluster.plugin import Dialogue, Person, Said, kubeconfig_as
from tests.cluster.test_admission import role

MAY = [
    ("modelrelease.dev", ["modelreleases"], ["get"]),
    ("modelrelease.dev", ["releaseapprovals"], ["create"]),
]
CANDIDATE = {
    "revision": "0123456789",
    "rules": "abcdef0123",
    "version": "9",
    "slot": "b",
    "stage": "Gating",
    "startedAt": "2026-01-01T00:00:00Z",
    "stageSince": "2026-01-01T00:00:00Z",
}
SIGN_OFF = {"name": "sign-off", "approval": {"group": "ml-leads"}}


@pytest.fixture(scope="module")
def namespace(apiserver: ControlPlane, kinds: None) -> Iterator[str]:
    name = f"approve-{uuid4().hex[:8]}"
    apiserver.kubectl("create", "namespace", name)
    writer = [*MAY, ("modelrelease.dev", ["modelreleases"], ["patch"])]
    people = [*role("lead", MAY), *role("author", writer), *role("reader", MAY[:1])]
    apiserver.kubectl("apply", "-n", name, "-f", "-", input=yaml.safe_dump_all(people))
    yield name
    apiserver.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def waiting(apiserver: ControlPlane, namespace: str) -> str:
    """A release whose version 9 waits for people."""
    return made(apiserver, namespace, [SIGN_OFF], CANDIDATE)


def made(apiserver: ControlPlane, namespace: str, gates: list[dict[str, Any]], candidate: dict[str, Any] | None) -> str:
    body = release(f"r{uuid4().hex[:8]}")
    body["spec"]["gates"] = gates
    apiserver.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(body))
    name = str(body["metadata"]["name"])
    status = json.dumps({"status": {"phase": "Gating", "candidate": candidate}})
    words = ("patch", f"mr/{name}", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    apiserver.kubectl(*words)
    return name


def person(user: str, apiserver: ControlPlane, namespace: str, folder: Path, *groups: str) -> Person:
    """Somebody in these groups."""
    path = kubeconfig_as(user, apiserver.kubeconfig, folder)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for item in content["users"]:
        item["user"]["as-groups"] = [*groups, "system:authenticated"]
    path.write_text(json.dumps(content), encoding="utf-8")
    return Person(path, namespace)


def approvals(apiserver: ControlPlane, namespace: str, release: str) -> list[dict[str, Any]]:
    found = json.loads(apiserver.kubectl("get", "releaseapprovals", "-n", namespace, "-o", "json"))["items"]
    return [item["spec"] for item in found if item["spec"]["release"] == release]


@pytest.mark.parametrize(("verb", "decision", "does"), [("approve", "Approve", "Approves"), ("deny", "Deny", "Denies")])
async def test_a_decision_names_the_candidate_and_who_made_it(
    apiserver: ControlPlane, namespace: str, waiting: str, tmp_path: Path, verb: str, decision: str, does: str
) -> None:
    lead = person("lead", apiserver, namespace, tmp_path, "ml-leads")
    said = await lead.run(verb, waiting, "--comment", "looked at it", "--yes")
    assert said.code == 0
    start = f"{does} v9 (revision 0123456789) of {namespace}/{waiting} at gate sign-off, as lead for ml-leads."
    assert said.text.startswith(start)
    assert approvals(apiserver, namespace, waiting) == [
        {
            "release": waiting,
            "revision": "0123456789",
            "rules": "abcdef0123",
            "gate": "sign-off",
            "decision": decision,
            "comment": "looked at it",
            "approver": {"username": "lead", "group": "ml-leads"},
            "dutiesSeparated": True,
        }
    ]


async def test_approve_on_a_terminal_when_declined_writes_nothing(
    apiserver: ControlPlane, namespace: str, waiting: str, tmp_path: Path
) -> None:
    lead = person("lead", apiserver, namespace, tmp_path, "ml-leads")
    async with Dialogue(lead, "approve", waiting) as talk:
        await talk.until("Go on? [y/N]:")
        talk.answer("")
        said = await talk.end()
    assert (said.code, "Nothing was done." in said.text) == (1, True)
    assert approvals(apiserver, namespace, waiting) == []


async def test_approve_when_the_user_is_not_of_the_group_says_so_before_the_api_server_does(
    apiserver: ControlPlane, namespace: str, waiting: str, tmp_path: Path
) -> None:
    said = await person("lead", apiserver, namespace, tmp_path, "devs").run("approve", waiting, "--yes")
    assert said.code == 2
    assert "gate sign-off is for group ml-leads; lead belongs to devs, system:authenticated" in said.text


async def test_approve_when_duties_must_be_separate_tells_an_author_that_it_will_not_count(
    apiserver: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    name = made(apiserver, namespace, [{"name": "four-eyes", "approval": {"separateDuties": True}}], CANDIDATE)
    said = await person("author", apiserver, namespace, tmp_path).run("approve", name, "--yes")
    assert "Gate four-eyes counts only people who may not write the release; author may, so it will not" in said.text
    [spec] = approvals(apiserver, namespace, name)
    assert (spec["dutiesSeparated"], spec["approver"]) == (False, {"username": "author"})


async def test_approve_when_several_gates_wait_asks_for_one(
    apiserver: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    name = made(apiserver, namespace, [SIGN_OFF, {"name": "legal", "approval": {}}], CANDIDATE)
    lead = person("lead", apiserver, namespace, tmp_path, "ml-leads")
    said = await lead.run("approve", name, "--yes")
    assert (said.code, "name one with --gate: sign-off, legal" in said.text) == (2, True)
    said = await lead.run("approve", name, "--gate", "lgal", "--yes")
    assert (said.code, "there is no gate lgal; those that wait for people: sign-off, legal" in said.text) == (2, True)
    assert (await lead.run("approve", name, "--gate", "legal", "--yes")).code == 0


async def test_approve_when_nothing_waits_says_so(apiserver: ControlPlane, namespace: str, tmp_path: Path) -> None:
    name = made(apiserver, namespace, [SIGN_OFF], None)
    said = await person("lead", apiserver, namespace, tmp_path, "ml-leads").run("approve", name, "--yes")
    assert said == Said(1, f"Nothing to approve: nothing serves in {namespace}/{name} and no version waits.")


async def test_approve_without_the_right_says_which_is_missing(
    apiserver: ControlPlane, namespace: str, waiting: str, tmp_path: Path
) -> None:
    said = await person("reader", apiserver, namespace, tmp_path, "ml-leads").run("approve", waiting, "--yes")
    assert said.code == 2
    assert f"reader may not create releaseapprovals.modelrelease.dev in namespace {namespace}" in said.text
