"""All registries and all Prometheus servers, each with a part of its own that reads it.

Here: what each release wants of which endpoint, and what it is told where it may not. Not here: which endpoint is meant
(engine.directory), how long it is read (engine.pool), what is read when (engine.refresh, engine.sampler).

Concurrency: everything belongs to the event loop, and no call waits. Each part has its own threads, few and bounded, so
one that hangs delays nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from modelrelease.api.reasons import Reason
from modelrelease.clients.prometheus import PrometheusClient, PrometheusEndpoint
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.observation import RegistryView, Samples, Unavailable
from modelrelease.core.wants import EndpointRef, RegistryWant, SampleWant

from . import telemetry
from .directory import Directory, Place
from .pool import MOST, Pool
from .queue import Key
from .refresh import Alias, RegistryRefresher, Tag
from .sampler import Sampler

REGISTRY_THREADS = 8
"""Requests that are under way at one registry at most; half of it where a policy names it by URL."""

PROMETHEUS_THREADS = 4

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
