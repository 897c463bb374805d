"""The Kubernetes client on a real API server: what conflicts, what is refused, and in which words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from kubernetes.aio.client import Configuration

from e2e.cluster.interface import Cluster
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    EVENT,
    POD,
    POD_MONITOR,
    SERVICE,
    AlreadyExists,
    Conflict,
    Kind,
    Kube,
    NotFound,
    Refused,
    Unreachable,
)

NAMESPACE = Kind("v1", "namespaces", False, "Namespace")
CONFIG_MAP = Kind("v1", "configmaps", True, "ConfigMap")


@pytest.fixture
async def client(apiserver: Cluster) -> AsyncIterator[Kube]:
    kube = await Kube.connect(str(apiserver.kubeconfig))
    yield kube
    await kube.close()


@pytest.fixture
async def namespace(client: Kube) -> str:
    name = f"kube-{uuid4().hex[:8]}"
    await client.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def deployment(name: str = "web", image: str = "example.test/web:1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "server", "image": image}]},
            },
            **spec,
        },
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def at(body: dict[str, Any], **metadata: str) -> dict[str, Any]:
    """The body bound to one state of the live object."""
    return {**body, "metadata": {**body["metadata"], **metadata}}


async def test_get_of_what_is_missing_is_none(client: Kube, namespace: str) -> None:
    assert await client.get(DEPLOYMENT, namespace, "missing") is None
    assert await client.get(POD_MONITOR, namespace, "of-a-kind-nobody-serves") is None


async def test_list_reads_every_page_and_selects_by_label(
    client: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelrelease.clients.kube.PAGE_SIZE", 3)
    for number in range(8):
        body = at(config_map(f"m{number}"), labels={"odd": str(number % 2)})  # type: ignore[arg-type]
        await client.create(CONFIG_MAP, namespace, body)
    every = await client.list(CONFIG_MAP, namespace)
    odd = await client.list(CONFIG_MAP, namespace, "odd=1", metadata_only=True)
    assert [f"m{number}" for number in range(8)] == sorted(item["metadata"]["name"] for item in every)
    assert {"ConfigMap"} == {item["kind"] for item in every}
    assert {f"m{number}" for number in (1, 3, 5, 7)} == {item["metadata"]["name"] for item in odd}
    assert all("data" not in item for item in odd)


@pytest.mark.parametrize("metadata_only", [False, True])
async def test_list_of_nothing_is_empty(client: Kube, namespace: str, metadata_only: bool) -> None:
    assert await client.list(DEPLOYMENT, namespace, metadata_only=metadata_only) == []


async def test_list_of_a_kind_that_is_not_served_raises(client: Kube, namespace: str) -> None:
    missing = replace(POD_MONITOR, api_version="monitoring.example.test/v1")
    with pytest.raises(NotFound):
        await client.list(missing, namespace)
    assert not await client.served(missing)
    assert await client.served(DEPLOYMENT)
    assert not await client.served(replace(DEPLOYMENT, plural="nosuch"))


async def test_create_twice_says_already_exists(client: Kube, namespace: str) -> None:
    await client.create(DEPLOYMENT, namespace, deployment())
    with pytest.raises(AlreadyExists, match='"web" already exists'):
        await client.create(DEPLOYMENT, namespace, deployment())


async def test_create_in_dry_run_leaves_nothing(client: Kube, namespace: str) -> None:
    seen = await client.create(DEPLOYMENT, namespace, deployment(), dry_run=True)
    assert seen["spec"]["replicas"] == 1
    assert await client.get(DEPLOYMENT, namespace, "web") is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        pytest.param({"imagee": "x"}, 'unknown field "spec.template.spec.containers', id="an unknown field is refused"),
        pytest.param({"ports": [{"containerPort": 99999}]}, "must be between 1 and 65535", id="a bad value is refused"),
        pytest.param(
            {"resources": {"limits": {"cpu": "lots"}}}, "quantities must match", id="a bad quantity is refused"
        ),
    ],
)
async def test_refused_carries_the_words_of_the_api_server(
    client: Kube, namespace: str, template: dict[str, Any], words: str
) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"][0].update(template)
    with pytest.raises(Refused) as refused:
        await client.create(DEPLOYMENT, namespace, body, dry_run=True)
    assert words in refused.value.message
    assert len(refused.value.message) <= 600


@pytest.mark.parametrize(
    ("container", "words"),
    [
        pytest.param({"imagee": "x"}, "field not declared in schema", id="an unknown field"),
        pytest.param({"resources": {"limits": {"cpu": "lots"}}}, "quantities must match", id="a bad quantity"),
        pytest.param(
            {"ports": [{"containerPort": 80}] * 2}, "duplicate entries for key", id="a port that is there twice"
        ),
        pytest.param({"imagePullPolicy": "Sometimes"}, 'Unsupported value: "Sometimes"', id="a bad value"),
    ],
)
async def test_apply_of_a_body_that_does_not_fit_its_kind_is_refused(
    client: Kube, namespace: str, container: dict[str, Any], words: str
) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"][0].update(container)
    with pytest.raises(Refused, match=words):
        await client.apply(DEPLOYMENT, namespace, "web", body, dry_run=True)


async def test_apply_with_a_resource_version_that_nothing_has_creates_and_never_changes(
    client: Kube, namespace: str
) -> None:
    created = await client.apply(DEPLOYMENT, namespace, "web", at(deployment(replicas=2), resourceVersion="1"))
    with pytest.raises(Conflict):
        await client.apply(DEPLOYMENT, namespace, "web", at(deployment(replicas=3), resourceVersion="1"))
    assert await client.get(DEPLOYMENT, namespace, "web") == created


async def test_apply_creates_changes_and_takes_back_its_own_fields_only(client: Kube, namespace: str) -> None:
    await client.apply(DEPLOYMENT, namespace, "web", deployment(replicas=2, minReadySeconds=5))
    await client.patch(DEPLOYMENT, namespace, "web", {"metadata": {"annotations": {"note": "by hand"}}})
    changed = await client.apply(DEPLOYMENT, namespace, "web", deployment(replicas=3, image="example.test/web:2"))
    assert changed["spec"]["replicas"] == 3
    assert "minReadySeconds" not in changed["spec"]
    assert changed["spec"]["template"]["spec"]["containers"][0]["image"] == "example.test/web:2"
    assert changed["metadata"]["annotations"]["note"] == "by hand"


async def test_apply_without_a_change_writes_nothing(client: Kube, namespace: str) -> None:
    first = await client.apply(DEPLOYMENT, namespace, "web", deployment())
    second = await client.apply(DEPLOYMENT, namespace, "web", deployment())
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


@pytest.mark.parametrize("stale", ["resourceVersion", "uid"])
async def test_apply_to_another_state_than_was_read_conflicts(client: Kube, namespace: str, stale: str) -> None:
    read = await client.apply(DEPLOYMENT, namespace, "web", deployment())
    if stale == "resourceVersion":
        await client.patch(DEPLOYMENT, namespace, "web", {"spec": {"replicas": 7}})
        body = at(deployment(replicas=1), resourceVersion=read["metadata"]["resourceVersion"])
    else:
        body = at(deployment(replicas=1), uid=str(uuid4()))
    with pytest.raises(Conflict):
        await client.apply(DEPLOYMENT, namespace, "web", body)


async def test_apply_to_what_was_deleted_since_conflicts_and_does_not_create(client: Kube, namespace: str) -> None:
    read = await client.create(SERVICE, namespace, service())
    await client.delete(SERVICE, namespace, "web-a", uid=read["metadata"]["uid"])
    read_state = {field: read["metadata"][field] for field in ("uid", "resourceVersion")}
    with pytest.raises(Conflict):
        await client.apply(SERVICE, namespace, "web-a", at(service(), **read_state))
    assert await client.get(SERVICE, namespace, "web-a") is None


def service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web-a"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }


async def test_apply_without_force_does_not_take_another_managers_field(
    client: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as another:
        another.setattr("modelrelease.clients.kube.FIELD_MANAGER", "somebody-else")
        await client.apply(CONFIG_MAP, namespace, "m", config_map("m", key="theirs"))
    with pytest.raises(Conflict, match="somebody-else"):
        await client.apply(CONFIG_MAP, namespace, "m", config_map("m", key="ours"), force=False)
    forced = await client.apply(CONFIG_MAP, namespace, "m", config_map("m", key="ours"))
    assert forced["data"] == {"key": "ours"}


async def test_patch_status_replaces_the_whole_status(client: Kube, namespace: str) -> None:
    read = await client.create(DEPLOYMENT, namespace, deployment())
    first = await client.patch_status(
        DEPLOYMENT,
        namespace,
        "web",
        {"replicas": 3, "readyReplicas": 2, "observedGeneration": 1},
        read["metadata"]["resourceVersion"],
    )
    assert first["status"]["readyReplicas"] == 2
    second = await client.patch_status(
        DEPLOYMENT, namespace, "web", {"replicas": 3}, first["metadata"]["resourceVersion"]
    )
    assert second["status"]["replicas"] == 3
    assert "readyReplicas" not in second["status"]
    assert second["spec"] == read["spec"]


async def test_patch_status_of_a_stale_object_conflicts_and_changes_nothing(client: Kube, namespace: str) -> None:
    read = await client.create(DEPLOYMENT, namespace, deployment())
    await client.patch(DEPLOYMENT, namespace, "web", {"metadata": {"labels": {"edited": "yes"}}})
    with pytest.raises(Conflict):
        await client.patch_status(DEPLOYMENT, namespace, "web", {"replicas": 3}, read["metadata"]["resourceVersion"])
    live = await client.get(DEPLOYMENT, namespace, "web")
    assert live is not None
    assert live["status"].get("replicas") is None


async def test_of_many_writers_of_one_status_exactly_one_wins(client: Kube, namespace: str) -> None:
    read = await client.create(DEPLOYMENT, namespace, deployment())
    version = read["metadata"]["resourceVersion"]
    results = await asyncio.gather(
        *(client.patch_status(DEPLOYMENT, namespace, "web", {"replicas": number}, version) for number in range(1, 9)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7


async def test_patch_of_what_is_missing_raises_not_found(client: Kube, namespace: str) -> None:
    with pytest.raises(NotFound):
        await client.patch(DEPLOYMENT, namespace, "missing", {"spec": {"replicas": 1}})
    with pytest.raises(NotFound):
        await client.patch_status(DEPLOYMENT, namespace, "missing", {}, "1")


async def test_delete_takes_only_the_object_that_was_meant(client: Kube, namespace: str) -> None:
    read = await client.create(CONTROLLER_REVISION, namespace, revision())
    with pytest.raises(Conflict):
        await client.delete(CONTROLLER_REVISION, namespace, "web-1", uid=str(uuid4()))
    await client.patch(CONTROLLER_REVISION, namespace, "web-1", {"metadata": {"labels": {"edited": "yes"}}})
    uid, stale = read["metadata"]["uid"], read["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await client.delete(CONTROLLER_REVISION, namespace, "web-1", uid=uid, resource_version=stale)
    await client.delete(CONTROLLER_REVISION, namespace, "web-1", uid=uid)
    assert await client.get(CONTROLLER_REVISION, namespace, "web-1") is None
    await client.delete(CONTROLLER_REVISION, namespace, "web-1", uid=uid)


def revision() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "web-1"},
        "data": {
            "format": 1,
            "args": ["--a<b", "x && y", "ßé\u2028 \U0001f600", '"quoted"\\\t'],
            "b": {"drainSeconds": 60.0, "small": 1e-05, "big": 123456789012345, "none": None},
        },
        "revision": 1,
    }


async def test_a_controller_revision_takes_labels_but_keeps_its_data(client: Kube, namespace: str) -> None:
    created = await client.create(CONTROLLER_REVISION, namespace, revision())
    labelled = await client.patch(CONTROLLER_REVISION, namespace, "web-1", {"metadata": {"labels": {"edited": "yes"}}})
    assert created["data"] == labelled["data"] == revision()["data"]
    with pytest.raises(Refused, match="immutable"):
        await client.patch(CONTROLLER_REVISION, namespace, "web-1", {"data": {"format": 2}})


async def test_an_event_said_twice_is_one_event(client: Kube, namespace: str) -> None:
    read = await client.create(DEPLOYMENT, namespace, deployment())
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    for key in ("1", "1", "2"):
        await client.event(
            read,
            reason="CheckFailed",
            note="errors: canary 2.9 %, allowed 1.4 %; traffic goes back to version 8",
            action="Rollback",
            now=now,
            type="Warning",
            key=key,
            instance="pod-1",
        )
    events = await client.list(EVENT, namespace)
    assert len(events) == 2
    assert events[0]["reason"] == "CheckFailed"
    assert events[0]["regarding"]["uid"] == read["metadata"]["uid"]
    assert events[0]["reportingController"] == "modelrelease.dev/operator"
    assert events[0]["eventTime"] == "2026-01-02T03:04:05.678901Z"


async def test_an_event_with_far_too_much_to_say_is_cut(client: Kube, namespace: str) -> None:
    read = await client.create(DEPLOYMENT, namespace, deployment())
    await client.event(read, reason="Held", note="ß" * 3000, action="Wait", now=datetime.now(UTC))
    (event,) = await client.list(EVENT, namespace)
    assert event["note"] == "ß" * 512


async def test_writing_into_a_namespace_that_ends_is_refused_with_its_reason(client: Kube, namespace: str) -> None:
    live = await client.get(NAMESPACE, None, namespace)
    assert live is not None
    await client.delete(NAMESPACE, None, namespace, uid=live["metadata"]["uid"])
    with pytest.raises(Refused, match="because it is being terminated"):
        await client.create(POD, namespace, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}})


async def test_requests_are_counted_by_verb_kind_and_code_with_their_time(
    client: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, str]] = []
    seconds: list[float] = []

    def note(verb: str, kind: str, code: str, took_s: float) -> None:
        seen.append((verb, kind, code))
        seconds.append(took_s)

    monkeypatch.setattr(client, "_on_request", note)
    await client.get(DEPLOYMENT, namespace, "missing")
    await client.create(DEPLOYMENT, namespace, deployment())
    with pytest.raises(AlreadyExists):
        await client.create(DEPLOYMENT, namespace, deployment())
    assert seen == [("get", "Deployment", "404"), ("create", "Deployment", "201"), ("create", "Deployment", "409")]
    assert all(0 < took_s < 60 for took_s in seconds)


@pytest.fixture
async def deaf() -> AsyncIterator[Kube]:
    """A client of a server that accepts connections and never answers."""

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    kube = Kube(Configuration(host=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), timeout_s=0.1)
    yield kube
    await kube.close()
    server.close()


async def test_a_server_that_does_not_answer_is_unreachable_after_the_timeout(deaf: Kube) -> None:
    with pytest.raises(Unreachable, match="did not answer in time"):
        await deaf.get(DEPLOYMENT, "default", "web")


async def test_a_port_nobody_listens_on_is_unreachable() -> None:
    client = Kube(Configuration(host="http://127.0.0.1:1"))
    try:
        with pytest.raises(Unreachable):
            await client.list(DEPLOYMENT)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(503, "<html>proxy</html>", Unreachable, id="an overloaded proxy is unreachable"),
        pytest.param(429, '{"message": "slow down"}', Unreachable, id="too many requests is unreachable"),
        pytest.param(401, '{"message": "Unauthorized"}', Unreachable, id="a token that expired is unreachable"),
        pytest.param(200, "<html>captive</html>", Unreachable, id="a page in place of an answer is unreachable"),
        pytest.param(413, '{"message": "too large"}', Refused, id="too large an object is refused"),
    ],
)
async def test_answers_that_no_healthy_api_server_gives(status: int, body: str, expected: type[Exception]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    kube = Kube(Configuration(host=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    try:
        with pytest.raises(expected):
            await kube.get(DEPLOYMENT, "default", "web")
    finally:
        await kube.close()
        server.close()
