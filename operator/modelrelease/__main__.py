"""The operator's process: puts the parts together, starts them in order, and ends them in order.

Exit codes: 0 after SIGTERM or SIGINT, 1 when the Lease was lost or a part ended by itself (Kubernetes then starts the
process anew), 2 when a setting cannot be used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelrelease.clients.connection import Credentials, fixed
from modelrelease.clients.kube import Kube, KubeError
from modelrelease.clients.webhook import Webhook, WebhookEndpoint
from modelrelease.core.render import Monitoring
from modelrelease.engine import telemetry
from modelrelease.engine.approvals import ApprovalReader
from modelrelease.engine.directory import Directory
from modelrelease.engine.endpoints import Prometheuses, Registries
from modelrelease.engine.leader import Leader
from modelrelease.engine.outbox import AuditLog, Outbox, Receiver, SignedWebhook
from modelrelease.engine.queue import Key, WorkQueue
from modelrelease.engine.reconcile import Reconciler
from modelrelease.engine.records import RecordKeeper
from modelrelease.engine.watch import Watch
from modelrelease.settings import DEFAULT, Settings, SettingsError, from_environment

DRAIN_S = 15.0
STUCK_AFTER_S = 300.0

logger = logging.getLogger("modelrelease")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Operator:
    """All parts of one process. Make it inside the event loop and call `run()` once."""

    def __init__(self, settings: Settings, kube: Kube) -> None:
        self._settings = settings
        self._kube = kube
        self._stop = asyncio.Event()
        directory = _directory(settings, kube)
        self._registries = Registries(
            directory, self._wake, _utc_now, allow_file_sources=settings.registry_allow_file_sources
        )
        self._prometheuses = Prometheuses(
            directory, self._wake, _utc_now, tick_s=settings.tick_s, lag_s=settings.sample_lag_s
        )
        self._webhook = _webhook(settings)
        self._outbox = _outbox(settings, kube, self._webhook)
        self._records = RecordKeeper(kube, self._wake, self._outbox.wake)
        approvals = ApprovalReader(kube, settings.approval_policy)
        monitoring = Monitoring(settings.pod_monitor_labels, settings.pod_monitor_interval)
        reconciler = Reconciler(
            kube, self._registries, self._prometheuses, _utc_now, self._records, monitoring, approvals=approvals
        )
        self._queue = WorkQueue(
            reconciler, workers=settings.workers, observer=telemetry.QueueMetrics(), expected=(KubeError,)
        )
        self._watch = Watch(
            kube,
            self._queue,
            reconciler.forget,
            followers=reconciler.followers,
            namespace=settings.namespace,
            resync_s=settings.resync_s,
        )
        self._leader = Leader(kube, settings.lease_namespace, settings.lease_name, settings.identity)

    async def run(self) -> int:
        """Stand by, lead, work, and end; returns the exit code."""
        self._take_signals()
        server = await telemetry.serve(self._settings.port, health=self._health, ready=self._ready, queue=self._queue)
        code = await self._lead() if await self._elected() else 0
        await server.cleanup()
        await self._kube.close()
        return code

    async def _elected(self) -> bool:
        """Wait for the Lease or a signal, whichever comes first."""
        acquiring, stopped = _task(self._leader.acquire()), _task(self._stop.wait())
        await asyncio.wait({acquiring, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if acquiring.done():
            acquiring.result()  # a bug in it is an end by itself, not one that was asked for
        acquiring.cancel()
        return self._leader.leading

    async def _lead(self) -> int:
        telemetry.leading(True)
        holding = _task(self._leader.hold())
        # kopf cancels what is started after it when it ends, so it comes last.
        working = _task(self._queue.run())
        reading = [_task(self._registries.run()), _task(self._prometheuses.run())]
        reading += [_task(self._records.run()), _task(self._outbox.run())]
        watching = _task(self._watch.run(spawned=self._take_signals))
        stopped = _task(self._stop.wait())
        parts = {working, *reading, watching}
        done, _ = await asyncio.wait({holding, stopped, *parts}, return_when=asyncio.FIRST_COMPLETED)
        for task in done & parts:
            logger.error("%s has ended", task.get_name(), exc_info=task.exception())
        if not holding.done():
            logger.info("draining")
            self._queue.drain()
            self._records.drain()
            self._outbox.drain()
            await asyncio.wait({working, holding}, timeout=DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
        if holding.done():
            # Another replica may be working already: write nothing more, not even what a drain would finish.
            logger.critical("the Lease is lost: %s", holding.exception() or holding.result())
            _exit(1)
        holding.cancel()
        if working.done():  # else a pass hangs that may still write: the next leader waits until the Lease expires
            await self._leader.release()
        telemetry.leading(False)
        await self._registries.close()
        await self._prometheuses.close()
        if self._webhook is not None:
            await self._webhook.close()
        self._watch.stop()
        await asyncio.wait({watching}, timeout=2)
        logger.info("ended")
        return 1 if done & parts else 0

    def _wake(self, key: Key) -> None:
        self._queue.wake(key)

    def _health(self) -> str | None:
        age_s = self._queue.longest_running_s()
        return f"a pass has been running for {age_s:.0f} s" if age_s > STUCK_AFTER_S else None

    def _ready(self) -> str | None:
        """A replica that stands by is ready: a rollout of the operator itself would never end otherwise."""
        return self._watch.problem() if self._leader.leading else None

    def _take_signals(self) -> None:
        """SIGTERM and SIGINT drain. Called again after kopf has put its own handlers in place."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)


def _directory(settings: Settings, kube: Kube) -> Directory:
    """The endpoints; credentials that came with the environment are those of the registry named by a variable."""
    token, username = settings.registry_token, settings.registry_username
    if not (token or username):
        return Directory(kube, settings.endpoints)
    ca = Path(settings.registry_ca_file).read_text() if settings.registry_ca_file else None
    mine = Credentials(token=token, username=username, password=settings.registry_password, ca=ca)
    return Directory(kube, settings.endpoints, {DEFAULT: fixed(mine)})


def _webhook(settings: Settings) -> Webhook | None:
    if settings.webhook_url is None or settings.webhook_secret_file is None:
        return None
    return Webhook(WebhookEndpoint(settings.webhook_url, settings.webhook_secret_file, settings.webhook_ca_file))


def _outbox(settings: Settings, kube: Kube, webhook: Webhook | None) -> Outbox:
    receivers: list[Receiver] = [AuditLog()]
    if webhook is not None:
        receivers.append(SignedWebhook(webhook))
    retention = timedelta(days=settings.record_retention_days)
    return Outbox(kube, receivers, _utc_now, retention=retention, namespace=settings.namespace)


def _task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(work, name=getattr(work, "__qualname__", None))


def _exit(code: int) -> None:
    """End at once. Threads that wait for a registry or a Prometheus that hangs would delay an ordinary exit."""
    logging.shutdown()
    os._exit(code)


async def _run(settings: Settings) -> int:
    kube = await Kube.connect(settings.kubeconfig, timeout_s=settings.kube_timeout_s, on_request=telemetry.api_request)
    return await Operator(settings, kube).run()


def main() -> None:
    """Entry point of `python -m modelrelease`."""
    try:
        settings = from_environment()
    except SettingsError as error:
        print(f"modelrelease: {error}", file=sys.stderr)
        sys.exit(2)
    telemetry.setup_logging(settings.log_level)
    logger.info("starting", extra={"settings": str(settings)})
    try:
        code = asyncio.run(_run(settings))
    except Exception:
        logger.critical("the operator ends", exc_info=True)
        code = 1
    _exit(code)


if __name__ == "__main__":
    main()
