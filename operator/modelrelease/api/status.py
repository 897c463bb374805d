"""ModelRelease.status: the only memory of the operator, together with the revisions that it names.

Everything that should exist is a function of it (`core.render`). Strings for people are under `summary` and `message`;
nothing in them changes at every poll.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from .approval import APPROVALS_MAX, RecordedApproval
from .base import Paragraph, Phrase, Sentence, StatusModel, Time, Word, list_map

Slot = Literal["a", "b"]


class Stage(StrEnum):
    """Where a candidate stands; `status.phase` is derived from it and from what it waits for."""

    GATING = "Gating"
    STARTING = "Starting"
    SHIFTING = "Shifting"
    BAKING = "Baking"
    RETURNING = "Returning"


class Outcome(StrEnum):
    """What becomes of a candidate whose traffic is being taken back."""

    ROLLED_BACK = "RolledBack"  # quarantined
    SUPERSEDED = "Superseded"  # a newer revision is wanted
    DROPPED = "Dropped"  # the spec went back to what serves


class RevisionStatus(StatusModel):
    """A revision by its two digests; the ControllerRevision <release>-<revision>-<rules> holds the rest."""

    revision: Word = Field(description="Digest of what runs: model version, pod template, runtime, ports.")
    rules: Word = Field(description="Digest of how it is judged: effective gates, checks and phases.")
    version: Word = Field(description="Version of the model in the registry.")
    model: Annotated[str, Field(max_length=256)] = Field("", description="Name of the model in the registry.")
    slot: Slot = Field(description="Which of the two Services points at it.")
    replicas: int = Field(0, description="Pods that it should have.")
    ready: int = Field(0, description="Pods that are ready.")

    @property
    def key(self) -> str:
        """What quarantine and the name of the ControllerRevision go by."""
        return f"{self.revision}-{self.rules}"


class ArtifactPin(StatusModel):
    """A digest of the model's files."""

    source: Word = Field(description="Where it is from: the MLmodel file and the list of files, or a tag.")
    digest: Word = Field(description="The digest.")


class StableStatus(RevisionStatus):
    """The revision that serves, the champion of this release."""

    started_at: Time | None = Field(None, description="When its rollout began.")
    promoted_at: Time = Field(description="When it was promoted.")
    artifact: Annotated[tuple[ArtifactPin, ...], Field(max_length=4, json_schema_extra=list_map("source"))] = Field(
        (), description="The model's files as they were when its release began; gates of kind artifact compare."
    )
    no_longer_passes: Sentence = Field(
        "", description="Names of its gates that would stop it now, read about daily; nothing is done about it."
    )


class PreviousStatus(RevisionStatus):
    """The revision that served before: its pods end when its last requests had their time, its record is kept a day."""

    started_at: Time | None = Field(None, description="When its rollout began.")
    replaced_at: Time = Field(description="When its successor was promoted.")
    drained_at: Time | None = Field(None, description="When its last requests had had their time to end.")


class ReturnStatus(StatusModel):
    """A return of traffic to the stable revision that is under way."""

    outcome: Outcome = Field(description="What becomes of the candidate afterwards.")
    reason: Word = Field(description="Reason of the return.")
    message: Paragraph = Field(description="What was seen, for people.")
    since: Time = Field(description="When it was decided.")
    confirmed_at: Time | None = Field(None, description="When the gateway had confirmed weight 0.")


class TimelineEntry(StatusModel):
    """One thing that happened to the weight of a rollout."""

    at: Time = Field(description="When.")
    event: Literal["Set", "Confirmed", "Held", "Retreated", "Returning"] = Field(
        description="Set and Confirmed: the weight; Held: it may not rise; Retreated, Returning: it was taken back."
    )
    phase: Annotated[str, Field(max_length=63)] = Field("", description="Name of the phase.")
    weight: int = Field(description="Percent of traffic that the candidate had from then on.")
    reason: Annotated[str, Field(max_length=40)] = Field("", description="Why, one word; empty for weights.")


class RetreatStatus(StatusModel):
    """Why the candidate has no traffic for a while, though nobody blames it."""

    reason: Word = Field(description="One word.")
    message: Paragraph = Field(description="What was seen, and when it is tried again.")
    until: Time = Field(description="When it is given traffic again.")
    count: int = Field(description="How often this happened in the present phase; the pause doubles each time.")


class RecordedLineage(StatusModel):
    """Where the model version comes from, as far as the registry says."""

    run: Word | None = Field(None, description="Id of the run that made it.")
    dataset: Phrase | None = Field(None, description="Name and digest of its training data.")
    evaluated_on: Phrase | None = Field(None, description="Name and digest of its evaluation data.")
    git_commit: Word | None = Field(None, description="Commit that it was trained from.")
    clean_tree: bool | None = Field(None, description="Whether that commit was all there was.")
    features: Phrase | None = Field(None, description="Feature set.")


class CandidateStatus(RevisionStatus):
    """The revision that is on its way."""

    stage: Stage = Field(description="Gating, Starting, Shifting, Baking or Returning.")
    started_at: Time = Field(description="When the rollout began.")
    step: int = Field(0, description="Index of the current phase.")
    stage_since: Time = Field(description="When the current stage or phase began.")
    clock_runs: bool = Field(False, description="Whether time counts against the deadline or timeout now.")
    waited_seconds: float = Field(
        0, description="Seconds of the current stage or phase that count against its deadline or timeout."
    )
    waited_until: Time | None = Field(None, description="Until when waitedSeconds is counted.")
    carries: int = Field(0, description="Ready pods that its present weight was given for.")
    ready_since: Time | None = Field(None, description="Since when enough pods are ready without a break.")
    exposed: bool = Field(False, description="True once it was given traffic.")
    hurried: bool = Field(False, description="A person ended the waits for time and evidence (command promote).")
    skipped: int | None = Field(
        None,
        description="Index of the phase whose waits for time and evidence a person ended (command skip); the bake "
        "counts as the one after the last.",
    )
    fast: bool = Field(False, description="True for a revision that this release promoted before: no gates, no phases.")
    artifact: Annotated[tuple[ArtifactPin, ...], Field(max_length=4, json_schema_extra=list_map("source"))] = Field(
        (), description="The model's files as they were when the release began; gates of kind artifact compare."
    )
    lineage: RecordedLineage | None = Field(None, description="Where it comes from, as the registry said last.")
    retreats: int = Field(
        0, description="How often its traffic was taken back because pods were lost, not because it was worse."
    )
    retreat: RetreatStatus | None = Field(
        None, description="The last time in this phase that its traffic was taken back as none of it arrived."
    )
    exposure: str | None = Field(
        None, max_length=4096, description="What was watched of its requests lately, one versioned compact string."
    )
    approvals: tuple[RecordedApproval, ...] = Field(
        (), max_length=APPROVALS_MAX, description="Approvals of it that count now, newest last."
    )
    returning: ReturnStatus | None = Field(None, description="The return of its traffic, while that is under way.")
    generation: int = Field(0, description="Generation of the spec that started the rollout.")
    spec_digest: Word = Field("", description="sha256:<hex> over that spec.")
    recorded: bool = Field(False, description="Its gates blocked it, and a ReleaseRecord was ordered that says so.")
    timeline: tuple[TimelineEntry, ...] = Field((), max_length=40, description="Its weights, and what held them.")


class TrafficStatus(StatusModel):
    """The weights that the route is told, and since when the gateway has confirmed them."""

    a: int = Field(description="Percent to Service <release>-a.")
    b: int = Field(description="Percent to Service <release>-b.")
    set_at: Time = Field(description="When these weights were decided.")
    confirmed_at: Time | None = Field(None, description="When the route was accepted with these weights.")
    route: Phrase | None = Field(None, description="Name of the HTTPRoute, where it is not the release's own.")
    rule: Phrase | None = Field(None, description="Name of its rule, where one was named.")


class StepStatus(StatusModel):
    """The phase of the rollout as people count it."""

    name: Word = Field(description="Name of the phase.")
    number: int = Field(description="Number of the phase, from 1.")
    of: int = Field(description="How many phases there are.")
    weight: int = Field(description="Percent of traffic that the phase allows the candidate.")
    since: Time | None = Field(None, description="Since when the gateway confirmed this weight.")
    forecast: Sentence = Field(
        "", description="What the phase can find, and how many requests and how long a verdict takes; told once."
    )
    decides: bool | None = Field(
        None, description="Whether every check can come to a verdict within the timeout; absent while nobody knows."
    )


class GateStatus(StatusModel):
    """What a gate saw."""

    name: Word = Field(description="Name of the gate.")
    verdict: Literal["Pass", "Fail", "Unavailable", "InsufficientData", "Waiting"] = Field(
        description="Its verdict; Waiting is for people who have to approve, or another release."
    )
    message: Sentence = Field(description="Seen against needed.")
    value: float | None = Field(None, description="The candidate's value; of the worst slice, for slices.")
    champion: float | None = Field(None, description="The champion's value.")
    threshold: float | None = Field(None, description="What was needed.")
    samples: int | None = Field(None, description="On how many samples the candidate's value rests, where logged.")
    champion_samples: int | None = Field(None, description="The same for the champion's value.")
    dataset: Phrase | None = Field(None, description="Name and digest of the evaluation data set.")
    source: Phrase | None = Field(None, description="LoggedModel, or Run, which does not tell the data set of a value.")
    run: Annotated[str, Field(max_length=40)] | None = Field(None, description="Id of the run that made the version.")
    origin: Annotated[str, Field(max_length=63)] | None = Field(
        None, description="Where the gate comes from: spec, or the name of a policy."
    )
    advisory: bool = Field(False, description="It is reported and stops nothing.")
    read_at: Time | None = Field(None, description="When the registry was read for this entry.")
    since: Time | None = Field(None, description="Since when the verdict is what it is.")
    passed: bool = Field(False, description="It has passed in this rollout: one that does not any more was revoked.")


class ArmStatus(StatusModel):
    """Counts of one arm since the evidence began."""

    total: int = Field(description="Requests counted.")
    bad: int = Field(description="Of them failed or too slow.")
    rate: float | None = Field(None, description="bad / total.")


class CheckStatus(StatusModel):
    """What an online check saw."""

    name: Word = Field(description="Name of the check.")
    verdict: Literal["Pass", "Fail", "Waiting", "NoData", "Unavailable"] = Field(description="Its verdict.")
    message: Sentence = Field(description="One sentence for people.")
    canary: ArmStatus | None = Field(None, description="Counts of the candidate.")
    stable: ArmStatus | None = Field(None, description="Counts of the stable revision.")
    allowed: float | None = Field(None, description="Rate that the margin allows the candidate.")
    evidence_percent: int = Field(
        0, description="How much of the evidence that a rollback needs has been seen, in percent."
    )
    requests_needed: int | None = Field(None, description="About how many more requests of the candidate a Pass needs.")
    reason: Word | None = Field(None, description="Why it has no Pass or Fail, unless it only needs requests.")
    bound: int | None = Field(
        None, description="Which of several latency bounds the counts are of: 0 for slowerThan, then alsoSlowerThan."
    )
    detectable: float | None = Field(
        None, description="Smallest rate of the candidate that so many requests reveal, in four rollouts of five."
    )
    load: float | None = Field(
        None, description="Requests of a candidate's pod for each one of a stable pod in this phase, for latencies."
    )
    left_out: float | None = Field(
        None, description="Share of the candidate's requests in this phase that ran on hardware which stable lacks."
    )
    pods: Sentence | None = Field(None, description="Whether one of several pods is to blame, once a rollback is near.")
    origin: Annotated[str, Field(max_length=63)] | None = Field(
        None, description="Where the check comes from: spec, runtime (its default checks), or the name of a policy."
    )
    query: str | None = Field(
        None, max_length=512, description="PromQL that shows the counters of bad requests, by revision."
    )


class Condition(StatusModel):
    """A Kubernetes condition."""

    type: Word = Field(description="Type of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Word = Field(description="One word of a fixed list.")
    message: Paragraph = Field(description="For people.")
    observed_generation: int = Field(description="Generation of the spec that it speaks of.")
    last_transition_time: Time = Field(description="When status last changed.")


class HistoryEntry(StatusModel):
    """How a rollout ended."""

    version: Word = Field(description="Version of the model.")
    revision: Word = Field(description="Digest of what ran.")
    outcome: Word = Field(description="Promoted, RolledBack, Superseded or Dropped.")
    reason: Word = Field(description="Reason of the outcome.")
    message: Sentence = Field(description="What was seen.")
    started_at: Time = Field(description="When the rollout began.")
    ended_at: Time = Field(description="When it ended.")


class RollbackStatus(StatusModel):
    """The last return of traffic because of harm."""

    version: Word = Field(description="Version that lost its traffic.")
    revision: Word = Field(description="Its digest.")
    reason: Word = Field(description="Reason of the return, one word.")
    message: Paragraph = Field(description="What was seen.")
    decided_at: Time = Field(description="When the verdict fell.")
    routed_at: Time | None = Field(None, description="When the gateway had confirmed 100 % on the stable revision.")
    seconds: float | None = Field(None, description="From verdict to the confirmed route.")


class QuarantineEntry(StatusModel):
    """A revision that failed and is not tried again under the same rules."""

    key: Word = Field(description="<revision>-<rules>.")
    version: Word = Field(description="Version of the model.")
    outcome: Literal["RolledBack", "Blocked"] = Field(
        description="RolledBack, or Blocked where nothing could take over."
    )
    reason: Word = Field(description="Reason of the return, one word.")
    message: Sentence = Field(description="What was seen.")
    since: Time = Field(description="Since when.")


class CommandStatus(StatusModel):
    """A command of a person and what became of it."""

    command: Sentence = Field(description="As it stood in the annotation.")
    result: Sentence = Field(description="Accepted, or why it was ignored.")
    at: Time = Field(description="When it was read.")
    by: Phrase = Field("", description="Who gave it, as the API server authenticated them, or that they did not say.")


class AliasStatus(StatusModel):
    """The registry alias that this release moves."""

    alias: Word = Field(description="Name of the alias.")
    version: Word = Field(description="Version that it should point at.")
    former: Word | None = Field(None, description="Version that it pointed at before.")
    state: Literal["Pending", "Written", "Restoring", "Restored", "Lost"] = Field(
        description="Pending and Restoring are still to be written; Lost: somebody else moved or removed it."
    )
    message: Sentence = Field("", description="Why it is not written yet; empty where nothing is wrong.")
    reason: Word = Field("", description="The reason for that in one word, for example AliasWriteNotAllowed.")


class TagStatus(StatusModel):
    """The tag of this release on one model version in the registry."""

    version: Word = Field(description="Version of the model.")
    value: Phrase = Field(description="What it should say.")
    state: Literal["Pending", "Written", "Denied"] = Field(
        description="Pending is still to be written; Denied: the registry or the operator's configuration refuses it."
    )
    message: Sentence = Field("", description="Why it was refused; empty where it was not.")


class EndingStatus(StatusModel):
    """A rollout that has ended and whose ReleaseRecord has not been seen yet."""

    name: str = Field(max_length=253, description="Name of the ReleaseRecord to be created.")
    version: Word = Field(description="Version of the model.")
    revision: Word = Field(description="Digest of what ran.")
    rules: Word = Field(description="Digest of how it was judged.")
    outcome: Word = Field(description="Promoted, RolledBack, Blocked, Superseded or Dropped.")
    reason: Word = Field(description="Reason of the outcome.")
    message: Sentence = Field("", description="What was seen.")
    started_at: Time = Field(description="When the rollout began.")
    ended_at: Time = Field(description="When it ended.")
    details: str | None = Field(
        None, max_length=8192, description="All else that the record will say, one versioned compact string."
    )


class Summary(StatusModel):
    """The columns of kubectl get."""

    serving: Word = Field("-", description="Version and ready pods that serve.")
    candidate: Word = Field("-", description="Version and ready pods on their way.")
    step: Word = Field("-", description="Phase of the rollout.")
    weight: Word = Field("-", description="Percent of traffic on the candidate.")
    why: Sentence = Field("", description="Why it stands where it stands.")
    since: Time | None = Field(None, description="Since when.")


class ModelReleaseStatus(StatusModel):
    """What the operator knows and has decided."""

    observed_generation: int = Field(0, description="Generation of the spec that this status speaks of.")
    sequence: int = Field(0, description="Rises with every decision; children carry the one they were written under.")
    phase: Literal[
        "Pending",
        "Gating",
        "Blocked",
        "Progressing",
        "Held",
        "Baking",
        "Promoted",
        "RollingBack",
        "RolledBack",
        "Invalid",
    ] = Field("Pending", description="Where the release stands.")
    message: Paragraph = Field("", description="What is seen, what happens next.")
    summary: Summary = Field(Summary(), description="The columns of kubectl get.")
    replicas: int = Field(0, description="Ready pods of the stable revision, for the scale subresource.")
    selector: str = Field(
        "", max_length=512, description="Label selector of the stable revision's pods, for the scale subresource."
    )
    stable: StableStatus | None = Field(None, description="The revision that serves.")
    candidate: CandidateStatus | None = Field(None, description="The revision on its way.")
    previous: PreviousStatus | None = Field(None, description="The revision that served before.")
    traffic: TrafficStatus | None = Field(None, description="Weights of the route.")
    step: StepStatus | None = Field(None, description="The current phase of the rollout.")
    paused: bool = Field(False, description="A person paused the rollout.")
    refreshed_at: Time | None = Field(
        None, description="When counts and texts were last written; at most once a minute."
    )
    gates: Annotated[tuple[GateStatus, ...], Field(max_length=64, json_schema_extra=list_map())] = Field(
        (), description="What the gates saw last."
    )
    checks: Annotated[tuple[CheckStatus, ...], Field(max_length=32, json_schema_extra=list_map())] = Field(
        (), description="What the checks saw last."
    )
    conditions: Annotated[tuple[Condition, ...], Field(max_length=12, json_schema_extra=list_map("type"))] = Field(
        (), description="Conditions, in the sense of Kubernetes' conventions."
    )
    history: tuple[HistoryEntry, ...] = Field((), max_length=10, description="The last rollouts, newest first.")
    last_rollback: RollbackStatus | None = Field(None, description="The last return of traffic because of harm.")
    quarantine: tuple[QuarantineEntry, ...] = Field(
        (), max_length=20, description="Revisions that are not tried again."
    )
    commands: tuple[CommandStatus, ...] = Field((), max_length=20, description="The last commands, newest first.")
    alias: AliasStatus | None = Field(None, description="The registry alias that this release moves.")
    tags: tuple[TagStatus, ...] = Field(
        (), max_length=4, description="Tags on model versions that say where they run, changed last at the end."
    )
    endings: tuple[EndingStatus, ...] = Field(
        (), max_length=3, description="Ended rollouts whose ReleaseRecord has not been seen yet, oldest first."
    )
    records_dropped: int = Field(
        0, description="How many ended rollouts went without a ReleaseRecord, because none could be created for long."
    )
    evidence: str | None = Field(
        None, max_length=16384, description="Accumulated evidence, one versioned compact string."
    )
