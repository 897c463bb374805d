"""What the views show: a release and what else was read of it, as values. Nothing is read here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from modelrelease.api.status import ModelReleaseStatus
from modelrelease.core.explain import Known

if TYPE_CHECKING:  # only record and history pay for it
    from modelrelease.api.record import ReleaseRecordSpec


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod. hardware: product of its accelerator, empty for none; rate: of the check that decides, where known."""

    name: str
    revision: str
    state: str
    ready: bool
    node: str = ""
    hardware: str = ""
    restarts: int = 0
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between what serves and the candidate; empty where one side has nothing."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person said to a gate."""

    gate: str
    decision: str
    user: str
    at: datetime | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """One release as it was read. unseen: what could not be shown, and why, one sentence each."""

    namespace: str
    name: str
    generation: int
    status: ModelReleaseStatus
    known: Known
    pods: tuple[Pod, ...] = ()
    changes: tuple[Change, ...] = ()
    approvals: tuple[Approval, ...] = ()
    unseen: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One ReleaseRecord. deliveries: what has been told to whom, one phrase each."""

    name: str
    spec: ReleaseRecordSpec
    deliveries: tuple[str, ...] = ()
