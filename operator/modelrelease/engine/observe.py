"""One pass' look at the cluster: fresh reads of all that a decision or a write depends on, as values.

What the registry and Prometheus said is taken from the refreshers as it stands; nothing here waits for them. The live
objects are kept beside the values, since every write carries the resourceVersion read here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelrelease.api.base import GROUP
from modelrelease.api.release import ModelReleaseSpec, ReleasePolicySpec
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients import views
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    POD,
    POD_MONITOR,
    RELEASE_POLICY,
    SERVICE,
    Kube,
    NotFound,
    Object,
    Refused,
)
from modelrelease.core.observation import Command, Observation, RegistryView, Samples, TemplateVerdict, Workload
from modelrelease.core.render import NAME_LABEL, Child, deployment, service_name
from modelrelease.core.revision import Revision

OUTCOME = f"{GROUP}/outcome"  # on a ControllerRevision, so that a lost status can be rebuilt
PROMOTED, QUARANTINED = "Promoted", "Quarantined"
COMMAND = f"{GROUP}/command"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Live:
    """The children as read in this pass, by (kind, name); only what is ours."""

    release: Object
    objects: Mapping[tuple[str, str], Object]
    records: tuple[Object, ...]


@dataclass(slots=True)
class Observer:
    """Reads one release's world. Remembers which pod templates the API server's dry-run has judged."""

    kube: Kube
    _verdicts: dict[tuple[str, str], TemplateVerdict] = field(default_factory=dict)

    async def look(
        self, release: Object, registry: RegistryView, samples: Samples, now: datetime
    ) -> tuple[ModelReleaseSpec | None, ModelReleaseStatus, Observation, Live]:
        """Spec (None where unreadable), status and everything else that `decide` needs, read anew."""
        metadata = release["metadata"]
        namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
        selector = f"{NAME_LABEL}={name}"
        names = [service_name(name, "a"), service_name(name, "b")]
        records, deployments, pods, slices = await asyncio.gather(
            self.kube.list(CONTROLLER_REVISION, namespace, selector),
            self.kube.list(DEPLOYMENT, namespace, selector),
            self.kube.list(POD, namespace, selector),
            self.kube.list(ENDPOINT_SLICE, namespace, f"kubernetes.io/service-name in ({','.join(names)})"),
        )
        by_name = await asyncio.gather(
            self.kube.get(HTTP_ROUTE, namespace, name),
            self.kube.get(POD_MONITOR, namespace, name),
            *(self.kube.get(SERVICE, namespace, item) for item in names),
        )
        conflicts: list[str] = []
        objects: dict[tuple[str, str], Object] = {}
        for item in [*deployments, *(found for found in by_name if found is not None)]:
            if views.owned_by(item, uid):
                objects[item["kind"], item["metadata"]["name"]] = item
            elif item["kind"] in (SERVICE.kind, HTTP_ROUTE.kind):
                conflicts.append(f"{item['kind']} {item['metadata']['name']}")
        own_records = sorted(
            (item for item in records if views.owned_by(item, uid)), key=lambda item: -int(item["revision"])
        )
        revisions: dict[str, Revision] = {}
        outcomes: dict[str, str | None] = {}
        for item in own_records:
            try:
                revision = views.revision_from(item)
            except ValueError as error:  # written by a newer operator: not ours to judge
                logger.warning("%s", error)
                continue
            revisions[revision.key] = revision
            outcomes[revision.key] = (item["metadata"].get("annotations") or {}).get(OUTCOME)
        spec, spec_error = read_spec(release)
        policy, policy_missing, policy_error = await self._policy(spec)
        own_route = objects.get((HTTP_ROUTE.kind, name))
        own_services = {slot: objects.get((SERVICE.kind, item)) for slot, item in zip("ab", names, strict=True)}
        observation = Observation(
            release=name,
            namespace=namespace,
            generation=metadata["generation"],
            policy=policy,
            revisions=revisions,
            promoted=tuple(key for key, outcome in outcomes.items() if outcome == PROMOTED),
            quarantined=tuple(key for key, outcome in outcomes.items() if outcome == QUARANTINED),
            registry=registry,
            workloads=_workloads(objects, revisions, pods, now),
            route=views.route_view(own_route, {"a": names[0], "b": names[1]}) if own_route else None,
            slots={
                slot: views.slot_view(service, [item for item in slices if _belongs(item, service)])
                for slot, service in own_services.items()
                if service is not None
            },
            samples=samples,
            command=_command(metadata),
            spec_error=spec_error or policy_error,
            policy_missing=policy_missing,
            conflicts=tuple(conflicts),
        )
        live = Live(release, objects, tuple(own_records))
        return (None if policy_error else spec), read_status(release), observation, live

    async def judge_template(self, release: Object, observation: Observation, target: Revision) -> Observation:
        """Ask the API server's dry-run about the Deployment of a revision that is not stored yet, once."""
        if target.key in observation.revisions:
            return observation
        uid, namespace = release["metadata"]["uid"], release["metadata"]["namespace"]
        asked = (uid, target.revision)
        if asked not in self._verdicts:
            child = deployment(target, 0)
            refused = None
            try:
                await self.kube.apply(DEPLOYMENT, namespace, child.name, child.body, dry_run=True)
            except Refused as error:
                refused = error.message
            self._verdicts = {key: value for key, value in self._verdicts.items() if key[0] != uid}
            self._verdicts[asked] = TemplateVerdict(target.revision, refused)
        return replace(observation, template=self._verdicts[asked])

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a release that is gone."""
        self._verdicts = {key: value for key, value in self._verdicts.items() if key[0] != uid}

    async def _policy(self, spec: ModelReleaseSpec | None) -> tuple[ReleasePolicySpec | None, str | None, str | None]:
        """The policy that the spec names, the name of a missing one, what is wrong with a bad one."""
        if spec is None or spec.policy_ref is None:
            return None, None, None
        name = spec.policy_ref.name
        try:
            found = await self.kube.get(RELEASE_POLICY, None, name)
        except NotFound:
            found = None
        if found is None:
            return None, name, None
        try:
            return ReleasePolicySpec.model_validate(found.get("spec") or {}), None, None
        except ValidationError as error:
            return None, None, f"ReleasePolicy {name}: {_first(error)}"


def read_spec(release: Object) -> tuple[ModelReleaseSpec | None, str | None]:
    """The spec, or what is wrong with it."""
    try:
        return ModelReleaseSpec.model_validate(release.get("spec") or {}), None
    except ValidationError as error:
        return None, _first(error)


def read_status(release: Object) -> ModelReleaseStatus:
    """The status; an unreadable one counts as lost and is rebuilt."""
    try:
        return ModelReleaseStatus.model_validate(release.get("status") or {})
    except ValidationError:
        return ModelReleaseStatus()


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"spec{'.' if where else ''}{where}: {problem['msg'].removeprefix('Value error, ')}{more}"


def _workloads(
    objects: Mapping[tuple[str, str], Object], revisions: Mapping[str, Revision], pods: list[Object], now: datetime
) -> dict[str, Workload]:
    out: dict[str, Workload] = {}
    for revision in revisions.values():
        item = objects.get((DEPLOYMENT.kind, revision.name))
        if item is not None:
            out[revision.revision] = views.workload_view(revision, item, pods, now)
    return out


def _belongs(endpoint_slice: Object, service: Object) -> bool:
    return bool(endpoint_slice["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"])


def _command(metadata: Mapping[str, Any]) -> Command | None:
    text = (metadata.get("annotations") or {}).get(COMMAND)
    return Command(text) if text else None


def child_of(live: Live, child: Child) -> Object | None:
    """The live counterpart of a rendered child, if it is ours."""
    return live.objects.get((child.kind, child.name))
