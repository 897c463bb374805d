"""All registries and all Prometheus servers, each with a part of its own: made when a release wants it, ended when none
does any more.

Here: which endpoint a release means, whether its namespace may use it, and whose credentials are used. Not here: what
is read when (engine.refresh, engine.sampler), and how (clients).

Concurrency: everything belongs to the event loop, and no call waits. Each part has its own threads, few and bounded, so
one that hangs delays nobody else; the number of parts is bounded, too.

The rules: an endpoint of the operator's configuration is one part for all whom its allow-list names. One that a policy
names by URL is a part for each namespace: two tenants share no client, no session and nothing that was read. What the
allow-list refuses is never asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar

from modelrelease.api.endpoints import NAMESPACE, TENANT_HEADER, Endpoints
from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import ANONYMOUS, Files, Source
from modelrelease.clients.kube import Kube
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.observation import RegistryView, Samples, Unavailable
from modelrelease.core.wants import EndpointRef, RegistryWant, SampleWant

from . import telemetry
from .queue import Key
from .refresh import Alias, RegistryRefresher, Tag
from .sampler import Sampler
from .secrets import NamespaceSecret

MOST = 64
"""Registries, and Prometheus servers, that are read at the same time."""

REGISTRY_THREADS = 8
"""Requests that are under way at one registry at most; half of it where a policy names it by URL."""

PROMETHEUS_THREADS = 4
IDLE_S = 120.0
"""How long a part outlives the last release that wanted it."""

RESTART_S = 5.0

logger = logging.getLogger(__name__)


class Part(Protocol):
    """What reads one endpoint."""

    async def run(self) -> None:
        """Read as things fall due, until cancelled."""

    async def close(self) -> None:
        """Start nothing more."""


P = TypeVar("P", bound=Part)


class Place(NamedTuple):
    """An endpoint as one release means it. identity: what is shared by those for whom all of this is the same.

    own: whether the operator's configuration names it.
    """

    identity: tuple[str, ...]
    url: str
    credentials: Source
    headers: Mapping[str, str]
    own: bool


@dataclass(slots=True)
class _Member(Generic[P]):
    part: P
    task: asyncio.Task[None]
    keys: set[Key] = field(default_factory=set)
    idle_since: float = 0.0


class Pool(Generic[P]):
    """Parts by identity, and which release uses which."""

    def __init__(self, *, most: int = MOST, idle_s: float = IDLE_S) -> None:
        self._most = most
        self._idle_s = idle_s
        self._members: dict[tuple[str, ...], _Member[P]] = {}
        self._of: dict[Key, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def part(self, key: Key) -> P | None:
        """The part that this release uses."""
        identity = self._of.get(key)
        return self._members[identity].part if identity is not None else None

    def join(self, key: Key, place: Place, make: Callable[[Place], P]) -> P | None:
        """Let a release use the part of this place; None when there are too many parts. It has left any other."""
        identity = place.identity
        if identity not in self._members and not self._has_room():
            return None
        if identity not in self._members:
            part = make(place)
            task = asyncio.create_task(_live(part, place.credentials), name=f"read {'/'.join(identity)}")
            self._members[identity] = _Member(part, task)
        self._members[identity].keys.add(key)
        self._of[key] = identity
        return self._members[identity].part

    def leave(self, key: Key) -> None:
        """The release wants nothing of its part any more."""
        identity = self._of.pop(key, None)
        if identity is not None:
            member = self._members[identity]
            member.keys.discard(key)
            member.idle_since = asyncio.get_running_loop().time()

    def uses(self, key: Key, place: Place) -> bool:
        """Whether the release uses this place's part already."""
        return self._of.get(key) == place.identity

    async def run(self, refused: Mapping[Key, Unavailable], wake: Callable[[Key], None]) -> None:
        """End parts that nobody has wanted for a while, until cancelled. Wakes those for whom there was no room."""
        while True:
            await asyncio.sleep(self._idle_s / 4)
            now = asyncio.get_running_loop().time()
            for identity, member in list(self._members.items()):
                if not member.keys and now - member.idle_since >= self._idle_s:
                    self._end(identity)
            if self._has_room():
                for key, problem in refused.items():
                    if problem.reason is Reason.ENDPOINT_LIMIT_REACHED:
                        wake(key)

    async def close(self) -> None:
        """End all parts."""
        self._of.clear()
        for identity in list(self._members):
            self._end(identity)

    def _has_room(self) -> bool:
        if len(self._members) < self._most:
            return True
        idle = [(member.idle_since, identity) for identity, member in self._members.items() if not member.keys]
        if idle:
            self._end(min(idle)[1])
        return bool(idle)

    def _end(self, identity: tuple[str, ...]) -> None:
        member = self._members.pop(identity)
        member.task.cancel()
        logger.debug("nobody reads %s any more", "/".join(identity))


async def _live(part: Part, credentials: Source) -> None:
    """Run a part until it is cancelled; a bug in it neither ends the process nor another endpoint."""
    secret = None
    try:
        if isinstance(credentials, NamespaceSecret):
            secret = asyncio.create_task(credentials.keep(await credentials.read()))
        while True:
            try:
                await part.run()
            except Exception:
                logger.exception("reading an endpoint ended unexpectedly; it goes on in %.0f s", RESTART_S)
            await asyncio.sleep(RESTART_S)
    finally:
        if secret is not None:
            secret.cancel()
            with suppress(asyncio.CancelledError):
                await secret
        await part.close()


class Directory:
    """What endpoints there are, and with which credentials they are called."""

    def __init__(self, kube: Kube, endpoints: Endpoints, own: Mapping[str, Source] | None = None) -> None:
        """own: credentials of configured registries that do not come from files, by name."""
        self._kube = kube
        self.endpoints = endpoints
        self._own = own or {}

    def registry(self, ref: EndpointRef, namespace: str, model: str) -> Place | Unavailable:
        """The registry that a release means, if it may read the model there."""
        if ref.url:
            return self._by_url(ref, namespace)
        found = self.endpoints.registry(ref.name)
        if found is None:
            return _unknown("registry", ref.name, self.endpoints.default_registry)
        if not found.reads(namespace, model):
            words = f"namespace {namespace} may not read model {model} of registry {found.name}"
            who = "who runs the operator can allow it (endpoints: registries: allow)"
            return Unavailable(Reason.REGISTRY_NOT_ALLOWED, f"{words}; {who}")
        credentials = self._own.get(found.name) or Files(found.named_files(), found.credentials_dir)
        return Place(("registry", found.name), found.url, credentials, {}, own=True)

    def write_problem(self, ref: EndpointRef, namespace: str, model: str) -> Unavailable | None:
        """Why a release must not move aliases of the model there, None if it may."""
        if ref.url:
            if ref.secret:
                return None  # with the rights of its own namespace
            words = f"aliases at {ref.url} are not moved without credentials of namespace {namespace}"
            return Unavailable(Reason.ALIAS_WRITE_NOT_ALLOWED, f"{words}; the ReleasePolicy can name a secretRef")
        found = self.endpoints.registry(ref.name)
        if found is None or found.writes(namespace, model):
            return None
        words = f"namespace {namespace} may not move aliases of model {model} in registry {found.name}"
        who = "who runs the operator can allow it (endpoints: registries: allow: write)"
        return Unavailable(Reason.ALIAS_WRITE_NOT_ALLOWED, f"{words}; {who}")

    def prometheus(self, ref: EndpointRef, namespace: str) -> Place | Unavailable:
        """The Prometheus that a release means, if it may be measured there."""
        if ref.url:
            return self._by_url(ref, namespace)
        found = self.endpoints.prometheus(ref.name)
        if found is None:
            return _unknown("Prometheus", ref.name, self.endpoints.default_prometheus)
        if not found.serves(namespace):
            words = f"releases of namespace {namespace} may not be measured with Prometheus {found.name}"
            who = "who runs the operator can allow it (endpoints: prometheuses: allow)"
            return Unavailable(Reason.PROMETHEUS_NOT_ALLOWED, f"{words}; {who}")
        tenant = (found.tenant or "").replace(NAMESPACE, namespace)
        headers = {**found.headers, **({TENANT_HEADER: tenant} if tenant else {})}
        credentials = Files(found.named_files(), found.credentials_dir)
        return Place(("prometheus", found.name, tenant), found.url, credentials, headers, own=True)

    def _by_url(self, ref: EndpointRef, namespace: str) -> Place:
        tenant = ref.tenant.replace(NAMESPACE, namespace)
        credentials = NamespaceSecret(self._kube, namespace, ref.secret, ref.url) if ref.secret else ANONYMOUS
        identity = ("url", namespace, ref.url, ref.secret, tenant)
        return Place(identity, ref.url, credentials, {TENANT_HEADER: tenant} if tenant else {}, own=False)


def _unknown(what: str, name: str, default: str | None) -> Unavailable:
    if name:
        words = f"the operator's configuration has no {what} {name}; the ReleasePolicy names it"
    else:
        words = f"the operator's configuration has no default {what}, and no ReleasePolicy names one for this release"
    return Unavailable(Reason.ENDPOINT_NOT_CONFIGURED, words)


POLICY_UNREAD = Unavailable(
    Reason.POLICY_NOT_FOUND, "which endpoint to read stands in a ReleasePolicy that cannot be read"
)


class Registries:
    """The registries of all releases; the same calls as one RegistryRefresher."""

    def __init__(
        self,
        directory: Directory,
        wake: Callable[[Key], None],
        now: Callable[[], datetime],
        *,
        allow_file_sources: bool = False,
        pool: Pool[RegistryRefresher] | None = None,
        timeout_s: float = 10,
    ) -> None:
        self._directory = directory
        self._wake = wake
        self._now = now
        self._allow_file_sources = allow_file_sources
        self._pool = Pool() if pool is None else pool
        self._timeout_s = timeout_s
        self._wants: dict[Key, RegistryWant] = {}
        self._refused: dict[Key, Unavailable] = {}
        self._unwritable: dict[Key, Unavailable] = {}

    def want(self, key: Key, want: RegistryWant | None) -> None:
        """Replace what a release wants; None forgets it."""
        before = self._wants.get(key)
        if want is None:
            self._wants.pop(key, None)
            self._move(key, None)
            self._refused.pop(key, None)
            self._unwritable.pop(key, None)
            return
        if want.endpoint is None and before is not None:
            want = replace(want, endpoint=before.endpoint)
        full = key in self._refused and self._refused[key].reason is Reason.ENDPOINT_LIMIT_REACHED
        if want == before and not full:
            return
        self._wants[key] = want
        unwritable = None
        if (want.write is not None or want.tags) and want.endpoint is not None:
            unwritable = self._directory.write_problem(want.endpoint, key[0], want.model)
        if unwritable is not None:
            want = replace(want, write=None, tags=())
        part = self._place(key, want)
        news = _put(self._unwritable, key, unwritable, self._now())
        if isinstance(part, Unavailable):
            news = _put(self._refused, key, part, self._now()) or news
        else:
            news = _put(self._refused, key, None, self._now()) or news
            part.want(key, want)
        if news:
            self._wake(key)

    def view(self, key: Key) -> RegistryView:
        """What is known for this release now."""
        want, refused = self._wants.get(key), self._refused.get(key)
        if want is not None and refused is not None:
            aliases: dict[str, Alias] = dict.fromkeys(want.aliases, refused)
            tags: dict[str, Tag] = {item.version: refused for item in want.tags}
            return RegistryView(dict.fromkeys(want.versions, refused), aliases, want.model, tags)
        part = self._pool.part(key)
        seen = part.view(key) if part is not None else RegistryView()
        unwritable = self._unwritable.get(key)
        if want is not None and unwritable is not None:
            moved = {want.write.alias: unwritable} if want.write else {}
            denied: dict[str, Tag] = {item.version: unwritable for item in want.tags}
            return replace(seen, aliases={**seen.aliases, **moved}, tags={**seen.tags, **denied}, model=want.model)
        return seen

    async def run(self) -> None:
        """End what nobody wants any more, until cancelled. Each registry is read by a task of its own."""
        await self._pool.run(self._refused, self._wake)

    async def close(self) -> None:
        """Start nothing more."""
        await self._pool.close()

    def _place(self, key: Key, want: RegistryWant) -> RegistryRefresher | Unavailable:
        if want.endpoint is None:
            self._move(key, None)
            return POLICY_UNREAD
        place = self._directory.registry(want.endpoint, key[0], want.model)
        if isinstance(place, Unavailable):
            self._move(key, None)
            return place
        self._move(key, place)
        return self._pool.join(key, place, self._make) or _full("registries")

    def _move(self, key: Key, place: Place | None) -> None:
        part = self._pool.part(key)
        if part is not None and (place is None or not self._pool.uses(key, place)):
            part.want(key, None)
            self._pool.leave(key)

    def _make(self, place: Place) -> RegistryRefresher:
        client = RegistryClient(
            RegistryEndpoint(place.url, place.credentials),
            timeout_s=self._timeout_s,
            allow_file_sources=self._allow_file_sources and place.own,
            now=self._now,
        )
        threads = REGISTRY_THREADS if place.own else REGISTRY_THREADS // 2
        return RegistryRefresher(telemetry.CountedRegistry(client), self._wake, self._now, threads=threads)


class Prometheuses:
    """The Prometheus servers of all releases; the same calls as one Sampler."""

    def __init__(
        self,
        directory: Directory,
        wake: Callable[[Key], None],
        now: Callable[[], datetime],
        *,
        tick_s: float = 5,
        lag_s: float | None = None,
        pool: Pool[Sampler] | None = None,
        timeout_s: float = 10,
    ) -> None:
        """tick_s, lag_s: as for a Sampler."""
        self._directory = directory
        self._wake = wake
        self._now = now
        self._tick_s = tick_s
        self._lag_s = lag_s
        self._pool = Pool() if pool is None else pool
        self._timeout_s = timeout_s
        self._refs: dict[Key, EndpointRef | None] = {}
        self._refused: dict[Key, Unavailable] = {}

    def want(self, key: Key, want: SampleWant | None) -> None:
        """Replace what a release wants; None forgets it."""
        if want is None:
            self._move(key, None)
            self._refs.pop(key, None)
            self._refused.pop(key, None)
            return
        ref = want.endpoint or self._refs.get(key)
        self._refs[key] = ref
        part = self._place(key, ref)
        refused = part if isinstance(part, Unavailable) else None
        news = _put(self._refused, key, refused, self._now())
        if not isinstance(part, Unavailable):
            part.want(key, want)
        if news:
            self._wake(key)

    def samples(self, key: Key) -> Samples:
        """All polls after `since`, in order, and what is wrong now."""
        if (refused := self._refused.get(key)) is not None:
            return Samples(problem=refused)
        part = self._pool.part(key)
        if part is None:
            words = "Prometheus has not been read yet for this phase"
            return Samples(problem=Unavailable(Reason.NO_DATA, words, self._now()))
        return part.samples(key)

    async def run(self) -> None:
        """End what nobody wants any more, until cancelled. Each Prometheus is read by a task of its own."""
        await self._pool.run(self._refused, self._wake)

    async def close(self) -> None:
        """Start nothing more."""
        await self._pool.close()

    def _place(self, key: Key, ref: EndpointRef | None) -> Sampler | Unavailable:
        if ref is None:
            self._move(key, None)
            return POLICY_UNREAD
        place = self._directory.prometheus(ref, key[0])
        if isinstance(place, Unavailable):
            self._move(key, None)
            return place
        self._move(key, place)
        return self._pool.join(key, place, self._make) or _full("Prometheus servers")

    def _move(self, key: Key, place: Place | None) -> None:
        part = self._pool.part(key)
        if part is not None and (place is None or not self._pool.uses(key, place)):
            part.want(key, None)
            self._pool.leave(key)

    def _make(self, place: Place) -> Sampler:
        endpoint = PrometheusEndpoint(place.url, place.credentials, place.headers)
        client = telemetry.CountedPrometheus(PrometheusClient(endpoint, timeout_s=self._timeout_s))
        return Sampler(
            client, self._wake, self._now, tick_s=self._tick_s, lag_s=self._lag_s, threads=PROMETHEUS_THREADS
        )


def _full(what: str) -> Unavailable:
    words = f"the operator reads {MOST} {what} already; this one waits until a release needs another one no more"
    return Unavailable(Reason.ENDPOINT_LIMIT_REACHED, words)


def _put(held: dict[Key, Unavailable], key: Key, problem: Unavailable | None, now: datetime) -> bool:
    """Keep a release's problem, since when it has been so; whether it is another one than before."""
    before = held.get(key)
    if problem is None:
        held.pop(key, None)
        return before is not None
    if before is not None and (before.reason, before.message) == (problem.reason, problem.message):
        return False
    held[key] = replace(problem, since=now)
    return True
