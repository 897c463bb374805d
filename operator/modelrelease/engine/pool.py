"""What reads one endpoint, a part of its own: made when a release wants it, ended when none does any more.

Here: how long a part lives and which releases use it. Not here: which endpoint a release means (engine.directory), and
what a part reads (engine.refresh, engine.sampler).

Concurrency: everything belongs to the event loop, and no call waits. The number of parts is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from modelrelease.api.reasons import Reason
from modelrelease.clients.connection import Source
from modelrelease.core.observation import Unavailable

from .directory import Place
from .queue import Key
from .secrets import NamespaceSecret

MOST = 64
"""Registries, and Prometheus servers, that are read at the same time."""

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
