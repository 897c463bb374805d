"""The screen of `status`: the first line says whether anyone is hurt, the second what has to be done.

Every block stands behind its own label and is left out where there is nothing to tell.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from modelrelease.api.reasons import Phase, Reason
from modelrelease.api.status import CheckStatus, ModelReleaseStatus
from modelrelease.core import told
from modelrelease.core.explain import Explanation, Urgency, Users, explain

from ..screen import bad, bold, doubtful, good
from .layout import INDENT, Canvas, Cell, Line, Paint, bar, columns, flowed, labelled, wrapped
from .values import Release

_BY_USERS = {Users.SAFE: good, Users.HURT: bad, Users.UNKNOWN: doubtful, Users.NOBODY: doubtful}
_BY_VERDICT = {"Pass": good, "Fail": bad}
_TOLD_BY_CHECKS = frozenset({Reason.CHECK_FAILED, Reason.WAITING_FOR_EVIDENCE})
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_STALE = timedelta(minutes=5)  # it is recorded about once a minute
_PODS, _CHANGES, _COMMANDS = 12, 8, 3


def render(release: Release, now: datetime, canvas: Canvas) -> str:
    """The whole screen, without a line break at its end."""
    seen = explain(release.status, release.known, now)
    lines = head(release, seen, now, canvas)
    for block in (_why, _also, _pods, _route, _changes, _gates, _approvals, _commands, _notes):
        lines += block(release, now, canvas)
    return "\n".join(lines)


def head(release: Release, seen: Explanation, now: datetime, canvas: Canvas) -> list[str]:
    """Who is hurt, what has to be done, what comes next."""
    return [_first(release, seen, now, canvas), *_needed(seen, canvas), *_unfitting(release, seen, now, canvas)]


def title(phase: str) -> str:
    """A phase as a headline: ROLLING BACK."""
    return _WORD.sub(" ", phase).upper()


def paint_of(urgency: Urgency) -> Paint:
    """The colour of a phase."""
    if urgency is Urgency.NOW:
        return bad
    return doubtful if urgency in (Urgency.SOON, Urgency.LATER) else good


def counts_of(check: CheckStatus, status: ModelReleaseStatus) -> list[str]:
    """Of both arms, and what is allowed: `v9 2.9% (58/2,014)`, `v8 0.4% (9/2,101)`, `allowed 1.5%`."""
    candidate, stable = versions(status)
    out = []
    for version, arm in ((candidate, check.canary), (stable, check.stable)):
        if arm is not None and arm.rate is not None:
            out.append(f"{version} {told.percent(arm.rate)} ({arm.bad:,}/{arm.total:,})")
        else:
            out.append(f"{version} -" if arm is not None else "")
    out.append(f"allowed {told.percent(check.allowed)}" if check.allowed is not None else "")
    return out


def versions(status: ModelReleaseStatus) -> tuple[str, str]:
    """What the two arms of the checks are called; of the last rollout where none is under way."""
    candidate, stable = status.candidate, status.stable
    if candidate is not None:
        return f"v{candidate.version}", f"v{stable.version}" if stable else "stable"
    last = status.history[0] if status.history else None
    if last is None:
        return "candidate", "stable"
    if stable is not None and last.revision == stable.revision:
        return f"v{last.version}", f"v{status.previous.version}" if status.previous else "before"
    return f"v{last.version}", f"v{stable.version}" if stable else "stable"


# -- the blocks -------------------------------------------------------------------------------------------------------
def _first(release: Release, seen: Explanation, now: datetime, canvas: Canvas) -> str:
    """The first line, with why users are not safe or else who has which traffic, where there is room for it."""
    name, phase, plain = f"{release.namespace}/{release.name}", title(release.status.phase), _bare(release, seen, now)
    users = f"users: {bold(_BY_USERS[seen.users](seen.users))}"
    drawn = plain.replace(f"users: {seen.users}", users).replace(
        f"   {phase}   ", f"   {paint_of(seen.urgency)(phase)}   "
    )
    return drawn.replace(name, bold(name), 1) + (_fitting(release, seen, now, canvas) or "")


def _bare(release: Release, seen: Explanation, now: datetime) -> str:
    since = f" since {told.clock(seen.since, now)}" if seen.since else ""
    return f"{release.namespace}/{release.name}   {title(release.status.phase)}   users: {seen.users}{since}"


def _fitting(release: Release, seen: Explanation, now: datetime, canvas: Canvas) -> str | None:
    rest = [f": {seen.because}"] if seen.because else [f" ({seen.shares})", f" ({seen.brief})"] if seen.shares else [""]
    room = canvas.width - len(_bare(release, seen, now))
    return next((text for text in rest if len(text) <= room), None)


def _unfitting(release: Release, seen: Explanation, now: datetime, canvas: Canvas) -> list[str]:
    """Why users are not safe, where the first line has no room for it; shares are told by ROUTE as well."""
    if not seen.because or _fitting(release, seen, now, canvas) is not None:
        return []
    return labelled("USERS", wrapped(seen.because, canvas))


def _needed(seen: Explanation, canvas: Canvas) -> list[str]:
    do, wide = f"You need to do: {seen.do}", canvas.whole
    if seen.command:
        do += ":"
        beside = f"{do} {seen.command}"
        parts = [beside] if len(beside) <= wide.body else [*wrapped(do, wide, "  "), f"  {seen.command}"]
        parts += wrapped(f"Next: {seen.next}.", wide, "  ")
    elif len(both := f"{do}. Next: {seen.next}.") <= wide.body:
        parts = [both]
    else:
        parts = [*wrapped(f"{do}.", wide, "  "), *wrapped(f"Next: {seen.next}.", wide, "  ")]
    paint = doubtful if seen.ill else good
    return [f"{INDENT}{part}".replace("You need to do:", bold(paint("You need to do:")), 1) for part in parts]


def _why(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    status = release.status
    check = _shown_first(status)
    if check is None:
        text = next((item.message for item in status.conditions if item.type == "Progressing"), status.message)
        return labelled("WHY", wrapped(text, canvas)) if text else []
    lines = columns([[Cell(check.name, bold), *counts_of(check, status)]], canvas.body)
    if len(lines[0]) > canvas.body + 10 or check.canary is None:
        lines = wrapped(check.message, canvas)
    lines += _evidence(check, status, now, canvas)
    if check.pods:
        lines += wrapped(check.pods, canvas)
    return labelled("WHY", lines)


def _evidence(check: CheckStatus, status: ModelReleaseStatus, now: datetime, canvas: Canvas) -> list[str]:
    began = told.exposed_since(status)
    words = f"evidence of harm {bar(check.evidence_percent, canvas)} {check.evidence_percent}%"
    parts = [words]
    if began is not None:
        parts.append(f"since {told.clock(began, now)}")
    if check.requests_needed:
        parts.append(f"a Pass needs ~{check.requests_needed:,} more")
    rollback, candidate = status.last_rollback, status.candidate
    mine = rollback is not None and (candidate is None or rollback.revision == candidate.revision)
    if rollback is not None and mine and rollback.seconds is not None and _went_back(status):
        parts.append(f"verdict to route {rollback.seconds:.1f}s")
    return flowed(parts, canvas)


def _also(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    status = release.status
    shown = _shown_first(status)
    if told.phase_of(status) is Phase.PROMOTED and shown is None:
        return []  # verdicts of a rollout that has ended well
    rows: list[Line] = []
    for check in status.checks:
        if shown is not None and check.name == shown.name:
            continue
        paint = _BY_VERDICT.get(check.verdict, doubtful)
        more = f"~{check.requests_needed:,} more" if check.requests_needed else ""
        if check.evidence_percent >= told.LEANING:
            more = f"harm {check.evidence_percent}%"
        elif check.reason and check.reason != check.verdict:
            more = check.reason
        rows.append([check.name, *_short_counts(check, status), Cell(check.verdict, paint), more])
    return labelled("ALSO", [*columns(rows, canvas.body, gives=(0, 4)), *_source(status, now, canvas)])


def _short_counts(check: CheckStatus, status: ModelReleaseStatus) -> tuple[str, str]:
    candidate, stable = check.canary, check.stable
    if candidate is None or candidate.rate is None:
        return "-", ""
    seen = told.percent(candidate.rate)
    if stable is not None and stable.rate is not None:
        seen += f" vs {told.percent(stable.rate)}"
    return seen, f"allowed {told.percent(check.allowed)}" if check.allowed is not None else ""


def _source(status: ModelReleaseStatus, now: datetime, canvas: Canvas) -> list[str]:
    """Whether there is evidence, and how old what was recorded of it is."""
    found = told.condition(status, "EvidenceAvailable")
    if found is None or found.status == "Unknown":
        return []
    if found.status == "False":
        return wrapped(f"evidence source: {found.reason}: {found.message}", canvas)
    at = told.evidence_at(status)
    if at is not None and now - at > _STALE:
        words = (
            f"evidence was recorded last at {told.clock(at, now)}, {told.span(now - at)} ago: does the operator run?"
        )
        return [doubtful(line) for line in wrapped(words, canvas)]
    age = f", counted up to {told.clock(at, now)} ({told.span(now - at)} ago)" if at else ""
    return wrapped(f"evidence source OK{age}", canvas)


def _pods(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    if not release.pods or (told.phase_of(release.status) is Phase.PROMOTED and all(pod.ready for pod in release.pods)):
        return _alike(release, canvas) if not release.pods else _summary(release, canvas)
    called, candidate = _called(release), release.status.candidate
    tried = candidate.revision if candidate else ""
    pods = sorted(release.pods, key=lambda pod: (pod.ready, pod.revision != tried, -(pod.rate or 0), pod.name))
    rows: list[Line] = [
        [
            called.get(pod.revision, pod.revision),
            pod.name,
            Cell(pod.state, None if pod.ready else doubtful),
            pod.hardware.removeprefix("NVIDIA-"),
            pod.node,
            told.percent(pod.rate) if pod.rate is not None else "",
        ]
        for pod in pods[:_PODS]
    ]
    lines = columns(rows, canvas.body, gives=(3, 4, 1), right=(5,))
    if len(pods) > _PODS:
        rest = pods[_PODS:]
        lines.append(f"and {len(rest)} more, {sum(pod.ready for pod in rest)} of them ready")
    return labelled("PODS", [*lines, *(line for check in _told_of_pods(release) for line in wrapped(check, canvas))])


def _summary(release: Release, canvas: Canvas) -> list[str]:
    """All is well: where they run is enough."""
    by: dict[tuple[str, str], int] = {}
    called = _called(release)
    for pod in release.pods:
        key = (called.get(pod.revision, pod.revision), pod.hardware)
        by[key] = by.get(key, 0) + 1
    nodes = len({pod.node for pod in release.pods if pod.node})
    words = ", ".join(f"{count} of {version}" + (f" on {hw}" if hw else "") for (version, hw), count in by.items())
    return labelled("PODS", wrapped(f"{words}, all ready, on {nodes} node{'s' if nodes != 1 else ''}", canvas))


def _alike(release: Release, canvas: Canvas) -> list[str]:
    return labelled("PODS", [line for text in _told_of_pods(release) for line in wrapped(text, canvas)])


def _told_of_pods(release: Release) -> list[str]:
    shown = _shown_first(release.status)
    return [c.pods for c in release.status.checks if c.pods and (shown is None or c.name != shown.name)][:1]


def _called(release: Release) -> dict[str, str]:
    status = release.status
    gone = {item.revision: f"v{item.version}" for item in reversed(status.history)}
    roles = (status.previous, status.stable, status.candidate)
    return gone | {role.revision: f"v{role.version}" for role in roles if role is not None}


def _route(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    status, traffic = release.status, release.status.traffic
    if traffic is None:
        return []
    roles = [role for role in (status.stable, status.candidate) if role is not None]
    weights = ", ".join(f"v{role.version} {told.weight(status, role)}% {role.ready}/{role.replicas}" for role in roles)
    if traffic.confirmed_at is not None:
        confirmed = f"confirmed {told.clock(traffic.confirmed_at, now)}"
    else:
        confirmed = f"NOT confirmed by the gateway for {told.span(now - traffic.set_at)}"
    name = f"HTTPRoute {traffic.route}" + (f" rule {traffic.rule}" if traffic.rule else "") if traffic.route else ""
    parts = (weights, f"set {told.clock(traffic.set_at, now)}", confirmed, name)
    return labelled("ROUTE", flowed([part for part in parts if part], canvas))


def _changes(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    lines: list[str] = []
    for change in release.changes[:_CHANGES]:
        both = f"{change.before} -> {change.after}" if change.before and change.after else ""
        words = both or (f"+ {change.after}" if change.after else f"- {change.before}")
        lines += wrapped(f"{change.what}  {words}", canvas, "  ")
    if len(release.changes) > _CHANGES:
        lines.append(f"and {len(release.changes) - _CHANGES} more")
    return labelled("DIFF", lines)


def _gates(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    status = release.status
    if told.phase_of(status) is Phase.PROMOTED:
        return []
    lines: list[str] = []
    for gate in status.gates:
        if gate.verdict != "Pass":
            advisory = ", advisory" if gate.advisory else ""
            lines += wrapped(f"{gate.name}: {gate.verdict}{advisory}: {gate.message}", canvas, "  ")
    passed = [gate.name for gate in status.gates if gate.verdict == "Pass"]
    if passed:
        lines += wrapped(f"passed: {', '.join(passed)}", canvas, "  ")
    return labelled("GATES", lines)


def _approvals(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    lines: list[str] = []
    for item in release.approvals:
        at = f" at {told.clock(item.at, now)}" if item.at else ""
        words = f": {item.words}" if item.words else ""
        lines += wrapped(f"{item.gate}: {item.decision} by {item.user}{at}{words}", canvas, "  ")
    return labelled("YES/NO", lines)


def _commands(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    lines: list[str] = []
    for item in release.status.commands[:_COMMANDS]:
        verb = item.command.partition("@")[0]
        by = f" by {item.by}" if getattr(item, "by", "") else ""
        lines += wrapped(f"{told.clock(item.at, now)}  {verb}{by}: {item.result}", canvas, "  ")
    return labelled("SAID", lines)


def _notes(release: Release, now: datetime, canvas: Canvas) -> list[str]:
    status, notes = release.status, list(release.unseen)
    if release.generation > status.observed_generation > 0:
        notes.insert(0, "the spec was edited, and the operator has not seen that yet: all this is of the spec before")
    alias = status.alias
    if alias is not None and alias.message:
        notes.append(f"alias {alias.alias} is yet to point at v{alias.version}: {alias.message}")
    if status.records_dropped:
        notes.append(f"{status.records_dropped} rollouts ended without a ReleaseRecord")
    return labelled("NOTE", [line for text in notes for line in wrapped(text, canvas, "  ")])


# -- which check is shown first ---------------------------------------------------------------------------------------
def _shown_first(status: ModelReleaseStatus) -> CheckStatus | None:
    """The check that says why, where a check is the reason."""
    if told.reason_of(status) not in _TOLD_BY_CHECKS:
        return None
    check = told.deciding(status)
    return check if check is not None and check.canary is not None else None


def _went_back(status: ModelReleaseStatus) -> bool:
    return told.phase_of(status) in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
