"""What should exist: Deployments, two Services, an HTTPRoute and a PodMonitor, as a pure function of the status.

Names and selectors come from the stored revision, never from anything recomputed; what serves is never rendered anew
because of a newer operator or an edited spec. No order here: `engine.apply` creates before it moves, and moves before
it shrinks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelrelease.api.base import GROUP, NAME_LABEL, REVISION_LABEL
from modelrelease.api.release import GatewayTraffic, ModelReleaseSpec
from modelrelease.api.status import ModelReleaseStatus, Slot, Stage, TrafficStatus

from .draft import slots_of
from .revision import Revision
from .slots import SLOTS, service_name

SEQUENCE = f"{GROUP}/sequence"
SINCE = f"{GROUP}/since"
"""Label: when the rollout or the weight began that a child is for. A new one thereby rewrites even a child that already
looks as it should, and the late write of a leader that stalled under an older decision collides with that."""
MANAGED_BY = "app.kubernetes.io/managed-by"
_IDLE = "none"  # selects nothing: a slot that no revision holds


@dataclass(frozen=True, slots=True)
class Child:
    """One object that should exist. body has no resourceVersion, owner or sequence: those belong to the write."""

    kind: str
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What every PodMonitor carries besides: labels that a Prometheus selects by, and how often it scrapes."""

    labels: Mapping[str, str] = field(default_factory=dict)
    interval: str = ""


def labels(release: str) -> dict[str, str]:
    """Labels of every child."""
    return {NAME_LABEL: release, MANAGED_BY: "modelrelease"}


def render(
    spec: ModelReleaseSpec | None,
    status: ModelReleaseStatus,
    revisions: Mapping[str, Revision],
    release: str,
    live_route: Mapping[str, Any] | None = None,
    monitoring: Monitoring | None = None,
) -> tuple[Child, ...]:
    """All children of a release.

    Without a readable spec the route is kept as it stands in `live_route`, but for the weights: a bad spec never delays
    a return of traffic.
    """
    children = list(_deployments(status, revisions))
    ports = _ports(status, revisions)
    if not ports:
        return ()
    for slot, revision in _selected(status).items():
        port = ports.get(revision, next(iter(ports.values())))
        children.append(_marked(_service(release, slot, revision, port), _began(status, revision)))
    if status.traffic is not None and status.traffic.route is not None:
        pass  # the route is somebody else's: core.shared_route
    elif status.traffic is not None and spec is not None and spec.traffic.gateway is not None:
        children.append(_marked(_route(spec.traffic.gateway, status.traffic, release), status.traffic.set_at))
    elif status.traffic is not None and live_route is not None:
        children.append(_marked(_reweighted(live_route, status.traffic, release), status.traffic.set_at))
    children.append(_pod_monitor(release, status, revisions, monitoring or Monitoring()))
    return tuple(children)


def deployment(revision: Revision, replicas: int) -> Child:
    """The Deployment of one revision; also what the API server's dry-run judges before a rollout."""
    template = copy.deepcopy(dict(revision.template))
    metadata = template.setdefault("metadata", {})
    own = {NAME_LABEL: revision.release, REVISION_LABEL: revision.revision}
    metadata["labels"] = {**(metadata.get("labels") or {}), **own}
    pod = template["spec"]
    for container in [*pod["containers"], *(pod.get("initContainers") or [])]:
        container["env"] = [*_environment(revision), *(container.get("env") or [])]
    _name_ports(pod["containers"][0], revision)
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": revision.name, "labels": {**labels(revision.release), REVISION_LABEL: revision.revision}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": own},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "progressDeadlineSeconds": 2147483647,  # the release has its own deadline, which knows what it waits for
            "template": template,
        },
    }
    return Child("Deployment", revision.name, body)


def _deployments(status: ModelReleaseStatus, revisions: Mapping[str, Revision]) -> Iterator[Child]:
    candidate = status.candidate if status.candidate and status.candidate.stage is not Stage.GATING else None
    done: set[str] = set()
    for role in (status.stable, candidate, status.previous):
        revision = revisions.get(role.key) if role else None
        if role is None or revision is None or revision.revision in done:
            continue
        done.add(revision.revision)
        yield _marked(deployment(revision, role.replicas), _began(status, revision.revision))


def _began(status: ModelReleaseStatus, revision: str) -> datetime | None:
    """When the rollout of this revision began, None where that is not known any more."""
    roles = (status.candidate, status.stable, status.previous)
    return next((role.started_at for role in roles if role is not None and role.revision == revision), None)


def _marked(child: Child, since: datetime | None) -> Child:
    if since is None:
        return child
    mark = since.astimezone(UTC).strftime("%Y%m%dT%H%M%S.") + f"{since.microsecond // 1000:03d}Z"
    metadata = child.body["metadata"]
    body = {**child.body, "metadata": {**metadata, "labels": {**metadata["labels"], SINCE: mark}}}
    return Child(child.kind, child.name, body)


def _environment(revision: Revision) -> list[dict[str, str]]:
    """First in every container, so that a template's own variables and args can refer to them."""
    values = {"MODEL_NAME": revision.model, "MODEL_VERSION": revision.version, "MODEL_URI": revision.uri}
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in values.items()]


def _name_ports(container: dict[str, Any], revision: Revision) -> None:
    """Declare the ports that are used; one that the template has is left alone, but gets a name where it has none.

    A number stands in the list once: server-side apply refuses a port that is there twice.
    """
    ports = [dict(port) for port in container.get("ports") or []]
    for name, number in (("metrics", revision.metrics_port), ("http", revision.http_port)):
        held = next((port for port in ports if _is_tcp(port) and port.get("containerPort") == number), None)
        if held is None:
            ports.append({"name": name, "containerPort": number, "protocol": "TCP"})
        elif not held.get("name"):
            held["name"] = name
    container["ports"] = ports


def _metrics_port_name(revision: Revision) -> str:
    """What the port is called in the Deployment, for the monitor."""
    for port in revision.template["spec"]["containers"][0].get("ports") or []:
        if _is_tcp(port) and port.get("containerPort") == revision.metrics_port and port.get("name"):
            return str(port["name"])
    return "metrics"


def _is_tcp(port: Mapping[str, Any]) -> bool:
    return bool(port.get("protocol", "TCP") == "TCP")


def _ports(status: ModelReleaseStatus, revisions: Mapping[str, Revision]) -> Mapping[str, int]:
    """Port on which each known revision listens; its Service sends there, whichever slot selects it."""
    roles = [role for role in (status.stable, status.candidate, status.previous) if role is not None]
    return {role.revision: revisions[role.key].http_port for role in roles if role.key in revisions}


def _selected(status: ModelReleaseStatus) -> Mapping[Slot, str]:
    """Which revision the Service of each slot selects: the one that holds it, else nothing, so that it cannot serve.

    But on somebody else's route a slot that nobody holds any more, once what it had has drained, selects the stable
    revision: whoever writes that route anew, with the weights that stand in Git, then sends users to what serves.
    """
    held, previous = slots_of(status), status.previous
    if status.traffic is None or status.traffic.route is None or status.stable is None:
        return {slot: held.get(slot, _IDLE) for slot in SLOTS}
    drained = (previous.slot, previous.revision) if previous is not None and previous.drained_at is not None else None
    free = {slot for slot in SLOTS if slot not in held or (slot, held[slot]) == drained}
    return {slot: status.stable.revision if slot in free else held[slot] for slot in SLOTS}


def _service(release: str, slot: Slot, revision: str, port: int) -> Child:
    name = service_name(release, slot)
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {**labels(release), f"{GROUP}/slot": slot}},
        "spec": {
            "selector": {NAME_LABEL: release, REVISION_LABEL: revision},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": port}],
        },
    }
    return Child("Service", name, body)


def _backends(traffic: TrafficStatus, release: str) -> list[dict[str, Any]]:
    weights: dict[Slot, int] = {"a": traffic.a, "b": traffic.b}
    return [
        {"group": "", "kind": "Service", "name": service_name(release, slot), "port": 80, "weight": weights[slot]}
        for slot in SLOTS
    ]


def _reweighted(live: Mapping[str, Any], traffic: TrafficStatus, release: str) -> Child:
    route = copy.deepcopy(dict(live["spec"]))
    rules = route.get("rules") or [{}]
    route["rules"] = [{**rules[0], "backendRefs": _backends(traffic, release)}]
    return _http_route(route, release)


def _route(gateway: GatewayTraffic, traffic: TrafficStatus, release: str) -> Child:
    passed = gateway.rule.model_dump(mode="json", by_alias=True, exclude_none=True) if gateway.rule else {}
    rule: dict[str, Any] = {key: value for key, value in passed.items() if value}
    rule["backendRefs"] = _backends(traffic, release)
    route: dict[str, Any] = {
        "parentRefs": [
            parent.model_dump(mode="json", by_alias=True, exclude_none=True) for parent in gateway.parent_refs
        ],
        "rules": [rule],
    }
    if gateway.hostnames:
        route["hostnames"] = list(gateway.hostnames)
    return _http_route(route, release)


def _http_route(route: Mapping[str, Any], release: str) -> Child:
    body = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": release, "labels": labels(release)},
        "spec": route,
    }
    return Child("HTTPRoute", release, body)


def _pod_monitor(
    release: str, status: ModelReleaseStatus, revisions: Mapping[str, Revision], monitoring: Monitoring
) -> Child:
    roles = [role for role in (status.stable, status.candidate, status.previous) if role is not None]
    names = {_metrics_port_name(revisions[role.key]) for role in roles if role.key in revisions}
    every = {"interval": monitoring.interval} if monitoring.interval else {}
    body = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": release, "labels": {**monitoring.labels, **labels(release)}},
        "spec": {
            "selector": {"matchLabels": {NAME_LABEL: release}},
            "podTargetLabels": [NAME_LABEL, REVISION_LABEL],
            "podMetricsEndpoints": [{"port": name, **every} for name in sorted(names)],
        },
    }
    return Child("PodMonitor", release, body)
