"""The ReleaseApprovals of one release as a pass sees them, and the admission policy behind them.

The policy and its binding are read at most once a minute, for all releases together, and once more whenever an approval
is seen for the first time: what was written while nobody checked must not count because nobody looked again. An
approval made within SETTLES of their last change does not count either, as API servers follow such a change one by one.

A failed look-up is a value: it stops an approval gate, and never the rollback of the same release.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from modelrelease.clients.approvals import approval_from, created_at, enforced_since
from modelrelease.clients.kube import (
    ADMISSION_BINDING,
    ADMISSION_POLICY,
    RELEASE_APPROVAL,
    Kube,
    KubeError,
    Object,
    Refused,
)
from modelrelease.core.observation import Approval, Approvals

from .queue import Key

POLICY = "modelrelease-approval"
READ_EVERY = timedelta(seconds=60)
SETTLES = timedelta(seconds=30)


@dataclass(slots=True)
class ApprovalReader:
    """Reads approvals. policy: the name of the ValidatingAdmissionPolicy and of its binding."""

    kube: Kube
    policy: str = POLICY
    settles: timedelta = SETTLES
    _since: datetime | str = ""
    _read_at: datetime | None = None
    _seen: dict[Key, frozenset[str]] = field(default_factory=dict)

    async def read(self, release: Object, now: datetime) -> Approvals:
        """What people said about this release; those that nobody checked are marked."""
        metadata = release["metadata"]
        key = (metadata["namespace"], metadata["name"])
        try:
            chosen = f"spec.release={key[1]}"
            bodies = await self.kube.list(RELEASE_APPROVAL, key[0], field_selector=chosen)
        except KubeError as error:
            return Approvals(problem=f"the ReleaseApprovals cannot be read: {error}")
        found = frozenset(str(body["metadata"]["uid"]) for body in bodies)
        old = self._read_at is None or now - self._read_at >= READ_EVERY
        if old or not found <= self._seen.get(key, frozenset()):
            await self._read_policy(now)
        self._seen[key] = found
        if isinstance(self._since, str):
            return Approvals(problem=f"approvals cannot be believed: {self._since}")
        born = created_at(release)
        items = [item for item in map(approval_from, bodies) if item is not None]
        marked = (self._marked(item, born, self._since) for item in items)
        return Approvals(tuple(sorted(marked, key=lambda item: (item.at, item.name))))

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a release."""
        self._seen.pop(key, None)

    async def _read_policy(self, now: datetime) -> None:
        try:
            policy, binding = await asyncio.gather(
                self.kube.get(ADMISSION_POLICY, None, self.policy), self.kube.get(ADMISSION_BINDING, None, self.policy)
            )
        except KubeError as error:
            what = "may not be read" if isinstance(error, Refused) else "cannot be read"
            self._since, self._read_at = f"the admission policy {self.policy} {what}: {error}", None
            return
        self._since, self._read_at = enforced_since(policy, binding, self.policy), now

    def _marked(self, item: Approval, born: datetime, since: datetime) -> Approval:
        if item.at < born:
            return replace(item, early="it is older than the release")
        if item.at < since + self.settles:
            words = f"it is older than {since + self.settles:%H:%M:%S} UTC, since when the admission policy checks"
            return replace(item, early=words)
        return item
