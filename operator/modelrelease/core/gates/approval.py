"""The gate approval: who has said yes or no to this revision, and whether that is enough for the weight to come.

An approval counts where it names this gate and the key of the candidate (revision and rules), comes from the gate's
group, and was checked by the admission policy when it was made. The registry is not asked. The rule it keeps: nothing
but a person's approval passes it, and whoever is missing stops only the phase that the gate stands before.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelrelease.api.approval import APPROVALS_MAX, ApprovalGate, RecordedApproval
from modelrelease.api.base import clip
from modelrelease.api.gates import Gate
from modelrelease.api.phases import Phase
from modelrelease.api.status import GateStatus

from ..observation import Approval, Approvals
from ..revision import Revision
from .context import Context

_WORDS_MAX = 80


def judge(name: str, rules: ApprovalGate, context: Context) -> GateStatus:
    """Fail where a permitted approver denies, Pass with enough different users, else Waiting.

    Where approvals cannot be believed it is Unavailable, but not before the phase that needs them.
    """
    phases = context.revision.phases if context.revision else ()
    later = "" if due(rules, phases, context.step) else f"not needed before phase {rules.before_phase}: "
    if context.approvals.given is None or context.approvals.problem:
        words = context.approvals.problem or "the approvals have not been read yet"
        return GateStatus(name=name, verdict="Waiting" if later else "Unavailable", message=f"{later}{words}")
    mine = [item for item in context.approvals.given if item.gate == name and _is_for(item, context.revision)]
    counted = [item for item in mine if not objection(rules, item)]
    denial = next((item for item in counted if not item.approves), None)
    users = dict.fromkeys(item.user for item in counted if item.approves)
    if denial is not None:
        said = f": {clip(denial.comment, _WORDS_MAX)!r}" if denial.comment else ""
        words = f"denied by {_short(denial.user)}{said}; it fails until ReleaseApproval {denial.name} is deleted"
        return GateStatus(name=name, verdict="Fail", message=words, value=len(users), threshold=rules.count)
    if len(users) >= rules.count:
        words = f"approved by {', '.join(map(_short, users))}"
        return GateStatus(name=name, verdict="Pass", message=words, value=len(users), threshold=rules.count)
    group = f" from group {rules.group}" if rules.group else ""
    words = f"{later}{len(users)} of {rules.count} approvals{group}"
    words += f"; kubectl modelrelease approve {context.release} --gate {name}"
    if void := next((item for item in mine if item.approves and item not in counted), None):
        words += f"; that of {_short(void.user)} does not count: {objection(rules, void)}"
    return GateStatus(name=name, verdict="Waiting", message=words, value=len(users), threshold=rules.count)


def due(rules: ApprovalGate, phases: Sequence[Phase], step: int) -> bool:
    """Whether the approvals must be there for the weight of the phase at `step`; -1 is before the first pod."""
    if rules.before_phase is None:
        return True
    names = [phase.name for phase in phases]
    return rules.before_phase not in names or names.index(rules.before_phase) <= step


def asks(gates: Sequence[Gate]) -> bool:
    """Whether any of these gates asks people."""
    return any(gate.approval is not None for gate in gates)


def names(gates: Sequence[Gate], phases: Sequence[Phase] = (), step: int | None = None) -> frozenset[str]:
    """Names of the gates that ask people; with a step, of those that must have passed before its weight."""
    return frozenset(
        gate.name for gate in gates if gate.approval is not None and (step is None or due(gate.approval, phases, step))
    )


def objection(rules: ApprovalGate, item: Approval) -> str:
    """Why an approval of this gate does not count; empty where it does."""
    if item.early:
        return item.early
    if rules.group is not None and item.group != rules.group:
        return f"it is given for {f'group {item.group}' if item.group else 'no group'}"
    if rules.separate_duties and not item.duties_separated:
        return "it does not say dutiesSeparated"
    return ""


def recorded(revision: Revision, approvals: Approvals) -> tuple[RecordedApproval, ...]:
    """All that counts for this revision at any of its gates, oldest first, as status and record keep it."""
    rules = {gate.name: gate.approval for gate in revision.gates if gate.approval is not None}
    counted = [
        item
        for item in approvals.given or ()
        if _is_for(item, revision) and item.gate in rules and not objection(rules[item.gate], item)
    ]
    return tuple(
        RecordedApproval(
            name=item.name,
            gate=item.gate,
            decision="Approve" if item.approves else "Deny",
            user=item.user,
            group=item.group,
            reason=item.comment,
            at=item.at,
        )
        for item in counted[-APPROVALS_MAX:]
    )


def unknown_phase(revision: Revision) -> str | None:
    """What is wrong with a gate that stands before a phase which the release does not have."""
    names = [phase.name for phase in revision.phases]
    for gate in revision.gates:
        if gate.approval is not None and gate.approval.before_phase not in (None, *names):
            words = f"gate {gate.name}: beforePhase {gate.approval.before_phase!r} is no phase of this release"
            return f"{words}; its phases are {', '.join(names)}"
    return None


def _is_for(item: Approval, revision: Revision | None) -> bool:
    return revision is not None and item.key == revision.key


def _short(user: str) -> str:
    return clip(user, _WORDS_MAX)
