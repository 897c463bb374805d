"""What the API server's objects say, as values of `core`: dicts in, frozen values out. Pure; no requests, no clock.

Lives here: reading Deployments, pods, routes, Services and ControllerRevisions. Not here: asking for them
(`clients.kube`) and judging them (`core`).

The rule it keeps: a message says what the pod or the gateway itself says, shortened, and does not change while the
state does not: no back-off seconds, no counters of attempts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from modelrelease.api.base import NAME_LABEL, REVISION_LABEL
from modelrelease.core.observation import PodFacts, PodFault, RouteView, SlotView, Workload
from modelrelease.core.render import MANAGED_BY
from modelrelease.core.revision import Revision, from_data

from .hardware import hardware_of

Json = Mapping[str, Any]

NO_NODES: Mapping[str, Mapping[str, str]] = {}
JUST_STARTED = timedelta(seconds=30)
REPLACED_WITHIN = timedelta(seconds=60)
_MESSAGE_LIMIT = 300
_POD_NAME_PREFIX_MAX = 58  # the API server cuts a generateName here, before its five random characters

# The first found of these is reported: harm by the revision itself, then what a person must mend, then what may pass.
_MOST_TELLING = (
    PodFault.OOM_KILLED,
    PodFault.CRASH_LOOP,
    PodFault.CONFIG_ERROR,
    PodFault.IMAGE_PULL_FAILED,
    PodFault.PODS_REFUSED,
    PodFault.UNSCHEDULABLE,
    PodFault.PODS_LOST,
)
_CANNOT_PULL = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_IS_MISCONFIGURED = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_STARTS_AND_FAILS = frozenset({"CrashLoopBackOff", "RunContainerError", "PostStartHookError"})
_NODE_RESTARTED = frozenset({"Unknown", "ContainerStatusUnknown"})  # reasons of a termination that nobody saw
_BACK_OFF_WORDS = re.compile(r'^Back-off pulling image "[^"]*"(: )?')

Fault = tuple[PodFault, str]


def owned_by(obj: Json, uid: str) -> bool:
    """Whether the object with this uid is the controller of obj."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid and owner.get("controller") for owner in owners)


def belongs(obj: Json, uid: str, release: str) -> bool:
    """Whether obj is a child of this release: owned by it, or left behind by `kubectl delete --cascade=orphan`.

    What a former release of the name left behind has its labels and no owner; it is taken over.
    """
    labels, owners = _labels(obj), obj["metadata"].get("ownerReferences") or ()
    left = labels.get(NAME_LABEL) == release and labels.get(MANAGED_BY) == "modelrelease"
    return owned_by(obj, uid) or (left and not owners)


def revision_from(controller_revision: Json) -> Revision:
    """The revision that a ControllerRevision stores. Raises ValueError if it is none of ours or of a newer format."""
    try:
        return from_data(controller_revision["data"])
    except (KeyError, TypeError, AttributeError) as error:
        name = controller_revision["metadata"]["name"]
        raise ValueError(f"ControllerRevision {name} cannot be read: {error!r}") from error


def workload_view(
    revision: Revision,
    deployment: Json,
    pods: Iterable[Json],
    now: datetime,
    nodes: Mapping[str, Mapping[str, str]] = NO_NODES,
) -> Workload:
    """The Deployment and those of the pods that belong to this revision. nodes: labels by node, as far as known.

    A fault is looked for only while fewer pods are ready than the Deployment asks for. Pods that end or have failed
    count neither as ready nor as crashed. A loss of a pod is told until its replacement is ready. Pods that are yet to
    be created count as loading: a control plane that does nothing is no fault of the revision.
    """
    mine = [pod for pod in pods if _labels(pod).get(REVISION_LABEL) == revision.revision]
    mine.sort(key=lambda pod: str(pod["metadata"]["name"]))
    living = [pod for pod in mine if not _is_ending(pod) and not _has_failed(pod)]
    replicas = int(deployment["spec"].get("replicas", 1))
    ready = sum(_condition(pod, "Ready").get("status") == "True" for pod in living)
    facts = {str(pod["metadata"]["name"]): _facts(pod, nodes) for pod in mine if not _has_failed(pod)}
    view = Workload(revision.revision, replicas, ready, crashes=sum(map(_crashes, living)), pods=facts)
    if ready >= replicas:
        return view
    unready = [pod for pod in living if _condition(pod, "Ready").get("status") != "True"]
    faults = [fault for pod in unready for fault in _pod_faults(pod)]
    faults += _refusals(deployment)
    short = len(living) < replicas
    faults += _losses(mine, unready, now, short=short)
    if faults:
        fault, message = min(faults, key=lambda one: _MOST_TELLING.index(one[0]))
        return replace(view, fault=fault, fault_message=_short(message))
    return replace(view, loading=short or any(_is_loading(pod, now) for pod in unready))


def route_view(route: Json | None, slot_service_names: Mapping[str, str]) -> RouteView | None:
    """The live route, None when there is none. slot_service_names: by slot, the name of its Service.

    A slot that the route does not name has weight 0. Where somebody added rules by hand the largest weight counts.
    """
    if route is None:
        return None
    weights = dict.fromkeys(slot_service_names, 0)
    for rule in route["spec"].get("rules") or ():
        for backend in rule.get("backendRefs") or ():
            for slot, service in slot_service_names.items():
                if backend["name"] == service and backend.get("kind", "Service") == "Service":
                    weights[slot] = max(weights[slot], int(backend.get("weight", 1)))
    current, problem = _acceptance(route)
    return RouteView(weights, current, _short(problem))


def slot_view(service: Json, slices: Iterable[Json]) -> SlotView:
    """The Service of a slot and how many of its endpoints are ready.

    The endpoint slices follow the selector after a moment: endpoints of another revision do not count.
    """
    selector = service["spec"].get("selector") or {}
    revision = str(selector.get(REVISION_LABEL, ""))
    pod_prefix = f"{selector.get(NAME_LABEL, '')}-{revision}-"[:_POD_NAME_PREFIX_MAX]
    ready = set()
    for part in slices:
        if _labels(part).get("kubernetes.io/service-name") != service["metadata"]["name"]:
            continue
        for endpoint in part.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            if (endpoint.get("conditions") or {}).get("ready", True) and target.get("name", "").startswith(pod_prefix):
                ready.add(target["name"])  # a pod stands in two slices where the cluster is dual-stack
    return SlotView(revision, len(ready))


# -- pods --


def _facts(pod: Json, nodes: Mapping[str, Mapping[str, str]]) -> PodFacts:
    node = str(pod["spec"].get("nodeName") or "")
    ready = _condition(pod, "Ready")
    since = ready.get("lastTransitionTime") if ready.get("status") == "True" else None
    return PodFacts(
        node=node,
        hardware=hardware_of(pod, nodes.get(node, {})),
        ready_since=_time(since) if since else None,
        created_at=_time(pod["metadata"]["creationTimestamp"]),
    )


def _pod_faults(pod: Json) -> Iterator[Fault]:
    name = pod["metadata"]["name"]
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        words = str(scheduled.get("message") or scheduled.get("reason") or "not scheduled")
        yield PodFault.UNSCHEDULABLE, words.split(" preemption: ", 1)[0]
        return
    for status in _containers(pod):
        state = status.get("state") or {}
        waiting = state.get("waiting") or {}
        reason = waiting.get("reason", "")
        ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
        if reason in _CANNOT_PULL:
            yield PodFault.IMAGE_PULL_FAILED, f"{name}: {_cannot_start(status, waiting)}"
        elif reason in _IS_MISCONFIGURED:
            yield PodFault.CONFIG_ERROR, f"{name}: {_cannot_start(status, waiting)}"
        elif _is_crash(ended):
            out_of_memory = ended.get("reason") == "OOMKilled"
            fault = PodFault.OOM_KILLED if out_of_memory else PodFault.CRASH_LOOP
            yield fault, f"{name}: {_ended(status, ended)}"
        elif reason in _STARTS_AND_FAILS:
            words = (
                _ended(status, ended) if ended else f"container {status['name']}: {waiting.get('message') or reason}"
            )
            yield PodFault.CRASH_LOOP, f"{name}: {words}"
    if _node_is_silent(pod):
        yield PodFault.PODS_LOST, f"{name}: node {pod['spec'].get('nodeName')} does not answer"


def _cannot_start(status: Json, waiting: Json) -> str:
    """The same words while the kubelet alternates between trying and backing off."""
    words = _BACK_OFF_WORDS.sub("", str(waiting.get("message") or ""))
    words = words.removeprefix("ErrImagePull: ")
    what = waiting["reason"]
    if what in ("ErrImagePull", "ImagePullBackOff"):
        what = f"image {status.get('image')} cannot be pulled"
    return f"container {status['name']}: {what}" + (f": {words}" if words else "")


def _ended(status: Json, ended: Json) -> str:
    reason = ended.get("reason") or ""
    how = "was OOMKilled" if reason == "OOMKilled" else f"ended with {reason}".removesuffix(" with ")
    said = " ".join(str(ended.get("message") or "").split())
    return f"container {status['name']} {how} (exit code {ended.get('exitCode')})" + (f": {said}" if said else "")


def _crashes(pod: Json) -> int:
    """Ends with a non-zero exit code, as far as the pod tells: the kubelet counts restarts and keeps two ends."""
    crashes = 0
    for status in _containers(pod):
        state = status.get("state") or {}
        last = (status.get("lastState") or {}).get("terminated") or {}
        restarts = int(status.get("restartCount", 0))
        waits_after_end = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        ends = restarts + bool(waits_after_end or state.get("terminated"))
        latest = state.get("terminated") or last
        crashes += max(0, ends - (not _is_crash(latest)))
    return crashes


def _is_crash(ended: Json) -> bool:
    return bool(ended.get("exitCode")) and ended.get("reason") not in _NODE_RESTARTED


def _is_loading(pod: Json, now: datetime) -> bool:
    """An image is pulled, an init container fetches something, or the pod began a moment ago."""
    if now - _time(pod["metadata"]["creationTimestamp"]) < JUST_STARTED:
        return True
    # Without a sandbox the pod waits for a volume or an address: that is not loading, and may never end.
    if _condition(pod, "PodReadyToStartContainers").get("status", "True") != "True":
        return False
    for status in _containers(pod):
        state = status.get("state") or {}
        if (state.get("waiting") or {}).get("reason") in ("ContainerCreating", "PodInitializing"):
            return True
        started = (state.get("running") or {}).get("startedAt")
        if started and now - _time(started) < JUST_STARTED:
            return True
    return False


def _losses(pods: Sequence[Json], unready: Sequence[Json], now: datetime, *, short: bool) -> Iterator[Fault]:
    """Pods that were taken away, as long as that explains why others are not ready yet.

    short: fewer pods live than are wanted, so one that ends was wanted. Otherwise a loss explains the pods created
    since, not those of a later scale-up: evicted pods stay in the API for hours.
    """
    gaps = [_time(pod["metadata"]["creationTimestamp"]) for pod in unready] + ([now] if short else [])
    since = min(gaps) - REPLACED_WITHIN
    for pod in pods:
        at, words = _loss(pod)
        if words and at >= since:
            yield PodFault.PODS_LOST, f"{pod['metadata']['name']}: {words}"
        elif short and _is_ending(pod) and not words:
            yield PodFault.PODS_LOST, f"{pod['metadata']['name']}: was deleted"


def _loss(pod: Json) -> tuple[datetime, str]:
    """When and why the cluster took a pod away; no words if it did not."""
    status = pod.get("status") or {}
    disrupted = _condition(pod, "DisruptionTarget")
    if disrupted.get("status") == "True":
        return _time(disrupted["lastTransitionTime"]), _words(disrupted)
    changes = [one.get("lastTransitionTime") for one in status.get("conditions") or ()]
    at = max(_time(change) for change in (pod["metadata"]["creationTimestamp"], *changes) if change)
    if _has_failed(pod) or (status.get("reason") and _is_ending(pod)):
        return at, _words({"reason": "failed", **status})
    return at, ""


def _node_is_silent(pod: Json) -> bool:
    """The node controller sets Ready to False and nothing else when a node is gone; the kubelet would say a reason."""
    ready = _condition(pod, "Ready")
    return (
        ready.get("status") == "False"
        and not ready.get("reason")
        and _condition(pod, "ContainersReady").get("status") == "True"
    )


def _refusals(deployment: Json) -> Iterator[Fault]:
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        failed = condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        failed |= condition.get("reason") == "ReplicaSetCreateError" and condition["status"] == "False"
        if failed:
            yield PodFault.PODS_REFUSED, str(condition.get("message") or condition.get("reason"))


# -- the route --


def _acceptance(route: Json) -> tuple[bool, str]:
    """Whether every parent accepted the present generation, and the words of the first that refused it."""
    generation = route["metadata"].get("generation")
    namespace = route["metadata"].get("namespace")
    reports = (route.get("status") or {}).get("parents") or ()
    wanted = route["spec"].get("parentRefs") or ()
    current, problem = bool(wanted), ""
    for parent in wanted:
        said = [one for one in reports if _parent_key(one["parentRef"], namespace) == _parent_key(parent, namespace)]
        current &= bool(said)
        for report in said:
            conditions = {one["type"]: one for one in report.get("conditions") or ()}
            for kind in ("Accepted", "ResolvedRefs"):
                condition = conditions.get(kind) or {}
                fresh = condition.get("observedGeneration") == generation
                current &= fresh and condition.get("status") == "True"
                if fresh and condition.get("status") == "False" and not problem:
                    who = f"{parent.get('kind', 'Gateway')} {parent['name']}"
                    problem = f"{who}: {kind} is False: {_words(condition)}"
    return current, problem


def _parent_key(parent: Json, namespace: str | None) -> tuple[Any, ...]:
    return (
        parent.get("group", "gateway.networking.k8s.io"),
        parent.get("kind", "Gateway"),
        parent.get("namespace", namespace),
        parent["name"],
        parent.get("sectionName"),
        parent.get("port"),
    )


# -- small readings --


def _labels(obj: Json) -> Json:
    return obj["metadata"].get("labels") or {}


def _containers(pod: Json) -> Iterator[Json]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _condition(obj: Json, kind: str) -> Json:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def _is_ending(pod: Json) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _has_failed(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Failed", "Unknown")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _words(said: Json) -> str:
    return ": ".join(filter(None, (said.get("reason"), said.get("message"))))


def _short(words: str) -> str:
    return words if len(words) <= _MESSAGE_LIMIT else words[: _MESSAGE_LIMIT - 1] + "…"
