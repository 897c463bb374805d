"""The engine on a real API server and a real registry: a release from its first version to the next."""

from __future__ import annotations

from collections import Counter
from typing import Any

from modelrelease.api.base import NAME_LABEL, REVISION_LABEL
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    MODEL_RELEASE,
    POD,
    SERVICE,
    Object,
)
from tests.cluster.stage import NAME, Request, Stage, condition, revision_of, small_spec

TRACKING = {
    "argocd.argoproj.io/tracking-id": "app:modelrelease.dev/ModelRelease:x/churn",
    "meta.helm.sh/release-name": "churn",
}
TRACKING_LABELS = {"app.kubernetes.io/instance": "churn", "app.kubernetes.io/managed-by": "Helm", "argocd": "churn"}


async def test_the_first_version_serves_alone_and_the_second_takes_over_in_phases(stage: Stage) -> None:
    await stage.release()
    first = await stage.promoted(1)
    assert first.stable is not None
    pods = {pod["metadata"]["uid"] for pod in await stage.all(POD)}
    await stage.want_version(2)

    canary = await stage.until(lambda status: status.traffic is not None and status.traffic.b == 20)
    assert await stage.weights() == (80, 20)
    assert (canary.summary.serving, canary.summary.step) == ("1 2/2", "1/2 canary")
    baking = await stage.until(lambda status: status.phase == "Baking")
    assert await stage.weights() == (0, 100)
    assert baking.summary.serving == "1 2/2", "the former revision stays warm until the bake ends"
    assert pods < {pod["metadata"]["uid"] for pod in await stage.all(POD)}
    second = await stage.promoted(2)

    assert second.stable is not None
    assert await stage.weights() == (0, 100)
    sizes = {item["metadata"]["name"]: item["spec"]["replicas"] for item in await stage.all(DEPLOYMENT)}
    assert sizes == {f"{NAME}-{first.stable.revision}": 0, f"{NAME}-{second.stable.revision}": 2}
    selected = {item["metadata"]["name"]: revision_of(item) for item in await stage.all(SERVICE)}
    assert selected == {f"{NAME}-a": first.stable.revision, f"{NAME}-b": second.stable.revision}
    assert condition(second, "Ready") == ("True", "Promoted")
    assert second.summary.why == "v2 serves all traffic"


async def test_what_happened_is_told_in_events_with_distinct_reasons(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.promoted(2)

    told = [(event["type"], event["reason"], event["note"]) for event in await stage.events()]
    notes = [note for _, _, note in told]
    assert [item for item in told if item[0] != "Normal"] == []
    assert [reason for _, reason, _ in told if reason not in ("WaitingForEvidence",)] == [
        *("RolloutStarted", "GatesPassed", "WeightChanged", "Promoted"),
        *("RolloutStarted", "GatesPassed", "WeightChanged", "WeightChanged", "Promoted"),
    ]
    assert "v1 passed its gates: accuracy: 0.9, needs 0.85" in notes
    assert "v2 gets 20% of traffic in phase canary" in notes
    assert "v2 serves all traffic" in notes
    assert {event["regarding"]["name"] for event in await stage.events()} == {NAME}


async def test_children_belong_to_the_release_and_carry_its_sequence_and_no_tracking_labels(stage: Stage) -> None:
    release = await stage.create(small_spec(stage.model), labels=TRACKING_LABELS, annotations=TRACKING)
    status = await stage.promoted(1)

    children = [*await stage.children(), *await stage.records()]
    assert Counter(item["kind"] for item in children) == {
        "Deployment": 1,
        "Service": 2,
        "HTTPRoute": 1,
        "ControllerRevision": 1,
    }
    for item in children:
        [owner] = item["metadata"]["ownerReferences"]
        assert owner == {
            "apiVersion": "modelrelease.dev/v1alpha1",
            "kind": "ModelRelease",
            "name": NAME,
            "uid": release["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": False,
        }
        assert item["metadata"]["labels"][NAME_LABEL] == NAME
        own = {"modelrelease.dev/sequence", "modelrelease.dev/outcome", "deployment.kubernetes.io/revision"}
        assert item["metadata"]["annotations"].keys() <= own
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modelrelease"
        assert not {"app.kubernetes.io/instance", "argocd"} & item["metadata"]["labels"].keys()
    for item in await stage.children():
        assert 1 <= int(item["metadata"]["annotations"]["modelrelease.dev/sequence"]) <= status.sequence
        # The test writes as "modelrelease" too, but only into status.
        managers = {field["manager"] for field in item["metadata"]["managedFields"] if not field.get("subresource")}
        assert managers == {"modelrelease"}
        assert {field["operation"] for field in item["metadata"]["managedFields"] if not field.get("subresource")} == {
            "Apply"
        }


async def test_pods_know_their_model_first(stage: Stage) -> None:
    arguments = {"name": "ARGS", "value": "--model=$(MODEL_URI)"}
    server = {"name": "server", "image": "registry.example/server:1", "env": [arguments]}
    template = {"spec": {"containers": [server]}}
    await stage.release(workload={"replicas": 2, "template": template})
    await stage.promoted(1)

    [deployment] = await stage.all(DEPLOYMENT)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert names == ["MODEL_NAME", "MODEL_VERSION", "MODEL_URI", "ARGS"]
    assert (values["MODEL_NAME"], values["MODEL_VERSION"]) == (stage.model, "1")
    assert values["MODEL_URI"].startswith("models:/m-")
    assert container["ports"] == [{"name": "metrics", "containerPort": 8080, "protocol": "TCP"}]


async def test_a_settled_pass_reads_ten_times_and_writes_nothing(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    kube = stage.operator.kube
    versions = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in await everything(stage)}

    for _ in range(3):
        kube.requests.clear()
        assert await stage.work() is None
        assert kube.writes() == []
        assert Counter(request.what for request in kube.requests) == {
            "get ModelRelease": 1,
            "list ReleasePolicy": 1,
            "list ControllerRevision": 1,
            "list Deployment": 1,
            "list Pod": 1,
            "list EndpointSlice": 1,
            "get HTTPRoute": 1,
            "get PodMonitor": 1,
            "get Service": 2,
        }
    assert versions == {
        item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in await everything(stage)
    }


async def test_a_new_process_writes_nothing_into_a_settled_world(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    before = await everything(stage)
    process = await stage.process()
    await stage.rest()

    assert process.kube.writes() == []
    assert before == await everything(stage)


async def test_a_rollout_writes_each_change_once(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    stage.operator.kube.requests.clear()
    await stage.want_version(2)
    await stage.promoted(2)

    changes = {item["metadata"]["name"]: item["metadata"]["generation"] for item in await stage.all(DEPLOYMENT)}
    status = await stage.status()
    assert status.stable is not None
    assert status.previous is not None
    assert changes == {
        f"{NAME}-{status.previous.revision}": 2,  # created with two pods, down to none
        f"{NAME}-{status.stable.revision}": 2,  # created with one pod, up to two
    }
    assert (await stage.live(HTTP_ROUTE))["metadata"]["generation"] == 3, "100, 20 and 100 percent"
    writes = Counter(stage.operator.kube.writes())
    # Besides these changes each child gets one write at most at a change of roles, for the fence.
    assert writes["patch Deployment"] <= 5
    assert writes["patch Service"] <= 3
    assert writes["patch HTTPRoute"] == 2
    assert writes["create ControllerRevision"] == 1
    assert writes["patch ControllerRevision"] == 1, "promoted"
    assert writes["patch PodMonitor"] == 0, "there is no such kind here"


async def test_a_revision_is_stored_before_the_status_names_it(stage: Stage) -> None:
    seen: list[tuple[str, bool]] = []

    async def note(request: Request) -> None:
        if request.what == "patch ModelRelease":
            records = {item["metadata"]["name"] for item in await stage.records()}
            status = await stage.status()
            roles = [role for role in (status.stable, status.candidate, status.previous) if role is not None]
            assert {f"{NAME}-{role.key}" for role in roles} <= records
            seen.append((status.phase, bool(records)))

    stage.operator.kube.after = note
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.promoted(2)
    assert seen[0] == ("Gating", False)
    assert all(stored for _, stored in seen[1:])


async def test_outcomes_stand_beside_the_revisions(stage: Stage) -> None:
    await stage.release()
    await stage.promoted(1)
    await stage.want_version(2)
    await stage.until(lambda status: status.traffic is not None and status.traffic.b == 20)
    candidate = (await stage.status()).candidate
    assert candidate is not None
    stage.operator.feed.failing[candidate.revision] = 0.5
    status = await stage.until(lambda status: status.phase == "RolledBack")

    assert status.last_rollback is not None
    assert status.last_rollback.reason == "CheckFailed"
    assert await stage.weights() == (100, 0)
    await stage.rest()
    outcomes = {
        item["data"]["version"]: item["metadata"]["annotations"]["modelrelease.dev/outcome"]
        for item in await stage.records()
    }
    assert outcomes == {"1": "Promoted", "2": "Quarantined"}
    assert [item["metadata"]["labels"][REVISION_LABEL] for item in await stage.all(DEPLOYMENT)] == [
        (await stage.status()).stable.revision  # type: ignore[union-attr]
    ]
    assert ("Warning", "CheckFailed") in [(event["type"], event["reason"]) for event in await stage.events()]


async def test_children_go_with_a_release_that_is_deleted_and_nothing_is_written_any_more(stage: Stage) -> None:
    """Garbage collection itself is the controller manager's; it goes by the owner references."""
    release = await stage.release()
    await stage.promoted(1)
    kube = stage.operator.kube
    await finalizers(stage, ["test.example/foreground"])
    await stage.admin.delete(MODEL_RELEASE, stage.namespace, NAME, uid=release["metadata"]["uid"])
    route = await stage.live(HTTP_ROUTE)
    await stage.admin.delete(HTTP_ROUTE, stage.namespace, NAME, uid=route["metadata"]["uid"])

    kube.requests.clear()
    assert await stage.work() is None
    assert [request.what for request in kube.requests] == ["get ModelRelease"], "deleted in the foreground"
    await finalizers(stage, [])
    kube.requests.clear()
    assert await stage.operator.reconciler(stage.key) is None
    assert [request.what for request in kube.requests] == ["get ModelRelease"], "gone"
    assert stage.key not in stage.operator.feed.wanted
    for item in [*await stage.children(), *await stage.records()]:
        assert [owner["controller"] for owner in item["metadata"]["ownerReferences"]] == [True]


async def finalizers(stage: Stage, names: list[str]) -> None:
    await stage.admin.patch(MODEL_RELEASE, stage.namespace, NAME, {"metadata": {"finalizers": names}})


async def everything(stage: Stage) -> list[Object]:
    kinds: list[Any] = [MODEL_RELEASE, DEPLOYMENT, SERVICE, HTTP_ROUTE, CONTROLLER_REVISION, POD, ENDPOINT_SLICE]
    return [item for kind in kinds for item in await stage.all(kind)]
