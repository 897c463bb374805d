"""Bad input on a real API server and a real registry: a distinct reason each, and what serves goes on serving."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from mlflow import MlflowClient

from e2e.mlflow_server import MlflowServer
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.connection import Credentials, fixed
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    MODEL_RELEASE,
    POD,
    RELEASE_POLICY,
    SERVICE,
    Kind,
    Object,
)
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from tests.clients.loopback import Answer, serve
from tests.cluster.conftest import register
from tests.cluster.stage import NAME, Stage, condition, small_spec

pytestmark = pytest.mark.long


@pytest.fixture
async def serving(stage: Stage) -> Stage:
    """Version 1 serves with two pods."""
    await stage.release()
    await stage.promoted(1)
    return stage


async def unharmed(stage: Stage, reason: str) -> ModelReleaseStatus:
    """Version 1 serves all traffic, no pod was created for anything else, and the reason is told once in an Event."""
    status = await stage.rest()
    assert condition(status, "Serving") == ("True", "Serving")
    assert status.summary.serving == "1 2/2"
    assert await stage.weights() == (100, 0)
    assert len(await stage.all(DEPLOYMENT)) == 1
    assert len(await stage.all(POD)) == 2
    assert condition(status, "Progressing")[1] == reason
    assert condition(status, "Ready")[0] == "False"
    told = [event for event in await stage.events() if event["reason"] == reason]
    assert [(event["type"], event["note"]) for event in told] == [("Warning", status.message[:1000])]
    return status


@dataclass(frozen=True)
class Asked:
    """An edit of the spec, and what is said about it."""

    spec: dict[str, Any]
    phase: str
    reason: str
    words: str


REFUSED = {
    "a model that is not registered": Asked(
        {"model": {"name": "nobody-knows", "version": 1}}, "Gating", "ModelNotFound", "there is no model 'nobody-knows'"
    ),
    "a version that is not registered": Asked(
        {"model": {"version": 99}}, "Gating", "VersionNotFound", "churn has no version 99"
    ),
    "an alias that does not exist": Asked(
        {"model": {"version": None, "alias": "nobody"}}, "Gating", "AliasNotFound", "churn has no alias 'nobody'"
    ),
    "a version that fails its gate": Asked(
        {"model": {"version": 3}},
        "Blocked",
        "GateFailed",
        "gate accuracy: accuracy: 0.8, needs 0.85; nothing was deployed",
    ),
    "a policy that does not exist": Asked(
        {"policyRef": {"name": "no-such-policy"}, "model": {"version": 2}},
        "Pending",
        "PolicyNotFound",
        "ReleasePolicy no-such-policy does not exist; create it or remove spec.policyRef",
    ),
    "a version that only the operator refuses": Asked(
        {"model": {"version": 10**18}}, "Invalid", "InvalidSpec", "version must be a whole number above 0"
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_what_serves_goes_on_serving(serving: Stage, case: Asked) -> None:
    await serving.edit(**case.spec)
    status = await unharmed(serving, case.reason)
    assert (status.phase, case.words in status.message) == (case.phase, True), status.message
    invalid = case.phase == "Invalid"
    assert condition(status, "Accepted") == (("False", case.reason) if invalid else ("True", "Accepted"))

    await serving.edit(model={"version": 2, "name": "churn", "alias": None}, policyRef=None)
    await serving.promoted(2)


async def test_the_first_release_of_what_does_not_exist_creates_nothing(stage: Stage) -> None:
    await stage.release(99)
    status = await stage.rest()
    assert (status.phase, condition(status, "Progressing")[1]) == ("Gating", "VersionNotFound")
    assert condition(status, "Serving") == ("False", "NothingServes")
    assert [*await stage.children(), *await stage.records()] == []


async def test_a_version_that_is_not_ready_is_waited_for(serving: Stage, mlflow_server: MlflowServer) -> None:
    register(MlflowClient(mlflow_server.url), serving.namespace, 0.9)
    set_version_status(mlflow_server, serving.namespace, "PENDING_REGISTRATION")
    await serving.edit(model={"name": serving.namespace})
    status = await unharmed(serving, "VersionNotReady")
    assert "v1 is PENDING_REGISTRATION in the registry; waiting until it is READY" in status.message

    set_version_status(mlflow_server, serving.namespace, "READY")
    serving.clock.skip(31)  # half of the age that a value may have
    await serving.operator.read_registry()
    status = await serving.until(lambda status: status.candidate is not None)
    assert status.candidate is not None
    assert status.candidate.version == "1"


def set_version_status(server: MlflowServer, model: str, status: str) -> None:
    """As the registry itself would: open-source servers have no call for it."""
    with sqlite3.connect(server.directory / "mlflow.db") as database:
        changed = database.execute("UPDATE model_versions SET status = ? WHERE name = ?", (status, model))
        assert changed.rowcount == 1


@dataclass(frozen=True)
class BadRegistry:
    """A registry that gives no answer, by a real reason. {port} is that of the real one."""

    url: str
    reason: str
    words: str


REGISTRIES = {
    "nobody listens": BadRegistry("http://127.0.0.1:9", "RegistryUnreachable", "refuses connections"),
    "wrong credentials": BadRegistry(
        "{refusing}", "RegistryUnauthorized", "does not accept the credentials (HTTP 401)"
    ),
    "a host name that MLflow refuses": BadRegistry(
        "http://0.0.0.0:{port}", "RegistryRefusedHost", "start the MLflow server with --allowed-hosts"
    ),
}


@pytest.mark.parametrize("case", REGISTRIES.values(), ids=REGISTRIES)
async def test_a_registry_that_gives_no_answer_stops_nothing_that_serves(
    serving: Stage, mlflow_server: MlflowServer, case: BadRegistry
) -> None:
    with serve(lambda _: Answer(401)) as refusing:
        url = case.url.format(port=mlflow_server.port, refusing=refusing.url)
        await serving.process(
            RegistryClient(RegistryEndpoint(url, fixed(Credentials(username="u", password="geheim"))), retries=0)
        )
        await serving.want_version(2)
        status = await unharmed(serving, case.reason)
    assert status.phase == "Gating"
    assert case.words in status.message
    assert "geheim" not in str(status)

    await serving.process()  # with the right settings
    await serving.promoted(2)


async def test_a_template_that_the_api_server_refuses_is_told_in_its_words(serving: Stage) -> None:
    container = {"name": "server", "image": "registry.example/server:1", "resources": {"limits": {"cpu": "lots"}}}
    await serving.edit(workload={"replicas": 2, "template": {"spec": {"containers": [container]}}})
    status = await unharmed(serving, "TemplateRefused")
    assert status.phase == "Invalid"
    assert condition(status, "Accepted") == ("False", "TemplateRefused")
    assert "the API server refuses the Deployment of v1" in status.message
    assert "quantities must match the regular expression" in status.message
    assert status.message.endswith("what serves goes on serving")

    container["resources"] = {"limits": {"cpu": "1000m"}}
    await serving.edit(workload={"replicas": 2, "template": {"spec": {"containers": [container]}}})
    await serving.promoted(1)
    assert len((await serving.status()).history) == 2


async def test_a_policy_that_cannot_be_read_stops_nothing_that_serves(serving: Stage) -> None:
    name = serving.namespace
    # As an operator that is one version behind its CRD would see a kind of gate that it does not know.
    policy = {"apiVersion": RELEASE_POLICY.api_version, "kind": RELEASE_POLICY.kind, "metadata": {"name": name}}
    gate = {"name": "extra", "metric": {"name": "no-such-metric", "min": 0.5}}
    await serving.admin.create(RELEASE_POLICY, None, {**policy, "spec": {"gates": [gate]}})
    await serving.edit(policyRef={"name": name}, model={"version": 2})
    status = await unharmed(serving, "GateFailed")
    assert f"gate {name}/extra: " in status.message
    await delete(serving, RELEASE_POLICY, await live_policy(serving), namespace=None)


async def live_policy(stage: Stage) -> Object:
    found = await stage.admin.get(RELEASE_POLICY, None, stage.namespace)
    assert found is not None
    return found


async def delete(stage: Stage, kind: Kind, item: Object, *, namespace: str | None) -> None:
    await stage.admin.delete(kind, namespace, item["metadata"]["name"], uid=item["metadata"]["uid"])


def foreign_service(name: str) -> dict[str, Any]:
    ports = [{"name": "web", "port": 80, "targetPort": 3000}]
    return {**_typed(SERVICE, name), "spec": {"selector": {"app": "somebody-elses"}, "ports": ports}}


def foreign_route(name: str) -> dict[str, Any]:
    backend = {"name": "somebody-elses", "port": 80, "weight": 1}
    return {
        **_typed(HTTP_ROUTE, name),
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [backend]}]},
    }


def foreign_deployment(name: str) -> dict[str, Any]:
    labels = {"app": "somebody-elses"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "example.test/web:1"}]}}
    return {**_typed(DEPLOYMENT, name), "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}}


def _typed(kind: Kind, name: str) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}}


FOREIGN: dict[str, tuple[Kind, str, Callable[[str], dict[str, Any]]]] = {
    "a Service": (SERVICE, f"{NAME}-b", foreign_service),
    "an HTTPRoute": (HTTP_ROUTE, NAME, foreign_route),
}


@pytest.mark.parametrize(("kind", "name", "body"), FOREIGN.values(), ids=FOREIGN)
async def test_a_foreign_object_of_the_same_name_is_never_touched(
    stage: Stage, kind: Kind, name: str, body: Callable[[str], dict[str, Any]]
) -> None:
    theirs = await stage.admin.create(kind, stage.namespace, body(name))
    await stage.release()
    status = await stage.rest()

    assert (status.phase, condition(status, "Accepted")) == ("Invalid", ("False", "NameConflict"))
    words = f"{kind.kind} {name} exists and does not belong to this release; delete or rename it"
    assert status.message == words
    assert [event["note"] for event in await stage.events() if event["reason"] == "NameConflict"] == [words]
    live = await stage.live(kind, name)
    if kind is HTTP_ROUTE:
        live.pop("status"), theirs.pop("status", None)
        for item in (live, theirs):  # the test's gateway wrote its status
            item["metadata"].pop("managedFields"), item["metadata"].pop("resourceVersion")
    assert live == theirs
    assert await stage.all(POD) == []
    assert await stage.work() == 15, "foreign objects are not watched, so it looks again"

    await delete(stage, kind, live, namespace=stage.namespace)
    await stage.promoted(1)


@pytest.mark.parametrize("asked_before", [False, True], ids=["seen by the dry-run", "seen when it should be created"])
async def test_a_foreign_deployment_of_the_same_name_is_never_touched(serving: Stage, asked_before: bool) -> None:
    """Its name has the digest of the revision in it: known from a rollout that was dropped, say."""
    await serving.want_version(2)
    status = await serving.until(lambda status: status.candidate is not None and status.candidate.stage == "Starting")
    assert status.candidate is not None
    name = f"{NAME}-{status.candidate.revision}"
    await serving.edit(model={"version": 1})
    await serving.rest()
    [record] = [record for record in await serving.records() if record["data"]["version"] == "2"]
    await delete(serving, CONTROLLER_REVISION, record, namespace=serving.namespace)
    theirs = await serving.admin.create(DEPLOYMENT, serving.namespace, foreign_deployment(name))

    if not asked_before:
        await serving.process()
    await serving.want_version(2)
    status = await serving.passes(4)
    assert condition(status, "Progressing")[1] == "NameConflict"
    assert condition(status, "Accepted") == ("False", "NameConflict")
    assert f"Deployment {name} exists" in status.message
    live = await serving.live(DEPLOYMENT, name)
    assert (live["spec"], live["metadata"]["uid"]) == (theirs["spec"], theirs["metadata"]["uid"])
    assert "ownerReferences" not in live["metadata"]
    assert await serving.weights() == (100, 0)


async def test_a_conflict_in_mid_rollout_freezes_the_weight_and_still_rolls_back(serving: Stage) -> None:
    await serving.want_version(2)
    status = await serving.until(lambda status: status.traffic is not None and status.traffic.b == 20)
    assert status.candidate is not None
    service = await serving.live(SERVICE, f"{NAME}-b")
    await delete(serving, SERVICE, service, namespace=serving.namespace)
    theirs = await serving.admin.create(SERVICE, serving.namespace, foreign_service(f"{NAME}-b"))
    status = await serving.passes(3, apart_s=10)
    assert (status.phase, condition(status, "Progressing")[1]) == ("Held", "NameConflict")
    assert condition(status, "Accepted") == ("False", "NameConflict")
    assert await serving.weights() == (80, 20)

    assert status.candidate is not None
    serving.operator.feed.failing[status.candidate.revision] = 0.5
    await serving.passes(4, apart_s=10)
    assert await serving.weights() == (100, 0)
    assert theirs == await serving.live(SERVICE, f"{NAME}-b")


async def test_a_route_that_its_gateway_refuses_gives_no_confirmed_weight(stage: Stage) -> None:
    stage.gateway_says = ("False", "NoMatchingListenerHostname")
    await stage.release()
    status = await stage.passes(12)
    assert (status.phase, condition(status, "Progressing")[1]) == ("Progressing", "RouteNotAccepted")
    assert status.message == (
        "Gateway edge: Accepted is False: NoMatchingListenerHostname: the gateway says so; "
        "v1 waits for its 100% of traffic until the gateway accepts the route"
    )
    assert status.traffic is not None
    assert status.traffic.confirmed_at is None
    assert status.stable is None
    assert condition(status, "Ready")[0] == "False"

    stage.gateway_says = ("True", "Accepted")
    await stage.promoted(1)


async def test_a_canary_waits_for_a_gateway_that_says_nothing(serving: Stage) -> None:
    serving.gateway_says = None
    await serving.want_version(2)
    status = await serving.passes(20)
    assert status.step is not None
    assert (status.step.name, condition(status, "Progressing")[1]) == ("canary", "RoutePending")
    assert await serving.weights() == (80, 20)
    assert status.candidate is not None
    assert status.candidate.waited_seconds == 0, "the clock of a phase runs from the confirmation"

    serving.gateway_says = ("True", "Accepted")
    await serving.promoted(2)


async def test_pods_that_never_become_ready_get_no_traffic(serving: Stage) -> None:
    serving.pods_become_ready = False
    await serving.edit(model={"version": 2}, rollout={"progressDeadline": "2m"})
    for _ in range(40):
        await serving.work()
        if not (await serving.status()).quarantine:
            await serving.play()
        serving.clock.skip(5)
    status = await serving.status()
    assert status.phase == "RolledBack"
    assert [entry.reason for entry in status.quarantine] == ["NeverReady"]
    assert await serving.weights() == (100, 0)
    assert len(await serving.all(DEPLOYMENT)) == 1, "what failed is taken away"


async def test_a_release_that_is_refused_at_first_creates_nothing_and_is_taken_up_when_mended(stage: Stage) -> None:
    spec = small_spec(stage.model)
    spec["workload"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Sometimes"
    await stage.create(spec)
    status = await stage.rest()
    assert (status.phase, condition(status, "Progressing")[1]) == ("Invalid", "TemplateRefused")
    assert 'Unsupported value: "Sometimes"' in status.message
    assert [*await stage.children(), *await stage.records()] == []
    spec["workload"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    await stage.edit(workload=spec["workload"])
    await stage.promoted(1)
    assert (await stage.live(MODEL_RELEASE))["status"]["history"][0]["outcome"] == "Promoted"
