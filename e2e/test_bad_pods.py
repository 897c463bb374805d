"""Candidates that never come up: each says why in the pods' own words, gets no traffic, and harms nobody else."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.stack import TEAM_NAMESPACE, Stack, digits

Manifest = dict[str, Any]


def _container(manifest: Manifest) -> dict[str, Any]:
    container: dict[str, Any] = manifest["spec"]["workload"]["template"]["spec"]["containers"][0]
    return container


def _no_such_image(manifest: Manifest) -> None:
    _container(manifest)["image"] = "localhost/no-such-image:1"


def _too_many_gpus(manifest: Manifest) -> None:
    _container(manifest)["resources"]["limits"]["nvidia.com/gpu"] = "100"


def _crashes(manifest: Manifest) -> None:
    _container(manifest)["env"] = [{"name": "MLFLOW_TRACKING_URI", "value": "http://127.0.0.1:9"}]
    _container(manifest)["args"] = ["--no-such-option"]
    _container(manifest)["command"] = ["false"]


def _too_little_memory(manifest: Manifest) -> None:
    container = _container(manifest)
    container["resources"] = {"requests": {"memory": "16Mi"}, "limits": {"memory": "24Mi", "nvidia.com/gpu": "1"}}


def _no_such_gateway(manifest: Manifest) -> None:
    manifest["spec"]["traffic"]["gateway"]["parentRefs"] = [{"name": "no-such-gateway"}]


CASES: tuple[tuple[str, Callable[[Manifest], None], str, str], ...] = (
    ("an image that cannot be pulled", _no_such_image, "ImagePullFailed", "no-such-image"),
    ("more GPUs than any node has", _too_many_gpus, "Unschedulable", "nvidia.com/gpu"),
    ("a container that ends with an error", _crashes, "CrashLoop", "exit code 1"),
    ("less memory than the model needs", _too_little_memory, "OOMKilled", "OOMKilled"),
)


@pytest.fixture
def release_name(stack: Stack) -> Iterator[str]:
    name = f"bad-{time.monotonic_ns() % 100000}"
    yield name
    stack.cluster.kubectl("delete", "modelrelease", name, "-n", TEAM_NAMESPACE, "--wait=true")


@pytest.mark.parametrize(("change", "reason", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_candidate_that_cannot_start_says_why_and_gets_no_traffic(
    stack: Stack, release_name: str, change: Callable[[Manifest], None], reason: str, words: str
) -> None:
    manifest = copy.deepcopy(digits(stack, stack.versions["first"].version))
    manifest["metadata"]["name"] = release_name
    manifest["spec"]["traffic"]["gateway"]["hostnames"] = [f"{release_name}.example"]
    manifest["spec"].pop("registry")
    change(manifest)
    stack.apply(manifest)
    deadline = time.monotonic() + 120
    while True:
        status = stack.status(release_name)
        seen = {item["type"]: (item["reason"], item["message"]) for item in status.get("conditions", ())}
        if reason in {pair[0] for pair in seen.values()} and words in str(seen):
            break
        assert time.monotonic() < deadline, f"expected {reason} with {words!r}, got {seen}"
        time.sleep(0.5)
    assert status.get("traffic") is None, "no traffic on a candidate that is not ready"
    assert "stable" not in status


def test_a_route_that_no_gateway_accepts_is_told_and_nothing_is_promoted(stack: Stack, release_name: str) -> None:
    manifest = copy.deepcopy(digits(stack, stack.versions["first"].version))
    manifest["metadata"]["name"] = release_name
    manifest["spec"].pop("registry")
    _no_such_gateway(manifest)
    stack.apply(manifest)
    deadline = time.monotonic() + 120
    while (status := stack.status(release_name)).get("summary", {}).get("weight") != "100%":
        assert time.monotonic() < deadline, f"never got as far as the route: {status.get('message')}"
        time.sleep(0.5)
    stack.settle(seconds=5)
    status = stack.status(release_name)
    assert status["phase"] == "Progressing"
    reason = next(item["reason"] for item in status["conditions"] if item["type"] == "Progressing")
    assert reason in ("RoutePending", "RouteNotAccepted")
    assert "stable" not in status
