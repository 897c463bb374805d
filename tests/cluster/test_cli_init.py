"""`init` and `lint` by the plugin: what a real Deployment becomes is accepted by a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from modelrelease.cli import main
from tests.cluster.plugin import Person, kubeconfig_as
from tests.cluster.test_admission import role

LABELS = {"app": "chat", "tier": "serving"}
VLLM = {
    "name": "server",
    "image": "vllm/vllm-openai@sha256:" + "0" * 64,
    "args": ["--model=meta-llama/Llama-3.1-8B-Instruct"],
    "ports": [{"name": "http", "containerPort": 8000}],
    "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5},
    "env": [{"name": "HF_HOME", "value": "/cache"}],
    "resources": {"limits": {"nvidia.com/gpu": "1"}},
    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
}
OBJECTS: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "chat"}},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"containers": [VLLM], "volumes": [{"name": "cache", "emptyDir": {}}]},
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat"},
        "spec": {"selector": {"app": "chat"}, "ports": [{"port": 80, "targetPort": "http"}]},
    },
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "chat"},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "hostnames": ["chat.example"],
            "rules": [{"backendRefs": [{"name": "chat", "port": 80}]}],
        },
    },
]
READS = [
    ("apps", ["deployments"], ["get"]),
    ("", ["services"], ["list"]),
    ("gateway.networking.k8s.io", ["httproutes"], ["list"]),
]


@pytest.fixture(scope="module")
def namespace(apiserver: ControlPlane, kinds: None) -> Iterator[str]:
    """A namespace in which a Deployment runs behind a Service and a route."""
    name = f"init-{uuid4().hex[:8]}"
    apiserver.kubectl("create", "namespace", name)
    apiserver.kubectl("apply", "-n", name, "-f", "-", input=yaml.safe_dump_all([*OBJECTS, *role("dev", READS)]))
    yield name
    apiserver.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def dev(apiserver: ControlPlane, namespace: str, tmp_path: Path) -> Person:
    """May read the three kinds, and nothing else."""
    return Person(kubeconfig_as("dev", apiserver.kubeconfig, tmp_path), namespace)


@pytest.mark.parametrize("more", [(), ("--http-route", "chat")], ids=["a route of its own", "the present route"])
async def test_what_init_writes_passes_lint_and_the_api_server(
    apiserver: ControlPlane, dev: Person, tmp_path: Path, more: tuple[str, ...]
) -> None:
    path = tmp_path / "release.yaml"
    written = await dev.output("init", "deployment/chat", "--model", "chat-llm", "--version", "3", *more)
    path.write_text(written, encoding="utf-8")
    assert main.run(["lint", "-f", str(path), "--strict"]) == 0
    done = apiserver.kubectl("apply", "-n", dev.namespace, "--dry-run=server", "-f", "-", input=written)
    name = "chat" if more else "chat-release"
    assert f"modelrelease.modelrelease.dev/{name} created (server dry run)" in done
    template = yaml.safe_load(written)["spec"]["workload"]["template"]
    assert template["metadata"] == {"labels": {"tier": "serving"}}
    assert template["spec"]["containers"][0]["args"] == [
        "--model=$(MODEL_URI)",
        "--served-model-name=meta-llama/Llama-3.1-8B-Instruct",
    ]
    plain = {**template, "metadata": {"labels": LABELS}}
    as_deployment = {**OBJECTS[0], "metadata": {"name": "copy"}, "spec": {**OBJECTS[0]["spec"], "template": plain}}
    apiserver.kubectl("create", "-n", dev.namespace, "--dry-run=server", "-f", "-", input=yaml.safe_dump(as_deployment))


async def test_init_comments_on_every_guess_and_says_how_to_move_over(dev: Person) -> None:
    written = await dev.output("init", "chat")
    assert "    # GUESS: nothing says which version runs; write its number\n    version: 1\n" in written
    assert "    # GUESS: from container server\n    runtime: vllm\n" in written
    assert f"#   4. kubectl -n {dev.namespace} delete httproute chat    # the release's own route takes over" in written


async def test_init_of_what_does_not_exist_or_may_not_be_read_says_so(
    apiserver: ControlPlane, dev: Person, tmp_path: Path
) -> None:
    said = await dev.run("init", "deployment/none")
    assert (said.code, '"none" not found' in said.text) == (2, True)
    assert (await dev.run("init", "statefulset/chat")).code == 2
    nobody = Person(kubeconfig_as("nobody", apiserver.kubeconfig, tmp_path), dev.namespace)
    said = await nobody.run("init", "deployment/chat")
    assert (said.code, f"nobody may not get deployments.apps in namespace {dev.namespace}" in said.text) == (2, True)
