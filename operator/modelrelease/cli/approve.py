"""`approve` and `deny`: a person's yes or no to the candidate of a release at one of its gates.

Makes a ReleaseApproval, which never changes and names the user whom the API server has authenticated: an admission
policy refuses any other name. Asks before it does so, with what is approved. Needs: get modelreleases, create
releaseapprovals. Exit code 1: there is nothing to approve, or the person thought better of it.
"""

from __future__ import annotations

import secrets

import click

from modelrelease.api.approval import ApprovalGate
from modelrelease.api.base import API_VERSION
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import CandidateStatus, ModelReleaseStatus

from .cluster import APPROVALS, Cluster, ClusterError, Object, in_cluster
from .commands import agreed
from .identity import Person, may, who_am_i
from .screen import fold

_WRITES = ("create", "update", "patch")
_NAME_MAX = 230


def _verb(verb: str, decision: str, *, short: str, more: str) -> click.Command:
    @click.command(name=verb, short_help=short, help=f"{short}\n\n{more}")
    @in_cluster
    @click.argument("name")
    @click.option("--gate", metavar="GATE", help="Which gate. Default: the only one that waits for people.")
    @click.option("--comment", default="", metavar="TEXT", help="Words for those who ask later.")
    @click.option("--group", metavar="GROUP", help="Speak for this group. Default: the one that the gate asks for.")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    def run(cluster: Cluster, name: str, gate: str | None, comment: str, group: str | None, yes: bool) -> int:
        return decide(cluster, decision, name, gate=gate, comment=comment, group=group, yes=yes)

    return run


def decide(
    cluster: Cluster, decision: str, name: str, *, gate: str | None, comment: str, group: str | None, yes: bool
) -> int:
    """Write one approval. Returns the exit code; raises ClickException where the cluster refuses."""
    live = cluster.release(name)
    status = ModelReleaseStatus.model_validate(live.get("status") or {})
    candidate, what = status.candidate, f"{cluster.namespace}/{name}"
    if candidate is None or candidate.returning is not None:
        serves = f"v{status.stable.version} serves" if status.stable else "nothing serves"
        click.echo(f"Nothing to {_word(decision)}: {serves} in {what} and no version waits.", err=True)
        return 1
    spec = ModelReleaseSpec.model_validate(live["spec"])
    asked = _asking(cluster, spec)
    chosen = _chosen(gate, asked, [item.name for item in status.gates])
    wanted = asked.get(chosen)
    me = who_am_i(cluster)
    speaks_for = group or (wanted.group if wanted is not None else None)
    _allowed_to_say(me, speaks_for, chosen)
    separate = not any(may(cluster, verb, "modelreleases", name) for verb in _WRITES)
    if wanted is not None and wanted.separate_duties and not separate:
        words = f"Gate {chosen} counts only people who may not write the release; {me.name} may, so it will not count."
        click.echo(fold(words), err=True)
    click.echo(fold(_in_words(decision, what, candidate, chosen, me, speaks_for, status)), err=True)
    if not (yes or agreed()):
        click.echo("Nothing was done.", err=True)
        return 1
    approver = {"username": me.name, **({"group": speaks_for} if speaks_for else {})}
    body = {
        "apiVersion": API_VERSION,
        "kind": "ReleaseApproval",
        "metadata": {"name": f"{name}-{candidate.revision}-{secrets.token_hex(3)}"[:_NAME_MAX]},
        "spec": {
            "release": name,
            "revision": candidate.revision,
            "rules": candidate.rules,
            "gate": chosen,
            "decision": decision,
            "comment": comment,
            "approver": approver,
            "dutiesSeparated": separate,
        },
    }
    made = cluster.create(cluster.path(APPROVALS), body)
    click.echo(f"releaseapproval/{made['metadata']['name']} is written.")
    return 0


def _asking(cluster: Cluster, spec: ModelReleaseSpec) -> dict[str, ApprovalGate]:
    """The gates of kind approval, by their names in status. Those of a policy that may not be read are left out."""
    found = {gate.name: gate.approval for gate in spec.gates if gate.approval is not None}
    if spec.policy_ref is not None:
        try:
            policy = cluster.get(cluster.path("releasepolicies", spec.policy_ref.name, everywhere=True))
        except ClusterError as error:
            if error.reason not in ("Forbidden", "NotFound"):
                raise
            return found
        found |= _of_policy(spec.policy_ref.name, policy)
    return found


def _of_policy(name: str, policy: Object) -> dict[str, ApprovalGate]:
    from modelrelease.api.policy import ReleasePolicySpec

    gates = ReleasePolicySpec.model_validate(policy["spec"]).gates
    return {f"{name}/{gate.name}": gate.approval for gate in gates if gate.approval is not None}


def _chosen(gate: str | None, asked: dict[str, ApprovalGate], known: list[str]) -> str:
    if gate is not None:
        if gate not in asked and gate not in known:
            there = ", ".join(asked) or "none"
            raise click.ClickException(f"there is no gate {gate}; those that wait for people: {there}")
        return gate
    if len(asked) == 1:
        return next(iter(asked))
    if not asked:
        raise click.ClickException("no gate that could be read waits for people; name it with --gate")
    raise click.ClickException(f"several gates wait for people, name one with --gate: {', '.join(asked)}")


def _allowed_to_say(me: Person, group: str | None, gate: str) -> None:
    """What admission would refuse, said before."""
    if not me.name:
        raise click.ClickException("the API server does not say who you are, and nobody else may say it")
    if group is not None and group not in me.groups:
        groups = ", ".join(me.groups) or "none"
        raise click.ClickException(f"gate {gate} is for group {group}; {me.name} belongs to {groups}")


def _in_words(
    decision: str,
    what: str,
    candidate: CandidateStatus,
    gate: str,
    me: Person,
    group: str | None,
    status: ModelReleaseStatus,
) -> str:
    role = f"{me.name} for {group}" if group else me.name
    beside = f" beside v{status.stable.version}" if status.stable else ""
    does = (
        "The other gates and the checks go on deciding."
        if decision == "Approve"
        else "The gate fails until this is deleted."
    )
    verb = "Approves" if decision == "Approve" else "Denies"
    who = f"v{candidate.version} (revision {candidate.revision}) of {what}{beside}"
    return f"{verb} {who} at gate {gate}, as {role}. {does}"


def _word(decision: str) -> str:
    return "approve" if decision == "Approve" else "deny"


approve = _verb(
    "approve",
    "Approve",
    short="Say yes to the candidate of a release at a gate.",
    more="It counts for this version, this template and these rules alone.",
)
deny = _verb(
    "deny",
    "Deny",
    short="Say no to the candidate of a release at a gate.",
    more="The gate fails until the ReleaseApproval is deleted.",
)
