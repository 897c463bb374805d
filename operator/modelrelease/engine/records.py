"""Creates the ReleaseRecords of rollouts that ended, beside the passes and never in their way.

A pass hands over what its recorded status still waits for (`want`) and takes back the names that have been seen
(`seen`); both return at once. A queue of its own creates the records, one release's in order, and wakes the release
when they are there, so that its next pass takes them out of the status. The name of a record follows from its rollout:
after a crash at any instant, or beside a leader that stalled, a second attempt finds the record and leaves it.

While the API refuses records, status holds a few and drops the oldest with a Warning; nothing else waits for it. A
release that is deleted meanwhile gets the records that were ordered, as long as this process lives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelrelease.api.base import NAME_LABEL
from modelrelease.api.record import PreviousRecord
from modelrelease.api.status import EndingStatus
from modelrelease.clients.kube import RELEASE_RECORD, AlreadyExists, Kube, KubeError, Object
from modelrelease.core.record import SEQUENCE_LABEL, Place, body_of, digest, spec_of

from . import telemetry
from .queue import Key, WorkQueue

WORKERS = 4

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Wanted:
    """What one release waits for, oldest first, and which of it has been seen."""

    uid: str
    endings: tuple[EndingStatus, ...]
    seen: set[str] = field(default_factory=set)
    gone: bool = False


class RecordKeeper:
    """The records of all releases. `wake` and `created` are called with a release whose records are there."""

    def __init__(
        self,
        kube: Kube,
        wake: Callable[[Key], None],
        created: Callable[[Key], None] = lambda _: None,
        *,
        workers: int = WORKERS,
    ) -> None:
        self._kube = kube
        self._wake = wake
        self._created = created
        self._wanted: dict[Key, _Wanted] = {}
        self._queue = WorkQueue(self.create, workers=workers, expected=(KubeError,))

    def want(self, key: Key, uid: str, endings: Sequence[EndingStatus]) -> None:
        """What the recorded status of a release waits for now."""
        before = self._wanted.get(key)
        if not endings:
            if before is not None and not before.gone:
                del self._wanted[key]
            return
        seen = before.seen & {item.name for item in endings} if before else set()
        self._wanted[key] = _Wanted(uid, tuple(endings), seen)
        if any(item.name not in seen for item in endings) and (before is None or before.endings != tuple(endings)):
            self._queue.wake(key)

    def seen(self, key: Key) -> frozenset[str]:
        """Names of the records that were ordered and are there."""
        wanted = self._wanted.get(key)
        return frozenset(wanted.seen) if wanted else frozenset()

    def forget(self, key: Key) -> None:
        """The release is gone; what it ordered is still created."""
        if (wanted := self._wanted.get(key)) is not None:
            wanted.gone = True

    async def run(self) -> None:
        """Create until `drain()`."""
        await self._queue.run()

    def drain(self) -> None:
        """Start nothing more."""
        self._queue.drain()

    async def create(self, key: Key) -> None:
        """Create what is missing of one release, oldest first. Raises KubeError for a back-off."""
        wanted = self._wanted.get(key)
        if wanted is None:
            return
        missing = [item for item in wanted.endings if item.name not in wanted.seen]
        for item in missing:
            await self._create(key, wanted.uid, item)
            wanted.seen.add(item.name)
        current = self._wanted.get(key)
        if current is not None and current is not wanted:  # a pass ordered more meanwhile
            current.seen |= wanted.seen & {item.name for item in current.endings}
        if wanted.gone:
            self._wanted.pop(key, None)
        if missing:
            self._created(key)
            self._wake(key)

    async def _create(self, key: Key, uid: str, item: EndingStatus) -> None:
        namespace, release = key
        if await self._kube.get(RELEASE_RECORD, namespace, item.name) is not None:
            return
        previous, number = await self._newest(namespace, release)
        spec = spec_of(item, Place(namespace, release, uid, number + 1, previous))
        try:
            await self._kube.create(RELEASE_RECORD, namespace, body_of(item.name, spec))
        except AlreadyExists:  # a leader that stalled was faster: it said the same
            return
        telemetry.record_created(spec.outcome)
        logger.info(
            "recorded",
            extra={"key": "/".join(key), "record": item.name, "outcome": spec.outcome, "reason": spec.reason},
        )

    async def _newest(self, namespace: str, release: str) -> tuple[PreviousRecord | None, int]:
        """The last link of the chain and its number; None and 0 before the first."""
        listed = await self._kube.list(RELEASE_RECORD, namespace, f"{NAME_LABEL}={release}", metadata_only=True)
        for item in sorted(listed, key=record_number, reverse=True):
            found = await self._kube.get(RELEASE_RECORD, namespace, item["metadata"]["name"])
            if found is not None:  # else it was deleted since the list
                name = found["metadata"]["name"]
                return PreviousRecord(name=name, digest=digest(found["spec"])), int(found["spec"]["sequence"])
        return None, 0


def record_number(item: Object | dict[str, Any]) -> int:
    """A record's number in its chain by its label, 0 where somebody has spoilt it."""
    text = str((item["metadata"].get("labels") or {}).get(SEQUENCE_LABEL, ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
