"""The verbs that steer a rollout, by the plugin, on a real API server with a real operator's passes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from modelrelease.clients.kube import CONTROLLER_REVISION, MODEL_RELEASE
from tests.cluster.plugin import Dialogue, Person, Said, kubeconfig_as
from tests.cluster.stage import NAME, Stage
from tests.cluster.test_admission import role

pytestmark = pytest.mark.long

USER = "ann@example.org"
RELEASES = ("modelrelease.dev", ["modelreleases"])


@pytest.fixture
def ann(stage: Stage, apiserver: ControlPlane, tmp_path: Path) -> Person:
    """May read, patch and command releases, and nothing else."""
    grant(apiserver, stage.namespace, USER, ["get", "patch", "command"])
    return Person(kubeconfig_as(USER, apiserver.kubeconfig, tmp_path), stage.namespace)


def grant(apiserver: ControlPlane, namespace: str, user: str, verbs: list[str]) -> None:
    objects = role(user, [(*RELEASES, verbs)])
    for item in objects:
        item["metadata"]["name"] = user.partition("@")[0]
    objects[1]["roleRef"]["name"] = user.partition("@")[0]
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(objects))


async def while_working(stage: Stage, said: asyncio.Task[Said]) -> Said:
    """The command's answer, with the operator at work."""
    while not said.done():
        await stage.work()
        await stage.play()
    return await said


async def steered(stage: Stage, person: Person, *words: str) -> Said:
    return await while_working(stage, asyncio.create_task(person.run(*words)))


async def in_canary(stage: Stage) -> str:
    """Version 1 serves, 2 is in its canary phase, with time and evidence to wait for; its revision."""
    await stage.release(rollout=phases("1h"))
    await stage.promoted(1)
    stage.operator.feed.problem = None
    await stage.want_version(2)
    status = await stage.until(lambda status: status.candidate is not None and status.candidate.exposed)
    assert status.candidate is not None
    return status.candidate.revision


def phases(duration: str) -> dict[str, Any]:
    names = [("canary", 20), ("half", 50), ("full", 100)]
    return {
        "phases": [{"name": name, "weight": weight, "duration": duration} for name, weight in names],
        "bake": {"duration": "1h"},
    }


async def test_pause_when_it_is_meant_says_what_it_does_and_who_did_it(stage: Stage, ann: Person) -> None:
    revision = await in_canary(stage)
    said = await steered(stage, ann, "pause", NAME, "--yes", "--wait", "60s")
    assert said == Said(
        0,
        f"Pauses v2 of {stage.namespace}/{NAME}: its weight stays at 20% until resume. Failing checks and failing pods "
        "still take its traffic back. Accepted: the weight does not rise until resume.",
    )
    status = await stage.status()
    assert status.paused
    assert status.commands[0].command.startswith(f"pause@{revision}-")
    assert status.commands[0].by == USER
    again = await ann.run("pause", NAME, "--yes")
    assert again == Said(1, f"Nothing to pause: v2 of {stage.namespace}/{NAME} is paused already.")


async def test_skip_when_a_phase_waits_goes_to_the_next_and_no_further(stage: Stage, ann: Person) -> None:
    await in_canary(stage)
    said = await steered(stage, ann, "skip", NAME, "--yes", "--wait", "60s")
    assert said.text == (
        f"Skips the rest of phase canary (1 of 3) of v2 of {stage.namespace}/{NAME}, which has 20% of traffic: it is "
        "not waited for time or evidence; the next phase waits again. A failing check, a gate or an approval still "
        "holds it. Accepted: phase canary waits no longer for time and evidence; gates and failing checks still hold."
    )
    await stage.until(lambda status: status.summary.weight == "50%")
    status = await stage.passes(6)
    assert (status.phase, status.summary.weight) == ("Progressing", "50%")


async def test_abort_and_retry_when_on_a_terminal_ask_first(stage: Stage, ann: Person) -> None:
    await in_canary(stage)
    async with Dialogue(ann, "abort", NAME, "--wait", "60s") as talk:
        await talk.until("Go on? [y/N]:")
        assert " ".join(talk.text.split()).startswith(
            f"Aborts v2 of {stage.namespace}/{NAME}: all traffic goes back to v1 (2/2 ready) at once. v2 is "
            "quarantined; only retry or an edit tries it again."
        )
        talk.answer("n")
        said = await talk.end()
    assert (said.code, "Nothing was done." in said.text) == (1, True)
    assert (await stage.status()).commands == ()

    async with Dialogue(ann, "abort", NAME, "--wait", "60s") as talk:
        await talk.until("Go on? [y/N]:")
        talk.answer("y")
        said = await while_working(stage, asyncio.create_task(talk.end()))
    assert (said.code, "Accepted: sending traffic back." in said.text) == (0, True)
    assert (await stage.rest()).phase == "RolledBack"

    assert (await ann.run("promote", NAME, "--yes")) == Said(
        1, f"Nothing to promote: v1 serves in {stage.namespace}/{NAME} and no rollout is under way."
    )
    said = await steered(stage, ann, "retry", NAME, "--yes", "--wait", "60s")
    assert "(Aborted: v2 was aborted by command). Where the spec asks for v2, its rollout begins anew" in said.text
    assert said.text.endswith("Accepted: its quarantine is lifted.")
    assert (await stage.status()).candidate is not None


async def test_a_command_when_the_release_has_changed_meanwhile_asks_again(stage: Stage, ann: Person) -> None:
    revision = await in_canary(stage)
    async with Dialogue(ann, "promote", NAME, "--wait", "60s") as talk:
        await talk.until("Go on? [y/N]:")
        await stage.command("skip", revision)
        await stage.until(lambda status: status.summary.weight == "50%")
        talk.answer("y")
        await talk.until("Go on? [y/N]:")
        assert "Meanwhile the release has changed." in " ".join(talk.text.split())
        assert "which has 50% of traffic in phase half (2 of 3)" in " ".join(talk.text.split())
        talk.answer("y")
        said = await while_working(stage, asyncio.create_task(talk.end()))
    assert said.code == 0


async def test_a_command_when_the_release_changed_in_nothing_that_was_said_is_set(stage: Stage, ann: Person) -> None:
    await in_canary(stage)
    async with Dialogue(ann, "pause", NAME, "--wait", "0s") as talk:
        await talk.until("Go on? [y/N]:")
        note = {"metadata": {"annotations": {"note": "seen"}}}
        await stage.admin.patch(MODEL_RELEASE, stage.namespace, NAME, note)
        talk.answer("y")
        said = await talk.end()
    assert (said.code, said.text.endswith("is set.")) == (0, True)


async def test_rollback_when_nothing_is_under_way_returns_to_the_version_before(stage: Stage, ann: Person) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.promoted(2)
    said = await steered(stage, ann, "rollback", NAME, "--yes", "--wait", "60s")
    assert f"Returns {stage.namespace}/{NAME} from v2 to v1, which served until" in said.text
    assert (said.code, said.text.endswith("Accepted: returning to v1.")) == (0, True)
    status = await stage.rest()
    assert (status.phase, status.summary.serving) == ("RolledBack", "1 2/2")


async def test_a_command_when_the_operator_ignores_it_says_so_with_code_1(stage: Stage, ann: Person) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    status = await stage.promoted(2)
    assert status.previous is not None
    [record] = [item for item in await stage.records() if item["metadata"]["name"].endswith(status.previous.key)]
    name, uid = record["metadata"]["name"], record["metadata"]["uid"]
    await stage.admin.delete(CONTROLLER_REVISION, stage.namespace, name, uid=uid)
    said = await steered(stage, ann, "rollback", NAME, "--yes", "--wait", "60s")
    assert (said.code, said.text.endswith("Ignored: no former revision is kept (they are, for 24 hours).")) == (1, True)


async def test_a_command_when_no_operator_runs_says_that_it_stands_there(stage: Stage, ann: Person) -> None:
    revision = await in_canary(stage)
    said = await ann.run("promote", NAME, "--yes", "--wait", "1s")
    assert said.code == 1
    assert f"promote@{revision}-" in said.text
    assert "is set, but the operator has not taken it up within 1s." in said.text


async def test_a_command_without_a_terminal_and_without_yes_does_nothing(stage: Stage, ann: Person) -> None:
    await in_canary(stage)
    said = await ann.run("abort", NAME, given="y\n")
    assert said.code == 2
    assert said.text.endswith("there is no terminal to ask on, so nothing was done; --yes does not ask")
    assert "modelrelease.dev/command" not in (await stage.live(MODEL_RELEASE))["metadata"].get("annotations", {})


@pytest.mark.parametrize(("verbs", "lacks"), [(["get"], "patch"), (["patch", "command"], "get")])
async def test_a_command_without_a_right_says_which(
    stage: Stage, apiserver: ControlPlane, tmp_path: Path, verbs: list[str], lacks: str
) -> None:
    await in_canary(stage)
    grant(apiserver, stage.namespace, "bob", verbs)
    bob = Person(kubeconfig_as("bob", apiserver.kubeconfig, tmp_path), stage.namespace)
    said = await bob.run("pause", NAME, "--yes")
    assert said.code == 2
    assert f"bob may not {lacks} modelreleases.modelrelease.dev in namespace {stage.namespace}" in said.text


async def test_a_command_for_a_release_that_does_not_exist_says_so(stage: Stage, ann: Person) -> None:
    said = await ann.run("pause", "none", "--yes")
    assert (said.code, '"none" not found' in said.text) == (2, True)
