"""One pass over one release: observe, decide, record, apply, announce.

A pass is only ever run once at a time for a release (`engine.queue`). Status is recorded under its resourceVersion
before anything else changes, so a crash between any two steps is finished by the next pass, of whichever process. On a
409 everything is read and decided again at once. Neither the registry nor Prometheus is awaited here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.kube import MODEL_RELEASE, Conflict, Kube, KubeError, NotFound, Object
from modelrelease.core.announce import announce
from modelrelease.core.decide import Decision, decide, target_of
from modelrelease.core.render import render
from modelrelease.core.revision import Revision

from . import telemetry
from .apply import Applier, Fenced
from .observe import Observer
from .queue import Key
from .refresh import RegistryRefresher
from .sampler import Sampler

ATTEMPTS = 5
_FENCED_AGAIN_S = 1.0

logger = logging.getLogger(__name__)


class Reconciler:
    """Works releases by key; what it remembers between passes is only what spares requests."""

    def __init__(
        self,
        kube: Kube,
        refresher: RegistryRefresher,
        sampler: Sampler,
        clock: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._refresher = refresher
        self._sampler = sampler
        self._clock = clock
        self._observer = Observer(kube)
        self._applier = Applier(kube)

    async def __call__(self, key: Key) -> float | None:
        """One pass. Returns the seconds until it wants to be called again; raises KubeError for a back-off."""
        for _ in range(ATTEMPTS):
            release = await self._kube.get(MODEL_RELEASE, *key)
            if release is None or release["metadata"].get("deletionTimestamp"):
                self.forget(key)
                return None
            try:
                return await self._pass(key, release)
            except Conflict as error:
                logger.debug("read again: %s", error, extra={"key": "/".join(key)})
            except Fenced as error:
                logger.warning("fenced: %s", error, extra={"key": "/".join(key)})
                return _FENCED_AGAIN_S
        raise Conflict(f"{'/'.join(key)} kept changing while it was being worked")

    def forget(self, key: Key) -> None:
        """The release is gone: ask nothing more for it."""
        self._refresher.want(key, None)
        self._sampler.want(key, None)
        telemetry.forget_release(key)

    async def _pass(self, key: Key, release: Object) -> float | None:
        # 1. observe
        now = self._clock()
        registry, samples = self._refresher.view(key), self._sampler.samples(key)
        spec, status, observation, live = await self._observer.look(release, registry, samples, now)
        target = target_of(spec, observation)
        if isinstance(target, Revision):
            observation = await self._observer.judge_template(release, observation, target)
        # 2. decide
        decision = decide(spec, status, observation, now)
        # 3. record
        await self._applier.store(live, decision.store)
        changed = decision.status is not status
        if changed:
            await self._record(key, release, decision.status)
        self._refresher.want(key, decision.wants.registry)
        self._sampler.want(key, decision.wants.samples)
        # 4. apply
        revisions = {**observation.revisions, **{item.key: item for item in decision.store}}
        children = () if observation.conflicts else render(spec, decision.status, revisions, key[1])
        await self._applier.apply(live, children, decision.status)
        # 5. announce
        if changed:
            await self._announce(key, release, status, decision.status)
        return _seconds_until(decision, self._clock())

    async def _record(self, key: Key, release: Object, status: ModelReleaseStatus) -> None:
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        await self._kube.patch_status(MODEL_RELEASE, *key, body, release["metadata"]["resourceVersion"])

    async def _announce(self, key: Key, release: Object, before: ModelReleaseStatus, after: ModelReleaseStatus) -> None:
        """Events and the log. A failure here is logged and costs nothing: status says the same."""
        telemetry.observe_release(key, before, after)
        for item in announce(before, after):
            try:
                await self._kube.event(
                    release,
                    type=item.type,
                    reason=item.reason,
                    note=item.note,
                    action=after.phase,
                    now=self._clock(),
                    key=str(after.sequence),
                )
            except (KubeError, NotFound) as error:
                logger.warning("event %s was not posted: %s", item.reason, error, extra={"key": "/".join(key)})
            telemetry.log_decision(
                key,
                generation=release["metadata"]["generation"],
                old=before.phase,
                new=after.phase,
                reason=item.reason,
                note=item.note,
            )


def _seconds_until(decision: Decision, now: datetime) -> float | None:
    if decision.wake_at is None:
        return None
    return max(0.0, (decision.wake_at - now).total_seconds())
