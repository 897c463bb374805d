"""Approvals as people give them, for version 8 of the builders' release."""

from __future__ import annotations

from typing import Any

from modelrelease.api.release import ModelReleaseSpec
from modelrelease.core.observation import Approval, Approvals
from tests.core.builders import NOW, revision


def approval(
    user: str,
    group: str | None = None,
    decision: str = "Approve",
    *,
    of: ModelReleaseSpec | None = None,
    version: str = "8",
    **fields: Any,
) -> Approval:
    """The word of a user at the gate `sign-off`, given now; `of` is the spec whose revision it is for."""
    runs = revision(version, of)
    known: dict[str, Any] = {"comment": "", "duties_separated": False, "at": NOW, "gate": "sign-off"}
    return Approval(
        name=f"{user[:40]}-{decision.lower()}",
        revision=runs.revision,
        rules=runs.rules,
        approves=decision == "Approve",
        user=user,
        group=group,
        **known | fields,
    )


def people(*said: Approval) -> Approvals:
    """What was read, with the admission policy in force."""
    return Approvals(said)
