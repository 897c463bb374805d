"""ReleaseRecord: the audit trail, one object for every rollout that ended. Only the operator writes it.

The spec says what ran, how it was judged, what was seen, who said yes, and how it ended; it never changes and names the
digest of the record before it. The status is the outbox: what has been told to whom. Here are the shapes and their
bounds; what goes into a record stands in `core.record`, when it is made and told in the engine.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from .approval import RecordedApproval
from .base import Paragraph, Phrase, Sentence, StatusModel, Time, Word, list_map
from .status import CheckStatus, CommandStatus, GateStatus, RecordedLineage, TimelineEntry

RECORD_MAX_BYTES = 256 * 1024
"""The most that a record takes as JSON, in bytes of UTF-8."""
Sink = Literal["log", "webhook"]


class RecordEvent(StrEnum):
    """What is told of a record, as the type of a CloudEvent."""

    PROMOTED = "dev.modelrelease.promoted"
    ROLLED_BACK = "dev.modelrelease.rolledback"
    BLOCKED = "dev.modelrelease.blocked"
    SUPERSEDED = "dev.modelrelease.superseded"
    DROPPED = "dev.modelrelease.dropped"
    RETRAIN = "dev.modelrelease.retrain"


class RecordedModel(StatusModel):
    """The model version that was rolled out."""

    name: Word = Field(description="Registered model.")
    version: Word = Field(description="Its version.")
    uri: str = Field("", max_length=2048, description="Its source, as it was pinned when its gates were read.")


class RetrainCause(StatusModel):
    """What a better version would have to be better at."""

    kind: Literal["check", "slice"] = Field(
        description="check: seen on users' requests; slice: seen in the evaluation."
    )
    name: Word = Field(description="Name of the check or gate that failed.")
    slice: Phrase | None = Field(None, description="The worst slice of the evaluation data.")
    message: Sentence = Field(description="Seen against needed.")
    value: float | None = Field(None, description="The candidate's value or bad share.")
    champion: float | None = Field(None, description="The same of the version that serves.")
    threshold: float | None = Field(None, description="What was needed or allowed.")
    samples: int | None = Field(None, description="Requests or samples that the value rests on.")
    dataset: Phrase | None = Field(None, description="Name and digest of the evaluation data set.")
    since: Time | None = Field(None, description="Begin of the window in which it was seen.")
    until: Time | None = Field(None, description="End of that window.")


class PreviousRecord(StatusModel):
    """The record before this one: a link of the chain."""

    name: str = Field(max_length=253, description="Its name.")
    digest: Word = Field(description="sha256:<hex> over its spec as canonical JSON.")


class ReleaseRecordSpec(StatusModel):
    """How one rollout went."""

    release: Word = Field(description="Name of the ModelRelease.")
    namespace: Word = Field(description="Its namespace.")
    uid: Word = Field(description="Its uid: another release of the same name has another one.")
    sequence: int = Field(ge=1, description="Number of the record in the chain of its release, from 1.")
    previous: PreviousRecord | None = Field(None, description="The record before it; absent for the first one.")
    operator_version: Word = Field(description="Version of the operator that wrote it.")
    generation: int = Field(0, description="Generation of the spec that started the rollout; 0 where it was lost.")
    spec_digest: Word = Field("", description="sha256:<hex> over that spec as canonical JSON.")
    revision: Word = Field(description="Digest of what ran.")
    rules: Word = Field(description="Digest of how it was judged.")
    model: RecordedModel = Field(description="The model version.")
    champion: Word | None = Field(None, description="Version that served when it ended or began; absent for none.")
    lineage: RecordedLineage | None = Field(None, description="Where the model version comes from.")
    outcome: Literal["Promoted", "RolledBack", "Blocked", "Superseded", "Dropped"] = Field(
        description="Promoted, RolledBack, Blocked, Superseded or Dropped."
    )
    reason: Word = Field(description="Reason of the outcome, one word.")
    message: Paragraph = Field("", description="What was seen, for people.")
    started_at: Time = Field(description="When the rollout began.")
    ended_at: Time = Field(description="When it ended.")
    gates: Annotated[tuple[GateStatus, ...], Field(max_length=64, json_schema_extra=list_map())] = Field(
        (), description="The gates as they were read last."
    )
    approvals: tuple[RecordedApproval, ...] = Field((), max_length=32, description="Who approved or denied it.")
    timeline: tuple[TimelineEntry, ...] = Field((), max_length=40, description="Its weights, and what held them.")
    checks: Annotated[tuple[CheckStatus, ...], Field(max_length=32, json_schema_extra=list_map())] = Field(
        (), description="The checks with their final counts."
    )
    evidence: str | None = Field(
        None, max_length=16384, description="Accumulated evidence at the end, as status.evidence of the release."
    )
    commands: tuple[CommandStatus, ...] = Field(
        (), max_length=20, description="Commands given during the rollout, newest first."
    )
    retrain: tuple[RetrainCause, ...] = Field(
        (), max_length=8, description="What a retraining should look at; empty where the model is not to blame."
    )
    complete: bool = Field(True, description="False where texts were shortened or details did not fit.")


class Delivery(StatusModel):
    """What has been told to one sink."""

    sink: Sink = Field(description="log or webhook.")
    event: Word = Field(description="Type of the CloudEvent.")
    state: Literal["Pending", "Delivered"] = Field("Pending", description="Pending or Delivered.")
    attempts: int = Field(0, description="How often it was tried.")
    last_error: Sentence = Field("", description="Why the last attempt failed; empty where none has.")
    delivered_at: Time | None = Field(None, description="When it was acknowledged.")


class ReleaseRecordStatus(StatusModel):
    """The outbox of one record."""

    state: Literal["Pending", "Exported"] = Field(
        "Pending", description="Exported once every delivery is acknowledged; only then may the record be deleted."
    )
    deliveries: tuple[Delivery, ...] = Field((), max_length=16, description="One for each sink and event.")
