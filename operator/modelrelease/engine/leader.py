"""Leader election by a Lease: of several replicas one works, the others stand by.

Expiry is judged by this process's monotonic clock alone: a candidate counts from when it saw the Lease change, never by
comparing wall clocks, so that a clock that is wrong somewhere cannot make two leaders. The leader gives up
(`renew_deadline_s`) well before the others may take over (`lease_s`), counted from before the request that renewed it.

The rule it keeps: who has lost the Lease never gets it back in the same process. Passes may be under way and their
writes cannot be recalled, so the process ends and starts anew; what such a pass still writes is refused by the
resourceVersion and the sequence that it carries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from modelrelease.clients.kube import LEASE, AlreadyExists, Conflict, Kube, KubeError, NotFound, Object

logger = logging.getLogger(__name__)


class LeaseTakenError(Exception):
    """Somebody else holds the Lease."""


class Leader:
    """This process's claim to one Lease. `acquire()`, then `hold()` beside the work, then `release()`."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_s: float = 15,
        renew_deadline_s: float = 10,
        retry_s: float = 2,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not retry_s < renew_deadline_s < lease_s:
            raise ValueError("leader election needs retry < renew deadline < lease duration")
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_s = lease_s
        self._renew_deadline_s = renew_deadline_s
        self._retry_s = retry_s
        self._utc_now = utc_now
        self._seen_version = ""
        self._seen_at = 0.0
        self._renewed_at: float | None = None  # None while not leading
        self._lease: Object = {}

    async def acquire(self) -> None:
        """Wait until this process leads. Failures of the API are waited out."""
        told = ""
        while True:
            try:
                if await self._try_to_take():
                    logger.info("leading", extra={"lease": self._lease_key, "identity": self._identity})
                    return
                state = f"held by {self._lease['spec'].get('holderIdentity')}"
            except (Conflict, AlreadyExists):
                state = "another replica was faster"
            except KubeError as error:
                state = str(error)
            if state != told:
                logger.info("standing by: %s", state, extra={"lease": self._lease_key})
                told = state
            await asyncio.sleep(self._retry_s)

    async def hold(self) -> str:
        """Renew the Lease for as long as that works; returns why it is lost. The caller then ends the process."""
        assert self._renewed_at is not None, "hold() comes after acquire()"
        while True:
            try:
                async with asyncio.timeout_at(self._renewed_at + self._renew_deadline_s):
                    await asyncio.sleep(self._retry_s)
                    await self._renew()
            except LeaseTakenError as error:
                self._renewed_at = None
                return str(error)
            except TimeoutError:
                self._renewed_at = None
                return f"the Lease was not renewed for {self._renew_deadline_s:g} s"
            except KubeError as error:
                logger.warning("the Lease could not be renewed: %s", error, extra={"lease": self._lease_key})

    async def release(self) -> None:
        """Give the Lease up, so that another replica need not wait for its end. Best effort."""
        if self._renewed_at is None:
            return
        self._renewed_at = None
        try:
            async with asyncio.timeout(self._retry_s):
                await self._write({"holderIdentity": "", "leaseDurationSeconds": 1})
        except (KubeError, TimeoutError) as error:
            logger.warning("the Lease could not be released: %s", error, extra={"lease": self._lease_key})

    @property
    def leading(self) -> bool:
        """Whether this process may still believe that it leads."""
        return self._renewed_at is not None and self._clock() < self._renewed_at + self._renew_deadline_s

    async def _try_to_take(self) -> bool:
        began = self._clock()
        lease = await self._kube.get(LEASE, self._namespace, self._name)
        if lease is None:
            await self._create()
        else:
            self._see(lease)
            spec = lease["spec"]
            holder = spec.get("holderIdentity") or ""
            # A restarted container of the same pod has its identity: its former process is gone for certain.
            if holder not in ("", self._identity):
                duration = spec.get("leaseDurationSeconds") or self._lease_s
                if self._clock() - self._seen_at <= duration:
                    return False
            transitions = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
            await self._write({**self._claim(), "acquireTime": self._now(), "leaseTransitions": transitions})
        self._renewed_at = began
        return True

    async def _renew(self) -> None:
        began = self._clock()
        try:
            await self._write(self._claim())
        except (Conflict, NotFound):
            await self._look_again()
        self._renewed_at = began

    async def _look_again(self) -> None:
        """After a conflict: somebody touched or deleted the Lease, or an earlier answer was lost on its way."""
        lease = await self._kube.get(LEASE, self._namespace, self._name)
        if lease is None:
            await self._create()
            return
        holder = lease["spec"].get("holderIdentity")
        if holder != self._identity:
            raise LeaseTakenError(f"the Lease is held by {holder or 'nobody'} now")
        self._see(lease)
        await self._write(self._claim())

    async def _create(self) -> None:
        spec = {**self._claim(), "acquireTime": self._now(), "leaseTransitions": 0}
        body = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }
        self._see(await self._kube.create(LEASE, self._namespace, body))

    async def _write(self, spec: Object) -> None:
        version = self._lease["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        self._see(await self._kube.patch(LEASE, self._namespace, self._name, body))

    def _see(self, lease: Object) -> None:
        self._lease = lease
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self._clock()

    def _claim(self) -> Object:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._lease_s)),
            "renewTime": self._now(),
        }

    def _now(self) -> str:
        return self._utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()

    @property
    def _lease_key(self) -> str:
        return f"{self._namespace}/{self._name}"
