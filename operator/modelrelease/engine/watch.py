"""Watches the cluster and wakes the releases that something happened to. The only file that uses kopf.

kopf keeps the watches alive: login, discovery, reconnecting, relisting. Only its `on.event` handlers are used: they
write nothing to the objects, neither annotations nor finalizers, and here they do nothing but wake keys, since kopf
drops their errors. An event is passed over when nothing in it matters to a pass: our own writes of status would
otherwise wake us for ever.

A watch that broke may miss a deletion, and kopf does not make up for it. So every release is listed from time to time:
those that are there are woken, spread over the interval, and those that are gone are forgotten.

Concurrency: all in one event loop. A handler does not wait, so it sees and changes the maps in one step; the
resync does wait, so it looks again before it forgets anything. kopf cancels every task that began after it when it
stops: the queue and the refreshers have to be started first, and a drain has to end before kopf is stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import kopf

from modelrelease.api.base import GROUP, NAME_LABEL, VERSION
from modelrelease.clients.kube import (
    DEPLOYMENT,
    HTTP_ROUTE,
    MODEL_RELEASE,
    RELEASE_APPROVAL,
    RELEASE_POLICY,
    SERVICE,
    Kind,
    Kube,
    KubeError,
)

from .observe import COMMAND
from .queue import Key, WorkQueue

NEEDED = (MODEL_RELEASE, RELEASE_POLICY, RELEASE_APPROVAL, HTTP_ROUTE)
_CHILDREN = (DEPLOYMENT, SERVICE, HTTP_ROUTE)
LOOK_AGAIN_S = 5.0

logger = logging.getLogger(__name__)
Json = Mapping[str, Any]


@dataclass(slots=True)
class _Known:
    """What was seen of a release: its fingerprint, what others may wait for, and the policy that it names."""

    fingerprint: object = None
    progress: object = None
    policy: str | None = None


class Watch:
    """Feeds a queue with the keys of releases.

    `forget` is called with a key whose release is gone; `followers` says which releases wait for one.
    """

    def __init__(
        self,
        kube: Kube,
        queue: WorkQueue,
        forget: Callable[[Key], None],
        *,
        followers: Callable[[Key], Iterable[Key]] = lambda _: (),
        namespace: str = "",
        resync_s: float = 600,
    ) -> None:
        self._kube = kube
        self._queue = queue
        self._forget = forget
        self._followers = followers
        self._namespace = namespace
        self._resync_s = resync_s
        self._releases: dict[Key, _Known] = {}
        self._enforced: set[str] = set()  # names of policies
        self._children: dict[tuple[str, str], object] = {}  # by kind and uid
        self._problem: str | None = "not started"
        self._stop = asyncio.Event()

    def problem(self) -> str | None:
        """Why the releases of the cluster are not all known yet, None once they are."""
        return self._problem

    async def run(self, *, spawned: Callable[[], None] = lambda: None) -> None:
        """Watch until `stop()`. Ends with an exception when a watch fails for good; the process should end then.

        Waits for the CRDs to be installed. `spawned` is called right after kopf took the signal handlers.
        """
        await self._wait_for_kinds()
        registry = self._handlers()
        before = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(),
            clusterwide=not self._namespace,
            namespaces=[self._namespace] if self._namespace else [],
            stop_flag=self._stop,
        )
        spawned()
        try:
            async with asyncio.TaskGroup() as group:
                resync = group.create_task(self._resync_for_ever(), name="resync")
                await kopf.run_tasks(tasks, ignored=before | {resync})
                resync.cancel()
        finally:
            self._problem = "the watches have ended"

    def stop(self) -> None:
        """Let `run()` end."""
        self._stop.set()

    # -- events --

    async def release_event(self, event: Json) -> None:
        """A ModelRelease was listed, added, changed or deleted."""
        body = event["object"]
        key = _key(body)
        if event["type"] == "DELETED":
            self._drop(key)
            self._wake_followers(key)
            return
        known = self._releases.setdefault(key, _Known())
        known.policy = ((body.get("spec") or {}).get("policyRef") or {}).get("name")
        fingerprint = release_fingerprint(body)
        if fingerprint != known.fingerprint:
            known.fingerprint = fingerprint
            self._queue.wake(key)
        progress = progress_fingerprint(body)
        if progress != known.progress:
            known.progress = progress
            self._wake_followers(key)

    async def policy_event(self, event: Json) -> None:
        """A ReleasePolicy was changed: whoever names it looks again, and everybody if it is or was enforced."""
        name = event["object"]["metadata"]["name"]
        enforced = name in self._enforced
        self._enforced.discard(name)
        if event["type"] != "DELETED" and "enforce" in (event["object"].get("spec") or {}):
            self._enforced.add(name)
            enforced = True
        for key, known in self._releases.items():
            if enforced or known.policy == name:
                self._queue.wake(key)

    async def approval_event(self, event: Json) -> None:
        """A ReleaseApproval was given or taken back; a list says again what is known, and a pass costs little."""
        body = event["object"]
        key = (body["metadata"]["namespace"], str((body.get("spec") or {}).get("release", "")))
        if key in self._releases:
            self._queue.wake(key)

    async def child_event(self, event: Json) -> None:
        """One of our objects was changed, by us or by somebody else."""
        body = event["object"]
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["labels"][NAME_LABEL])
        identity = (body["kind"], metadata["uid"])
        if event["type"] == "DELETED":
            self._children.pop(identity, None)
        else:
            fingerprint = child_fingerprint(body)
            if self._children.get(identity) == fingerprint:
                return
            self._children[identity] = fingerprint
        if key in self._releases:
            self._queue.wake(key)

    # -- resync --

    async def resync(self) -> None:
        """List all releases; wake new ones now and the known ones within the interval; forget what is gone."""
        listed = await self._kube.list(MODEL_RELEASE, self._namespace or None, metadata_only=True)
        now = asyncio.get_running_loop().time()
        for number, item in enumerate(listed):
            key = _key(item)
            if key in self._releases:
                self._queue.wake_at(key, now + self._resync_s * (number + 1) / len(listed))
            else:
                self._releases[key] = _Known(release_fingerprint(item))
                self._queue.wake(key)
        for key in self._releases.keys() - {_key(item) for item in listed}:
            if await self._kube.get(MODEL_RELEASE, *key) is None:  # not one that was created since the list
                self._drop(key)
        before = set(self._children)
        live = {(kind.kind, item["metadata"]["uid"]) for kind in _CHILDREN for item in await self._list_children(kind)}
        for identity in before - live:
            self._children.pop(identity, None)

    async def _resync_for_ever(self) -> None:
        while True:
            wait_s = self._resync_s
            try:
                await self.resync()
                self._problem = None
            except KubeError as error:
                logger.warning("the releases could not be listed: %s", error)
                wait_s = LOOK_AGAIN_S
            await asyncio.sleep(wait_s)

    async def _list_children(self, kind: Kind) -> list[dict[str, Any]]:
        return await self._kube.list(kind, self._namespace or None, NAME_LABEL, metadata_only=True)

    def _wake_followers(self, key: Key) -> None:
        for follower in self._followers(key):
            if follower in self._releases:
                self._queue.wake(follower)

    def _drop(self, key: Key) -> None:
        self._releases.pop(key, None)
        self._queue.forget(key)
        self._forget(key)

    # -- kopf --

    async def _wait_for_kinds(self) -> None:
        while True:
            try:
                missing = [f"{kind.plural}.{kind.group}" for kind in NEEDED if not await self._kube.served(kind)]
                problem = f"not installed in this cluster: the CRDs {', '.join(missing)}" if missing else None
            except KubeError as error:
                problem = str(error)
            if problem is None:
                self._problem = "the releases are being listed"
                return
            if problem != self._problem:
                logger.error("%s; waiting", problem)
                self._problem = problem
            await asyncio.sleep(LOOK_AGAIN_S)

    def _handlers(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            own = await self._kube.credentials()
            scheme, token = (own.authorization or " ").split(" ", 1)
            return kopf.ConnectionInfo(
                server=own.server,
                ca_path=own.ca_path,
                insecure=own.insecure,
                scheme=scheme or None,
                token=token.strip() or None,
                certificate_path=own.certificate_path,
                private_key_path=own.key_path,
                trust_env=True,
            )

        @kopf.on.event(GROUP, VERSION, MODEL_RELEASE.plural, registry=registry)
        async def on_release(event: Any, **_: Any) -> None:
            await self.release_event(event)

        @kopf.on.event(GROUP, VERSION, RELEASE_POLICY.plural, registry=registry)
        async def on_policy(event: Any, **_: Any) -> None:
            await self.policy_event(event)

        @kopf.on.event(GROUP, VERSION, RELEASE_APPROVAL.plural, registry=registry)
        async def on_approval(event: Any, **_: Any) -> None:
            await self.approval_event(event)

        for kind in _CHILDREN:
            group, _, version = kind.api_version.rpartition("/")

            @kopf.on.event(group, version, kind.plural, labels={NAME_LABEL: kopf.PRESENT}, registry=registry)
            async def on_child(event: Any, **_: Any) -> None:
                await self.child_event(event)

        return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True  # the Lease of `engine.leader` takes the place of peering
    settings.scanning.disabled = True  # no watch on CRDs and namespaces, and no RBAC for it
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.chunk_size = 500
    settings.queueing.exit_timeout = 1
    for kind in _CHILDREN:
        group, _, version = kind.api_version.rpartition("/")
        settings.watching.label_selectors[group, version, kind.plural] = NAME_LABEL
    return settings


def _key(body: Json) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def release_fingerprint(body: Json) -> object:
    """What of a ModelRelease matters to a pass besides what passes write: not status, not other annotations."""
    metadata = body["metadata"]
    return (
        metadata["uid"],
        metadata.get("generation"),
        (metadata.get("annotations") or {}).get(COMMAND),
        metadata.get("deletionTimestamp"),
        _frozen(metadata.get("labels")),
    )


def progress_fingerprint(body: Json) -> object:
    """What of a ModelRelease matters to those that wait for it: what it serves, what it tries, what has failed."""
    status = body.get("status") or {}
    roles = tuple(
        tuple(role.get(field) for field in ("revision", "rules", "stage", "promotedAt"))
        for role in (status.get("stable") or {}, status.get("candidate") or {})
    )
    failed = frozenset(entry.get("key") for entry in status.get("quarantine") or ())
    return (*roles, failed, status.get("phase"), _frozen((body.get("spec") or {}).get("model")))


def child_fingerprint(body: Json) -> object:
    """What of a child matters to a pass: its spec and what its controllers report; no annotations, no times."""
    metadata, status = body["metadata"], body.get("status") or {}
    common = (metadata.get("deletionTimestamp"), _frozen(metadata.get("labels")), _frozen(body.get("spec")))
    match body["kind"]:
        case DEPLOYMENT.kind:
            counts = ("observedGeneration", "replicas", "readyReplicas", "availableReplicas", "unavailableReplicas")
            return (*common, *(status.get(name) for name in counts), _conditions(status))
        case HTTP_ROUTE.kind:
            return (*common, tuple(_conditions(parent) for parent in status.get("parents") or ()))
        case _:
            return common


def _conditions(status: Json) -> object:
    told = ("type", "status", "reason", "observedGeneration")
    return frozenset(tuple(one.get(name) for name in told) for one in status.get("conditions") or ())


def _frozen(value: Any) -> int:
    """A hash in place of the value: thousands of pod templates would be kept otherwise."""
    match value:
        case Mapping():
            return hash(frozenset((name, _frozen(one)) for name, one in value.items()))
        case list() | tuple():
            return hash(tuple(_frozen(one) for one in value))
        case _:
            return hash(value)
