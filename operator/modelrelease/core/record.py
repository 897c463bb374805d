"""What a ReleaseRecord says: built when a rollout ends, kept in status until the record has been seen, told to sinks.

    ending(...)         -> EndingStatus            the rollout as status keeps it, at most 8 KiB of details
    spec_of(ending, ..) -> ReleaseRecordSpec       the record, once its place in the chain is known
    events(...)         -> CloudEvents             what is told of it

The chain: a record names the digest of the one before it, over its spec as canonical JSON, so that a record that was
changed, replaced or taken out shows. The name follows from release, begin and revision alone: whoever tries to create
the record of a rollout a second time finds it there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from modelrelease import __version__
from modelrelease.api.approval import RecordedApproval
from modelrelease.api.base import API_VERSION, GROUP, NAME_LABEL, PARAGRAPH_MAX, REVISION_LABEL, clip, format_time
from modelrelease.api.reasons import Reason
from modelrelease.api.record import (
    PreviousRecord,
    RecordedModel,
    RecordEvent,
    ReleaseRecordSpec,
    RetrainCause,
)
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import (
    CandidateStatus,
    CheckStatus,
    CommandStatus,
    EndingStatus,
    GateStatus,
    RecordedLineage,
    TimelineEntry,
)

from .revision import Revision

SEQUENCE_LABEL = f"{GROUP}/record"
DETAILS_MAX = 8192
TIMELINE_MAX = 40
_TIMELINE_HEAD = 10  # how it began stays when the middle of a long story has to go
_RAW_MAX = 192 * 1024  # of details as JSON, so that a record stays below its 256 KiB
_FORMAT = "1"
_LEVELS: tuple[int | None, ...] = (None, 96, 32)  # characters left of texts for people
_RETRAIN_MAX = 8
_SLICE = re.compile(r"\[([^\[\]]{1,128})\]")
_EVENTS = {
    "Promoted": RecordEvent.PROMOTED,
    "RolledBack": RecordEvent.ROLLED_BACK,
    "Blocked": RecordEvent.BLOCKED,
    "Superseded": RecordEvent.SUPERSEDED,
    "Dropped": RecordEvent.DROPPED,
}
WEBHOOK_EVENTS = frozenset({RecordEvent.PROMOTED, RecordEvent.ROLLED_BACK, RecordEvent.BLOCKED, RecordEvent.RETRAIN})
"""What a webhook is told; the log is told everything."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen during a rollout, as it stands when it ends."""

    gates: tuple[GateStatus, ...] = ()
    checks: tuple[CheckStatus, ...] = ()
    evidence: str | None = None
    commands: tuple[CommandStatus, ...] = ()
    approvals: tuple[RecordedApproval, ...] = ()
    lineage: RecordedLineage | None = None
    champion: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: its release and its place in the chain."""

    namespace: str
    release: str
    uid: str
    sequence: int = 1
    previous: PreviousRecord | None = None


def record_name(release: str, started_at: datetime, revision: str) -> str:
    """<release>-<begin in UTC to the millisecond>-<revision>: a DNS name of at most 85 characters."""
    at = started_at.astimezone(UTC)
    return f"{release}-{at:%Y%m%dt%H%M%S}{at.microsecond // 1000:03d}z-{revision}"


def digest(value: BaseModel | Mapping[str, Any]) -> str:
    """sha256:<hex> over canonical JSON: keys sorted, no spaces, whole numbers without a fraction."""
    data = plain(value) if isinstance(value, BaseModel) else _whole(value)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def plain(value: BaseModel) -> dict[str, Any]:
    """As it stands in the cluster. The API server may write 1.0 as 1, so we do it first."""
    data: dict[str, Any] = _whole(value.model_dump(mode="json", by_alias=True, exclude_none=True))
    return data


def spec_digest(spec: ModelReleaseSpec | None) -> str:
    """Digest of a release's spec, empty where it cannot be read."""
    return digest(spec) if spec is not None else ""


def noted(timeline: tuple[TimelineEntry, ...], entry: TimelineEntry) -> tuple[TimelineEntry, ...]:
    """The timeline with an entry more, unless it says again what the last one says; the middle of a long one goes."""
    last = timeline[-1] if timeline else None
    if last is not None and last.model_copy(update={"at": entry.at}) == entry:
        return timeline
    grown = (*timeline, entry)
    return grown if len(grown) <= TIMELINE_MAX else (*grown[:_TIMELINE_HEAD], *grown[_TIMELINE_HEAD + 1 :])


def ending(
    release: str,
    candidate: CandidateStatus,
    revision: Revision | None,
    outcome: str,
    reason: str,
    message: str,
    seen: Seen,
    now: datetime,
) -> EndingStatus:
    """The rollout of `candidate` as it ended now."""
    details = {
        "generation": candidate.generation,
        "specDigest": candidate.spec_digest,
        "message": clip(message, PARAGRAPH_MAX),
        "model": plain(
            RecordedModel(
                name=revision.model if revision else "",
                version=candidate.version,
                uri=revision.uri[:2048] if revision else "",
            )
        ),
        "champion": seen.champion,
        "lineage": plain(seen.lineage or _lineage(seen.gates)),
        "gates": [plain(item) for item in seen.gates],
        "approvals": [plain(item) for item in seen.approvals],
        "timeline": [plain(item) for item in candidate.timeline],
        "checks": [plain(item) for item in seen.checks],
        "evidence": seen.evidence,
        "commands": [plain(item) for item in seen.commands if item.at >= candidate.started_at],
        "retrain": [plain(item) for item in _causes(candidate, revision, reason, seen, now)],
    }
    return EndingStatus(
        name=record_name(release, candidate.started_at, candidate.revision),
        version=candidate.version,
        revision=candidate.revision,
        rules=candidate.rules,
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=candidate.started_at,
        ended_at=now,
        details=_pack({key: value for key, value in details.items() if value is not None}),
    )


def spec_of(item: EndingStatus, place: Place) -> ReleaseRecordSpec:
    """The record of an ending. Where its details cannot be read, the record says what is known and that it is not all.

    Raises ValueError for an outcome that this version does not know.
    """
    known = {
        "release": place.release,
        "namespace": place.namespace,
        "uid": place.uid,
        "sequence": place.sequence,
        "previous": place.previous,
        "operatorVersion": __version__,
        "revision": item.revision,
        "rules": item.rules,
        "outcome": item.outcome,
        "reason": item.reason,
        "message": item.message,
        "startedAt": item.started_at,
        "endedAt": item.ended_at,
    }
    details = _unpack(item.details)
    least = {"model": {"name": "", "version": item.version}, "complete": False}
    try:
        return ReleaseRecordSpec.model_validate({**known, **(details if details is not None else least)})
    except ValidationError:
        return ReleaseRecordSpec.model_validate({**known, **least})


def body_of(name: str, spec: ReleaseRecordSpec) -> dict[str, Any]:
    """The object to create. It has no owner: the trail outlives the release."""
    labels = {
        NAME_LABEL: spec.release,
        REVISION_LABEL: spec.revision,
        SEQUENCE_LABEL: str(spec.sequence),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "ReleaseRecord",
        "metadata": {"name": name, "namespace": spec.namespace, "labels": labels},
        "spec": plain(spec),
    }


def chain_problem(specs: Iterable[tuple[str, Mapping[str, Any]]]) -> str | None:
    """What is wrong with a chain of (name, spec), oldest first; None where every link holds.

    The first one may name a record that retention has deleted.
    """
    before: tuple[str, Mapping[str, Any]] | None = None
    for name, spec in specs:
        if before is not None:
            link = spec.get("previous") or {}
            if link.get("name") != before[0]:
                return f"{name} follows {link.get('name') or 'nothing'}, not {before[0]}"
            if link.get("digest") != digest(before[1]):
                return f"{before[0]} is not what {name} says it was"
        before = (name, spec)
    return None


def event_types(spec: ReleaseRecordSpec) -> tuple[RecordEvent, ...]:
    """What is told of a record, in this order."""
    out = (_EVENTS[spec.outcome],)
    return (*out, RecordEvent.RETRAIN) if spec.retrain else out


def cloud_event(name: str, uid: str, spec: ReleaseRecordSpec, kind: RecordEvent) -> dict[str, Any]:
    """One CloudEvent 1.0. Its id is the same at every attempt, so that a receiver can tell a repetition."""
    where = f"/apis/{API_VERSION}/namespaces/{spec.namespace}"
    data: dict[str, Any] = {
        "namespace": spec.namespace,
        "release": spec.release,
        "model": plain(spec.model),
        "champion": spec.champion,
        "revision": spec.revision,
        "outcome": spec.outcome,
        "reason": spec.reason,
        "message": spec.message,
        "startedAt": format_time(spec.started_at),
        "endedAt": format_time(spec.ended_at),
        "record": {"name": name, "uid": uid, "sequence": spec.sequence, "digest": digest(spec)},
    }
    if kind is RecordEvent.RETRAIN:
        data["causes"] = [plain(item) for item in spec.retrain]
        data["lineage"] = plain(spec.lineage) if spec.lineage else {}
    return {
        "specversion": "1.0",
        "id": f"{uid}.{kind.value.rpartition('.')[2]}",
        "type": kind.value,
        "source": f"{where}/modelreleases/{spec.release}",
        "subject": f"{spec.model.name}/{spec.model.version}",
        "time": format_time(spec.ended_at),
        "datacontenttype": "application/json",
        "sequence": f"{spec.sequence:010d}",
        "data": {key: value for key, value in data.items() if value is not None},
    }


# -- what is to blame ----------------------------------------------------------------------------------------------
def _causes(
    candidate: CandidateStatus, revision: Revision | None, reason: str, seen: Seen, now: datetime
) -> list[RetrainCause]:
    """Checks that rolled it back, or gates on slices that blocked it."""
    exposed = next((item.at for item in candidate.timeline if item.event == "Set" and item.weight > 0), None)
    out = []
    if reason == Reason.CHECK_FAILED.value:
        until = candidate.returning.since if candidate.returning else now
        out = [
            RetrainCause(
                kind="check",
                name=item.name,
                message=item.message,
                value=item.canary.rate if item.canary else None,
                champion=item.stable.rate if item.stable else None,
                threshold=item.allowed,
                samples=item.canary.total if item.canary else None,
                since=exposed or candidate.started_at,
                until=until,
            )
            for item in seen.checks
            if item.verdict == "Fail"
        ]
    elif reason == Reason.GATE_FAILED.value and revision is not None:
        sliced = {gate.name for gate in revision.gates if gate.slices is not None}
        out = [
            RetrainCause(
                kind="slice",
                name=item.name,
                slice=(found := _SLICE.search(item.message)) and found[1],
                message=item.message,
                value=item.value,
                champion=item.champion,
                threshold=item.threshold,
                samples=item.samples,
                dataset=item.dataset,
                since=item.read_at,
                until=now,
            )
            for item in seen.gates
            if item.name in sliced and item.verdict == "Fail" and not item.advisory
        ]
    return out[:_RETRAIN_MAX]


def _lineage(gates: tuple[GateStatus, ...]) -> RecordedLineage:
    """What the gates tell of where the version comes from."""
    return RecordedLineage(
        run=next((item.run for item in gates if item.run), None),
        evaluated_on=next((item.dataset for item in gates if item.dataset), None),
    )


# -- the compact string ---------------------------------------------------------------------------------------------
def _pack(details: dict[str, Any]) -> str | None:
    """Compressed, with texts for people shortened as far as the bound asks for; None where even that is too much."""
    for level in _LEVELS:
        cut = details if level is None else {**_short(details, level), "complete": False}
        raw = json.dumps(cut, separators=(",", ":"), ensure_ascii=False).encode()
        text = f"{_FORMAT}{base64.b64encode(zlib.compress(raw, 9)).decode('ascii')}"
        if len(text) <= DETAILS_MAX and len(raw) <= _RAW_MAX:
            return text
    return None


def _unpack(text: str | None) -> dict[str, Any] | None:
    """None where there are none, or where they are of another format or spoilt."""
    if not text or not text.startswith(_FORMAT):
        return None
    try:
        unzip = zlib.decompressobj()
        raw = unzip.decompress(base64.b64decode(text[1:], validate=True), _RAW_MAX)
        data = json.loads(raw)
    except (binascii.Error, zlib.error, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _short(details: dict[str, Any], level: int) -> dict[str, Any]:
    texts = {"message", "result", "dataset", "source", "command"}

    def cut(item: dict[str, Any]) -> dict[str, Any]:
        return {key: value[:level] if key in texts and isinstance(value, str) else value for key, value in item.items()}

    return {key: [cut(item) for item in value] if isinstance(value, list) else value for key, value in details.items()}


def _whole(value: Any) -> Any:
    match value:
        case bool():
            return value
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case list() | tuple():
            return [_whole(item) for item in value]
        case _:
            return value
