"""`promote`, `abort`, `pause`, `resume`, `skip`, `retry`, `rollback`: a person steers a rollout.

Each reads the release, says what it will do to it and what it cannot overrule (`core.prospect`), asks, sets the
annotation modelrelease.dev/command and waits for the operator's answer. The rule: what was said is what is done; if the
release has changed meanwhile, it is read and, where the words are others now, asked again. Needs the verbs get, patch
and command on the release, and nothing else. Exit code 1: nothing was done, or the operator ignored it.
"""

from __future__ import annotations

import secrets
import sys
import time

import click

from modelrelease.api.base import parse_duration
from modelrelease.api.status import CommandStatus, ModelReleaseStatus
from modelrelease.core.prospect import Nothing, Prospect, prospect

from .amounts import Amount
from .cluster import COMMAND_ANNOTATION, Cluster, ClusterError, Object, in_cluster
from .identity import who_am_i
from .screen import fold

KIND = "modelreleases.modelrelease.dev"
BY_ANNOTATION = f"{COMMAND_ANNOTATION}-by"
LOOK_AGAIN_S = 0.3
_WAIT = Amount("duration", lambda text: parse_duration(text).total_seconds(), "10s, or 0s not to wait")
_TRIES = 8  # of a release that changes between reading and writing


def _verb(verb: str, *, short: str, more: str) -> click.Command:
    @click.command(name=verb, short_help=short, help=f"{short}\n\n{more}")
    @in_cluster
    @click.argument("name")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @click.option("--wait", type=_WAIT, default="10s", metavar="TIME", help="For the operator's answer. Default 10s.")
    def run(cluster: Cluster, name: str, yes: bool, wait: float, version: str | None = None) -> int:
        return steer(cluster, verb, name, yes=yes, wait_s=wait, version=version)

    if verb == "retry":
        run.params.append(click.Option(["--version"], metavar="VERSION", help="Which one. Default: the spec's."))
    return run


def steer(cluster: Cluster, verb: str, name: str, *, yes: bool, wait_s: float, version: str | None = None) -> int:
    """Give one command. Returns the exit code; raises ClickException where the cluster refuses."""
    said: Prospect | None = None
    user = None
    for _ in range(_TRIES):
        live = cluster.release(name)
        found = _prospect(verb, f"{cluster.namespace}/{name}", live, version)
        if isinstance(found, Nothing):
            click.echo(f"Nothing to {verb}: {found.message}.", err=True)
            return 1
        if said is None or found != said:
            if said is not None:
                click.echo("Meanwhile the release has changed.", err=True)
            click.echo(fold(found.message), err=True)
            if not (yes or agreed()):
                click.echo("Nothing was done.", err=True)
                return 1
            said = found
        user = user or who_am_i(cluster).name
        command = f"{verb}@{found.revision}-{secrets.token_hex(4)}"
        if _set(cluster, name, live, command, user):
            return _answer(cluster, name, command, wait_s)
    raise ClusterError(f"{cluster.namespace}/{name} changes all the time; nothing was done, try again", "Conflict")


def agreed() -> bool:
    """Ask the person. Raises ClickException where nobody can answer."""
    if not sys.stdin.isatty():
        raise click.ClickException("there is no terminal to ask on, so nothing was done; --yes does not ask")
    return click.confirm("Go on?", default=False, err=True)


def _prospect(verb: str, what: str, live: Object, version: str | None) -> Prospect | Nothing:
    status = ModelReleaseStatus.model_validate(live.get("status") or {})
    model = (live.get("spec") or {}).get("model") or {}
    return prospect(verb, what, status, version or model.get("version"))


def _set(cluster: Cluster, name: str, live: Object, command: str, user: str) -> bool:
    """Set the annotation on the release as it was read; False where it is another one by now."""
    annotations = {COMMAND_ANNOTATION: command, BY_ANNOTATION: f"{command} {user}" if user else None}
    metadata = {"resourceVersion": live["metadata"]["resourceVersion"], "annotations": annotations}
    try:
        cluster.patch(KIND, name, {"metadata": metadata})
    except ClusterError as error:
        if error.reason == "Conflict":
            return False
        raise
    return True


def _answer(cluster: Cluster, name: str, command: str, wait_s: float) -> int:
    """What the operator makes of it. It is looked for again and again: a watch would be one more right."""
    if wait_s <= 0:
        click.echo(f"{command} is set.")
        return 0
    until = time.monotonic() + wait_s
    while (answer := _answered(cluster.release(name), command)) is None:
        if time.monotonic() >= until:
            click.echo(
                f"{command} is set, but the operator has not taken it up within {wait_s:g}s. It will when it runs; "
                f"kubectl modelrelease status {name} shows what becomes of it.",
                err=True,
            )
            return 1
        time.sleep(LOOK_AGAIN_S)
    ignored = not answer.result.startswith("accepted")
    click.echo(answer.result[:1].upper() + answer.result[1:] + ".", err=ignored)
    return 1 if ignored else 0


def _answered(live: Object, command: str) -> CommandStatus | None:
    status = ModelReleaseStatus.model_validate(live.get("status") or {})
    return next((item for item in status.commands if item.command == command), None)


promote = _verb(
    "promote",
    short="Go on without waiting for time or evidence.",
    more="Of all phases that are left and of the bake. A failing check, a gate or an approval it does not overrule.",
)
abort = _verb(
    "abort",
    short="Send the candidate's traffic back, and do not try it again.",
    more="All of it at once; requests in flight may end.",
)
pause = _verb(
    "pause",
    short="Keep the candidate's weight from rising.",
    more="Harm still takes its traffic back.",
)
resume = _verb("resume", short="Let a paused rollout go on.", more="With the phase that it was paused in.")
skip = _verb(
    "skip",
    short="End the present phase's waits for time and evidence.",
    more="The next phase waits again. A failing check, a gate or an approval it does not overrule.",
)
retry = _verb(
    "retry",
    short="Lift the quarantine of a version that failed.",
    more="If the spec asks for that version, its rollout begins anew, gates first.",
)
rollback = _verb(
    "rollback",
    short="Go back: to what serves beside the candidate, or to the version before.",
    more="With a rollout under way this is abort; else the version promoted before takes over, within a day.",
)
