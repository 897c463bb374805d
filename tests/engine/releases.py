"""Statuses of releases in trouble and at peace, as a pass decides them: what metrics and alerts are tested with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from modelrelease.api.status import CandidateStatus, ModelReleaseStatus, Stage

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def condition(kind: str, status: Literal["True", "False", "Unknown"], reason: str) -> dict[str, Any]:
    """One condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "as seen",
        "observed_generation": 1,
        "last_transition_time": AT,
    }


def status(
    phase: str, reason: str, *conditions: dict[str, Any], since: datetime = AT, **more: Any
) -> ModelReleaseStatus:
    """A status in this phase for this reason; it serves unless a condition says otherwise."""
    told = {item["type"]: item for item in (condition("Serving", "True", "Serving"), *conditions)}
    told["Progressing"] = condition("Progressing", "True", reason)
    made: dict[str, Any] = {"phase": phase, "conditions": tuple(told.values()), "summary": {"since": since}, **more}
    return ModelReleaseStatus.model_validate(made)


def candidate(stage: Stage, *, returning: dict[str, Any] | None = None) -> CandidateStatus:
    """A candidate in slot b."""
    return CandidateStatus.model_validate(
        {
            "revision": "0123456789",
            "rules": "9876543210",
            "version": "9",
            "slot": "b",
            "stage": stage,
            "started_at": AT,
            "stage_since": AT,
            "returning": returning,
        }
    )


def canary(percent: int, *, phase: str = "Progressing", reason: str = "WaitingForEvidence") -> ModelReleaseStatus:
    """A canary with so much traffic, a check and a gate."""
    return status(
        phase,
        reason,
        condition("EvidenceAvailable", "True", "EvidenceAvailable"),
        candidate=candidate(Stage.SHIFTING),
        traffic={"a": 100 - percent, "b": percent, "set_at": AT},
        checks=({"name": "errors", "verdict": "Waiting", "message": "", "evidence_percent": 40},),
        gates=({"name": "accuracy", "verdict": "Pass", "message": ""},),
    )


def returning(decided_at: datetime, confirmed_at: datetime | None = None) -> ModelReleaseStatus:
    """A rollback under way."""
    back = {
        "outcome": "RolledBack",
        "reason": "CheckFailed",
        "message": "errors",
        "since": decided_at,
        "confirmed_at": confirmed_at,
    }
    return status("RollingBack", "CheckFailed", candidate=candidate(Stage.RETURNING, returning=back))
