"""What the API server's objects say, from pods as the kubelet, the scheduler and the node controller write them."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelrelease.api.release import ModelReleaseSpec
from modelrelease.clients.views import owned_by, revision_from, route_view, slot_view, workload_view
from modelrelease.core.observation import PodFacts, PodFault, RouteView, SlotView, Workload
from modelrelease.core.revision import desired, to_data

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
SPEC = ModelReleaseSpec.model_validate(
    {
        "model": {"name": "churn", "version": 7},
        "traffic": {"gateway": {"parentRefs": [{"name": "edge"}]}},
        "workload": {"template": {"spec": {"containers": [{"name": "server", "image": "example.test/sk:1"}]}}},
    }
)
REVISION = desired("churn", SPEC, None, "7", "models:/m-1")
Json = dict[str, Any]


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def deployment(replicas: int = 2, **condition: str) -> Json:
    return {
        "metadata": {"name": REVISION.name, "generation": 3},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 3, "conditions": [condition] if condition else []},
    }


def pod(name: str = "p1", age: float = 600, **changes: Any) -> Json:
    """A pod that serves; changes replace parts of its status, or set `ending`."""
    ready = changes.pop("ready", True)
    ending = changes.pop("ending", False)
    container = {
        "name": "server",
        "image": "example.test/sk:1",
        "ready": ready,
        "restartCount": changes.pop("restarts", 0),
        "state": changes.pop("state", {"running": {"startedAt": ago(age - 2)}}),
        "lastState": changes.pop("last", {}),
    }
    conditions = {
        "PodReadyToStartContainers": {"status": "True"},
        "Initialized": {"status": "True"},
        "Ready": {"status": "True"} if ready else {"status": "False", "reason": "ContainersNotReady"},
        "ContainersReady": {"status": "True"} if ready else {"status": "False", "reason": "ContainersNotReady"},
        "PodScheduled": {"status": "True"},
        **changes.pop("conditions", {}),
    }
    metadata: Json = {
        "name": name,
        "creationTimestamp": ago(age),
        "labels": {"modelrelease.dev/name": "churn", "modelrelease.dev/revision": REVISION.revision},
    }
    if ending:
        metadata["deletionTimestamp"] = ago(-30)
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": kind, "lastTransitionTime": ago(age), **one} for kind, one in conditions.items()],
            "containerStatuses": [container],
            **changes,
        },
    }


def waiting(reason: str, message: str = "", **more: Any) -> Json:
    return pod(ready=False, phase="Pending", state={"waiting": {"reason": reason, "message": message}}, **more)


def terminated(exit_code: int, reason: str, message: str = "") -> Json:
    ended = {"exitCode": exit_code, "reason": reason, "startedAt": ago(60), "finishedAt": ago(50)}
    return {"terminated": {**ended, "message": message} if message else ended}


def unscheduled(message: str, reason: str = "Unschedulable") -> Json:
    conditions = {"PodScheduled": {"status": "False", "reason": reason, "message": message}}
    body = pod(ready=False, phase="Pending", conditions=conditions)
    del body["status"]["containerStatuses"]
    return body


def disrupted(by: str, message: str, seconds_ago: float, **more: Any) -> Json:
    target = {"status": "True", "reason": by, "message": message, "lastTransitionTime": ago(seconds_ago)}
    return pod("old", conditions={"DisruptionTarget": target}, **more)


def starting(name: str = "new", age: float = 5) -> Json:
    return pod(name, age, ready=False, state={"waiting": {"reason": "ContainerCreating"}}, phase="Pending")


GPU = (
    "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)
PULL = 'rpc error: code = NotFound desc = failed to pull and unpack image "example.test/sk:1": not found'
NO_PULL = f"p1: container server: image example.test/sk:1 cannot be pulled: {PULL}"


@pytest.mark.parametrize(
    ("pods", "fault", "message"),
    [
        pytest.param(
            [pod(ready=False, restarts=1, last=terminated(137, "OOMKilled"))],
            PodFault.OOM_KILLED,
            "p1: container server was OOMKilled (exit code 137)",
            id="a pod that starts again after it ran out of memory",
        ),
        pytest.param(
            [waiting("CrashLoopBackOff", "back-off 20s restarting", last=terminated(137, "OOMKilled"), restarts=3)],
            PodFault.OOM_KILLED,
            "p1: container server was OOMKilled (exit code 137)",
            id="a crash loop for lack of memory is told as such, without the seconds of the back-off",
        ),
        pytest.param(
            [waiting("CrashLoopBackOff", "back-off 10s", last=terminated(1, "Error", "no such\nmodel"), restarts=2)],
            PodFault.CRASH_LOOP,
            "p1: container server ended with Error (exit code 1): no such model",
            id="a crash loop carries the container's last words",
        ),
        pytest.param(
            [pod(ready=False, state=terminated(3, "Error"))],
            PodFault.CRASH_LOOP,
            "p1: container server ended with Error (exit code 3)",
            id="a first crash, before any back-off",
        ),
        pytest.param(
            [waiting("CrashLoopBackOff", "back-off", last=terminated(0, "Completed"), restarts=4)],
            PodFault.CRASH_LOOP,
            "p1: container server ended with Completed (exit code 0)",
            id="a server that ends by itself without an error",
        ),
        pytest.param(
            [waiting("RunContainerError", 'exec: "serve": executable file not found in $PATH')],
            PodFault.CRASH_LOOP,
            'p1: container server: exec: "serve": executable file not found in $PATH',
            id="a command that does not exist",
        ),
        pytest.param(
            [waiting("ErrImagePull", PULL)], PodFault.IMAGE_PULL_FAILED, NO_PULL, id="an image that does not exist"
        ),
        pytest.param(
            [waiting("ImagePullBackOff", f'Back-off pulling image "example.test/sk:1": ErrImagePull: {PULL}')],
            PodFault.IMAGE_PULL_FAILED,
            NO_PULL,
            id="the same words while the kubelet backs off",
        ),
        pytest.param(
            [waiting("InvalidImageName", "couldn't parse image name")],
            PodFault.IMAGE_PULL_FAILED,
            "p1: container server: InvalidImageName: couldn't parse image name",
            id="an image name that is none",
        ),
        pytest.param(
            [waiting("CreateContainerConfigError", 'secret "s3" not found')],
            PodFault.CONFIG_ERROR,
            'p1: container server: CreateContainerConfigError: secret "s3" not found',
            id="a missing secret",
        ),
        pytest.param(
            [unscheduled(GPU)],
            PodFault.UNSCHEDULABLE,
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            id="too few GPUs, in the scheduler's words without its second thoughts",
        ),
        pytest.param(
            [unscheduled("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")],
            PodFault.UNSCHEDULABLE,
            "Scheduling is blocked due to non-empty scheduling gates",
            id="a pod that waits for quota behind a scheduling gate",
        ),
        pytest.param(
            [
                pod("evicted", phase="Failed", reason="Evicted", message="node was low on memory", ready=False, age=9),
                starting(age=5),
            ],
            PodFault.PODS_LOST,
            "evicted: Evicted: node was low on memory",
            id="an evicted pod, until its replacement is ready",
        ),
        pytest.param(
            [disrupted("PreemptionByScheduler", "preempting to accommodate a higher priority pod", 8, ending=True)],
            PodFault.PODS_LOST,
            "old: PreemptionByScheduler: preempting to accommodate a higher priority pod",
            id="a preempted pod that is not replaced yet",
        ),
        pytest.param(
            [disrupted("DeletionByTaintManager", "NoExecute", 8, ending=True, reason="NodeLost"), starting()],
            PodFault.PODS_LOST,
            "old: DeletionByTaintManager: NoExecute",
            id="a pod of a lost node",
        ),
        pytest.param(
            [
                pod(
                    conditions={
                        "Ready": {"status": "False"},
                        "ContainersReady": {"status": "True"},
                    }
                )
            ],
            PodFault.PODS_LOST,
            "p1: node n1 does not answer",
            id="a node that has gone silent",
        ),
        pytest.param(
            [pod("gone", ending=True), pod()],
            PodFault.PODS_LOST,
            "gone: was deleted",
            id="a pod that somebody deletes",
        ),
        pytest.param(
            [unscheduled(GPU), waiting("CrashLoopBackOff", last=terminated(1, "Error"))],
            PodFault.CRASH_LOOP,
            "p1: container server ended with Error (exit code 1)",
            id="harm says more than capacity",
        ),
    ],
)
def test_workload_view_tells_what_keeps_pods_from_being_ready(pods: list[Json], fault: PodFault, message: str) -> None:
    view = workload_view(REVISION, deployment(), pods, NOW)
    assert (fault, message) == (view.fault, view.fault_message)
    assert not view.loading


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        pytest.param(
            {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": 'pods "churn-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1',
            },
            'pods "churn-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1',
            id="a quota refuses the pods",
        ),
        pytest.param(
            {
                "type": "Progressing",
                "status": "False",
                "reason": "ReplicaSetCreateError",
                "message": "admission webhook denied the request",
            },
            "admission webhook denied the request",
            id="the ReplicaSet is refused",
        ),
    ],
)
def test_workload_view_when_no_pod_can_be_created(condition: dict[str, str], message: str) -> None:
    view = workload_view(REVISION, deployment(2, **condition), [pod()], NOW)
    expected = Workload(REVISION.revision, 2, 1, fault=PodFault.PODS_REFUSED, fault_message=message)
    assert expected == replace(view, pods={})


@pytest.mark.parametrize(
    ("pods", "ready"),
    [
        pytest.param([pod("p1"), pod("p2")], 2, id="all ready"),
        pytest.param([pod("p1", restarts=1, last=terminated(137, "OOMKilled")), pod("p2")], 2, id="recovered"),
        pytest.param([pod("p1"), pod("p2"), pod("p3", ending=True)], 2, id="a pod of an earlier scale-down ends"),
        pytest.param([pod("p1"), pod("p2"), disrupted("EvictionByEvictionAPI", "", 5, ending=True)], 2, id="replaced"),
        pytest.param(
            [pod("p1"), pod("p2"), pod("p3", ready=False, phase="Failed", reason="Evicted")], 2, id="evicted long ago"
        ),
    ],
)
def test_workload_view_of_enough_ready_pods_has_no_fault(pods: list[Json], ready: int) -> None:
    view = workload_view(REVISION, deployment(2), pods, NOW)
    assert (ready, None, "") == (view.ready, view.fault, view.fault_message)


def test_workload_view_of_a_scale_up_hours_after_an_eviction_is_no_loss() -> None:
    evicted = pod("old", 9000, ready=False, phase="Failed", reason="Evicted", message="node was low on memory")
    view = workload_view(REVISION, deployment(2), [evicted, pod(), starting()], NOW)
    assert (view.fault, view.loading, view.ready) == (None, True, 1)


@pytest.mark.parametrize(
    ("pods", "loading"),
    [
        pytest.param([starting(age=900)], True, id="an image that is pulled for a quarter of an hour"),
        pytest.param([], True, id="pods that are yet to be created"),
        pytest.param([pod(age=5, ready=False)], True, id="a pod that began a moment ago"),
        pytest.param(
            [pod(age=900, ready=False, state={"waiting": {"reason": "PodInitializing"}})],
            True,
            id="an init container that fetches the model",
        ),
        pytest.param(
            [pod(age=900, ready=False, state={"running": {"startedAt": ago(3)}})], True, id="a server just started"
        ),
        pytest.param([pod(age=900, ready=False)], False, id="a server that runs and does not become ready"),
        pytest.param(
            [
                pod(
                    age=900,
                    ready=False,
                    state={"waiting": {"reason": "ContainerCreating"}},
                    conditions={"PodReadyToStartContainers": {"status": "False"}},
                )
            ],
            False,
            id="a volume that cannot be mounted",
        ),
    ],
)
def test_workload_view_tells_loading_from_waiting(pods: list[Json], loading: bool) -> None:
    view = workload_view(REVISION, deployment(1), pods, NOW)
    assert (None, loading) == (view.fault, view.loading)


@pytest.mark.parametrize(
    ("pods", "crashes"),
    [
        pytest.param([pod()], 0, id="never restarted"),
        pytest.param([pod(ready=False, state=terminated(1, "Error"))], 1, id="ended now, to be restarted"),
        pytest.param([pod(restarts=1, last=terminated(1, "Error"))], 1, id="restarted once and runs"),
        pytest.param(
            [waiting("CrashLoopBackOff", restarts=1, last=terminated(1, "Error"))], 2, id="ended again and backs off"
        ),
        pytest.param([pod(name, restarts=2, last=terminated(1, "Error")) for name in ("p1", "p2")], 4, id="two pods"),
        pytest.param([pod(restarts=1, last=terminated(255, "Unknown"))], 0, id="a reboot of the node is no crash"),
        pytest.param([pod(ready=False, state=terminated(0, "Completed"))], 0, id="an end without an error"),
        pytest.param([pod(ready=False, ending=True, state=terminated(137, "Error"))], 0, id="a pod that is stopped"),
        pytest.param(
            [pod(ready=False, phase="Failed", reason="Evicted", state=terminated(137, "Error"))], 0, id="evicted"
        ),
    ],
)
def test_workload_view_counts_crashes_of_living_pods(pods: list[Json], crashes: int) -> None:
    assert crashes == workload_view(REVISION, deployment(), pods, NOW).crashes


def test_workload_view_ignores_pods_of_another_revision() -> None:
    other = copy.deepcopy(pod("other", ready=False, state=terminated(1, "Error")))
    other["metadata"]["labels"]["modelrelease.dev/revision"] = "0123456789"
    view = workload_view(REVISION, deployment(2), [other, pod("p1"), pod("p2")], NOW)
    assert Workload(REVISION.revision, 2, 2) == replace(view, pods={})
    assert {"p1", "p2"} == view.pods.keys()


H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
CUT_ALIKE = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "nvidia.com/mig.strategy": "single"}
CUT_MIXED = {**H100, "nvidia.com/mig-1g.10gb.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}
MI300 = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X", "amd.com/gpu.compute-memory-partition": "CPX_NPS4"}


@pytest.mark.parametrize(
    ("resources", "labels", "hardware"),
    [
        pytest.param({}, H100, "", id="a pod without a GPU on a node that has some"),
        pytest.param({"cpu": "2"}, H100, "", id="a pod that asks for processors only"),
        pytest.param({"nvidia.com/gpu": "1"}, H100, "NVIDIA-H100-80GB-HBM3", id="a whole GPU"),
        pytest.param({"nvidia.com/gpu": "1"}, {}, "", id="a GPU on a node that nobody labelled, or may read"),
        pytest.param({"nvidia.com/gpu": "1"}, CUT_ALIKE, "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", id="all cut alike"),
        pytest.param(
            {"nvidia.com/mig-1g.10gb": "1"}, CUT_MIXED, "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", id="one of several cuts"
        ),
        pytest.param(
            {"nvidia.com/mig-2g.20gb": "1"}, H100, "NVIDIA-H100-80GB-HBM3-MIG-2g.20gb", id="a cut without a label"
        ),
        pytest.param({"amd.com/gpu": "1"}, MI300, "AMD_Instinct_MI300X/CPX_NPS4", id="a partition of an AMD GPU"),
        pytest.param({"nvidia.com/gpu": "1"}, {"cloud.google.com/gke-accelerator": "nvidia-l4"}, "nvidia-l4", id="GKE"),
    ],
)
def test_workload_view_tells_which_accelerator_a_pod_holds(
    resources: dict[str, str], labels: dict[str, str], hardware: str
) -> None:
    body = pod()
    body["spec"]["containers"] = [{"name": "server", "resources": {"limits": resources}}]
    view = workload_view(REVISION, deployment(1), [body], NOW, {"n1": labels})
    since = NOW - timedelta(minutes=10)
    assert {"p1": PodFacts("n1", hardware, since, since)} == dict(view.pods)


def test_workload_view_keeps_pods_that_end_but_none_that_failed() -> None:
    failed = pod("failed", phase="Failed", reason="Evicted", ready=False)
    view = workload_view(REVISION, deployment(1), [pod("ends", ending=True), failed, pod("new", ready=False)], NOW)
    assert {name: facts.ready_since is not None for name, facts in view.pods.items()} == {"ends": True, "new": False}


def test_workload_view_reads_init_containers_and_cuts_long_words() -> None:
    body = waiting("PodInitializing")
    init = {"name": "fetch", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    body["status"]["initContainerStatuses"] = [{**init, "lastState": terminated(1, "Error", "x" * 4000)}]
    view = workload_view(REVISION, deployment(1), [body], NOW)
    assert view.fault is PodFault.CRASH_LOOP
    assert view.crashes == 2
    assert view.fault_message.startswith("p1: container fetch ended with Error (exit code 1): xxx")
    assert len(view.fault_message) == 300


# -- the route --

SLOTS = {"a": "churn-a", "b": "churn-b"}


def route(weights: Json | None = None, *reports: Json, generation: int = 4) -> Json:
    backends = [{"name": f"churn-{slot}", "port": 80, "weight": weight} for slot, weight in (weights or {}).items()]
    return {
        "metadata": {"name": "churn", "namespace": "crm", "generation": generation},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": backends}]},
        "status": {"parents": list(reports)},
    }


def report(
    *,
    accepted: str = "True",
    resolved: str = "True",
    generation: int = 4,
    message: str = "",
    reason: str = "Accepted",
    **parent: Any,
) -> Json:
    reference = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "crm", "name": "edge", **parent}
    common = {"observedGeneration": generation, "reason": reason, "message": message}
    return {
        "parentRef": reference,
        "controllerName": "example.test/gateway",
        "conditions": [
            {"type": "Accepted", "status": accepted, **common},
            {"type": "ResolvedRefs", "status": resolved, **common},
        ],
    }


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(route({"a": 95, "b": 5}, report()), RouteView({"a": 95, "b": 5}, True), id="accepted as it is"),
        pytest.param(
            route({"a": 95, "b": 5}, report(generation=3)),
            RouteView({"a": 95, "b": 5}, False),
            id="the gateway still speaks of an earlier generation",
        ),
        pytest.param(route({"a": 100, "b": 0}), RouteView({"a": 100, "b": 0}, False), id="no gateway has answered"),
        pytest.param(
            route({"a": 100, "b": 0}, report(name="another")),
            RouteView({"a": 100, "b": 0}, False),
            id="only another gateway has answered",
        ),
        pytest.param(
            route({"a": 1}, report(accepted="False", reason="NoMatchingListenerHostname", message="no listener")),
            RouteView(
                {"a": 1, "b": 0}, False, "Gateway edge: Accepted is False: NoMatchingListenerHostname: no listener"
            ),
            id="the gateway refuses the host name",
        ),
        pytest.param(
            route({"b": 7}, report(resolved="False", reason="BackendNotFound", message="churn-b not found")),
            RouteView(
                {"a": 0, "b": 7}, False, "Gateway edge: ResolvedRefs is False: BackendNotFound: churn-b not found"
            ),
            id="a Service is missing",
        ),
        pytest.param(
            route({"a": 1}, report(accepted="False", reason="NotAllowedByListeners", generation=3)),
            RouteView({"a": 1, "b": 0}, False),
            id="an old refusal is not repeated",
        ),
    ],
)
def test_route_view(live: Json, expected: RouteView) -> None:
    assert expected == route_view(live, SLOTS)


def test_route_view_reads_defaults_and_rules_added_by_hand() -> None:
    live = route({"a": 100}, report())
    live["spec"]["rules"].append(
        {"backendRefs": [{"name": "churn-b"}, {"name": "churn-b", "kind": "Pool", "weight": 9}]}
    )
    live["spec"]["parentRefs"].append({"name": "inner", "namespace": "infra", "sectionName": "web"})
    view = route_view(live, SLOTS)
    assert view == RouteView({"a": 100, "b": 1}, False)
    live["status"]["parents"].append(report(name="inner", namespace="infra", sectionName="web"))
    view = route_view(live, SLOTS)
    assert view == RouteView({"a": 100, "b": 1}, True)


def test_route_view_of_no_route_is_none() -> None:
    assert route_view(None, SLOTS) is None


# -- slots, revisions, owners --


def slot_service(revision: str) -> Json:
    selector = {"modelrelease.dev/name": "churn", "modelrelease.dev/revision": revision}
    return {"metadata": {"name": "churn-a"}, "spec": {"selector": selector}}


def endpoints(*pods: tuple[str, bool | None], service: str = "churn-a") -> Json:
    return {
        "metadata": {"name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [
            {
                "addresses": ["10.0.0.1"],
                "conditions": {} if ready is None else {"ready": ready},
                "targetRef": {"kind": "Pod", "name": name},
            }
            for name, ready in pods
        ],
    }


@pytest.mark.parametrize(
    ("slices", "ready"),
    [
        pytest.param([], 0, id="no endpoints"),
        pytest.param([endpoints(("churn-aaaaaaaaaa-rs-1", True), ("churn-aaaaaaaaaa-rs-2", False))], 1, id="one ready"),
        pytest.param([endpoints(("churn-aaaaaaaaaa-rs-1", None))], 1, id="unknown counts as ready, as the API says"),
        pytest.param(
            [endpoints(("churn-aaaaaaaaaa-rs-1", True)), endpoints(("churn-aaaaaaaaaa-rs-1", True))],
            1,
            id="a pod in the slices of both address families is one",
        ),
        pytest.param([endpoints(("churn-bbbbbbbbbb-rs-1", True))], 0, id="left over from before the selector moved"),
        pytest.param([endpoints(("churn-aaaaaaaaaa-rs-1", True), service="churn-b")], 0, id="of another Service"),
    ],
)
def test_slot_view(slices: list[Json], ready: int) -> None:
    assert SlotView("aaaaaaaaaa", ready) == slot_view(slot_service("aaaaaaaaaa"), slices)


def test_slot_view_of_the_longest_names() -> None:
    release, revision = "r" * 52, "aaaaaaaaaa"
    service = slot_service(revision)
    service["spec"]["selector"]["modelrelease.dev/name"] = release
    pod_name = f"{release}-{revision}-5d8f7c9b6d-"[:58] + "x7k2p"  # as the API server makes it from a generateName
    assert SlotView(revision, 1) == slot_view(service, [endpoints((pod_name, True))])


def test_slot_view_of_a_service_that_selects_nothing_of_ours() -> None:
    service = {"metadata": {"name": "churn-a"}, "spec": {}}
    assert SlotView("", 0) == slot_view(service, [endpoints(("x", True))])


def test_revision_from_reads_what_to_data_wrote() -> None:
    stored = {"metadata": {"name": REVISION.record_name}, "data": to_data(REVISION)}
    assert revision_from(stored) == REVISION


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="no data"),
        pytest.param({"spec": {"template": {}}}, id="of a StatefulSet"),
        pytest.param({"format": 99}, id="of a newer operator"),
        pytest.param({**to_data(REVISION), "ports": None}, id="without ports"),
        pytest.param({**to_data(REVISION), "gates": [{"name": "x", "unheard": {}}]}, id="with a gate of another kind"),
    ],
)
def test_revision_from_refuses_what_is_not_ours(data: Any) -> None:
    with pytest.raises(ValueError):
        revision_from({"metadata": {"name": "x"}, "data": data})


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        pytest.param(None, False, id="nobody"),
        pytest.param([{"uid": "u1", "controller": True}], True, id="our release"),
        pytest.param([{"uid": "u2", "controller": True}], False, id="another release, or an earlier one of that name"),
        pytest.param([{"uid": "u1"}], False, id="an owner that is not the controller"),
    ],
)
def test_owned_by(owners: list[Json] | None, expected: bool) -> None:
    metadata: Json = {"name": "x"} if owners is None else {"name": "x", "ownerReferences": owners}
    assert expected is owned_by({"metadata": metadata}, "u1")
