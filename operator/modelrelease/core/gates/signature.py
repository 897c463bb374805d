"""The gate signature: the candidate accepts every input that the model that serves today accepts.

Callers do not change with a rollout: a column that is new and required, or gone, fails their requests.
"""

from __future__ import annotations

from modelrelease.api.registry_gates import SignatureGate
from modelrelease.api.status import GateStatus

from .. import schema
from ..observation import Missing, ModelVersion, Unavailable
from ..schema import Schema
from .context import Context
from .findings import Findings, told, unread


def judge(
    name: str, _: SignatureGate, candidate: ModelVersion, champion: ModelVersion | None, __: Context
) -> GateStatus:
    """Pass where nothing the champion accepted is refused; the first three differences else."""
    found = Findings()
    accepted = _schema(candidate, f"version {candidate.version}", found)
    if champion is None:
        if accepted is not None:
            found.seen.append(f"accepts {_size(accepted)}; nothing serves yet to compare with")
        return found.conclude(name) if accepted or found.lacking or found.away else unread(name, "the MLmodel file")
    before = _schema(champion, f"the champion, version {champion.version},", found)
    if accepted is not None and before is not None:
        if different := schema.differences(before, accepted):
            found.failed.append(f"does not accept what version {champion.version} accepts: {told(different)}")
        else:
            found.seen.append(f"accepts what version {champion.version} accepts: {_size(before)}")
    elif not (found.lacking or found.away):
        return unread(name, "the MLmodel file")
    return found.conclude(name, source="MLmodel")


def _schema(version: ModelVersion, whose: str, found: Findings) -> Schema | None:
    """The input schema; where there is none, `found` says so, unless it has not been read."""
    match version.model_file:
        case None:
            return None
        case Unavailable(message=words):
            found.away.append(words)
            return None
        case Missing(message=words):
            found.lacking.append(words)
            return None
    if version.model_file.inputs is None:
        helps = "pass signature= or input_example= when the model is logged"
        found.lacking.append(f"{whose} has no signature of its inputs; {helps}")
        return None
    try:
        return schema.parse(version.model_file.inputs, version.model_file.params)
    except ValueError as error:
        found.away.append(f"the signature of {whose.rstrip(',')} cannot be read: {error}")
        return None


def _size(accepted: Schema) -> str:
    if accepted.tensors:
        first = accepted.tensors[0]
        more = f" and {len(accepted.tensors) - 1} more tensors" if len(accepted.tensors) > 1 else ""
        return f"{first.dtype} tensor ({', '.join(map(str, first.shape))}){more}"
    count = len(accepted.columns)
    return f"{count} column{'' if count == 1 else 's'}"
