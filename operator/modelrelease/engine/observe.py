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
from typing import Any, NamedTuple

from pydantic import ValidationError

from modelrelease.api.base import GROUP, NAME_LABEL
from modelrelease.api.policy import Enforce, ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients import views
from modelrelease.clients.kube import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    MODEL_RELEASE,
    NAMESPACE,
    POD,
    POD_MONITOR,
    RELEASE_POLICY,
    SERVICE,
    Conflict,
    Kind,
    Kube,
    KubeError,
    Object,
    Refused,
)
from modelrelease.core import gates, shared_route
from modelrelease.core.observation import (
    Approvals,
    Command,
    Observation,
    OtherRelease,
    RegistryView,
    Samples,
    TemplateVerdict,
    Workload,
)
from modelrelease.core.policies import Policy, selects
from modelrelease.core.render import SEQUENCE, Child, deployment
from modelrelease.core.revision import Revision
from modelrelease.core.slots import service_name

from .approvals import ApprovalReader
from .nodes import Nodes
from .queue import Key

OUTCOME = f"{GROUP}/outcome"  # on a ControllerRevision, so that a lost status can be rebuilt
PROMOTED, QUARANTINED = "Promoted", "Quarantined"
COMMAND = f"{GROUP}/command"
COMMAND_BY = f"{GROUP}/command-by"
"""`<command> <user>`, which an admission policy holds to the user that the API server authenticated."""
_SEQUENCE_DIGITS = 15

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Live:
    """The children as read in this pass, by (kind, name); only what is ours. records: newest first.

    shared_route: the HTTPRoute of somebody else that carries the release, where there is one.
    """

    release: Object
    objects: Mapping[tuple[str, str], Object]
    records: tuple[Object, ...]
    shared_route: Object | None = None

    @property
    def route(self) -> Object | None:
        """The route as it stands, None where there is none of ours."""
        return self.objects.get((HTTP_ROUTE.kind, self.release["metadata"]["name"]))


@dataclass(frozen=True, slots=True)
class Look:
    """One pass' look: spec (None where unreadable), status, all else that `decide` needs, and the live objects."""

    spec: ModelReleaseSpec | None
    status: ModelReleaseStatus
    observation: Observation
    live: Live


@dataclass(slots=True)
class Observer:
    """Reads one release's world.

    Remembers labels of nodes, which pod templates the dry-run has accepted, and which releases wait for which.
    """

    kube: Kube
    approvals: ApprovalReader
    _accepted: dict[Key, tuple[str, str]] = field(default_factory=dict)
    _nodes: Nodes = field(init=False)
    _waits_for: dict[Key, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._nodes = Nodes(self.kube)

    async def look(self, release: Object, registry: RegistryView, samples: Samples, now: datetime) -> Look:
        """Everything that `decide` needs, read anew."""
        metadata = release["metadata"]
        namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
        spec, spec_error = read_spec(release)
        status = read_status(release)
        selector = f"{NAME_LABEL}={name}"
        names = [service_name(name, "a"), service_name(name, "b")]
        (
            (policy, policy_missing, policy_error, enforced, unread),
            records,
            deployments,
            pods,
            slices,
        ) = await asyncio.gather(
            self._policies(spec, namespace),
            self.kube.list(CONTROLLER_REVISION, namespace, selector),
            self.kube.list(DEPLOYMENT, namespace, selector),
            self.kube.list(POD, namespace, selector),
            self.kube.list(ENDPOINT_SLICE, namespace, f"kubernetes.io/service-name in ({','.join(names)})"),
        )
        carrier = shared_route.carrier(spec, status.traffic)
        shared, *by_name = await asyncio.gather(
            self._shared_route(carrier, namespace),
            self.kube.get(HTTP_ROUTE, namespace, name),
            self.kube.get(POD_MONITOR, namespace, name),
            *(self.kube.get(SERVICE, namespace, item) for item in names),
        )
        deployments += await self._unlabelled(DEPLOYMENT, release, status, deployments)
        records += await self._unlabelled(CONTROLLER_REVISION, release, status, records)
        found = [*deployments, *(item for item in by_name if item is not None and not _same(item, shared))]
        objects = {(item["kind"], item["metadata"]["name"]): item for item in found if views.belongs(item, uid, name)}
        foreign = [item for item in [*found, *records] if not views.belongs(item, uid, name)]
        own_records = sorted(
            (item for item in records if views.belongs(item, uid, name)), key=lambda item: -int(item["revision"])
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
        compared = status.candidate is not None  # only then does it matter what pods run on
        nodes = await self._nodes.labels((_node_of(pod) for pod in pods) if compared else (), now)
        own_route = objects.get((HTTP_ROUTE.kind, name))
        own_services = {slot: objects.get((SERVICE.kind, item)) for slot, item in zip("ab", names, strict=True)}
        route, route_missing = own_route, None
        if carrier is not None:
            route, route_missing = _carrying(shared, name, carrier)
        observation = Observation(
            release=name,
            namespace=namespace,
            generation=metadata["generation"],
            policy=policy,
            enforced=enforced,
            policies_unread=unread,
            revisions=revisions,
            promoted=tuple(key for key, outcome in outcomes.items() if outcome == PROMOTED),
            quarantined=tuple(key for key, outcome in outcomes.items() if outcome == QUARANTINED),
            registry=registry.of(spec.model.name) if spec is not None else registry,
            workloads=_workloads(objects, revisions, pods, nodes, now),
            route=views.route_view(route, {"a": names[0], "b": names[1]}),
            slots={slot: views.slot_view(item, slices) for slot, item in own_services.items() if item is not None},
            samples=samples,
            command=_command(metadata),
            approvals=await self._approvals(release, status, revisions, now),
            spec_error=spec_error or policy_error,
            policy_missing=policy_missing,
            releases=await self._others(
                spec, status, (policy, *(item.spec for item in enforced)), revisions, (namespace, name)
            ),
            route_missing=route_missing,
            conflicts=tuple(sorted(f"{item['kind']} {item['metadata']['name']}" for item in foreign)),
            fence=max(map(sequence_of, objects.values()), default=0),
        )
        live = Live(release, objects, tuple(own_records), shared)
        return Look(None if policy_error else spec, status, observation, live)

    async def judge_template(self, look: Look, target: Revision) -> Observation:
        """Ask the API server's dry-run about the Deployment of a revision that is not stored yet.

        An accepted one is not asked for again. Where the API server gives no answer there is no verdict: a webhook that
        is down must not delay a rollback.
        """
        observation, metadata = look.observation, look.live.release["metadata"]
        key, asked = (metadata["namespace"], metadata["name"]), (metadata["uid"], target.revision)
        if target.key in observation.revisions:
            return observation
        child = deployment(target, 0)
        refused = None
        if self._accepted.get(key) != asked and child_of(look.live, child) is None:
            try:
                await self.kube.apply(DEPLOYMENT, metadata["namespace"], child.name, new(child), dry_run=True)
            except Conflict:  # it exists, and does not carry our labels, else it would have been seen
                return replace(observation, conflicts=(*observation.conflicts, f"{child.kind} {child.name}"))
            except Refused as error:
                refused = error.message
            except KubeError as error:
                logger.warning("the pod template could not be checked: %s", error, extra={"key": "/".join(key)})
                return observation
        if refused is None:
            self._accepted[key] = asked
        return replace(observation, template=TemplateVerdict(target.revision, refused))

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a release that is gone."""
        self._accepted.pop(key, None)
        self._waits_for.pop(key, None)
        self.approvals.forget(key)

    def followers(self, key: Key) -> list[Key]:
        """The releases whose gates name this one, as of their last pass."""
        return [other for other, names in self._waits_for.items() if key[1] in names and key[0] == other[0]]

    async def _approvals(
        self, release: Object, status: ModelReleaseStatus, revisions: Mapping[str, Revision], now: datetime
    ) -> Approvals:
        """Those of the candidate; nobody else's matter."""
        runs = revisions.get(status.candidate.key) if status.candidate else None
        if runs is None or not gates.approval.asks(runs.gates):
            return Approvals()
        return await self.approvals.read(release, now)

    async def _unlabelled(
        self, kind: Kind, release: Object, status: ModelReleaseStatus, listed: list[Object]
    ) -> list[Object]:
        """What the status names and the list by label did not find: deleted, or robbed of its labels by hand."""
        namespace, name = release["metadata"]["namespace"], release["metadata"]["name"]
        roles = [role for role in (status.stable, status.candidate) if role is not None]
        named = {f"{name}-{role.revision if kind is DEPLOYMENT else role.key}" for role in roles}
        missing = named - {item["metadata"]["name"] for item in listed}
        found = await asyncio.gather(*(self.kube.get(kind, namespace, item) for item in sorted(missing)))
        return [item for item in found if item is not None]

    async def _shared_route(self, carrier: shared_route.Carrier | None, namespace: str) -> Object | None:
        return await self.kube.get(HTTP_ROUTE, namespace, carrier.route) if carrier else None

    async def _others(
        self,
        spec: ModelReleaseSpec | None,
        status: ModelReleaseStatus,
        policies: tuple[ReleasePolicySpec | None, ...],
        revisions: Mapping[str, Revision],
        key: Key,
    ) -> Mapping[str, OtherRelease | None]:
        """The releases that gates name: of the spec, of its policies, of what was pinned for what runs."""
        runs = [revisions.get(role.key) for role in (status.candidate, status.stable) if role is not None]
        rules = [gate for item in (spec, *policies, *runs) if item is not None for gate in item.gates]
        names = gates.others(rules) - {key[1]}
        self._waits_for[key] = names
        found = await asyncio.gather(*(self.kube.get(MODEL_RELEASE, key[0], item) for item in sorted(names)))
        return {item: _other(release) for item, release in zip(sorted(names), found, strict=True)}

    async def _policies(self, spec: ModelReleaseSpec | None, namespace: str) -> _Policies:
        """The policy that the spec names, and all that are enforced in its namespace."""
        name = spec.policy_ref.name if spec is not None and spec.policy_ref is not None else None
        unread = None
        try:
            listed = await self.kube.list(RELEASE_POLICY, None)
        except Refused as error:
            unread = f"ReleasePolicies cannot be listed ({error.message}), and some may be enforced here"
            found = await self.kube.get(RELEASE_POLICY, None, name) if name is not None else None
            listed = [found] if found is not None else []
        enforced, problem = await self._enforced(listed, namespace)
        asked = next((item for item in listed if item["metadata"]["name"] == name), None)
        if name is None or asked is None:
            return _Policies(None, name, None, enforced, unread or problem)
        try:
            policy = ReleasePolicySpec.model_validate(asked.get("spec") or {})
        except ValidationError as error:
            return _Policies(None, None, f"ReleasePolicy {name}: {_first(error)}", enforced, unread or problem)
        return _Policies(policy, None, None, enforced, unread or problem)

    async def _enforced(self, listed: list[Object], namespace: str) -> tuple[tuple[Policy, ...], str | None]:
        """Those of these policies that hold in the namespace, and why that is not known of all of them."""
        enforcing = {item["metadata"]["name"]: item.get("spec") or {} for item in listed}
        enforcing = {name: spec for name, spec in sorted(enforcing.items()) if "enforce" in spec}
        if not enforcing:
            return (), None
        try:
            found = await self.kube.get(NAMESPACE, None, namespace)
        except Refused as error:
            words = f"the labels of namespace {namespace} cannot be read ({error.message})"
            return (), f"{words}, by which {', '.join(enforcing)} may be enforced; let the operator get namespaces"
        labels = ((found or {}).get("metadata") or {}).get("labels") or {}
        out = []
        for name, spec in enforcing.items():
            try:
                if selects(Enforce.model_validate(spec["enforce"]).namespace_selector, labels):
                    out.append(Policy(name, ReleasePolicySpec.model_validate(spec)))
            except ValidationError as error:
                return tuple(out), f"ReleasePolicy {name} is enforced and cannot be read: {_first(error)}"
        return tuple(out), None


class _Policies(NamedTuple):
    """The policy that the spec names, the name of a missing one, what is wrong with a bad one; then what is enforced,
    and why that is not known."""

    policy: ReleasePolicySpec | None
    missing: str | None
    error: str | None
    enforced: tuple[Policy, ...]
    unread: str | None


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


def _other(release: Object | None) -> OtherRelease | None:
    """What another release's gates ask of it; of a spec that cannot be read only the model."""
    if release is None:
        return None
    spec, _ = read_spec(release)
    model = ((release.get("spec") or {}).get("model") or {}).get("name", "")
    return OtherRelease(model, read_status(release), gates.others(spec.gates) if spec is not None else frozenset())


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"spec{'.' if where else ''}{where}: {problem['msg'].removeprefix('Value error, ')}{more}"


def _carrying(route: Object | None, release: str, carrier: shared_route.Carrier) -> tuple[Object | None, str | None]:
    """The route as far as it carries the release, or what is wrong with it."""
    if route is None:
        return None, f"HTTPRoute {carrier.route} does not exist in this namespace"
    found = shared_route.rule_of(route, release, carrier.rule)
    return (None, found) if isinstance(found, str) else (shared_route.only_rule(route, found), None)


def _same(item: Object, other: Object | None) -> bool:
    return other is not None and item["metadata"]["uid"] == other["metadata"]["uid"]


def _node_of(pod: Object) -> str:
    return str(pod["spec"].get("nodeName") or "")


def _workloads(
    objects: Mapping[tuple[str, str], Object],
    revisions: Mapping[str, Revision],
    pods: list[Object],
    nodes: Mapping[str, Mapping[str, str]],
    now: datetime,
) -> dict[str, Workload]:
    out: dict[str, Workload] = {}
    for revision in revisions.values():
        item = objects.get((DEPLOYMENT.kind, revision.name))
        if item is not None:
            out[revision.revision] = views.workload_view(revision, item, pods, now, nodes)
    return out


def _command(metadata: Mapping[str, Any]) -> Command | None:
    annotations = metadata.get("annotations") or {}
    text = annotations.get(COMMAND)
    if not text:
        return None
    said, _, user = str(annotations.get(COMMAND_BY, "")).partition(" ")
    return Command(text, user if said == text else "")


def new(child: Child) -> dict[str, Any]:
    """The body for an apply that creates, and is a Conflict where the name is taken.

    No object has this resourceVersion; of what does not exist the API server does not compare it.
    """
    return {**child.body, "metadata": {**child.body["metadata"], "resourceVersion": "1"}}


def child_of(live: Live, child: Child) -> Object | None:
    """The live counterpart of a rendered child, if it is ours."""
    return live.objects.get((child.kind, child.name))


def sequence_of(obj: Object) -> int:
    """The sequence that a child was written under; 0 where somebody has spoilt the annotation."""
    text = str((obj["metadata"].get("annotations") or {}).get(SEQUENCE, ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _SEQUENCE_DIGITS else 0
