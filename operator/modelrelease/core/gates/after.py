"""The gate after: another release of the namespace has promoted the same version of the same model and kept it.

So a model goes from region to region, or from one pool of GPUs to the next, and one that was taken back in an earlier
wave reaches no later one. What counts is what the other release's status says in this pass. The rules: a release that
cannot be told from its status to have promoted the version is waited for; one that has gone back stops this one by
name; nothing here is ever read from the registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelrelease.api.after_gate import AfterGate
from modelrelease.api.base import format_duration, parse_duration
from modelrelease.api.gates import Gate
from modelrelease.api.status import GateStatus, HistoryEntry, ModelReleaseStatus, QuarantineEntry, Stage

from ..observation import OtherRelease
from ..revision import Revision
from .context import Context


@dataclass(frozen=True, slots=True)
class _Held:
    """The other release has promoted the version: since when, until when where it has another one now, and which."""

    since: datetime
    until: datetime | None = None
    successor: str = ""


@dataclass(frozen=True, slots=True)
class _Back:
    """It has had the version, or tried to, and does not stand by it; in words."""

    words: str


def judge(name: str, gate: AfterGate, _: Any, __: Any, context: Context) -> GateStatus:
    """Pass once the version was kept for so long. Waiting before; Fail where the other one has gone back.

    A gate of a policy may name the very release that it applies to: that one goes first.
    """
    asked, runs = gate.release, context.revision
    if runs is None or (asked not in context.releases and asked != runs.release):
        return _status(name, "Unavailable", f"ModelRelease {asked} has not been read yet")
    if asked == runs.release:
        if "/" in name:
            return _status(name, "Pass", f"{asked} is this release itself: it goes first")
        return _status(name, "Fail", f"{asked} is this release itself, which would wait for ever; name another one")
    other = context.releases[asked]
    if other is None:
        return _status(name, "InsufficientData", f"there is no ModelRelease {asked} in this namespace; create it")
    if other.model != runs.model and not _serves(other, runs):
        words = f"{asked} releases the model {other.model}, not {runs.model}"
        return _status(name, "InsufficientData", f"{words}; name a release of the same model")
    match _standing(other, runs):
        case _Back(words):
            return _status(name, "Fail", f"{asked} {words}")
        case _Held() as held:
            return _kept(name, gate, runs, held, context.now)
        case None if runs.release in other.waits_for:
            words = f"{asked} and {runs.release} wait for each other: the gates `after` of both name the other one"
            return _status(name, "Fail", f"{words}; remove one of the two")
        case None:
            where = _where(other.status, runs)
            return _status(name, "Waiting", f"{asked} has not promoted v{runs.version} yet: {where}")


def due(gates: Iterable[Gate], context: Context) -> datetime | None:
    """When the first of these gates that waits for nothing but time will pass, None where none does."""
    times = []
    for rules in (gate.after for gate in gates if gate.after is not None):
        other, runs = context.releases.get(rules.release), context.revision
        held = _standing(other, runs) if other is not None and runs is not None else None
        if isinstance(held, _Held) and held.until is None:
            times.append(held.since + parse_duration(rules.promoted_for))
    return min((at for at in times if at > context.now), default=None)


def _kept(name: str, gate: AfterGate, runs: Revision, held: _Held, now: datetime) -> GateStatus:
    asked, needed = gate.release, parse_duration(gate.promoted_for)
    told = f"{asked} promoted v{runs.version} at {held.since:%Y-%m-%d %H:%M:%S} UTC"
    over = held.since + needed
    if held.until is not None and held.until < over:
        lasted = format_duration(held.until - held.since)
        words = f"and has replaced it by v{held.successor} after {lasted}; it must keep it for {gate.promoted_for}"
        return _status(name, "Fail", f"{told} {words}")
    if held.until is None and now < over:
        return _status(name, "Waiting", f"{told}; {gate.promoted_for} are over at {over:%Y-%m-%d %H:%M:%S} UTC")
    now_serves = f"; it serves v{held.successor} by now" if held.successor else ""
    return _status(name, "Pass", f"{told}{now_serves}")


def _standing(other: OtherRelease, runs: Revision) -> _Held | _Back | None:
    """What has become of the version there, None while nothing has."""
    status, version = other.status, runs.version
    kept = next((entry.ended_at for entry in _promotions(status) if entry.version == version), None)
    failed = {entry.key: entry for entry in status.quarantine if entry.version == version}
    if _serves(other, runs):
        assert status.stable is not None, "it serves"
        entry = failed.get(status.stable.key)
        if entry is None:
            return _Held(status.stable.promoted_at)
        return _Back(f"serves v{version} though it failed there: {entry.message}")
    candidate = status.candidate
    under_way = candidate is not None and candidate.version == version and candidate.returning is None
    since = [entry for entry in failed.values() if kept is None or entry.since >= kept]
    if since and not under_way:
        return _Back(_gone_back(version, since[0]))
    if under_way and candidate is not None and candidate.stage is Stage.GATING and status.phase == "Blocked":
        gate = next((item for item in status.gates if item.verdict in ("Fail", "InsufficientData")), None)
        return _Back(f"blocks v{version}: {f'gate {gate.name}: {gate.message}' if gate else status.message}")
    return _replaced(status, version)


def _replaced(status: ModelReleaseStatus, version: str) -> _Held | _Back | None:
    """A version that was promoted and is not served any more: what came after it, or that it went back."""
    done = _promotions(status)
    at = next((number for number, entry in enumerate(done) if entry.version == version), None)
    if at is None or status.stable is None:
        return None
    if _older(status.stable.version, version):
        return _Back(f"went back from v{version} to v{status.stable.version}")
    until = _after(done, at, status)
    return _Held(done[at].ended_at, until, status.stable.version)


def _promotions(status: ModelReleaseStatus) -> list[HistoryEntry]:
    """Newest first."""
    return [entry for entry in status.history if entry.outcome == "Promoted"]


def _after(done: list[HistoryEntry], at: int, status: ModelReleaseStatus) -> datetime:
    assert status.stable is not None, "something serves"
    return done[at - 1].ended_at if at else status.stable.promoted_at


def _gone_back(version: str, entry: QuarantineEntry) -> str:
    if entry.outcome == "Blocked":
        return f"blocks v{version}: {entry.message}"
    return f"rolled v{version} back: {entry.message}"


def _serves(other: OtherRelease, runs: Revision) -> bool:
    stable = other.status.stable
    model = (stable.model if stable else "") or other.model
    return stable is not None and (model, stable.version) == (runs.model, runs.version)


def _where(status: ModelReleaseStatus, runs: Revision) -> str:
    serves = f"it serves v{status.stable.version}" if status.stable else "it serves nothing"
    candidate = status.candidate
    on_its_way = candidate is not None and candidate.version == runs.version and candidate.returning is None
    return f"{serves}, v{runs.version} is on its way" if on_its_way else serves


def _older(one: str, other: str) -> bool:
    return one.isdigit() and other.isdigit() and int(one) < int(other)


def _status(name: str, verdict: str, message: str) -> GateStatus:
    return GateStatus.model_validate({"name": name, "verdict": verdict, "message": message})
