"""Makes the cluster look like what was rendered, in an order in which no request is lost.

Create and grow; point the idle Service; move the route; then shrink; then prune. Shrinking needs no waiting here: the
status names smaller sizes only after it has recorded that the route was confirmed and the pods have drained.

Every write carries uid and resourceVersion of the object as read in this pass, and is refused where the object was
written under a higher sequence: a leader that stalled cannot undo its successor. What already says what was rendered is
not written at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

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
    NotFound,
    Object,
)
from modelrelease.core.drift import covers
from modelrelease.core.render import REVISION_LABEL, SEQUENCE, Child, labels
from modelrelease.core.revision import Revision, to_data

from .observe import OUTCOME, PROMOTED, QUARANTINED, Live, child_of

KINDS = {kind.kind: kind for kind in (DEPLOYMENT, SERVICE, HTTP_ROUTE, POD_MONITOR)}
RECORDS_KEPT = 10

logger = logging.getLogger(__name__)


class Fenced(Exception):
    """A child was written under a later decision than this one: this process no longer leads, or its read was stale."""


class Applier:
    """Writes children. Remembers answers that an admission webhook altered, so as not to write the same again."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._monitors = True  # until the API server says that it does not know PodMonitors
        self._altered: dict[tuple[str, str, str], tuple[str, str]] = {}

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

    async def apply(self, live: Live, children: Sequence[Child], status: ModelReleaseStatus) -> bool:
        """Write what differs, in a safe order; True if anything was written."""
        wrote = False
        growing = [child for child in children if child.kind == "Deployment" and not _shrinks(child, live)]
        shrinking = [child for child in children if child.kind == "Deployment" and _shrinks(child, live)]
        rest = {kind: [child for child in children if child.kind == kind] for kind in KINDS}
        ordered = [*rest["PodMonitor"], *growing, *rest["Service"], *rest["HTTPRoute"], *shrinking]
        for child in ordered:
            wrote = await self._write(live, child, status.sequence) or wrote
        if children:
            wrote = await self._prune(live, children) or wrote
        return await self._label_records(live, status) or wrote

    async def _write(self, live: Live, child: Child, sequence: int) -> bool:
        found = child_of(live, child)
        kind, namespace = KINDS[child.kind], live.release["metadata"]["namespace"]
        if child.kind == "PodMonitor" and not self._monitors:
            return False
        if found is not None:
            if int((found["metadata"].get("annotations") or {}).get(SEQUENCE, 0)) > sequence:
                raise Fenced(f"{child.kind} {child.name} was written under a later decision")
            if covers(found, child.body) or self._was_altered(child, found):
                return False
        metadata: dict[str, Any] = {
            **child.body["metadata"],
            "annotations": {SEQUENCE: str(sequence)},
            "ownerReferences": [owner(live.release)],
        }
        if found is not None:
            metadata["uid"] = found["metadata"]["uid"]
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        body = {**child.body, "metadata": metadata}
        try:
            # without force a creation cannot overwrite what somebody else created a moment ago
            answer = await self._kube.apply(kind, namespace, child.name, body, force=found is not None)
        except NotFound:
            if child.kind != "PodMonitor":
                raise
            self._monitors = False
            return False
        if not covers(answer, child.body):
            self._altered[namespace, child.kind, child.name] = (_digest(child.body), _digest(answer.get("spec")))
            logger.warning("something in the cluster alters what was applied", extra={"object": child.name})
        return True

    def _was_altered(self, child: Child, found: Object) -> bool:
        """Whether the live object is what the API server made of this very body before."""
        key = (found["metadata"]["namespace"], child.kind, child.name)
        return self._altered.get(key) == (_digest(child.body), _digest(found.get("spec")))

    async def _prune(self, live: Live, children: Sequence[Child]) -> bool:
        """Delete our Deployments that the status names no longer, never one that the live route sends traffic to."""
        wanted = {(child.kind, child.name) for child in children}
        reached = _reached(live)
        wrote = False
        for (kind, name), item in live.objects.items():
            if kind != "Deployment" or (kind, name) in wanted or item["metadata"].get("deletionTimestamp"):
                continue
            if item["metadata"]["labels"].get(REVISION_LABEL) in reached:
                continue
            metadata = item["metadata"]
            await self._kube.delete(
                DEPLOYMENT,
                metadata["namespace"],
                name,
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
            wrote = True
        return wrote

    async def _label_records(self, live: Live, status: ModelReleaseStatus) -> bool:
        """Keep the outcome of every revision beside it, for the day when the status is lost; drop the oldest."""
        namespace = live.release["metadata"]["namespace"]
        roles = [role.key for role in (status.stable, status.previous) if role is not None]
        named = {*roles, status.candidate.key if status.candidate else ""}
        quarantined = {entry.key for entry in status.quarantine}
        wrote = False
        for age, item in enumerate(live.records):
            key = f"{item['data']['revision']}-{item['data']['rules']}"
            annotations = item["metadata"].get("annotations") or {}
            known = annotations.get(OUTCOME)
            outcome = QUARANTINED if key in quarantined else PROMOTED if key in roles else known
            if outcome == QUARANTINED and key not in quarantined:
                outcome = None
            if key not in named and key not in quarantined and age >= RECORDS_KEPT:
                metadata = item["metadata"]
                await self._kube.delete(CONTROLLER_REVISION, namespace, metadata["name"], uid=metadata["uid"])
                wrote = True
            elif outcome != known:
                body = {"metadata": {"annotations": {OUTCOME: outcome}}}
                await self._kube.patch(CONTROLLER_REVISION, namespace, item["metadata"]["name"], body)
                wrote = True
        return wrote


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
    return found is not None and child.body["spec"]["replicas"] < found["spec"].get("replicas", 1)


def _reached(live: Live) -> set[str]:
    """Revisions behind a backend of the live route that has weight."""
    out: set[str] = set()
    for (kind, _), route in live.objects.items():
        if kind != "HTTPRoute":
            continue
        backends = [ref for rule in route["spec"].get("rules") or () for ref in rule.get("backendRefs") or ()]
        for name in {ref["name"] for ref in backends if ref.get("weight", 1) > 0}:
            service: Mapping[str, Any] = live.objects.get(("Service", name)) or {}
            selector = (service.get("spec") or {}).get("selector") or {}
            if REVISION_LABEL in selector:
                out.add(selector[REVISION_LABEL])
    return out


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
