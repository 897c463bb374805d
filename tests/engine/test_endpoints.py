"""Several registries and Prometheus servers, safely shared. The servers are real, on the loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from modelrelease.api.endpoints import Endpoints
from modelrelease.api.reasons import Reason
from modelrelease.clients.kube import Kube
from modelrelease.core.observation import AliasTarget, ModelVersion, Unavailable
from modelrelease.core.wants import AliasWrite, EndpointRef, RegistryWant, SampleWant
from modelrelease.engine.directory import Directory
from modelrelease.engine.endpoints import Prometheuses, Registries
from modelrelease.engine.pool import Pool
from modelrelease.engine.queue import Key
from tests.clients.loopback import HANG_UP, SILENCE, Answer, Request, Server, serve
from tests.engine.test_secrets import Secrets

A, B = ("crm", "churn"), ("ads", "clicks")
DEFAULT = EndpointRef()
EVERYBODY = [{"namespaces": ["*"]}]


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Mlflow:
    """One registry that knows every model, with the alias champion of it at `version`. tokens: those it accepts."""

    version: str = "7"
    tokens: set[str] | None = None
    writes: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        if self.tokens is not None and request.headers.get("Authorization", "")[7:] not in self.tokens:
            return Answer(401)
        path, asked = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        if request.method != "GET":
            self.writes.append(json.loads(request.body))
            return Answer(200, b"{}")
        name = asked.get("name", [""])[0]
        if path.endswith("registered-models/get"):
            alias = [{"alias": "champion", "version": self.version}]
            return Answer(200, json.dumps({"registered_model": {"name": name, "aliases": alias}}).encode())
        one = {"name": name, "version": asked["version"][0], "status": "READY", "source": "s3://b/m"}
        return Answer(200, json.dumps({"model_version": one}).encode())


def prometheus(_: Request) -> Answer:
    return Answer(200, b'{"status": "success", "data": {"resultType": "vector", "result": []}}')


@dataclass
class World:
    """Endpoints that are read, and the releases that were woken."""

    registries: Registries
    prometheuses: Prometheuses
    woken: list[Key]

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():
                await asyncio.sleep(0.01)

    async def alias(self, key: Key) -> object:
        """What is shown of the alias champion, once anything is."""
        await self.until(lambda: "champion" in self.registries.view(key).aliases)
        return self.registries.view(key).aliases["champion"]

    async def problem(self, key: Key, *reasons: Reason) -> Unavailable:
        """What is wrong with the samples, once it is one of these."""
        await self.until(
            lambda: (found := self.prometheuses.samples(key).problem) is not None and found.reason in reasons
        )
        found = self.prometheuses.samples(key).problem
        assert found is not None
        return found


@asynccontextmanager
async def world(
    *, cluster: Secrets | None = None, pool: Pool[Any] | None = None, **config: Any
) -> AsyncIterator[World]:
    woken: list[Key] = []
    directory = Directory(cast(Kube, cluster or Secrets()), Endpoints.model_validate(config))
    registries = Registries(directory, woken.append, now, timeout_s=1, pool=pool)
    prometheuses = Prometheuses(directory, woken.append, now, timeout_s=1, tick_s=0.2, lag_s=0.1)
    running = [asyncio.create_task(part.run()) for part in (registries, prometheuses)]
    yield World(registries, prometheuses, woken)
    for task in running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await registries.close()
    await prometheuses.close()


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[Request], Answer]], Server]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(serve(answer))


def want(
    model: str = "churn",
    *,
    ref: EndpointRef | None = DEFAULT,
    write: AliasWrite | None = None,
    versions: str = "",
) -> RegistryWant:
    return RegistryWant(
        model, frozenset(versions.split()), frozenset(["champion"]), timedelta(seconds=60), write=write, endpoint=ref
    )


def samples(key: Key, ref: EndpointRef | None = DEFAULT) -> SampleWant:
    return SampleWant(key[0], key[1], {"r1": ()}, now() - timedelta(seconds=1), endpoint=ref)


Start = Callable[[Callable[[Request], Answer]], Server]


async def test_a_release_reads_the_registry_that_its_policy_names_else_the_default(start: Start) -> None:
    shared, eu = start(Mlflow("7")), start(Mlflow("8"))
    named = [
        {"name": "shared", "url": shared.url, "allow": EVERYBODY},
        {"name": "eu", "url": eu.url, "allow": EVERYBODY},
    ]
    async with world(registries=named, defaultRegistry="shared") as here:
        here.registries.want(A, want())
        here.registries.want(B, want(ref=EndpointRef("eu")))
        seen = [await here.alias(key) for key in (A, B)]

    assert [target.version for target in seen if isinstance(target, AliasTarget)] == ["7", "8"]


async def test_many_releases_of_one_registry_poll_an_alias_with_one_call(start: Start) -> None:
    server = start(Mlflow())
    keys = [("crm", f"release-{number}") for number in range(50)]
    async with world(registries=[{"name": "a", "url": server.url, "allow": EVERYBODY}], defaultRegistry="a") as here:
        for key in keys:
            here.registries.want(key, want())
        for key in keys:
            assert isinstance(await here.alias(key), AliasTarget)

    assert len(server.requests) == 1


async def test_two_tenants_of_one_url_share_neither_client_nor_answer(start: Start) -> None:
    server = start(Mlflow(tokens={"of-crm"}))
    cluster = Secrets(mlflow={"url": server.url, "token": "of-crm"})
    ref = EndpointRef(url=server.url, secret="mlflow")

    class ByNamespace(Secrets):
        async def get(self, kind: Any, namespace: str, name: str) -> Any:
            cluster.named["mlflow"]["token"] = f"of-{namespace}"
            return await cluster.get(kind, namespace, name)

    async with world(cluster=ByNamespace()) as here:
        here.registries.want(A, want(ref=ref))
        allowed = await here.alias(A)
        here.registries.want(B, want(ref=ref))
        refused = await here.alias(B)

    assert isinstance(allowed, AliasTarget)
    assert isinstance(refused, Unavailable), "what the first tenant's credentials brought is not shown to the second"
    assert refused.reason == Reason.REGISTRY_UNAUTHORIZED
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer of-crm", "Bearer of-ads"]
    assert [asked[1] for asked in cluster.asked] == ["crm", "ads"], "each Secret comes from the release's namespace"


@pytest.mark.parametrize(
    ("allow", "key", "model", "allowed"),
    [
        pytest.param([{"namespaces": ["crm"]}], A, "churn", True, id="a namespace by name"),
        pytest.param([{"namespaces": ["c*"], "models": ["churn", "x"]}], A, "churn", True, id="globs"),
        pytest.param([{"namespaces": ["crm"], "models": ["crm/*"]}], A, "churn", False, id="another model"),
        pytest.param([{"namespaces": ["crm"]}], B, "churn", False, id="another namespace"),
        pytest.param([], A, "churn", False, id="nobody is named"),
    ],
)
async def test_what_the_allow_list_refuses_is_never_asked(
    start: Start, allow: list[Any], key: Key, model: str, allowed: bool
) -> None:
    server = start(Mlflow())
    async with world(registries=[{"name": "a", "url": server.url, "allow": allow}], defaultRegistry="a") as here:
        here.registries.want(key, want(model, versions="7 8"))
        found = await here.alias(key)
        versions = here.registries.view(key).versions

    if allowed:
        assert isinstance(found, AliasTarget)
        return
    assert isinstance(found, Unavailable)
    assert found.reason == Reason.REGISTRY_NOT_ALLOWED
    assert f"namespace {key[0]} may not read model {model} of registry a" in found.message
    assert set(versions) == {"7", "8"}
    assert here.woken == [key], "it is told once"
    assert server.requests == []


async def test_an_alias_is_moved_only_where_the_allow_list_says_so(start: Start) -> None:
    fake = Mlflow("6")
    server = start(fake)
    allow = [{"namespaces": ["crm"], "write": ["churn"]}, {"namespaces": ["ads"]}]
    async with world(registries=[{"name": "a", "url": server.url, "allow": allow}], defaultRegistry="a") as here:
        here.registries.want(B, want(write=AliasWrite("churn", "champion", "7")))
        refused = await here.alias(B)
        none_yet = list(fake.writes)
        here.registries.want(A, want(write=AliasWrite("churn", "champion", "7")))
        await here.until(lambda: bool(fake.writes))

    assert isinstance(refused, Unavailable)
    assert refused.reason == Reason.ALIAS_WRITE_NOT_ALLOWED
    assert "endpoints: registries: allow: write" in refused.message
    assert none_yet == []
    assert fake.writes[0] == {"name": "churn", "alias": "champion", "version": "7"}


@pytest.mark.parametrize(("secret", "moved"), [("mlflow", True), ("", False)])
async def test_at_a_url_of_a_policy_aliases_are_moved_with_the_tenants_own_credentials_only(
    start: Start, secret: str, moved: bool
) -> None:
    fake = Mlflow("6")
    server = start(fake)
    cluster = Secrets(mlflow={"url": server.url, "token": "t"})
    ref = EndpointRef(url=server.url, secret=secret)
    async with world(cluster=cluster) as here:
        here.registries.want(A, want(ref=ref, write=AliasWrite("churn", "champion", "7")))
        found = await here.alias(A)
        if moved:
            await here.until(lambda: bool(fake.writes))

    assert bool(fake.writes) is moved
    if not moved:
        assert isinstance(found, Unavailable)
        assert found.reason == Reason.ALIAS_WRITE_NOT_ALLOWED


async def test_an_endpoint_that_is_not_configured_is_said(start: Start) -> None:
    async with world() as here:
        here.registries.want(A, want())
        here.registries.want(B, want(ref=EndpointRef("eu")))
        here.prometheuses.want(A, samples(A))
        seen = [await here.alias(A), await here.alias(B), await here.problem(A, Reason.ENDPOINT_NOT_CONFIGURED)]

    assert [found.reason for found in seen if isinstance(found, Unavailable)] == [Reason.ENDPOINT_NOT_CONFIGURED] * 3
    assert "has no registry eu" in str(seen[1])


async def test_a_silent_registry_delays_nobody_else(start: Start) -> None:
    silent, quick = start(lambda _: SILENCE), start(Mlflow())
    named = [{"name": "s", "url": silent.url, "allow": EVERYBODY}, {"name": "q", "url": quick.url, "allow": EVERYBODY}]
    async with world(registries=named) as here:
        for number in range(100):
            here.registries.want(("crm", f"waits-{number}"), want(f"m-{number}", ref=EndpointRef("s")))
        here.registries.want(B, want(ref=EndpointRef("q")))
        found = await here.alias(B)
        waiting = here.registries.view(("crm", "waits-0"))
        late = await here.alias(("crm", "waits-0"))

    assert isinstance(found, AliasTarget)
    assert waiting.aliases == {}
    assert isinstance(late, Unavailable)
    assert late.reason == Reason.REGISTRY_UNREACHABLE
    assert "timed out" in late.message


async def test_a_secret_that_comes_late_is_used_without_a_restart(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelrelease.engine.secrets.RETRY_S", 0.05)
    server = start(Mlflow(tokens={"t"}))
    cluster = Secrets()
    async with world(cluster=cluster) as here:
        here.registries.want(A, want(ref=EndpointRef(url=server.url, secret="mlflow")))
        missing = await here.alias(A)
        asked = len(server.requests)
        cluster.named["mlflow"] = {"url": server.url, "token": "t"}
        await here.until(lambda: isinstance(here.registries.view(A).aliases["champion"], AliasTarget))

    assert isinstance(missing, Unavailable)
    assert missing.reason == Reason.SECRET_MISSING
    assert asked == 0, "nothing is sent without the credentials"
    assert here.woken == [A, A]


async def test_a_policy_that_cannot_be_read_changes_no_endpoint_and_falls_back_to_none(start: Start) -> None:
    default, eu = start(Mlflow("1")), start(Mlflow("8"))
    named = [{"name": "d", "url": default.url, "allow": EVERYBODY}, {"name": "eu", "url": eu.url, "allow": EVERYBODY}]
    async with world(registries=named, defaultRegistry="d") as here:
        here.registries.want(A, want(ref=EndpointRef("eu")))
        await here.alias(A)
        here.registries.want(A, want(ref=None))
        goes_on = await here.alias(A)
        here.registries.want(B, want(ref=None))
        unknown = await here.alias(B)

    assert isinstance(goes_on, AliasTarget)
    assert goes_on.version == "8"
    assert isinstance(unknown, Unavailable)
    assert unknown.reason == Reason.POLICY_NOT_FOUND
    assert default.requests == []


async def test_a_registry_that_nobody_wants_is_ended_and_made_anew(start: Start) -> None:
    server = start(Mlflow())
    pool: Pool[Any] = Pool(idle_s=0.1)
    async with world(pool=pool, registries=[{"name": "a", "url": server.url, "allow": EVERYBODY}]) as here:
        here.registries.want(A, want(ref=EndpointRef("a")))
        await here.alias(A)
        here.registries.want(A, None)
        await here.until(lambda: len(pool) == 0)
        here.registries.want(A, want(ref=EndpointRef("a")))
        again = await here.alias(A)

    assert isinstance(again, AliasTarget)
    assert len(server.requests) == 2


async def test_there_are_never_more_endpoints_than_allowed_and_the_next_one_waits(start: Start) -> None:
    server = start(Mlflow())
    pool: Pool[Any] = Pool(most=1, idle_s=0.2)
    async with world(pool=pool) as here:
        here.registries.want(A, want(ref=EndpointRef(url=server.url)))
        await here.alias(A)
        here.registries.want(B, want(ref=EndpointRef(url=server.url)))
        full = await here.alias(B)
        here.registries.want(A, None)
        before = len(here.woken)
        await here.until(lambda: len(here.woken) > before)
        here.registries.want(B, want(ref=EndpointRef(url=server.url)))
        await here.until(lambda: isinstance(here.registries.view(B).aliases.get("champion"), AliasTarget))

    assert isinstance(full, Unavailable)
    assert full.reason == Reason.ENDPOINT_LIMIT_REACHED


async def test_each_tenant_of_a_prometheus_is_sent_with_its_own_header(start: Start) -> None:
    server = start(prometheus)
    named = [
        {"name": "m", "url": server.url, "tenant": "ml-$(namespace)", "headers": {"X-Client": "mr"}, "allow": EVERYBODY}
    ]
    async with world(prometheuses=named, defaultPrometheus="m") as here:
        for key in (A, B):
            here.prometheuses.want(key, samples(key))
        for key in (A, B):
            found = await here.problem(key, Reason.NO_DATA)
            await here.until(lambda: len({sent.headers["X-Scope-OrgID"] for sent in server.requests}) == 2)

    assert isinstance(found, Unavailable)
    for request in server.requests:
        tenant = request.headers["X-Scope-OrgID"]
        assert request.headers["X-Client"] == "mr"
        assert tenant in ("ml-crm", "ml-ads")


async def test_releases_that_prometheus_is_not_allowed_for_are_told_and_not_asked_for(start: Start) -> None:
    server = start(prometheus)
    allow = [{"namespaces": ["crm"]}]
    async with world(prometheuses=[{"name": "m", "url": server.url, "allow": allow}], defaultPrometheus="m") as here:
        here.prometheuses.want(B, samples(B))
        found = await here.problem(B, Reason.PROMETHEUS_NOT_ALLOWED)

    assert "releases of namespace ads may not be measured with Prometheus m" in found.message
    assert server.requests == []


async def test_a_prometheus_that_is_down_is_the_matter_of_its_own_releases_only(start: Start) -> None:
    down, up = start(lambda _: HANG_UP), start(prometheus)
    named = [{"name": "d", "url": down.url, "allow": EVERYBODY}, {"name": "u", "url": up.url, "allow": EVERYBODY}]
    async with world(prometheuses=named) as here:
        here.prometheuses.want(A, samples(A, EndpointRef("d")))
        here.prometheuses.want(B, samples(B, EndpointRef("u")))
        problem = await here.problem(A, Reason.PROMETHEUS_UNREACHABLE)
        await here.until(lambda: bool(up.requests))
        of_other = here.prometheuses.samples(B).problem

    assert "breaks connections off" in problem.message
    assert of_other is None or of_other.reason == Reason.NO_DATA


async def test_a_release_that_moves_to_another_registry_shows_nothing_of_the_former(start: Start) -> None:
    first, second = start(Mlflow("1")), start(lambda _: SILENCE)
    named = [{"name": "f", "url": first.url, "allow": EVERYBODY}, {"name": "s", "url": second.url, "allow": EVERYBODY}]
    async with world(registries=named) as here:
        asked = want(ref=EndpointRef("f"), versions="7")
        here.registries.want(A, asked)
        await here.until(lambda: isinstance(here.registries.view(A).versions.get("7"), ModelVersion))
        here.registries.want(A, replace(asked, endpoint=EndpointRef("s")))
        view = here.registries.view(A)

    assert (view.versions, view.aliases) == ({}, {})
