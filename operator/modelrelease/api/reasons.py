"""Every word that a condition, an Event or a status reason may carry: a fixed list, so that alerts can rely on it."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """status.phase; what each means stands in docs/design.md, section 3."""

    PENDING = "Pending"
    GATING = "Gating"
    BLOCKED = "Blocked"
    PROGRESSING = "Progressing"
    HELD = "Held"
    BAKING = "Baking"
    PROMOTED = "Promoted"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    INVALID = "Invalid"


class Reason(StrEnum):
    """Why: the reason of conditions and Events, and of status.summary."""

    # the spec and what it names
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    TEMPLATE_REFUSED = "TemplateRefused"
    POLICY_NOT_FOUND = "PolicyNotFound"
    POLICY_UNREADABLE = "PolicyUnreadable"
    NAME_CONFLICT = "NameConflict"
    NOT_APPLIED = "NotApplied"
    CUSTOM_QUERIES_NOT_ALLOWED = "CustomQueriesNotAllowed"
    SUSPENDED = "Suspended"
    QUARANTINED = "Quarantined"
    # the registry
    MODEL_NOT_FOUND = "ModelNotFound"
    VERSION_NOT_FOUND = "VersionNotFound"
    VERSION_NOT_READY = "VersionNotReady"
    ALIAS_NOT_FOUND = "AliasNotFound"
    REGISTRY_PENDING = "RegistryPending"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    REGISTRY_UNAUTHORIZED = "RegistryUnauthorized"
    REGISTRY_REFUSED_HOST = "RegistryRefusedHost"
    REGISTRY_TLS_FAILED = "RegistryTLSFailed"
    REGISTRY_ERROR = "RegistryError"
    REGISTRY_NOT_ALLOWED = "RegistryNotAllowed"
    SOURCE_REFUSED = "SourceRefused"
    ALIAS_WRITTEN = "AliasWritten"
    ALIAS_WRITE_FAILED = "AliasWriteFailed"
    ALIAS_WRITE_NOT_ALLOWED = "AliasWriteNotAllowed"
    # endpoints and who we are there
    ENDPOINT_NOT_CONFIGURED = "EndpointNotConfigured"
    ENDPOINT_LIMIT_REACHED = "EndpointLimitReached"
    SECRET_MISSING = "SecretMissing"
    # gates
    GATES_PASSED = "GatesPassed"
    GATE_FAILED = "GateFailed"
    GATES_UNAVAILABLE = "GatesUnavailable"
    GATE_REVOKED = "GateRevoked"
    SERVING_NO_LONGER_PASSES = "ServingNoLongerPasses"
    WAITING_FOR_RELEASE = "WaitingForRelease"
    APPROVAL_MISSING = "ApprovalMissing"
    APPROVAL_GIVEN = "ApprovalGiven"
    APPROVAL_DENIED = "ApprovalDenied"
    APPROVAL_WITHDRAWN = "ApprovalWithdrawn"
    # the candidate's pods
    STARTING = "Starting"
    CANDIDATE_READY = "CandidateReady"
    UNSCHEDULABLE = "Unschedulable"
    CONFIG_ERROR = "ConfigError"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOP = "CrashLoop"
    OOM_KILLED = "OOMKilled"
    NEVER_READY = "NeverReady"
    PODS_LOST = "PodsLost"
    PODS_REFUSED = "PodsRefused"
    RETREATED = "Retreated"
    TRAFFIC_MISSING = "TrafficMissing"
    ENGINE_HUNG = "EngineHung"
    # traffic
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    ROUTE_PENDING = "RoutePending"
    ROUTE_NOT_FOUND = "RouteNotFound"
    WEIGHT_CHANGED = "WeightChanged"
    WEIGHT_RESTORED = "WeightRestored"
    # evidence
    EVIDENCE_AVAILABLE = "EvidenceAvailable"
    EVIDENCE_NOT_NEEDED = "EvidenceNotNeeded"
    NO_DATA = "NoData"
    NO_CHAMPION = "NoChampion"
    DIFFERENT_HARDWARE = "DifferentHardware"
    UNEQUAL_LOAD = "UnequalLoad"
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"
    PROMETHEUS_UNAUTHORIZED = "PrometheusUnauthorized"
    PROMETHEUS_TLS_FAILED = "PrometheusTLSFailed"
    PROMETHEUS_NOT_ALLOWED = "PrometheusNotAllowed"
    PROMETHEUS_ERROR = "PrometheusError"
    CHECK_FAILED = "CheckFailed"
    WAITING_FOR_EVIDENCE = "WaitingForEvidence"
    PARITY_OWED = "ParityOwed"
    PHASE_FORECAST = "PhaseForecast"
    PHASE_UNDECIDABLE = "PhaseUndecidable"
    INCONCLUSIVE = "Inconclusive"
    # progress
    PHASE_RUNNING = "PhaseRunning"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    BAKING = "Baking"
    PROMOTED = "Promoted"
    SUPERSEDED = "Superseded"
    DROPPED = "Dropped"
    DRAINING = "Draining"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    ROLLBACK_REQUESTED = "RollbackRequested"
    RETRIED = "Retried"
    COMMAND_IGNORED = "CommandIgnored"
    STATUS_REBUILT = "StatusRebuilt"
    SERVING = "Serving"
    NOT_SERVING = "NotServing"
    NOTHING_SERVES = "NothingServes"
    ROLLOUT_STARTED = "RolloutStarted"
    UNKNOWN = "Unknown"  # a word in a status that another version of the operator wrote

    @classmethod
    def read(cls, text: str) -> Reason:
        """The reason that a status names; UNKNOWN for a word of another version."""
        return cls(text) if text in cls._value2member_map_ else cls.UNKNOWN

    RECORD_DROPPED = "RecordDropped"
    TAG_WRITE_FAILED = "TagWriteFailed"


CONDITIONS = (
    "Accepted",
    "Serving",
    "GatesPassed",
    "CandidateReady",
    "EvidenceAvailable",
    "Progressing",
    "Stalled",
    "Ready",
)
