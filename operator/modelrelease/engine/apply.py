"""Makes the cluster look like what was rendered, in an order in which no request is lost.

Create and grow; point the idle Service; move the route; then shrink; then prune. Shrinking needs no waiting here: the
status names smaller sizes only after it has recorded that the route was confirmed and the pods have drained.

Every write carries uid and resourceVersion of the object as read in this pass, a creation fails where something exists
by then, and nothing is written that was written under a higher sequence: a leader that stalled cannot undo its
successor. What already says what was rendered is not written at all. A child that the API server refuses does not keep
the others from being written: a broken webhook for monitors must not delay a rollback.
"""

from __future__ import annotations

import hashlib
import json
import logging
from asyncio import get_running_loop
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelrelease.api.base import REVISION_LABEL
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    POD_MONITOR,
    SERVICE,
    AlreadyExists,
    Conflict,
    Kube,
    KubeError,
    Object,
)
from modelrelease.clients.views import owned_by
from modelrelease.core import shared_route
from modelrelease.core.drift import covers
from modelrelease.core.render import SEQUENCE, Child, labels
from modelrelease.core.revision import Revision, to_data

from .observe import OUTCOME, PROMOTED, QUARANTINED, Live, child_of, new, sequence_of
from .queue import Key

KINDS = {kind.kind: kind for kind in (DEPLOYMENT, SERVICE, HTTP_ROUTE, POD_MONITOR)}
RECORDS_KEPT = 10
NO_MONITORS_S = 600.0
"""How long the answer "there are no PodMonitors in this cluster" is believed."""

logger = logging.getLogger(__name__)


class Fenced(Exception):
    """A child was written under a later decision than this one: this process no longer leads, or its read was stale."""


class Unapplied(KubeError):
    """Some children could not be written; the others were."""


class Applier:
    """Writes children. Remembers answers that an admission webhook altered, so as not to write the same again."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._no_monitors_until = 0.0
        self._altered: dict[Key, dict[tuple[str, str], tuple[str, str]]] = {}

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a release that is gone."""
        self._altered.pop(key, None)

    async def store(self, live: Live, revisions: Sequence[Revision]) -> None:
        """Create ControllerRevisions, before any status names them. Raises Conflict where the name is taken."""
        metadata = live.release["metadata"]
        number = max((int(item["revision"]) for item in live.records), default=0)
        for revision in revisions:
            number += 1
            body = {
                "metadata": {
                    "name": revision.record_name,
                    "labels": {**labels(revision.release), REVISION_LABEL: revision.revision},
                    "ownerReferences": [owner(live.release)],
                },
                "revision": number,
                "data": to_data(revision),
            }
            try:
                await self._kube.create(CONTROLLER_REVISION, metadata["namespace"], body)
            except AlreadyExists as error:  # the former leader stored it and did not live to record it
                raise Conflict(str(error)) from error

    async def apply(self, live: Live, children: Sequence[Child], status: ModelReleaseStatus) -> None:
        """Write what differs, in a safe order.

        Raises Conflict or Fenced at once, since the decision is stale then, and Unapplied at the end.
        """
        growing = [child for child in children if child.kind == "Deployment" and not _shrinks(child, live)]
        shrinking = [child for child in children if child.kind == "Deployment" and _shrinks(child, live)]
        rest = {kind: [child for child in children if child.kind == kind] for kind in KINDS}
        problems = []
        for child in [*growing, *rest["Service"], *rest["HTTPRoute"], None, *rest["PodMonitor"], *shrinking]:
            try:
                if child is None:
                    await self._reweigh(live, status)
                else:
                    await self._write(live, child, status.sequence)
            except Conflict:
                raise
            except KubeError as error:
                what = f"{child.kind} {child.name}" if child else "weights of the HTTPRoute"
                problems.append(f"{what}: {error}")
        if problems:
            raise Unapplied("; ".join(problems))
        await self._prune(live, children, status)
        await self._label_records(live, status)

    async def _write(self, live: Live, child: Child, sequence: int) -> None:
        found = child_of(live, child)
        kind, metadata = KINDS[child.kind], live.release["metadata"]
        if child.kind == POD_MONITOR.kind and found is None and not await self._monitored():
            return
        if found is not None:
            if sequence_of(found) > sequence:
                raise Fenced(f"{child.kind} {child.name} was written under a later decision")
            says = _says(found, child) or self._was_altered(live, child, found)
            if says and owned_by(found, metadata["uid"]):
                return
        base = new(child) if found is None else dict(child.body)
        state = {} if found is None else {name: found["metadata"][name] for name in ("uid", "resourceVersion")}
        stamp = {"annotations": {SEQUENCE: str(sequence)}, "ownerReferences": [owner(live.release)]}
        body = {**base, "metadata": {**base["metadata"], **stamp, **state}}
        answer = await self._kube.apply(kind, metadata["namespace"], child.name, body)
        if not _says(answer, child):
            remembered = self._altered.setdefault((metadata["namespace"], metadata["name"]), {})
            remembered[child.kind, child.name] = (_digest(child.body), _digest(answer.get("spec")))
            logger.warning("something in the cluster alters what was applied", extra={"object": child.name})

    async def _reweigh(self, live: Live, status: ModelReleaseStatus) -> None:
        """Set the release's two weights in a route that is not ours, on the route exactly as it was read."""
        route, traffic = live.shared_route, status.traffic
        if route is None or traffic is None or traffic.route is None:
            return
        metadata, release = route["metadata"], live.release["metadata"]["name"]
        index = shared_route.rule_of(route, release, traffic.rule)
        rules = None if isinstance(index, str) else shared_route.reweighted(route, index, release, traffic)
        if rules is not None:
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"rules": rules}}
            await self._kube.patch(HTTP_ROUTE, metadata["namespace"], metadata["name"], body)

    async def _monitored(self) -> bool:
        """Whether this cluster has PodMonitors at all."""
        now = get_running_loop().time()
        if now >= self._no_monitors_until and not await self._kube.served(POD_MONITOR):
            self._no_monitors_until = now + NO_MONITORS_S
        return get_running_loop().time() >= self._no_monitors_until

    def _was_altered(self, live: Live, child: Child, found: Object) -> bool:
        """Whether the live object is what the API server made of this very body before."""
        metadata = live.release["metadata"]
        remembered = self._altered.get((metadata["namespace"], metadata["name"]), {})
        return remembered.get((child.kind, child.name)) == (_digest(child.body), _digest(found.get("spec")))

    async def _prune(self, live: Live, children: Sequence[Child], status: ModelReleaseStatus) -> None:
        """Delete our Deployments that the status names no longer, never one that the live route sends traffic to.

        Our own route goes once another one is confirmed to carry the release.
        """
        release = live.release["metadata"]["name"]
        roles = (status.stable, status.candidate, status.previous)
        # A role whose record cannot be read is not rendered, and still in use.
        kept = {f"{release}-{revision}" for revision in _reached(live)}
        kept |= {f"{release}-{role.revision}" for role in roles if role is not None}
        kept |= {child.name for child in children}
        moved = status.traffic is not None and status.traffic.route is not None and status.traffic.confirmed_at
        for (kind, name), item in live.objects.items():
            metadata = item["metadata"]
            unused = name not in kept if kind == DEPLOYMENT.kind else moved if kind == HTTP_ROUTE.kind else False
            if unused and not metadata.get("deletionTimestamp"):
                version = metadata["resourceVersion"]
                await self._kube.delete(
                    KINDS[kind], metadata["namespace"], name, uid=metadata["uid"], resource_version=version
                )

    async def _label_records(self, live: Live, status: ModelReleaseStatus) -> None:
        """Keep the outcome of every revision beside it, for the day when the status is lost; drop the oldest."""
        roles = [role.key for role in (status.stable, status.previous) if role is not None]
        named = {*roles, status.candidate.key if status.candidate else ""}
        quarantined = {entry.key for entry in status.quarantine}
        for age, item in enumerate(live.records):
            metadata = item["metadata"]
            namespace, name, version = metadata["namespace"], metadata["name"], metadata["resourceVersion"]
            key = name.removeprefix(f"{live.release['metadata']['name']}-")  # the data may be a newer operator's
            known = (metadata.get("annotations") or {}).get(OUTCOME)
            outcome = QUARANTINED if key in quarantined else PROMOTED if key in roles else known
            if outcome == QUARANTINED and key not in quarantined:
                outcome = None
            if key not in named and key not in quarantined and age >= RECORDS_KEPT:
                await self._kube.delete(
                    CONTROLLER_REVISION, namespace, name, uid=metadata["uid"], resource_version=version
                )
            elif outcome != known or not owned_by(item, live.release["metadata"]["uid"]):
                owners = [owner(live.release)]
                stamp = {"annotations": {OUTCOME: outcome}, "ownerReferences": owners, "resourceVersion": version}
                body = {"metadata": stamp}
                await self._kube.patch(CONTROLLER_REVISION, namespace, name, body)


def owner(release: Object) -> dict[str, Any]:
    """The owner reference of every child: they go with the release."""
    return {
        "apiVersion": release["apiVersion"],
        "kind": release["kind"],
        "name": release["metadata"]["name"],
        "uid": release["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _shrinks(child: Child, live: Live) -> bool:
    found = child_of(live, child)
    return found is not None and bool(child.body["spec"]["replicas"] < found["spec"].get("replicas", 1))


def _says(found: Object, child: Child) -> bool:
    """Whether the object says what was rendered, and nothing more where an addition changes who gets traffic."""
    return covers(found, child.body) and not any(_additions(found, child))


def _additions(found: Object, child: Child) -> Iterator[str]:
    """What somebody added to parts that server-side apply replaces as a whole: more labels in a Service's selector, or
    filters, host names and the like in a route. What the API server fills in itself is not told."""
    live, wanted = found.get("spec") or {}, child.body["spec"]
    if child.kind == SERVICE.kind:
        yield from live["selector"].keys() - wanted["selector"].keys()
    elif child.kind == HTTP_ROUTE.kind:
        yield from live.keys() - wanted.keys()
        for parent, wanted_parent in zip(live["parentRefs"], wanted["parentRefs"], strict=True):
            yield from parent.keys() - wanted_parent.keys() - {"group", "kind"}
        for rule, wanted_rule in zip(live["rules"], wanted["rules"], strict=True):
            yield from rule.keys() - wanted_rule.keys() - {"matches"}
            if "matches" not in wanted_rule and rule.get("matches") not in (None, _EVERY_PATH):
                yield "matches"
            for backend, wanted_backend in zip(rule["backendRefs"], wanted_rule["backendRefs"], strict=True):
                yield from backend.keys() - wanted_backend.keys()


_EVERY_PATH = [{"path": {"type": "PathPrefix", "value": "/"}}]


def _reached(live: Live) -> set[str]:
    """Revisions behind a backend of the live route that has weight."""
    out: set[str] = set()
    routes = [route for (kind, _), route in live.objects.items() if kind == HTTP_ROUTE.kind]
    for route in [*routes, *([live.shared_route] if live.shared_route else [])]:
        backends = [ref for rule in route["spec"].get("rules") or () for ref in rule.get("backendRefs") or ()]
        for name in {ref["name"] for ref in backends if ref.get("weight", 1) > 0}:
            service: Mapping[str, Any] = live.objects.get(("Service", name)) or {}
            selector = (service.get("spec") or {}).get("selector") or {}
            if REVISION_LABEL in selector:
                out.add(selector[REVISION_LABEL])
    return out


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
