"""Tells the world what the ReleaseRecords say: a log line, a signed webhook. At least once, in order per release.

The status of a record is its outbox: what is not acknowledged there is told again, by whichever process leads. Every
sink has a queue of its own over releases, so that a receiver that is down stops neither the log nor any rollout; within
a release the next record waits until the one before is acknowledged. A failed attempt is repeated after a back-off that
doubles up to a cap. Each hour, and at the start, everything that is not exported yet is looked for; each day, records
past their retention are deleted: only such as are exported, by what the API server says of them then.

The rule it keeps: nothing here is awaited by a pass, and a record that somebody has yet to be told of is never deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from modelrelease.api.base import NAME_LABEL
from modelrelease.api.record import Delivery, RecordEvent, ReleaseRecordSpec, ReleaseRecordStatus, Sink
from modelrelease.clients.kube import RELEASE_RECORD, Conflict, Kube, KubeError, NotFound, Object
from modelrelease.clients.webhook import Webhook
from modelrelease.core.record import WEBHOOK_EVENTS, cloud_event, event_types

from . import telemetry
from .queue import Key, WorkQueue
from .records import record_number

BACKOFF_FIRST_S = 2.0
BACKOFF_MAX_S = 300.0
SWEEP_S = 3600.0
RETAIN_EVERY = timedelta(days=1)
NOT_EXPORTED, EXPORTED = "status.state!=Exported", "status.state=Exported"
_CONFLICTS = 5

audit = logging.getLogger("modelrelease.audit")
logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """One sink: its name in deliveries, what it is told, and how."""

    name: Sink
    events: frozenset[RecordEvent]

    async def deliver(self, event: dict[str, Any], now: datetime) -> str | None:
        """Tell it one event; None when it is acknowledged, else why not."""


class AuditLog:
    """One JSON line for each event, under the logger modelrelease.audit."""

    name: Sink = "log"
    events = frozenset(RecordEvent)

    async def deliver(self, event: dict[str, Any], now: datetime) -> str | None:
        """A line is written when this returns."""
        data = event["data"]
        audit.info(
            "%s %s %s",
            data["outcome"],
            event["subject"],
            data["message"],
            extra={"key": f"{data['namespace']}/{data['release']}", "event": event},
        )
        return None


class SignedWebhook:
    """The receiver that the operator's settings name."""

    name: Sink = "webhook"
    events = WEBHOOK_EVENTS

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    async def deliver(self, event: dict[str, Any], now: datetime) -> str | None:
        """As the receiver says."""
        return await self._webhook.post(event, now)


class Outbox:
    """All sinks over all records. `wake` a release whose records have become more."""

    def __init__(
        self,
        kube: Kube,
        receivers: Sequence[Receiver],
        now: Callable[[], datetime],
        *,
        retention: timedelta,
        namespace: str = "",
        workers: int = 4,
        backoff_first_s: float = BACKOFF_FIRST_S,
        backoff_max_s: float = BACKOFF_MAX_S,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._kube = kube
        self._receivers = tuple(receivers)
        self._now = now
        self._retention = retention
        self._namespace = namespace
        self._backoff = (backoff_first_s, backoff_max_s)
        self._sweep_s = sweep_s
        self._retained_at: datetime | None = None
        self._told: dict[tuple[str, str, str], datetime] = {}  # acknowledged, and not written down yet
        self._queues = {
            one.name: WorkQueue(self._worker(one), workers=workers, expected=(KubeError,)) for one in self._receivers
        }

    def wake(self, key: Key) -> None:
        """Look at the records of this release now."""
        for queue in self._queues.values():
            queue.wake(key)

    async def run(self) -> None:
        """Tell until cancelled or `drain()`ed."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues.values():
                group.create_task(queue.run())
            group.create_task(self._sweep_for_ever())

    def drain(self) -> None:
        """Begin no other delivery."""
        for queue in self._queues.values():
            queue.drain()

    async def sweep(self) -> None:
        """Wake every release that somebody has yet to be told of; delete exported records past their retention."""
        place = self._namespace or None
        waiting = await self._kube.list(RELEASE_RECORD, place, field_selector=NOT_EXPORTED, metadata_only=True)
        for key in {_release_of(item) for item in waiting}:
            self.wake(key)
        telemetry.records_waiting(len(waiting))
        if self._retained_at is None or self._now() - self._retained_at >= RETAIN_EVERY:
            await self._retain(place)
            self._retained_at = self._now()

    async def _retain(self, place: str | None) -> None:
        old = self._now() - self._retention
        for item in await self._kube.list(RELEASE_RECORD, place, field_selector=EXPORTED, metadata_only=True):
            metadata = item["metadata"]
            if datetime.fromisoformat(metadata["creationTimestamp"]) < old:
                await self._delete(metadata)

    async def _delete(self, metadata: dict[str, Any]) -> None:
        version = metadata["resourceVersion"]
        try:
            await self._kube.delete(
                RELEASE_RECORD,
                metadata["namespace"],
                metadata["name"],
                uid=metadata["uid"],
                resource_version=version,
            )
        except Conflict:
            return  # it has changed since: the next sweep looks again

    async def _sweep_for_ever(self) -> None:
        while True:
            wait_s = self._sweep_s
            try:
                await self.sweep()
            except KubeError as error:
                logger.warning("the records could not be listed: %s", error)
                wait_s = min(60.0, self._sweep_s)
            await asyncio.sleep(wait_s)

    # -- one sink, one release ---------------------------------------------------------------------------------------
    def _worker(self, receiver: Receiver) -> Callable[[Key], Any]:
        async def work(key: Key) -> float | None:
            return await self.tell(receiver, key)

        return work

    async def tell(self, receiver: Receiver, key: Key) -> float | None:
        """Tell one sink what it does not know of one release, in order; the seconds until the next attempt, if any."""
        namespace, release = key
        listed = await self._kube.list(
            RELEASE_RECORD, namespace, f"{NAME_LABEL}={release}", field_selector=NOT_EXPORTED
        )
        for record in sorted(listed, key=record_number):
            try:
                spec = ReleaseRecordSpec.model_validate(record["spec"])
            except ValidationError:
                logger.warning("%s was written by a newer operator and is left to it", record["metadata"]["name"])
                continue
            kinds = [kind for kind in event_types(spec) if kind in receiver.events]
            for kind in kinds:
                if again := await self._tell_one(receiver, record, spec, kind):
                    telemetry.sink_failing(receiver.name, key, True)
                    return again
            if not kinds:  # nothing to tell here, and then perhaps nowhere else
                await self._note(record, spec, None)
        telemetry.sink_failing(receiver.name, key, False)
        return None

    async def _tell_one(
        self, receiver: Receiver, record: Object, spec: ReleaseRecordSpec, kind: RecordEvent
    ) -> float | None:
        """None once it is acknowledged and that is written down."""
        metadata = record["metadata"]
        known = _delivery(read_outbox(record), receiver.name, kind)
        if known is not None and known.state == "Delivered":
            return None
        mark = (metadata["uid"], receiver.name, kind.value)
        if mark not in self._told:
            event = cloud_event(metadata["name"], metadata["uid"], spec, kind)
            problem = await receiver.deliver(event, self._now())
            telemetry.delivery(receiver.name, "failed" if problem else "ok")
            if problem is not None:
                attempts = (known.attempts if known else 0) + 1
                failed = Delivery(sink=receiver.name, event=kind.value, attempts=attempts, last_error=problem)
                await self._note(record, spec, failed)
                first, most = self._backoff
                return min(first * 2.0 ** min(attempts - 1, 16), most)
            self._told[mark] = self._now()
        attempts = (known.attempts if known else 0) + 1
        at = self._told[mark]
        done = Delivery(sink=receiver.name, event=kind.value, state="Delivered", attempts=attempts, delivered_at=at)
        await self._note(record, spec, done)
        del self._told[mark]
        return None

    async def _note(self, record: Object, spec: ReleaseRecordSpec, news: Delivery | None) -> None:
        """Write one delivery down beside those of other sinks; reads again where another sink wrote meanwhile."""
        namespace, name = record["metadata"]["namespace"], record["metadata"]["name"]
        live: Object | None = record
        for _ in range(_CONFLICTS):
            if live is None:
                return  # deleted by hand
            before = read_outbox(live)
            after = self._with(before, spec, news)
            if after == before and (live.get("status") or {}):
                return
            body = after.model_dump(mode="json", by_alias=True, exclude_none=True)
            try:
                version = live["metadata"]["resourceVersion"]
                record.update(await self._kube.patch_status(RELEASE_RECORD, namespace, name, body, version))
                if after.state == "Exported" != before.state:
                    telemetry.record_exported()
                return
            except Conflict:
                live = await self._kube.get(RELEASE_RECORD, namespace, name)
            except NotFound:
                return
        raise Conflict(f"ReleaseRecord {name} kept changing")

    def _with(self, before: ReleaseRecordStatus, spec: ReleaseRecordSpec, news: Delivery | None) -> ReleaseRecordStatus:
        """The outbox with one delivery more or anew; every sink that is configured gets an entry for all it is told."""
        entries = {(item.sink, item.event): item for item in before.deliveries}
        if before.state != "Exported":
            for receiver in self._receivers:
                for kind in event_types(spec):
                    if kind in receiver.events:
                        entry = Delivery(sink=receiver.name, event=kind.value)
                        entries.setdefault((receiver.name, kind.value), entry)
        if news is not None:
            entries[news.sink, news.event] = news
        done = all(item.state == "Delivered" for item in entries.values())
        return ReleaseRecordStatus(state="Exported" if done else "Pending", deliveries=tuple(entries.values()))


def read_outbox(record: Object) -> ReleaseRecordStatus:
    """The outbox of a record; one that cannot be read is told anew."""
    try:
        return ReleaseRecordStatus.model_validate(record.get("status") or {})
    except ValidationError:
        return ReleaseRecordStatus()


def _delivery(status: ReleaseRecordStatus, sink: str, kind: RecordEvent) -> Delivery | None:
    return next((item for item in status.deliveries if (item.sink, item.event) == (sink, kind.value)), None)


def _release_of(item: Object) -> Key:
    labels = item["metadata"].get("labels") or {}
    return item["metadata"]["namespace"], labels.get(NAME_LABEL, "")
