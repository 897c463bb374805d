"""Keeps what releases want from the registry at hand, so that no pass ever waits for it.

Concurrency: everything but the look-ups themselves runs in the event loop. A look-up runs in a thread of a bounded
pool; there is at most one under way for a (model, version) and for a (model, alias), however many releases want it.
Aliases that are only followed are polled together, in one call for all models and releases; what that call does not
tell is read singly for a while.
`want` and `view` return at once; a look-up that hangs occupies one thread until the client's own timeout ends it.

While a registry as a whole does not answer (down, wrong credentials, TLS), one look-up at a time probes it, ever more
slowly, whatever the number of releases; the first answer lets all that waits go on at once.

Not here: how a version is read (clients.registry) and what it means (core). The rule: a value is shown while it is
younger than the release's max_age; an older one is Unavailable while look-ups fail, and absent while it is being read.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple, Protocol

from modelrelease.api.reasons import Reason
from modelrelease.clients.registry import Down
from modelrelease.core.observation import (
    AliasTarget,
    Lookup,
    Missing,
    ModelVersion,
    RegistryView,
    TagWritten,
    Unavailable,
)
from modelrelease.core.version_facts import Part
from modelrelease.core.wants import AliasWrite, RegistryWant, TagWrite

from .queue import Key

logger = logging.getLogger(__name__)

BACKOFF_FIRST = timedelta(seconds=1)
BACKOFF_MAX = timedelta(seconds=30)
ALONE = timedelta(minutes=10)
"""How long an alias that the common poll does not tell is read singly."""
SPREAD_S = 3600
"""Versions that are read daily fall due within so many seconds of a start, not all at once."""

Alias = AliasTarget | Missing | Unavailable
Tag = TagWritten | Missing | Unavailable


class Registry(Protocol):
    """The blocking calls; `clients.registry.RegistryClient` has them. They return failures and do not raise them."""

    def read_version(self, model: str, version: str, parts: frozenset[Part], source: str = "") -> Lookup:
        """One version with these parts; where its source is told, its metrics are enough."""

    def read_alias(self, model: str, alias: str) -> Alias:
        """Where one alias points."""

    def read_aliases(
        self, wanted: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], AliasTarget | Missing] | Unavailable:
        """Where many (model, alias) point, in one call; what it does not tell is absent."""

    def write_alias(self, write: AliasWrite) -> Alias:
        """Read an alias, move it if it is elsewhere, read it back."""

    def write_tag(self, write: TagWrite) -> Tag:
        """Set one tag of a version."""


class Subject(NamedTuple):
    """What one look-up is about: a version or an alias of a model."""

    model: str
    kind: str  # "version", "alias" or "tag"
    name: str


@dataclass(slots=True)
class _Entry:
    """What is known of one subject.

    value: the last answer, kept while look-ups fail. again: wanted anew while a look-up was under way. shown: what each
    reader was woken for last. alone_until: until when an alias is not polled with the others.
    """

    due: datetime
    readers: dict[Key, RegistryWant] = field(default_factory=dict)
    value: ModelVersion | AliasTarget | TagWritten | Missing | None = None
    read_at: datetime | None = None
    failure: Unavailable | None = None
    failures: int = 0
    looking: bool = False
    again: bool = False
    alone_until: datetime | None = None
    shown: dict[Key, object] = field(default_factory=dict)

    def parts(self, version: str) -> frozenset[Part]:
        """What all its readers together want to know of the version."""
        return frozenset[Part]().union(*(want.parts_of(version) for want in self.readers.values()))

    def source(self, version: str) -> str:
        """Where all its readers serve it from, empty where they differ or one of them does not know."""
        known = {want.sources.get(version, "") for want in self.readers.values()}
        return known.pop() if len(known) == 1 else ""

    def tells(self, want: RegistryWant, version: str) -> bool:
        """Whether the value has what this reader wants; one that was read for others may have less."""
        return not isinstance(self.value, ModelVersion) or want.parts_of(version) <= self.value.parts


class RegistryRefresher:
    """One registry's values for all releases. `wake` is called with a release whose view has changed."""

    def __init__(
        self,
        registry: Registry,
        wake: Callable[[Key], None],
        now: Callable[[], datetime],
        *,
        threads: int = 8,
        pool: Executor | None = None,
    ) -> None:
        self._registry = registry
        self._wake = wake
        self._now = now
        self._free = threads
        self._pool = pool or ThreadPoolExecutor(threads, thread_name_prefix="registry")
        self._wants: dict[Key, RegistryWant] = {}
        self._entries: dict[Subject, _Entry] = {}
        self._changed = asyncio.Event()
        self._down: Down | None = None
        self._downs = 0  # probes in a row that failed
        self._probe_at = now()
        self._probing = False

    def want(self, key: Key, want: RegistryWant | None) -> None:
        """Replace what a release wants; None forgets it. What nobody wants any more is dropped."""
        before = self._wants.get(key)
        if before == want:
            return
        for subject in _subjects(before) - _subjects(want):
            entry = self._entries[subject]
            entry.readers.pop(key)
            entry.shown.pop(key, None)
            if not entry.readers:
                del self._entries[subject]
        if want is None:
            del self._wants[key]
            return
        self._wants[key] = want
        for subject in _subjects(want):
            known = replace(self._down, since=self._now()) if self._down else None
            due = self._now() + _spread(subject, want)
            entry = self._entries.setdefault(subject, _Entry(due=due, failure=known))
            entry.readers[key] = want
            if entry.read_at is not None:
                entry.due = min(entry.due, entry.read_at + want.age_of(subject.kind, subject.name) / 2)
            elif entry.failure is None:
                entry.due = min(entry.due, due)
            if not entry.tells(want, subject.name):
                entry.due, entry.again = self._now(), entry.looking
            if _write(subject, want) not in (None, _write(subject, before)):
                entry.due, entry.again = self._now(), entry.looking
            self._tell(subject, entry, key)
        self._changed.set()

    def view(self, key: Key) -> RegistryView:
        """What is known for this release now; what has not been read yet is absent."""
        want = self._wants.get(key)
        if want is None:
            return RegistryView()
        versions: dict[str, Lookup] = {}
        aliases: dict[str, Alias] = {}
        tags: dict[str, Tag] = {}
        for subject in _subjects(want):
            match self._visible(subject, want):
                case None:
                    pass
                case AliasTarget() as target:
                    aliases[subject.name] = target
                case ModelVersion() as version:
                    versions[subject.name] = version
                case TagWritten() as written:
                    tags[subject.name.partition(" ")[0]] = written
                case Missing() | Unavailable() as absence if subject.kind == "tag":
                    tags[subject.name.partition(" ")[0]] = absence
                case Missing() | Unavailable() as absence if subject.kind == "alias":
                    aliases[subject.name] = absence
                case Missing() | Unavailable() as absence:
                    versions[subject.name] = absence
        return RegistryView(versions, aliases, want.model, tags)

    async def run(self) -> None:
        """Start look-ups as they fall due, until cancelled."""
        while True:
            self._changed.clear()
            wait = self.start_due()
            with suppress(TimeoutError):
                # not wait_for: before Python 3.12 it loses a cancellation that comes together with the event
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def start_due(self) -> float | None:
        """Start what is due, longest due first, while threads are free; returns the seconds to the next, if any.

        One pass of `run`; needs a running event loop.
        """
        now = self._now()
        waiting = sorted((entry.due, subject) for subject, entry in self._entries.items() if not entry.looking)
        if self._down is not None and waiting:
            return self._probe(now, *waiting[0])
        for due, subject in waiting:
            if not self._free:
                return None  # the end of a look-up sets `_changed`
            if due > now:
                return (due - now).total_seconds()
            entry = self._entries[subject]
            if entry.looking:
                continue  # polled with another one just now
            together = self._pollable(now) if subject.kind == "alias" else {}
            if len(together) > 1 and subject in together:
                self._poll(together)
            else:
                self._start(subject, entry)
        return None

    def _pollable(self, now: datetime) -> dict[Subject, _Entry]:
        """Aliases that nobody wants to move, and that the common poll has not failed to tell lately."""
        return {
            subject: entry
            for subject, entry in self._entries.items()
            if subject.kind == "alias"
            and not entry.looking
            and (entry.alone_until is None or entry.alone_until <= now)
            and not any(_write(subject, want) for want in entry.readers.values())
        }

    def _poll(self, together: dict[Subject, _Entry]) -> None:
        """Read many aliases in one call, those included that are not due yet: so they stay together."""
        wanted = [(subject.model, subject.name) for subject in together]
        for entry in together.values():
            entry.looking = True
        self._free -= 1
        under_way = asyncio.get_running_loop().run_in_executor(self._pool, self._registry.read_aliases, wanted)
        under_way.add_done_callback(lambda done: self._polled(together, done))

    def _polled(
        self,
        together: dict[Subject, _Entry],
        done: asyncio.Future[Mapping[tuple[str, str], AliasTarget | Missing] | Unavailable],
    ) -> None:
        self._free += 1
        self._changed.set()
        for entry in together.values():
            entry.looking = False
        if done.cancelled():
            return
        if error := done.exception():
            logger.error("the aliases could not be read together", exc_info=error)
        found = done.result() if error is None else {}
        if isinstance(found, Down):
            self._judge(found, probe=False)
        elif error is None and not isinstance(found, Unavailable):
            self._answers()
        now = self._now()
        for subject, entry in together.items():
            if self._entries.get(subject) is not entry:
                continue  # wanted by nobody any more
            told = found if isinstance(found, Unavailable) else found.get((subject.model, subject.name))
            if told is None or (isinstance(told, Unavailable) and not isinstance(told, Down)):
                entry.alone_until, entry.due = now + ALONE, now
            else:
                self._settle(subject, entry, told)

    def _probe(self, now: datetime, due: datetime, subject: Subject) -> float | None:
        """While the registry as a whole does not answer, one look-up at a time finds out whether it does again."""
        if self._probing:
            return None
        at = max(due, self._probe_at)
        if at > now:
            return (at - now).total_seconds()
        self._probing = True
        self._start(subject, self._entries[subject], probe=True)
        return None

    async def close(self) -> None:
        """Start nothing more. Look-ups under way end by the client's timeout; their results go nowhere."""
        self._wants.clear()
        self._entries.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, subject: Subject, entry: _Entry, *, probe: bool = False) -> None:
        # Two releases may want one alias at different versions: the first by name has its way until it is content.
        writes = (_write(subject, entry.readers[key]) for key in sorted(entry.readers))
        look_up: Callable[[], Lookup | Alias | Tag]
        write = next((write for write in writes if write), None)
        if isinstance(write, TagWrite):
            look_up = partial(self._registry.write_tag, write)
        elif write is not None:
            look_up = partial(self._registry.write_alias, write)
        elif subject.kind == "alias":
            look_up = partial(self._registry.read_alias, subject.model, subject.name)
        else:
            of = subject.name
            look_up = partial(self._registry.read_version, subject.model, of, entry.parts(of), entry.source(of))
        entry.looking = True
        self._free -= 1
        under_way = asyncio.get_running_loop().run_in_executor(self._pool, look_up)
        under_way.add_done_callback(lambda done: self._finish(subject, entry, done, probe=probe))

    def _finish(
        self, subject: Subject, entry: _Entry, done: asyncio.Future[Lookup | Alias | Tag], *, probe: bool
    ) -> None:
        self._free += 1
        self._changed.set()
        entry.looking = False
        self._probing = self._probing and not probe
        if not done.cancelled() and done.exception() is None:
            self._judge(done.result(), probe=probe)
        if done.cancelled() or self._entries.get(subject) is not entry:
            return  # closed, or wanted by nobody any more
        if error := done.exception():
            logger.error("look-up of %s failed unexpectedly", subject, exc_info=error)
            message = f"{subject.kind} {subject.name} of {subject.model} could not be read; see the operator's log"
            found: Lookup | Alias | Tag = Unavailable(Reason.REGISTRY_ERROR, message)
        else:
            found = done.result()
        self._settle(subject, entry, found)

    def _settle(self, subject: Subject, entry: _Entry, found: Lookup | Alias | Tag) -> None:
        """Take an answer over, and say when the next one falls due."""
        now = self._now()
        if isinstance(found, Unavailable):
            since = entry.failure.since if entry.failure else now
            entry.failure = replace(found, since=since)
            entry.due = now + _backoff(entry.failures)
            entry.failures += 1
        else:
            entry.value, entry.read_at, entry.failure, entry.failures = found, now, None, 0
            entry.due = now + min(want.age_of(subject.kind, subject.name) for want in entry.readers.values()) / 2
            if not all(entry.tells(want, subject.name) for want in entry.readers.values()):
                entry.due = now  # somebody who wants more came while it was being read
        if entry.again:
            entry.due, entry.again = now, False
        for key in list(entry.readers):
            self._tell(subject, entry, key)

    def _judge(self, found: Lookup | Alias | Tag, *, probe: bool) -> None:
        """Learn from any look-up whether the registry as a whole answers; if not, all that waits fails with it."""
        now, before = self._now(), self._down
        if not isinstance(found, Down):
            self._answers()
            return
        if before is None or probe:
            self._probe_at = now + _backoff(self._downs)
            self._downs += 1
        self._down = found
        for subject, entry in self._entries.items():
            if not entry.looking and entry.due <= now:
                entry.failure = replace(found, since=entry.failure.since if entry.failure else now)
                for key in list(entry.readers):
                    self._tell(subject, entry, key)

    def _answers(self) -> None:
        """The registry answers: what has failed with it as a whole is read at once."""
        now, before = self._now(), self._down
        self._down, self._downs = None, 0
        for entry in self._entries.values():
            if before is not None and isinstance(entry.failure, Down):
                entry.due, entry.failures = now, 0

    def _tell(self, subject: Subject, entry: _Entry, key: Key) -> None:
        """Wake a reader if what it would see is news to it."""
        visible = _content(self._visible(subject, entry.readers[key]))
        if entry.shown.get(key) != visible:
            entry.shown[key] = visible
            self._wake(key)

    def _visible(self, subject: Subject, want: RegistryWant) -> Lookup | Alias | Tag | None:
        entry = self._entries[subject]
        if not entry.tells(want, subject.name):
            return entry.failure
        age = want.age_of(subject.kind, subject.name)
        fresh = entry.read_at is not None and self._now() - entry.read_at <= age
        writing = _write(subject, want) is not None
        return entry.value if fresh and not (writing and entry.failure) else entry.failure


def _spread(subject: Subject, want: RegistryWant) -> timedelta:
    """How long what is read daily may wait for its first reading, by its name."""
    if subject.kind != "version" or subject.name not in want.rarely:
        return timedelta()
    return timedelta(seconds=zlib.crc32("/".join(subject).encode()) % SPREAD_S)


def _backoff(failures: int) -> timedelta:
    doubled: timedelta = BACKOFF_FIRST * 2 ** min(failures, 16)
    return min(doubled, BACKOFF_MAX)


def _subjects(want: RegistryWant | None) -> set[Subject]:
    if want is None:
        return set()
    aliases = want.aliases | ({want.write.alias} if want.write else set())
    return (
        {Subject(want.model, "version", name) for name in want.versions}
        | {Subject(want.model, "alias", name) for name in aliases}
        | {Subject(item.model, "tag", _tag_name(item)) for item in want.tags}
    )


def _tag_name(write: TagWrite) -> str:
    """Of the subject: a tag belongs to one release, so no two releases write the same."""
    return f"{write.version} {write.key}"


def _write(subject: Subject, want: RegistryWant | None) -> AliasWrite | TagWrite | None:
    """The write that a release wants of this alias or tag. want.write is of the model that it reads."""
    if want is not None and subject.kind == "tag":
        return next(
            (item for item in want.tags if (item.model, _tag_name(item)) == (subject.model, subject.name)), None
        )
    if want is None or want.write is None or subject != (want.write.model, "alias", want.write.alias):
        return None
    return want.write


def _content(value: Lookup | Alias | Tag | None) -> object:
    """A value without the time of its reading: reading the same again is no news."""
    if isinstance(value, ModelVersion | AliasTarget):
        return replace(value, read_at=datetime.min.replace(tzinfo=UTC))
    if isinstance(value, Unavailable):
        return (value.reason, value.message)
    return value
