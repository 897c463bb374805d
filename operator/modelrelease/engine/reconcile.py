"""One pass over one release: observe, decide, record, apply, announce.

A pass is only ever run once at a time for a release (`engine.queue`). Status is recorded under its resourceVersion
before anything else changes, so a crash between any two steps is finished by the next pass, of whichever process. On a
409 everything is read and decided again at once. Neither the registry nor Prometheus is awaited here.

A pass asks to be called again where nothing else would wake the release: pods and endpoints are not watched, nor are
foreign objects that stand in the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal, Protocol

from modelrelease.api.reasons import Reason
from modelrelease.api.status import EndingStatus, ModelReleaseStatus, Stage
from modelrelease.clients.kube import MODEL_RELEASE, Conflict, Kube, KubeError, Object
from modelrelease.core.announce import announce
from modelrelease.core.decide import Decision, decide, target_of
from modelrelease.core.observation import Observation, RegistryView, Samples
from modelrelease.core.render import Monitoring, render
from modelrelease.core.revision import Revision
from modelrelease.core.wants import RegistryWant, SampleWant

from . import telemetry
from .apply import Applier, Fenced, Unapplied
from .approvals import ApprovalReader
from .observe import Observer
from .queue import Key

ATTEMPTS = 5
FENCED_AGAIN_S = 1.0
UNJUDGED_AGAIN_S = 2.0
STARTING_AGAIN_S = 2.0
CONFLICT_AGAIN_S = 15.0

logger = logging.getLogger(__name__)


class RegistryReading(Protocol):
    """What a pass needs of the registries; both calls return at once. `engine.endpoints.Registries` has them."""

    def want(self, key: Key, want: RegistryWant | None) -> None:
        """Replace what a release wants; None forgets it."""

    def view(self, key: Key) -> RegistryView:
        """What is known for this release now."""


class Sampling(Protocol):
    """What a pass needs of Prometheus; both calls return at once. `engine.endpoints.Prometheuses` has them."""

    def want(self, key: Key, want: SampleWant | None) -> None:
        """Replace what a release wants; None forgets it."""

    def samples(self, key: Key) -> Samples:
        """What is known for this release now."""


class Recording(Protocol):
    """What a pass needs of the records; all calls return at once. `engine.records.RecordKeeper` has them."""

    def want(self, key: Key, uid: str, endings: Sequence[EndingStatus]) -> None:
        """Replace what a release's recorded status still waits for."""

    def seen(self, key: Key) -> frozenset[str]:
        """Names of the records that were ordered and are there."""

    def forget(self, key: Key) -> None:
        """The release is gone."""


class Reconciler:
    """Works releases by key; what it remembers between passes is only what spares requests."""

    def __init__(
        self,
        kube: Kube,
        refresher: RegistryReading,
        sampler: Sampling,
        clock: Callable[[], datetime],
        records: Recording,
        monitoring: Monitoring | None = None,
        approvals: ApprovalReader | None = None,
    ) -> None:
        self._kube = kube
        self._refresher = refresher
        self._sampler = sampler
        self._clock = clock
        self._records = records
        self._monitoring = monitoring
        self._observer = Observer(kube, approvals or ApprovalReader(kube))
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
                return FENCED_AGAIN_S
        raise Conflict(f"{'/'.join(key)} kept changing while it was being worked")

    def forget(self, key: Key) -> None:
        """The release is gone: ask nothing more for it."""
        self._refresher.want(key, None)
        self._sampler.want(key, None)
        self._records.forget(key)
        self._observer.forget(key)
        self._applier.forget(key)
        telemetry.forget_release(key)

    def followers(self, key: Key) -> list[Key]:
        """The releases whose gates name this one."""
        return self._observer.followers(key)

    async def _pass(self, key: Key, release: Object) -> float | None:
        # 1. observe
        now = self._clock()
        look = await self._observer.look(release, self._refresher.view(key), self._sampler.samples(key), now)
        look = replace(look, observation=replace(look.observation, recorded=self._records.seen(key)))
        observation, target = look.observation, target_of(look.spec, look.observation)
        if isinstance(target, Revision):
            observation = await self._observer.judge_template(look, target)
        # 2. decide
        decision = decide(look.spec, look.status, observation, now)
        # 3. record
        await self._applier.store(look.live, decision.store)
        changed = decision.status is not look.status
        if changed:
            await self._record(key, release, decision.status)
            telemetry.decided((self._clock() - now).total_seconds())
        telemetry.evidence_judged(key, observation.samples, now)
        self._refresher.want(key, decision.wants.registry)
        self._sampler.want(key, decision.wants.samples)
        self._records.want(key, release["metadata"]["uid"], decision.status.endings)
        telemetry.observe_release(key, look.status, decision.status)
        # 4. apply
        revisions = {**observation.revisions, **{item.key: item for item in decision.store}}
        children = render(look.spec, decision.status, revisions, key[1], look.live.route, self._monitoring)
        ours = [child for child in children if f"{child.kind} {child.name}" not in observation.conflicts]
        try:
            await self._applier.apply(look.live, ours, decision.status)
        except Unapplied as error:
            # as long as the words are the same it is one Event, however often the pass is repeated
            note = f"{error}; everything else was written, and this is tried again"
            await self._post(key, release, "Warning", Reason.NOT_APPLIED, note, action="Apply", occasion="")
            raise
        finally:
            # 5. announce, also what could be applied in part only: the next pass will see nothing new to tell
            if changed:
                await self._announce(key, release, look.status, decision.status)
        return self._again(decision, observation, target)

    async def _record(self, key: Key, release: Object, status: ModelReleaseStatus) -> None:
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        await self._kube.patch_status(MODEL_RELEASE, *key, body, release["metadata"]["resourceVersion"])

    async def _announce(self, key: Key, release: Object, before: ModelReleaseStatus, after: ModelReleaseStatus) -> None:
        """Events and the log. A failure here is logged and costs nothing: status says the same."""
        for item in announce(before, after):
            occasion = str(after.sequence)
            await self._post(key, release, item.type, item.reason, item.note, action=after.phase, occasion=occasion)
            telemetry.log_decision(
                key,
                generation=release["metadata"]["generation"],
                old=before.phase,
                new=after.phase,
                reason=item.reason,
                note=item.note,
            )

    async def _post(
        self,
        key: Key,
        release: Object,
        kind: Literal["Normal", "Warning"],
        reason: Reason,
        note: str,
        *,
        action: str,
        occasion: str,
    ) -> None:
        try:
            await self._kube.event(
                release, type=kind, reason=reason, note=note, action=action, now=self._clock(), key=occasion
            )
        except KubeError as error:
            logger.warning("event %s was not posted: %s", reason, error, extra={"key": "/".join(key)})

    def _again(self, decision: Decision, observation: Observation, target: object) -> float | None:
        """Seconds until the next look: when the decision asks for it, or sooner where nobody would wake the release."""
        candidate = decision.status.candidate
        waits = []
        if decision.wake_at is not None:
            unjudged = isinstance(target, Revision) and observation.template is None
            least = UNJUDGED_AGAIN_S if unjudged and candidate is None else 0.0
            waits.append(max(least, (decision.wake_at - self._clock()).total_seconds()))
        if candidate is not None and candidate.stage is Stage.STARTING:
            waits.append(STARTING_AGAIN_S)
        if observation.conflicts:
            waits.append(CONFLICT_AGAIN_S)
        return min(waits, default=None)
