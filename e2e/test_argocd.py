"""Releases from Git through a real Argo CD: what it syncs, calls healthy, prunes and relaunches.

The tests of one application build on each other in the order of this file.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from e2e.argocd import ArgoCD, GitRepository
from e2e.cluster.interface import Cluster, wait_until
from e2e.stack import TEAM_NAMESPACE, Stack, digits
from e2e.traffic import Traffic
from e2e.training import MODEL_NAME, sample_requests

HOST, SHARED_HOST = "gitops.example", "shared.example"
APP, RELEASE = "digits-gitops", "gitops"
SHARED_APP, SHARED = "digits-shared", "shared"
PRUNED = ("deployments", "services", "httproutes", "controllerrevisions")
IGNORED_WEIGHTS = [
    {
        "group": "gateway.networking.k8s.io",
        "kind": "HTTPRoute",
        "jqPathExpressions": [".spec.rules[]?.backendRefs[]?.weight"],
    }
]
ONLY_WHAT_DIFFERS = ["ApplyOutOfSyncOnly=true"]
"""As docs/argocd.md tells it."""


@pytest.fixture(scope="module")
def argocd(stack: Stack, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoCD]:
    made = ArgoCD(cluster, tmp_path_factory.mktemp("argocd"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> GitRepository:
    return GitRepository(tmp_path_factory.mktemp("git") / "releases")


@pytest.fixture(scope="module")
def traffic(stack: Stack) -> Iterator[Traffic]:
    made = Traffic(stack.gateway.url, HOST, MODEL_NAME, sample_requests(), rate=40)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def shared_traffic(stack: Stack) -> Iterator[Traffic]:
    """Requests for the shared route; started by the test, once there is a route."""
    made = Traffic(stack.gateway.url, SHARED_HOST, MODEL_NAME, sample_requests(), rate=20)
    yield made
    made.stop()


def manifest(stack: Stack, version: str, name: str = RELEASE, **changes: Any) -> dict[str, Any]:
    """A release in Git, with one pod so that two of them fit on the node, and a short drain."""
    body = digits(stack, stack.versions[version].version, **changes)
    body["metadata"] = {"name": name, "namespace": TEAM_NAMESPACE}
    workload = body["spec"]["workload"]
    workload["replicas"], workload["drainTimeout"] = 1, "3s"
    workload["template"]["spec"]["terminationGracePeriodSeconds"] = 10
    body["spec"].pop("registry")
    if "gateway" in body["spec"]["traffic"]:
        body["spec"]["traffic"]["gateway"]["hostnames"] = [HOST]
    return body


def next_wave_of(release: Mapping[str, Any]) -> dict[str, Any]:
    """A ConfigMap of the sync wave after the release's."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "after-the-release",
            "namespace": TEAM_NAMESPACE,
            "annotations": {"argocd.argoproj.io/sync-wave": "1"},
        },
        "data": {"version": str(release["spec"]["model"]["version"])},
    }


def children(stack: Stack, name: str = RELEASE) -> set[str]:
    found = stack.cluster.get(",".join(PRUNED), "-n", TEAM_NAMESPACE, "-l", f"modelrelease.dev/name={name}")
    return {f"{item['kind']} {item['metadata']['name']}" for item in found["items"]}


def pods(stack: Stack) -> set[str]:
    """Pods of all revisions but one that drains: what serves, and what is on its way."""
    drains = (stack.status(RELEASE).get("previous") or {}).get("revision")
    found = [pod["metadata"] for pod in stack.pods(RELEASE)]
    return {one["uid"] for one in found if one["labels"]["modelrelease.dev/revision"] != drains}


def next_wave(stack: Stack) -> str | None:
    """The version that the ConfigMap of the next wave was synced with."""
    found = stack.cluster.get("configmaps", "-n", TEAM_NAMESPACE)["items"]
    mine = [item for item in found if item["metadata"]["name"] == "after-the-release"]
    return mine[0]["data"]["version"] if mine else None


def test_a_release_in_git_becomes_healthy_and_later_waves_wait_for_it(
    argocd: ArgoCD, repository: GitRepository, stack: Stack, traffic: Traffic
) -> None:
    release = manifest(stack, "first")
    commit = repository.commit("First release", {"release.yaml": [release], "after.yaml": [next_wave_of(release)]})
    argocd.application(APP, repository, TEAM_NAMESPACE)
    wait_until("the release exists", lambda: _phase(stack) is not None, 60)
    assert next_wave(stack) is None, "the next wave waits until the release is Healthy"
    argocd.wait(APP, commit, "Healthy")
    wait_until("the next wave", lambda: next_wave(stack) == _version(stack, "first"), 60)


def test_a_new_version_in_git_rolls_out_and_nothing_is_ever_out_of_sync_or_pruned(
    argocd: ArgoCD, repository: GitRepository, stack: Stack, traffic: Traffic
) -> None:
    kept = children(stack)
    commit = repository.commit("Version 2", {"release.yaml": [manifest(stack, "better")]})
    argocd.refresh(APP)
    wait_until("the sync of the commit", lambda: argocd.status(APP).get("sync", {}).get("revision") == commit, 60)
    seen: set[tuple[str, str]] = set()
    weights: set[int] = set()
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        status = argocd.status(APP)
        release = next(item for item in status["resources"] if item["kind"] == "ModelRelease")
        seen.add((release["status"], status["health"]["status"]))
        live = stack.status(RELEASE)
        weights.add((live.get("traffic") or {}).get("b", 0))
        if live.get("phase") == "Promoted" and live["stable"]["version"] == _version(stack, "better"):
            break
        time.sleep(0.5)
    argocd.wait(APP, commit, "Healthy")
    assert {20, 50, 100} <= weights, f"weights seen: {weights}"
    assert ("Synced", "Progressing") in seen
    assert {sync for sync, _ in seen} <= {"Synced", "OutOfSync"}
    assert not {pair for pair in seen if pair[0] == "OutOfSync" and pair[1] == "Progressing"}, seen
    assert kept <= children(stack), "Argo CD prunes nothing that the release owns"
    assert next_wave(stack) is None, "and what has left Git, it does"


def test_a_bad_version_in_git_is_degraded_and_nothing_relaunches_it(
    argocd: ArgoCD, repository: GitRepository, stack: Stack, traffic: Traffic
) -> None:
    serving = pods(stack)
    commit = repository.commit("A brittle version", {"release.yaml": [manifest(stack, "brittle")]})
    argocd.wait(APP, commit, "Degraded", timeout_s=240)
    wait_until("its pods are gone", lambda: pods(stack) == serving, 120)
    ended = stack.status(RELEASE)["history"][0]
    assert ended["outcome"] == "RolledBack"
    argocd.refresh(APP, hard=True)
    stack.command("nothing", "0000000000", "1", RELEASE)  # an annotation that Git does not have
    argocd.restart_controller()
    stack.kill_operator()
    stack.settle(seconds=20)
    argocd.wait(APP, commit, "Degraded")
    assert stack.status(RELEASE)["history"][0] == ended
    assert pods(stack) == serving, "not one pod of it was started again"


def test_a_revert_in_git_is_healthy_at_once(
    argocd: ArgoCD, repository: GitRepository, stack: Stack, traffic: Traffic
) -> None:
    serving = pods(stack)
    began = time.monotonic()
    argocd.wait(APP, repository.revert(), "Healthy", timeout_s=60)
    assert time.monotonic() - began < 60
    assert pods(stack) == serving
    assert stack.status(RELEASE)["stable"]["version"] == _version(stack, "better")


def test_only_weights_of_a_shared_route_are_ours_and_argo_cd_leaves_them_alone(
    argocd: ArgoCD, stack: Stack, shared_traffic: Traffic, tmp_path: Path
) -> None:
    git = GitRepository(tmp_path / "shared")
    route = shared_route(stack)
    release = manifest(stack, "first", SHARED, traffic={"httpRoute": {"name": "shared-web"}}, checks=[LENIENT])
    first = git.commit("A release on the team's own route", {"route.yaml": [route], "release.yaml": [release]})
    argocd.application(SHARED_APP, git, TEAM_NAMESPACE, options=ONLY_WHAT_DIFFERS, ignoreDifferences=IGNORED_WEIGHTS)
    argocd.wait(SHARED_APP, first, "Healthy")
    shared_traffic.start()
    release = manifest(stack, "better", SHARED, traffic={"httpRoute": {"name": "shared-web"}}, checks=[LENIENT])
    second = git.commit("Version 2", {"route.yaml": [route], "release.yaml": [release]})
    argocd.wait(SHARED_APP, second, "Healthy", timeout_s=240)
    live = live_route(stack)
    assert _weights(stack) == [0, 100]
    assert _without_weights(live["spec"]) == _without_weights(_defaulted(stack, route)["spec"])
    argocd.refresh(SHARED_APP, hard=True)
    argocd.wait(SHARED_APP, second, "Healthy")
    route["spec"]["rules"][0]["filters"] = [_header("later")]
    third = git.commit("Another header", {"route.yaml": [route], "release.yaml": [release]})
    argocd.wait(SHARED_APP, third, "Healthy")
    live = live_route(stack)
    assert live["spec"]["rules"][0]["filters"][0]["responseHeaderModifier"]["set"][0]["value"] == "later"
    wait_until("the weights are back", lambda: _weights(stack) == [0, 100], 20)
    assert shared_traffic.failures() == [], "users reached what serves, whatever weights Git has"


LENIENT = {"name": "errors", "errorRate": {"max": 0.9, "minPolls": 1}}


def shared_route(stack: Stack) -> dict[str, Any]:
    """The team's own route: a redirecting rule with a filter, and the rule that carries the release."""
    slots = [{"name": f"{SHARED}-{slot}", "port": 80, "weight": weight} for slot, weight in (("a", 1), ("b", 0))]
    home = {"type": "PathPrefix", "value": "/home"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": "shared-web",
            "namespace": TEAM_NAMESPACE,
            "labels": {"modelrelease.dev/name": SHARED},
        },
        "spec": {
            "parentRefs": [{"name": stack.gateway.name, "namespace": stack.gateway.namespace}],
            "hostnames": [SHARED_HOST],
            "rules": [
                {
                    "matches": [{"path": home}],
                    "filters": [_header("first")],
                    "backendRefs": [{**slots[0], "weight": 1}],
                },
                {"backendRefs": slots},
            ],
        },
    }


def live_route(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack.cluster.get("httproute", "shared-web", "-n", TEAM_NAMESPACE)
    return found


def _weights(stack: Stack) -> list[int]:
    return [backend["weight"] for backend in live_route(stack)["spec"]["rules"][1]["backendRefs"]]


def _header(value: str) -> dict[str, Any]:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-home", "value": value}]}}


def _defaulted(stack: Stack, route: Mapping[str, Any]) -> dict[str, Any]:
    """The route as the API server completes it."""
    asked = json.dumps(route)
    return dict(json.loads(stack.cluster.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", input=asked)))


def _without_weights(spec: Mapping[str, Any]) -> dict[str, Any]:
    copied = copy.deepcopy(dict(spec))
    for backend in copied["rules"][1]["backendRefs"]:
        backend["weight"] = None
    return copied


def _phase(stack: Stack) -> str | None:
    found = stack.cluster.get("modelreleases", "-n", TEAM_NAMESPACE)["items"]
    mine = [item for item in found if item["metadata"]["name"] == RELEASE]
    return (mine[0].get("status") or {}).get("phase", "") if mine else None


def _version(stack: Stack, name: str) -> str:
    return str(stack.versions[name].version)
