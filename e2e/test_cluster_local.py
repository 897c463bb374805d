"""The local cluster itself: that it is a real one, and that nothing is left of it, however it ends.

These tests start clusters of their own and act from outside, so they run on the machine, not inside `run`.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import binaries, gobuild, keeper
from e2e.cluster.interface import ClusterError, Gateway, wait_until
from e2e.cluster.launch import REPOSITORY, state_root
from e2e.cluster.local import LocalCluster
from e2e.cluster.pause import pack_image

pytestmark = pytest.mark.long

ECHO_MAIN = """package main

import (
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
)

func main() {
	var served atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		fmt.Fprint(w, os.Getenv("VERSION"))
	})
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "# TYPE echo_requests_total counter\\necho_requests_total %d\\n", served.Load())
	})
	http.ListenAndServe(":8080", nil)
}
"""
ECHO_IMAGE = "localhost/modelrelease/echo:1"
WEIGHTS = (90, 10)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalCluster]:
    with LocalCluster(f"pytest-{os.getpid()}") as started:
        yield started


@pytest.fixture(scope="module")
def echo_image(local: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A web server that answers with its VERSION, loaded into the cluster."""
    folder = tmp_path_factory.mktemp("echo")
    program = gobuild.GoProgram(name="echo", module="", version="1", packages=(), main=ECHO_MAIN)
    gobuild.prepare(program, [], {}, folder)
    subprocess.run(gobuild.build_command(program, folder), cwd=folder, env=gobuild.environment(), check=True)
    local.load_image(pack_image(folder / "echo", ECHO_IMAGE, folder / "echo.tar"))
    return ECHO_IMAGE


@pytest.fixture(scope="module")
def gateway(local: LocalCluster) -> Gateway:
    return local.start_gateway()


def apply(cluster: LocalCluster, *items: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def render_version(version: str, image: str, limits: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """A Deployment and a Service called `version`."""
    labels = {"app": version, "modelrelease.dev/revision": version}
    container = {
        "name": "echo",
        "image": image,
        "env": [{"name": "VERSION", "value": version}],
        "ports": [{"name": "metrics", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        "resources": {"limits": limits or {}},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": version},
            "spec": {
                "selector": {"matchLabels": {"app": version}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": version},
            "spec": {"selector": {"app": version}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


def render_route(gateway: Gateway, weights: tuple[int, int]) -> dict[str, Any]:
    backends = [{"name": name, "port": 80, "weight": w} for name, w in zip(("v1", "v2"), weights, strict=True)]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "echo"},
        "spec": {
            "parentRefs": [{"name": gateway.name, "namespace": gateway.namespace}],
            "hostnames": ["echo.example"],
            "rules": [{"backendRefs": backends}],
        },
    }


CLIENT = """
import collections, http.client, json, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connection, seen = http.client.HTTPConnection(host, port, timeout=5), collections.Counter()
for _ in range(count):
    connection.request("GET", "/", headers={"Host": "echo.example"})
    answer = connection.getresponse()
    seen[f"{answer.status} {answer.read().decode()[:20]}"] += 1
print(json.dumps(seen))
"""


def count_answers(cluster: LocalCluster, gateway: Gateway, requests: int) -> collections.Counter[str]:
    """Send requests through the gateway from inside the cluster's network; answers by `status body`."""
    url = urllib.parse.urlsplit(gateway.url)
    argv = [sys.executable, "-c", CLIENT, str(url.hostname), str(url.port), str(requests)]
    return collections.Counter(json.loads(cluster.run(argv)))


def query(cluster: LocalCluster, prometheus: str, expression: str) -> list[dict[str, Any]]:
    code, body = cluster.agent.fetch(f"{prometheus}/api/v1/query?query={urllib.parse.quote(expression)}")
    assert code == 200, body
    result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
    return result


def leftovers(state: Path, name: str) -> list[str]:
    """What is still on this machine of the cluster with that state folder: files, processes, mounts, cgroups,
    interfaces, packet rules."""
    found = [str(state)] if state.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(state).encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                found.append(f"process {process.name}")
        except (FileNotFoundError, ProcessLookupError):
            continue
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
    if name:
        found += [str(p) for parent in keeper.cgroup_parents() for p in parent.glob(name)]
    found += [p.name for p in Path("/sys/class/net").iterdir() if p.name.startswith("mr")]
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    found += [line for line in rules.splitlines() if "kube-proxy" in line]
    return found


def test_start_when_binaries_are_cached_then_node_is_ready_within_20_s() -> None:
    binaries.ensure(binaries.NODE)
    cluster = LocalCluster(f"timed-{os.getpid()}")
    began = time.monotonic()
    with cluster:
        took = time.monotonic() - began
        assert cluster.get("node", "node1")["status"]["nodeInfo"]["kubeletVersion"] == binaries.KUBERNETES
        cgroup = keeper.Node.load(cluster.state)
        assert cgroup is not None
    assert leftovers(cluster.state, cgroup.cgroup) == []
    assert took < 20


def test_kernel_settings_when_a_kubelet_runs_then_the_machines_own_are_unchanged(local: LocalCluster) -> None:
    setting = "/proc/sys/kernel/panic_on_oops"
    before = {key: (Path("/proc/sys") / key).read_text() for key in ("vm/overcommit_memory", "kernel/panic_on_oops")}
    assert local.run(local.enter(["cat", setting])) == "1\n"
    with LocalCluster(f"second-{os.getpid()}"):
        after = {key: (Path("/proc/sys") / key).read_text() for key in before}
    assert after == before


def test_stop_when_another_cluster_runs_then_that_one_keeps_its_mounts() -> None:
    first, second = (LocalCluster(f"{which}-{os.getpid()}") for which in ("first", "second"))
    with second:
        with first:
            pass
        for point in keeper.MOUNT_POINTS:
            second.run(second.enter(["mountpoint", point]))


def test_gateway_when_weights_are_90_10_then_answers_are_split_so(
    local: LocalCluster, gateway: Gateway, echo_image: str
) -> None:
    apply(local, *render_version("v1", echo_image), *render_version("v2", echo_image), render_route(gateway, WEIGHTS))
    for version in ("v1", "v2"):
        local.kubectl("rollout", "status", f"deployment/{version}", "--timeout=60s")
    wait_until("the route", lambda: "200 v1" in count_answers(local, gateway, 1), timeout_s=20)
    seen = count_answers(local, gateway, 2000)
    assert seen["200 v1"] + seen["200 v2"] == 2000, seen
    assert 140 <= seen["200 v2"] <= 260, seen  # 200 expected; 4.5 standard deviations either side
    apply(local, render_route(gateway, (0, 100)))
    wait_until("the new weights", lambda: set(count_answers(local, gateway, 20)) == {"200 v2"}, timeout_s=5)


def test_prometheus_when_stopped_and_started_then_it_goes_on_with_its_data(
    local: LocalCluster, gateway: Gateway, echo_image: str
) -> None:
    apply(local, *render_version("v1", echo_image))
    local.kubectl("rollout", "status", "deployment/v1", "--timeout=60s")
    url = local.start_prometheus("1s")
    expression = 'echo_requests_total{modelrelease_dev_revision="v1"}'
    wait_until("samples of v1", lambda: query(local, url, expression), timeout_s=20)
    sample = query(local, url, expression)[0]
    assert sample["metric"]["namespace"] == "default"
    assert sample["metric"]["pod"].startswith("v1-")
    first_sample = query(local, url, f"{expression}[5m]")[0]["values"][0]
    local.stop_prometheus()
    assert local.agent.fetch(f"{url}/-/ready")[0] == 0
    assert local.start_prometheus("1s") == url
    assert query(local, url, f"{expression}[5m]")[0]["values"][0] == first_sample


def test_gpus_when_advertised_then_scheduler_counts_them_and_kubelet_keeps_them(
    local: LocalCluster, echo_image: str
) -> None:
    local.advertise_gpus(1)
    apply(local, *render_version("gpu1", echo_image, {"nvidia.com/gpu": "1"}))
    local.kubectl("rollout", "status", "deployment/gpu1", "--timeout=60s")
    apply(local, *render_version("gpu2", echo_image, {"nvidia.com/gpu": "1"}))

    def refused() -> bool:
        pods = local.get("pods", "-l", "app=gpu2")["items"]
        messages = [c.get("message", "") for p in pods for c in p["status"].get("conditions", ())]
        return any("Insufficient nvidia.com/gpu" in message for message in messages)

    wait_until("the scheduler's refusal", refused, timeout_s=20)
    time.sleep(12)  # two of the kubelet's own status updates
    assert local.get("node", "node1")["status"]["allocatable"]["nvidia.com/gpu"] == "1"


def test_exec_and_logs_when_a_pod_runs_then_kubectl_reaches_it(local: LocalCluster, echo_image: str) -> None:
    apply(local, *render_version("v1", echo_image))
    local.kubectl("rollout", "status", "deployment/v1", "--timeout=60s")
    assert local.kubectl("logs", "deployment/v1") == ""
    with pytest.raises(ClusterError, match="no such file or directory"):
        local.kubectl("exec", "deployment/v1", "--", "/missing")


def test_spawn_when_a_name_is_running_then_the_second_is_refused_and_exit_codes_are_told(local: LocalCluster) -> None:
    process = local.spawn("sleeper", ["sleep", "60"])
    with pytest.raises(ClusterError, match="sleeper is running already"):
        local.spawn("sleeper", ["sleep", "60"])
    process.stop()
    assert process.exit_code() == -signal.SIGTERM
    failing = local.spawn("failing", ["sh", "-c", "echo told; exit 3"])
    wait_until("its end", lambda: failing.exit_code() is not None, timeout_s=5)
    assert failing.exit_code() == 3
    assert failing.log.read_text() == "told\n"


def test_kwok_when_nodes_are_added_then_pods_for_them_become_ready(local: LocalCluster) -> None:
    local.add_kwok_nodes(3)
    deployment, _ = render_version("fake", "example.invalid/none:1")
    deployment["spec"]["replicas"] = 30
    deployment["spec"]["template"]["spec"] |= {
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
    }
    apply(local, deployment)
    local.kubectl("rollout", "status", "deployment/fake", "--timeout=60s")


PARENT = """
import sys, time
from e2e.cluster.local import LocalCluster
cluster = LocalCluster(sys.argv[1])
cluster.start()
cluster.spawn("sleeper", ["sleep", "600"])
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(lambda parent, node: parent.send_signal(signal.SIGKILL), id="parent killed"),
        pytest.param(lambda parent, node: parent.send_signal(signal.SIGINT), id="Ctrl-C"),
        pytest.param(lambda parent, node: os.kill(node.pid, signal.SIGKILL), id="first process of the node killed"),
    ],
)
def test_end_when_the_parent_is_gone_then_nothing_is_left(
    kill: Callable[[subprocess.Popen[str], keeper.Node], None],
) -> None:
    name = f"killed-{os.getpid()}"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, name],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # a shell's background job ignores Ctrl-C, and its children with it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - nothing else runs here
    )
    state = state_root() / name
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        node = keeper.Node.load(state)
        assert node is not None
        assert leftovers(state, node.cgroup) != []
        kill(parent, node)
        wait_until("nothing left", lambda: leftovers(state, node.cgroup) == [], timeout_s=10)
    finally:
        parent.kill()
        parent.wait()


def test_start_when_an_earlier_keeper_was_killed_too_then_its_cgroups_are_swept() -> None:
    name = f"swept-{os.getpid()}"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, name], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        state = state_root() / name
        node = keeper.Node.load(state)
        assert node is not None
        os.kill(node.keeper, signal.SIGKILL)
    finally:
        parent.kill()
        parent.wait()
    wait_until("the end of the node", lambda: not Path(f"/proc/{node.pid}").exists(), timeout_s=5)
    with LocalCluster(name):
        assert [p for parent_group in keeper.cgroup_parents() for p in parent_group.glob(node.cgroup)] == []
    assert leftovers(state, node.cgroup) == []
