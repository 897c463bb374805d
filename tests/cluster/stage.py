"""One release on a real API server, with everything around the operator played by the test.

Real: the API server, the Gateway API's CRDs, the operator's rights, MLflow, and all of the engine but its watches. The
test plays kubelet, Deployment controller and gateway by writing what they would write, and skips time instead of
waiting. `Tampered` lets a test interfere with single requests of the operator: end it there, or hold it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelrelease.api.base import REVISION_LABEL
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    EVENT,
    HTTP_ROUTE,
    MODEL_RELEASE,
    POD,
    POD_MONITOR,
    SERVICE,
    Kind,
    Kube,
    KubeError,
    Object,
)
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.evidence import Counts
from modelrelease.core.observation import PodPoll, Poll, Samples, Unavailable
from modelrelease.core.wants import SampleWant
from modelrelease.engine.queue import Key
from modelrelease.engine.reconcile import Reconciler
from modelrelease.engine.records import RecordKeeper
from modelrelease.engine.refresh import RegistryRefresher

NAME = "churn"
NAMESPACE = Kind("v1", "namespaces", False, "Namespace")
SERVICE_ACCOUNT = Kind("v1", "serviceaccounts", True, "ServiceAccount")
CHILDREN = (DEPLOYMENT, SERVICE, HTTP_ROUTE)
GRID = timedelta(seconds=5)
REQUESTS_PER_POLL = 20_000
_CONTROLLER = "test.example/gateway"


class Clock:
    """The real time and what was skipped."""

    def __init__(self) -> None:
        self._skipped = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += timedelta(seconds=seconds)


class Feed:
    """Stands in for the sampler: every grid point since `since` brings many requests to every revision asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.wanted: dict[Key, SampleWant] = {}
        self.failing: dict[str, float] = {}
        self.problem: Unavailable | None = None

    def want(self, key: Key, want: SampleWant | None) -> None:
        if want is None:
            self.wanted.pop(key, None)
        else:
            self.wanted[key] = want

    def samples(self, key: Key) -> Samples:
        want = self.wanted.get(key)
        if want is None or self.problem is not None:
            return Samples((), self.problem)
        return Samples(tuple(self._polls(want)))

    def _polls(self, want: SampleWant) -> Iterator[Poll]:
        step = GRID.total_seconds()
        at = datetime.fromtimestamp((want.since.timestamp() // step + 1) * step, UTC)
        while at <= self._clock():
            yield Poll(
                at,
                {
                    arm: {"pod": PodPoll({item.check: (self._counts(arm),) for item in of})}
                    for arm, of in want.arms.items()
                },
            )
            at += GRID

    def _counts(self, revision: str) -> Counts:
        return Counts(REQUESTS_PER_POLL, REQUESTS_PER_POLL * self.failing.get(revision, 0.002))


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the operator."""

    verb: str
    kind: str
    path: str
    dry: bool

    @property
    def writes(self) -> bool:
        return self.verb not in ("get", "list", "discover") and not self.dry

    @property
    def what(self) -> str:
        return f"{self.verb} {self.kind}"


Interference = Callable[[Request], Awaitable[None]]


class Tampered(Kube):
    """A client whose requests are counted, and interfered with before they are sent or after they were answered."""

    before: Interference | None = None
    after: Interference | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requests: list[Request] = []

    async def _request(self, verb: str, kind: Kind, method: str, path: str, **more: Any) -> Object:
        request = Request(verb, kind.kind, path, "dryRun" in (more.get("query") or {}))
        if self.before is not None:
            await self.before(request)
        self.requests.append(request)
        answer = await super()._request(verb, kind, method, path, **more)
        if self.after is not None:
            await self.after(request)
        return answer

    def writes(self) -> list[str]:
        """What has been written since the last call of `requests.clear()`."""
        return [request.what for request in self.requests if request.writes]


class Pool(ThreadPoolExecutor):
    """Threads that say when they have nothing to do."""

    def __init__(self) -> None:
        super().__init__(4)
        self._under_way: list[Future[Any]] = []

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(*args, **kwargs)
        self._under_way.append(future)
        return future

    async def idle(self) -> None:
        while any(not future.done() for future in self._under_way):
            await asyncio.sleep(0.002)
        self._under_way.clear()
        await asyncio.sleep(0.001)  # the loop hears of it in a callback


class Process:
    """One process of the operator, but for its watches: what a restart loses is lost with it."""

    def __init__(self, kube: Tampered, registry: RegistryClient, clock: Clock) -> None:
        self.kube = kube
        self.feed = Feed(clock)
        self.pool = Pool()
        self.woken = False
        self.refresher = RegistryRefresher(registry, self._wake, clock, pool=self.pool)
        self.records = RecordKeeper(kube, self._wake)
        self.clock = clock
        self.reconciler = Reconciler(kube, self.refresher, self.feed, clock, self.records)

    async def read_registry(self) -> None:
        """Let all look-ups that are due end."""
        self.refresher.start_due()
        await self.pool.idle()

    async def end(self) -> None:
        await self.refresher.close()
        await self.kube.close()

    def _wake(self, _: Key) -> None:
        self.woken = True


@dataclass
class Stage:
    """A namespace with at most one release of NAME. `admin` is the test's own client."""

    admin: Kube
    namespace: str
    operator_kubeconfig: Path
    registry_url: str
    model: str
    clock: Clock = field(default_factory=Clock)
    processes: list[Process] = field(default_factory=list)
    gateway_says: tuple[str, str] | None = ("True", "Accepted")
    pods_become_ready: bool = True
    routes: tuple[str, ...] = (NAME,)
    """Names of the routes that the gateway looks at."""

    @property
    def key(self) -> Key:
        return self.namespace, NAME

    async def process(self, registry: RegistryClient | None = None) -> Process:
        """Start another process of the operator; `self.operator` is the newest."""
        kube = await Tampered.connect(str(self.operator_kubeconfig))
        assert isinstance(kube, Tampered)
        client = registry or RegistryClient(
            RegistryEndpoint(self.registry_url), timeout_s=30, retries=0, now=self.clock
        )
        self.processes.append(Process(kube, client, self.clock))
        return self.processes[-1]

    @property
    def operator(self) -> Process:
        return self.processes[-1]

    async def end(self) -> None:
        for process in self.processes:
            await process.end()

    # -- people ------------------------------------------------------------------------------------------------------
    async def release(self, version: int | None = 1, **spec: Any) -> Object:
        """Create the release."""
        return await self.create(small_spec(self.model, version, **spec))

    async def create(self, spec: dict[str, Any], **metadata: Any) -> Object:
        """Create a release with this spec."""
        body = {**_typed(MODEL_RELEASE), "metadata": {"name": NAME, **metadata}, "spec": spec}
        return await self.admin.create(MODEL_RELEASE, self.namespace, body)

    async def edit(self, **spec: Any) -> Object:
        """Change top-level fields of the spec."""
        return await self.admin.patch(MODEL_RELEASE, self.namespace, NAME, {"spec": spec})

    async def want_version(self, version: int) -> None:
        await self.edit(model={"version": version})

    async def command(self, verb: str, revision: str, nonce: str = "1") -> None:
        annotation = {"modelrelease.dev/command": f"{verb}@{revision}-{nonce}"}
        await self.admin.patch(MODEL_RELEASE, self.namespace, NAME, {"metadata": {"annotations": annotation}})

    async def delete(self) -> None:
        """Delete the release, and all that belongs to it as the garbage collector would."""
        release = await self.live(MODEL_RELEASE)
        await self.admin.delete(MODEL_RELEASE, self.namespace, NAME, uid=release["metadata"]["uid"])
        for kind in await self.owned_kinds():
            for item in await self.all(kind):
                await self.admin.delete(kind, self.namespace, item["metadata"]["name"], uid=item["metadata"]["uid"])

    async def owned_kinds(self) -> tuple[Kind, ...]:
        """What a release may own, of the kinds that this API server knows by now."""
        monitors = (POD_MONITOR,) if await self.admin.served(POD_MONITOR) else ()
        return (*CHILDREN, CONTROLLER_REVISION, *monitors)

    async def lose_status(self) -> None:
        live = await self.live(MODEL_RELEASE)
        await self.admin.patch_status(MODEL_RELEASE, self.namespace, NAME, {}, live["metadata"]["resourceVersion"])

    # -- the operator ------------------------------------------------------------------------------------------------
    async def work(self, process: Process | None = None) -> float | None:
        """One pass, and the look-ups that it asked for."""
        worker = process or self.operator
        again = await worker.reconciler(self.key)
        await worker.read_registry()
        with suppress(KubeError):  # as its queue does: it is tried again
            await worker.records.create(self.key)
        return again

    async def until(self, done: Callable[[ModelReleaseStatus], bool], *, most: int = 80) -> ModelReleaseStatus:
        """Work, play and skip time until the status is as wanted."""
        async for status in self._go(most):
            if done(status):
                return status
        last = await self.status()
        raise AssertionError(f"it rests in {last.phase} instead: {last.message}")

    async def rest(self, *, most: int = 80) -> ModelReleaseStatus:
        """Work, play and skip time until nothing happens any more by itself."""
        async for _ in self._go(most):
            pass
        return await self.status()

    async def promoted(self, version: int) -> ModelReleaseStatus:
        """Work until this version serves and all is at rest."""
        await self.until(lambda status: status.phase == "Promoted" and status.stable.version == str(version))  # type: ignore[union-attr]
        status = await self.rest()
        assert (status.phase, status.summary.serving) == ("Promoted", f"{version} 2/2")
        return status

    async def passes(self, count: int, *, apart_s: float = 5) -> ModelReleaseStatus:
        """So many passes, with play and time between them."""
        for _ in range(count):
            await self.work()
            await self.play()
            self.clock.skip(apart_s)
        return await self.status()

    async def _go(self, most: int) -> AsyncIterator[ModelReleaseStatus]:
        idle, seen, dirty = 0, "", True
        for _ in range(most):
            process = self.operator
            process.woken, sent = False, len(process.kube.requests)
            again = await self.work(process)
            dirty = dirty or any(request.writes for request in process.kube.requests[sent:])
            played = dirty and await self.play()
            dirty = played
            live = await self.live(MODEL_RELEASE)
            self._evidence_is_kept(process, read(live))
            yield read(live)
            before, seen = seen, live["metadata"]["resourceVersion"]
            if process.woken or played or seen != before:
                idle = 0
                continue
            idle += 1
            sampled = self.key in process.feed.wanted
            if not sampled and (again is None or again > 3600 or idle == 3):
                return
            self.clock.skip(min(again or 20.0, GRID.total_seconds() if sampled else 20.0) + 0.01)
        raise AssertionError("it does not come to rest")

    def _evidence_is_kept(self, process: Process, status: ModelReleaseStatus) -> None:
        """Polls are asked for from where the recorded evidence ends, or those between would be lost."""
        want = process.feed.wanted.get(self.key)
        if want is not None and status.evidence is not None:
            assert want.since.timestamp() == json.loads(status.evidence)["at"]

    # -- what is there -----------------------------------------------------------------------------------------------
    async def status(self) -> ModelReleaseStatus:
        return read(await self.live(MODEL_RELEASE))

    async def live(self, kind: Kind, name: str = NAME) -> Object:
        found = await self.admin.get(kind, self.namespace, name)
        assert found is not None, f"there is no {kind.kind} {name}"
        return found

    async def all(self, kind: Kind) -> list[Object]:
        return await self.admin.list(kind, self.namespace)

    async def children(self) -> list[Object]:
        return [item for kind in CHILDREN for item in await self.all(kind) if item["metadata"]["name"] != "kubernetes"]

    async def events(self) -> list[Object]:
        return sorted(await self.all(EVENT), key=lambda event: str(event["eventTime"]))

    async def weights(self) -> tuple[int, int]:
        """Of the Services a and b, as the live route says."""
        [rule] = (await self.live(HTTP_ROUTE))["spec"]["rules"]
        a, b = (backend["weight"] for backend in rule["backendRefs"])
        return a, b

    async def records(self) -> list[Object]:
        return await self.all(CONTROLLER_REVISION)

    # -- kubelet, controllers and gateway ----------------------------------------------------------------------------
    async def play(self) -> bool:
        """Do once what a cluster would do; True if there was anything to do."""
        kinds = (DEPLOYMENT, POD, ENDPOINT_SLICE)
        deployments, pods, slices = await asyncio.gather(*(self.all(kind) for kind in kinds))
        names = [(SERVICE, f"{NAME}-a"), (SERVICE, f"{NAME}-b")]
        names += [(HTTP_ROUTE, route) for route in self.routes]  # a list of CRs takes long
        found = await asyncio.gather(*(self.admin.get(kind, self.namespace, name) for kind, name in names))
        services = [item for item in found[:2] if item is not None]
        routes = [item for item in found[2:] if item is not None]
        done = await self._run_pods(deployments, pods)
        if done:
            pods = await self.all(POD)
        done = await self._fill_slices(services, slices, pods) or done
        return await self._accept_routes(routes) or done

    async def _run_pods(self, deployments: list[Object], pods: list[Object]) -> bool:
        done = False
        for deployment in deployments:
            name, replicas = deployment["metadata"]["name"], deployment["spec"]["replicas"]
            mine = [pod for pod in pods if pod["metadata"]["labels"].get("of") == name]
            for number in range(len(mine), replicas):
                mine.append(await self._create_pod(deployment, number))
                done = True
            for pod in mine[replicas:]:
                await self._delete_pod(pod)
                done = True
            status = deployment.get("status") or {}
            ready = min(replicas, len(mine)) if self.pods_become_ready else 0
            if (status.get("replicas", 0), status.get("readyReplicas", 0)) != (replicas, ready):
                said = {"replicas": replicas, "readyReplicas": ready}
                said["observedGeneration"] = deployment["metadata"]["generation"]
                await self._say(DEPLOYMENT, deployment, said)
                done = True
        names = {item["metadata"]["name"] for item in deployments}
        orphans = [pod for pod in pods if pod["metadata"]["labels"].get("of") not in names]
        for pod in orphans:
            await self._delete_pod(pod)
        return done or bool(orphans)

    async def _delete_pod(self, pod: Object) -> None:
        await self.admin.delete(POD, self.namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"])

    async def _create_pod(self, deployment: Object, number: int) -> Object:
        template, name = deployment["spec"]["template"], deployment["metadata"]["name"]
        labels = {**template["metadata"]["labels"], "of": name}
        body = {"metadata": {"name": f"{name}-{number}", "labels": labels}, "spec": template["spec"]}
        pod = await self.admin.create(POD, self.namespace, {**_typed(POD), **body})
        if self.pods_become_ready:
            conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready", "ContainersReady")]
            await self._say(POD, pod, {"phase": "Running", "conditions": conditions})
        return pod

    async def _fill_slices(self, services: list[Object], slices: list[Object], pods: list[Object]) -> bool:
        done = False
        held = {item["metadata"]["name"]: item for item in slices}
        for service in services:
            name, selector = service["metadata"]["name"], (service["spec"].get("selector") or {}).items()
            behind = [pod["metadata"]["name"] for pod in pods if selector <= pod["metadata"]["labels"].items()]
            endpoints = [
                {
                    "addresses": [f"10.0.0.{number + 1}"],
                    "conditions": {"ready": self.pods_become_ready},
                    "targetRef": {"kind": "Pod", "name": pod, "namespace": self.namespace},
                }
                for number, pod in enumerate(sorted(behind))
            ]
            known = held.get(f"{name}-x")
            if known is None:
                labels = {"kubernetes.io/service-name": name}
                body = {"metadata": {"name": f"{name}-x", "labels": labels}, "addressType": "IPv4"}
                await self.admin.create(
                    ENDPOINT_SLICE, self.namespace, {**_typed(ENDPOINT_SLICE), **body, "endpoints": endpoints}
                )
                done = True
            elif known.get("endpoints", []) != endpoints and (known.get("endpoints") or endpoints):
                await self.admin.patch(ENDPOINT_SLICE, self.namespace, f"{name}-x", {"endpoints": endpoints})
                done = True
        return done

    async def _accept_routes(self, routes: list[Object]) -> bool:
        done = False
        for route in routes:
            if self.gateway_says is None:
                continue
            truth, reason = self.gateway_says
            generation = route["metadata"]["generation"]
            condition = {
                "status": truth,
                "reason": reason,
                "message": "the gateway says so",
                "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            conditions = [{"type": "Accepted", **condition}, {**condition, "type": "ResolvedRefs", "status": "True"}]
            parents = [
                {"parentRef": parent, "controllerName": _CONTROLLER, "conditions": conditions}
                for parent in route["spec"]["parentRefs"]
            ]
            if (route.get("status") or {}).get("parents") != parents:
                await self._say(HTTP_ROUTE, route, {"parents": parents})
                done = True
        return done

    async def _say(self, kind: Kind, item: Object, status: dict[str, Any]) -> None:
        """Write a status over the present one."""
        name = item["metadata"]["name"]
        live = await self.live(kind, name)
        await self.admin.patch_status(kind, self.namespace, name, status, live["metadata"]["resourceVersion"])


def small_spec(model: str, version: int | None = 1, **changes: Any) -> dict[str, Any]:
    """A spec with two pods, a canary phase and short times; `changes` are top-level fields."""
    spec: dict[str, Any] = {
        "model": {"name": model, "version": version},
        "traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["churn.example"]}},
        "workload": {
            "replicas": 2,
            "drainTimeout": "1s",
            "template": {"spec": {"containers": [{"name": "server", "image": "registry.example/server:1"}]}},
        },
        "gates": [{"name": "accuracy", "metric": {"name": "accuracy", "min": 0.85}}],
        "rollout": {
            "phases": [{"name": "canary", "weight": 20, "duration": "1s"}, {"name": "full", "weight": 100}],
            "bake": {"duration": "1s"},
        },
    }
    return {**spec, **changes}


def read(release: Object) -> ModelReleaseStatus:
    return ModelReleaseStatus.model_validate(release.get("status") or {})


def revision_of(item: Object) -> str:
    """The revision that a Deployment runs or a Service selects."""
    where = item["spec"]["selector"]
    return str(where.get("matchLabels", where)[REVISION_LABEL])


def condition(status: ModelReleaseStatus, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    return next((item.status, item.reason) for item in status.conditions if item.type == kind)


def _typed(kind: Kind) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.kind}
