"""The plugin's reading verbs against a real API server, as administrator and as somebody with few rights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import tool
from modelrelease.api.status import Stage as Step
from modelrelease.clients.kube import CONTROLLER_REVISION
from tests.cli.invoke import Answer, invoke
from tests.cluster.stage import NAME, Stage

Cli = Callable[..., Answer]
_ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: onlooker}
rules:
- {apiGroups: [modelrelease.dev], resources: [modelreleases], verbs: [get]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: onlooker}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: onlooker}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: onlooker}
subjects: [{kind: ServiceAccount, name: onlooker}]
"""


@pytest.fixture
def cli(
    stage: Stage, apiserver: ControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """`cli("status", NAME)` in the stage's namespace, with the kubectl of the test clusters."""
    monkeypatch.setenv("PATH", str(Path(tool("kubectl")).parent))
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    monkeypatch.setenv("COLUMNS", "140")

    def ask(*words: str) -> Answer:
        return invoke(capsys, *words, "-n", stage.namespace)

    return ask


@pytest.fixture
def onlooker(stage: Stage, apiserver: ControlPlane, kube: Callable[..., str], tmp_path: Path) -> str:
    """A kubeconfig of somebody who may get releases, and nothing else."""
    kube("apply", "-n", stage.namespace, "-f", "-", input=_ROLE)
    token = kube("create", "token", "onlooker", "-n", stage.namespace, "--duration=1h").strip()
    known = yaml.safe_load(apiserver.kubeconfig.read_text())
    known["users"] = [{"name": user["name"], "user": {"token": token}} for user in known["users"]]
    for context in known["contexts"]:
        context["context"]["namespace"] = stage.namespace
    path = tmp_path / "onlooker"
    path.write_text(json.dumps(known))
    return str(path)


async def test_reading_verbs_when_a_version_is_on_its_way_tell_of_it(stage: Stage, cli: Cli) -> None:
    await stage.release(1)
    await stage.promoted(1)
    await stage.want_version(2)
    status = await stage.until(lambda seen: seen.candidate is not None and seen.candidate.stage is Step.SHIFTING)
    where = f"{stage.namespace}/{NAME}"

    answer = cli("status", NAME)
    first, second, *rest = answer.out.splitlines()
    assert answer.code == 0
    assert first.startswith(f"{where}   {status.phase.upper()}   users: SAFE since ")
    assert second.startswith("  You need to do: nothing.")
    assert any(line.startswith("  DIFF   model  v1 -> v2") for line in rest)
    assert sum(f"{NAME}-{status.candidate.revision}" in line for line in rest) == 1  # type: ignore[union-attr]
    assert "NOTE" not in answer.out

    told = json.loads(cli("status", NAME, "-o", "json").out)
    assert (told["users"], told["needsSomebody"], told["status"]["phase"]) == ("SAFE", False, status.phase)
    assert yaml.safe_load(cli("explain", NAME, "-o", "yaml").out)["name"] == NAME

    listed = cli("list").out.splitlines()
    assert listed[1].split()[:3] == [NAME, "SAFE", "1"]
    assert [stage.namespace, NAME] in [line.split()[:2] for line in cli("list", "-A").out.splitlines()]

    found = json.loads(cli("where", f"{stage.model}/2", "-o", "json").out)
    mine = [item for item in found if item["namespace"] == stage.namespace]
    assert [(item["release"], item["role"]) for item in mine] == [(NAME, "tried")]
    mine = json.loads(cli("where", stage.model, "--here", "-o", "json").out)
    assert [(item["version"], item["role"]) for item in mine] == [("1", "serves"), ("2", "tried")]


async def test_history_and_record_when_rollouts_have_ended_show_them_and_check_the_chain(
    stage: Stage, cli: Cli, kube: Callable[..., str]
) -> None:
    await stage.release(1)
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.promoted(2)

    lines = [line.split() for line in cli("history", NAME).out.splitlines()]
    assert [(line[0], line[2], line[3]) for line in lines[1:]] == [("#2", "v2", "Promoted"), ("#1", "v1", "Promoted")]

    answer = cli("record", NAME)
    assert answer.code == 0
    assert answer.out.startswith(f"{stage.namespace}/{NAME} #2   {stage.model} v2 against v1   PROMOTED")
    assert "The chain of 2 records holds." in answer.out
    assert cli("record", NAME, "1").out.startswith(f"{stage.namespace}/{NAME} #1   {stage.model} v1, the first")
    assert "no ReleaseRecord 9" in cli("record", NAME, "9").err


async def test_a_verb_when_a_right_is_missing_names_verb_resource_and_namespace(
    stage: Stage, cli: Cli, onlooker: str
) -> None:
    await stage.release(1)
    await stage.promoted(1)

    answer = cli("status", NAME, "--kubeconfig", onlooker)
    assert answer.code == 0
    assert "users: SAFE" in answer.out
    assert f"may not list pods in namespace {stage.namespace}" in " ".join(answer.out.split())

    answer = cli("list", "--kubeconfig", onlooker)
    assert (answer.code, answer.out) == (2, "")
    user = f"system:serviceaccount:{stage.namespace}:onlooker"
    assert answer.err == (
        f"kubectl-modelrelease: not allowed: {user} may not list modelreleases.modelrelease.dev in namespace "
        f"{stage.namespace}; it needs the verb list on modelreleases.modelrelease.dev in RBAC\n"
    )
    answer = cli("where", "churn", "--kubeconfig", onlooker)
    assert answer.code == 2
    assert "in the whole cluster" in answer.err


async def test_a_verb_when_there_is_no_such_release_or_context_says_so(stage: Stage, cli: Cli) -> None:
    assert cli("status", "absent").err == 'kubectl-modelrelease: modelreleases.modelrelease.dev "absent" not found\n'
    assert 'context "nowhere" does not exist' in cli("status", "absent", "--context", "nowhere").err
    assert cli("list").out == f"No ModelRelease in namespace {stage.namespace}.\n"


async def test_status_when_a_stored_revision_is_foreign_leaves_its_parts_out(stage: Stage, cli: Cli) -> None:
    await stage.release(1)
    await stage.promoted(1)
    [stored] = await stage.all(CONTROLLER_REVISION)
    await stage.admin.delete(
        CONTROLLER_REVISION, stage.namespace, stored["metadata"]["name"], uid=stored["metadata"]["uid"]
    )
    answer = cli("status", NAME)
    assert answer.code == 0
    assert "DIFF" not in answer.out
