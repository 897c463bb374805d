"""What the outside world looks like, as values: everything `decide` may know beyond spec and status.

A look-up that failed or is too old is a value as well (`Unavailable`), never an exception, so that a hung registry or
Prometheus cannot delay a rollback. Built by the engine and the clients, read by `core`; no decisions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.reasons import Reason
from modelrelease.api.status import ModelReleaseStatus

from .evidence import Counts
from .policies import Policy
from .revision import Revision
from .version_facts import FileEntry, ModelFile, Part, RunFacts, Unlisted


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Something could not be read. It freezes what depends on it, and harms nobody.

    `since` is when it was first missed, None when not known.
    """

    reason: Reason
    message: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """The source answered, and what was asked for does not exist: ModelNotFound, VersionNotFound, AliasNotFound."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One logged metric: the latest point by (step, timestamp) for its key and data set."""

    key: str
    value: float
    dataset: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model version as the registry describes it.

    source: the URI that is served (`models:/m-...`, s3://...). metrics_from: "LoggedModel" (metrics keep their data
    set) or "Run" (they lost it). status: READY, PENDING_REGISTRATION or FAILED_REGISTRATION. tags: the version's, above
    those of its run where that was read.

    parts: what was asked for; of the rest nothing is known. own_tags: the version's alone. model_tags: tags and, below
    them, params of the LoggedModel. run: None without a run, or where it was not read. files: by path.
    """

    name: str
    version: str
    source: str
    status: str
    read_at: datetime
    run_id: str | None = None
    metrics: tuple[MetricValue, ...] = ()
    metrics_from: str = "LoggedModel"
    tags: Mapping[str, str] = field(default_factory=dict)
    own_tags: Mapping[str, str] = field(default_factory=dict)
    model_tags: Mapping[str, str] = field(default_factory=dict)
    run: RunFacts | None = None
    run_link: str | None = None
    model_file: ModelFile | Missing | Unavailable | None = None
    files: tuple[FileEntry, ...] | Unlisted | Missing | Unavailable | None = None
    parts: frozenset[Part] = frozenset({Part.RUN})
    by_key: Mapping[str, tuple[MetricValue, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Order the metrics by name, once: gates look them up in every pass."""
        grouped: dict[str, tuple[MetricValue, ...]] = {}
        for item in self.metrics:
            grouped[item.key] = (*grouped.get(item.key, ()), item)
        object.__setattr__(self, "by_key", grouped)


Lookup = ModelVersion | Missing | Unavailable


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """Which version an alias points at now."""

    version: str
    read_at: datetime


@dataclass(frozen=True, slots=True)
class TagWritten:
    """A tag of a version says this now."""

    value: str


@dataclass(frozen=True, slots=True)
class RegistryView:
    """What the registry said last about one model; `model` names it, empty where nothing was asked for.

    versions: by version, for the candidate and the champion. aliases: by alias name, followed or written ones; an alias
    that does not exist is Missing. tags: by version, of tags to be written. A key that is absent has not been asked
    for yet.
    """

    versions: Mapping[str, Lookup] = field(default_factory=dict)
    aliases: Mapping[str, AliasTarget | Missing | Unavailable] = field(default_factory=dict)
    model: str = ""
    tags: Mapping[str, TagWritten | Missing | Unavailable] = field(default_factory=dict)

    def of(self, model: str) -> RegistryView:
        """What was said about this model: nothing yet where it was another one that was asked about."""
        return self if self.model == model else RegistryView()


class PodFault(StrEnum):
    """What keeps pods from being ready, told apart by who can help."""

    CRASH_LOOP = Reason.CRASH_LOOP.value
    OOM_KILLED = Reason.OOM_KILLED.value
    CONFIG_ERROR = Reason.CONFIG_ERROR.value  # a Secret, ConfigMap or key that the pod names is not there
    IMAGE_PULL_FAILED = Reason.IMAGE_PULL_FAILED.value
    UNSCHEDULABLE = Reason.UNSCHEDULABLE.value
    PODS_REFUSED = Reason.PODS_REFUSED.value  # quota, admission: no pod could be created
    PODS_LOST = Reason.PODS_LOST.value  # evicted, preempted, node gone


CRASHES = frozenset({PodFault.CRASH_LOOP, PodFault.OOM_KILLED})
CAPACITY = frozenset({PodFault.UNSCHEDULABLE, PodFault.PODS_REFUSED, PodFault.PODS_LOST})


@dataclass(frozen=True, slots=True)
class PodFacts:
    """Where and since when a pod runs.

    node: empty until it has one. hardware: the accelerator that it holds, as its node's labels name it (product and
    partition), empty where it holds none or nobody may read nodes. ready_since: None while it is not ready.
    """

    node: str
    hardware: str
    ready_since: datetime | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Workload:
    """The Deployment of one revision and its pods, read in this pass.

    replicas: as its spec says now. ready: pods that are Ready and not terminating. crashes: container terminations
    with a non-zero exit of pods that live, since they were created. loading: a pod is pulling its image or was started
    a moment ago.
    fault, fault_message: the pod problem that says most, with the pod's own words.
    pods: by name, those that end included, as their counts may still come; not those that failed.
    """

    revision: str
    replicas: int
    ready: int
    crashes: int = 0
    loading: bool = False
    fault: PodFault | None = None
    fault_message: str = ""
    pods: Mapping[str, PodFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteView:
    """The live HTTPRoute.

    weights: by slot ("a", "b") as they stand in its only rule. current: every parent reports Accepted=True and
    ResolvedRefs=True for the route's present generation. problem: what a parent says when it refuses.
    """

    weights: Mapping[str, int]
    current: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SlotView:
    """The live Service of a slot: which revision it selects and how many of its endpoints are ready."""

    revision: str
    ready_endpoints: int


@dataclass(frozen=True, slots=True)
class PodPoll:
    """What one pod did between two neighbouring grid points.

    counts: by check name, for each of its bounds (one where it has none) the requests and those that failed or were too
    slow; a check without an entry had no usable sample. gauges: by check name, its value at the end. in_flight: running
    and waiting requests at the end. progress: what its engine worked off (tokens, inferences). None where the runtime
    does not tell.
    """

    counts: Mapping[str, tuple[Counts, ...]] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    in_flight: float | None = None
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """Increments between two neighbouring grid points: by revision, then by pod."""

    at: datetime
    arms: Mapping[str, Mapping[str, PodPoll]]

    def counts(self, revision: str, check: str) -> tuple[Counts, ...]:
        """All its pods together, one Counts a bound; empty where no pod had a usable sample."""
        pods = [pod.counts[check] for pod in self.arms.get(revision, {}).values() if check in pod.counts]
        return tuple(
            Counts(sum(part.total for part in parts), sum(part.bad for part in parts))
            for parts in zip(*pods, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Samples:
    """What Prometheus gave since the evidence was checkpointed: whole polls in order, and what is wrong now, if any.

    Before the first answer `problem` says NoData: nothing may rise on what nobody has read yet.
    """

    polls: tuple[Poll, ...] = ()
    problem: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """The annotation modelrelease.dev/command, as it stands: <verb>@<revision>-<nonce>.

    by: who gave it, by the annotation modelrelease.dev/command-by; empty where that one is not of this command.
    """

    text: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """A ReleaseApproval for this release, as somebody wrote it. at: when, by the API server's clock.

    early: it is older than this release, or than the admission policy that would have checked it; why, in words.
    """

    name: str
    revision: str
    rules: str
    gate: str
    approves: bool
    user: str
    group: str | None
    duties_separated: bool
    comment: str
    at: datetime
    early: str = ""

    @property
    def key(self) -> str:
        """Key of the revision that it is for."""
        return f"{self.revision}-{self.rules}"


@dataclass(frozen=True, slots=True)
class Approvals:
    """What people said. problem: why none of it can be believed now; None in both where nobody has looked yet."""

    given: tuple[Approval, ...] | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateVerdict:
    """What the API server's dry-run said about the Deployment of one revision; refused is None when it accepted."""

    revision: str
    refused: str | None


@dataclass(frozen=True, slots=True)
class OtherRelease:
    """Another release of the namespace. model: that its spec names. waits_for: releases that gates of its spec name."""

    model: str
    status: ModelReleaseStatus
    waits_for: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Observation:
    """All that one pass saw.

    policy: of spec.policyRef, where there is one. spec_error: why the spec could not be read, None when it could.
    policy_missing: name of a policy that does not exist. enforced: policies that hold in the namespace, perhaps
    that of spec.policyRef among them. policies_unread: why it is not known what is enforced, None when it is.
    revisions: stored ControllerRevisions by key. promoted: keys of revisions this release has promoted, newest first;
    quarantined: keys with a rollback on record (both from the ControllerRevisions, to survive a lost status).
    recorded: names of the ReleaseRecords of ended rollouts that have been seen.
    route_missing: what is wrong with the HTTPRoute that spec.traffic.httpRoute names, None when nothing is.
    releases: other releases that gates name, None where one does not exist.
    conflicts: `Kind name` of objects that stand in the way and are not ours. fence: the highest sequence that any child
    was written under; a status that was lost or restored goes on from there, else it could never write them again.
    """

    release: str
    namespace: str
    generation: int
    policy: ReleasePolicySpec | None = None
    enforced: tuple[Policy, ...] = ()
    policies_unread: str | None = None
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    promoted: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    recorded: frozenset[str] = frozenset()
    registry: RegistryView = RegistryView()
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    route: RouteView | None = None
    slots: Mapping[str, SlotView] = field(default_factory=dict)
    samples: Samples = Samples()
    template: TemplateVerdict | None = None
    command: Command | None = None
    approvals: Approvals = Approvals()
    spec_error: str | None = None
    policy_missing: str | None = None
    conflicts: tuple[str, ...] = ()
    route_missing: str | None = None
    releases: Mapping[str, OtherRelease | None] = field(default_factory=dict)
    fence: int = 0
