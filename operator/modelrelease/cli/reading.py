"""From what the API server answered to the values that the views show. Nothing is judged or worded for a screen here.

What only makes a screen richer (pods, revisions, nodes, approvals) may be forbidden or absent: then a sentence says
that it is not shown, and the rest is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from modelrelease.api.base import REVISION_LABEL, parse_duration
from modelrelease.api.reasons import Phase
from modelrelease.api.status import ModelReleaseStatus
from modelrelease.clients.hardware import hardware_of
from modelrelease.core import told
from modelrelease.core.explain import Known, Leg

from .begun import Begun
from .changes import changes
from .cluster import Cluster, ClusterError, Object, Reading
from .views.values import Approval, Pod, Record, Release

NODES_READ = 12
FORMAT = 1  # of ControllerRevisions, as core.revision writes them; importing that takes long
_PROBE = {"nvidia.com/gpu.product": "?", "amd.com/gpu.product-name": "?"}
_Model = TypeVar("_Model", bound=BaseModel)


def release_of(body: Object) -> Release:
    """A release by itself. Raises ClusterError where its status is of a version that cannot be read."""
    metadata = body["metadata"]
    where = f"{metadata['namespace']}/{metadata['name']}"
    return Release(
        namespace=metadata["namespace"],
        name=metadata["name"],
        generation=int(metadata.get("generation") or 0),
        status=_model(ModelReleaseStatus, body.get("status") or {}, f"the status of {where}"),
        known=_known(metadata["name"], metadata["namespace"], body.get("spec") or {}),
        model=str(((body.get("spec") or {}).get("model") or {}).get("name") or ""),
    )


def whole(cluster: Cluster, begun: Begun) -> tuple[Object, Release]:
    """The release as it stands in the cluster, and all that was begun to be read of it. Raises ClusterError."""
    body = begun.release.value()
    release = release_of(body)
    unseen: list[str] = []
    status, owner = release.status, body["metadata"]["uid"]
    stored = _revisions(_items(begun.revisions, "revisions, so no DIFF and no end of a phase", unseen), owner)
    candidate = stored.get(_tried(status) or "")
    stable = stored.get(status.stable.key) if status.stable else None
    pods = [pod for pod in _items(begun.pods, "PODS", unseen) if pod["metadata"].get("labels")]
    labels = _nodes(cluster, pods, unseen)
    said = _items(begun.approvals, "approvals", unseen)
    release = replace(
        release,
        known=_with_revision(release.known, candidate if status.candidate else None),
        pods=tuple(_pods(pods, labels, _rates(status, candidate))),
        changes=changes(stable, candidate) if stable and candidate and stable != candidate else (),
        approvals=tuple(_approvals(said, status, release.name)),
        unseen=tuple(unseen),
    )
    return body, release


def record_of(body: Object) -> Record:
    """A ReleaseRecord. Raises ClusterError where it cannot be read."""
    from modelrelease.api.record import ReleaseRecordSpec

    name = body["metadata"]["name"]
    told_to = tuple(
        f"{item.get('event', '').rpartition('.')[2]} to {item.get('sink')}: {item.get('state', 'Pending')}"
        + (f" ({item['lastError']})" if item.get("lastError") and item.get("state") != "Delivered" else "")
        for item in (body.get("status") or {}).get("deliveries") or ()
    )
    return Record(name, _model(ReleaseRecordSpec, body["spec"], f"ReleaseRecord {name}"), told_to)


def _model(model: type[_Model], value: Any, what: str) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ClusterError(f"{what} is of another version than this plugin: {where}: {first['msg']}") from error


def _known(name: str, namespace: str, spec: Mapping[str, Any]) -> Known:
    """What sentences need of a spec, with the defaults that the API server would have set."""
    rollout = spec.get("rollout") or {}
    return Known(
        name,
        namespace,
        bake=_length((rollout.get("bake") or {}).get("duration", "30m")),
        deadline=_length(rollout.get("progressDeadline", "30m")),
        inconclusive=str(rollout.get("onInconclusive", "Hold")),
        suspend=spec.get("suspend") is True,
        asks=str((spec.get("model") or {}).get("version") or ""),
    )


def _with_revision(known: Known, stored: Object | None) -> Known:
    """The phases and the drain of the candidate."""
    if stored is None:
        return known
    legs = []
    for phase in stored.get("phases") or ():
        duration, timeout = _length(phase.get("duration", "0s")), _length(phase.get("timeout", "24h"))
        if duration is None or timeout is None:
            return known
        legs.append(Leg(str(phase["name"]), int(phase["weight"]), duration, timeout, bool(phase.get("parity"))))
    return replace(known, legs=tuple(legs), drain=timedelta(seconds=float(stored["drainSeconds"])))


def _length(text: object) -> timedelta | None:
    try:
        return parse_duration(str(text))
    except ValueError:
        return None


def _items(reading: Reading | None, what: str, unseen: list[str]) -> list[Object]:
    if reading is None:
        return []
    try:
        return list((reading.value_or({}) or {}).get("items") or ())
    except ClusterError as error:
        unseen.append(f"not shown: {what}: {error.message}")
        return []


def _tried(status: ModelReleaseStatus) -> str | None:
    """The revision that the screen is about: on its way, or gone back last."""
    if status.candidate is not None:
        return status.candidate.key
    rests = told.phase_of(status) in (Phase.ROLLED_BACK, Phase.BLOCKED)
    return status.quarantine[0].key if rests and status.quarantine else None


def _revisions(items: Iterable[Object], owner: str) -> dict[str, Object]:
    """By key, the data of the release's ControllerRevisions; those of a newer format are left out."""
    found: dict[str, Object] = {}
    for item in items:
        data = item.get("data") or {}
        mine = any(ref.get("uid") == owner for ref in item["metadata"].get("ownerReferences") or ())
        if mine and data.get("format") == FORMAT:
            found[f"{data['revision']}-{data['rules']}"] = data
    return found


# -- pods -------------------------------------------------------------------------------------------------------------
def _nodes(cluster: Cluster, pods: list[Object], unseen: list[str]) -> dict[str, Mapping[str, str]]:
    """Labels of the nodes whose pods hold an accelerator: only there they tell something."""
    names = sorted({_node(pod) for pod in pods if _node(pod) and hardware_of(pod, _PROBE)})[:NODES_READ]
    reads = {name: cluster.start(f"/api/v1/nodes/{name}") for name in names}
    found: dict[str, Mapping[str, str]] = {}
    for name, reading in reads.items():
        try:
            node = reading.value_or()
        except ClusterError as error:
            sentence = f"not shown: which GPUs: {error.message}"
            if not any(item.startswith("not shown: which GPUs") for item in unseen):
                unseen.append(sentence)
            continue
        found[name] = (node or {}).get("metadata", {}).get("labels") or {}
    return found


def _pods(
    items: Iterable[Object], labels: Mapping[str, Mapping[str, str]], rates: Mapping[str, float]
) -> Iterable[Pod]:
    for item in items:
        name, status = item["metadata"]["name"], item.get("status") or {}
        conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
        containers = status.get("containerStatuses") or ()
        yield Pod(
            name=name,
            revision=item["metadata"]["labels"].get(REVISION_LABEL, ""),
            state=_state(item, ready=conditions.get("Ready") == "True"),
            ready=conditions.get("Ready") == "True" and "deletionTimestamp" not in item["metadata"],
            node=_node(item),
            hardware=hardware_of(item, labels.get(_node(item), {})),
            restarts=sum(int(one.get("restartCount") or 0) for one in containers),
            rate=rates.get(name),
        )


def _state(pod: Object, *, ready: bool) -> str:
    """One word, as kubectl get pods would say it, but `ready` where it is."""
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return "ending"
    if ready:
        return "ready"
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = one.get("state") or {}
        for kind in ("waiting", "terminated"):
            word = (state.get(kind) or {}).get("reason")
            if word and word not in ("Completed", "PodInitializing"):
                return str(word)
    for one in status.get("conditions") or ():
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return str(one.get("reason") or "Unschedulable")
    return str(
        status.get("reason") or ("not ready" if status.get("phase") == "Running" else status.get("phase") or "-")
    )


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName") or "")


def _rates(status: ModelReleaseStatus, stored: Object | None) -> dict[str, float]:
    """Bad share by pod of the candidate, for the check that decides, once it leans to a rollback.

    Until then nobody asks which pod it is, and what reads the evidence takes long to import.
    """
    check = told.deciding(status)
    if stored is None or check is None or not (check.evidence_percent >= told.LEANING or check.verdict == "Fail"):
        return {}
    from modelrelease.core import checks
    from modelrelease.core.revision import from_data

    try:
        evidence = checks.decode(status.evidence, from_data(stored))
    except (KeyError, TypeError, ValueError):
        return {}
    memory = evidence.checks.get(check.name) if evidence else None
    names, counts = (evidence.pods if evidence else ()), getattr(memory, "pods", ())
    return {name: one.rate for name, one in zip(names, counts, strict=False) if one.rate is not None}


# -- approvals --------------------------------------------------------------------------------------------------------
def _approvals(items: Iterable[Object], status: ModelReleaseStatus, release: str) -> Iterable[Approval]:
    """Those of the candidate under its rules."""
    candidate = status.candidate
    for item in items:
        spec = item.get("spec") or {}
        asked = (candidate.revision, candidate.rules) if candidate else None
        if spec.get("release") != release or (spec.get("revision"), spec.get("rules")) != asked:
            continue
        said = datetime.fromisoformat(item["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
        user = str((spec.get("approver") or {}).get("username") or "somebody")
        yield Approval(str(spec.get("gate")), str(spec.get("decision")), user, said, str(spec.get("comment") or ""))
