"""`kubectl-modelrelease`, also `kubectl modelrelease`: the table of verbs and what is common to all of them.

One module a verb or family of verbs, imported when it is asked for: a start must not pay for clients that the verb does
not use. A verb's module has a click command named `command`, or another one whose name follows a colon in the table.
The rule: what a person did wrong is one line on stderr and exit code 2, never a traceback; 0 and 1 belong to the verb.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

import click

VERBS: Mapping[str, tuple[str, str]] = {
    "status": ("modelrelease.cli.status", "Show a release: who is hurt, what to do, what comes next, why."),
    "list": ("modelrelease.cli.listing", "List releases; those that need somebody come first."),
    "history": ("modelrelease.cli.history", "Show how the rollouts of a release ended."),
    "record": ("modelrelease.cli.record", "Show how one rollout went, and check the chain of records."),
    "explain": ("modelrelease.cli.explain", "Show what would move a release."),
    "where": ("modelrelease.cli.where", "Show which releases serve or try a model version."),
    "promote": ("modelrelease.cli.commands:promote", "Go on without waiting for time or evidence."),
    "abort": ("modelrelease.cli.commands:abort", "Send the candidate's traffic back, and do not try it again."),
    "pause": ("modelrelease.cli.commands:pause", "Keep the candidate's weight from rising."),
    "resume": ("modelrelease.cli.commands:resume", "Let a paused rollout go on."),
    "skip": ("modelrelease.cli.commands:skip", "End the present phase's waits for time and evidence."),
    "retry": ("modelrelease.cli.commands:retry", "Lift the quarantine of a version that failed."),
    "rollback": ("modelrelease.cli.commands:rollback", "Go back to the version that serves, or served before."),
    "approve": ("modelrelease.cli.approve:approve", "Say yes to the candidate of a release at a gate."),
    "deny": ("modelrelease.cli.approve:deny", "Say no to the candidate of a release at a gate."),
    "init": ("modelrelease.cli.init", "Write a ModelRelease from a running Deployment."),
    "lint": ("modelrelease.cli.lint", "Check releases and policies without a cluster."),
    "simulate": ("modelrelease.cli.simulate", "Play a rollout many times against chance, before it meets users."),
    "replay": ("modelrelease.cli.replay", "Judge the stored evidence of a release again, and explain the verdict."),
    "completion": ("modelrelease.cli.completion", "Print the completion script of a shell."),
}
"""By verb: the module, and what `--help` says about it without importing it."""

PROGRAM = "kubectl-modelrelease"
FAILED = 2


class Verbs(click.Group):
    """The group, whose commands are looked up in VERBS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module; None for an unknown verb."""
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute or "command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, words) for verb, (_, words) in VERBS.items()])


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"{PROGRAM} {version('modelrelease')}")
        ctx.exit()


@click.command(
    cls=Verbs,
    name=PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def program(ctx: click.Context) -> None:
    """Release machine-learning models: look at rollouts, decide, and try them out beforehand."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Entry point of `kubectl-modelrelease`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        code = program.main(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return FAILED
    except click.ClickException as error:
        return _fail(" ".join(error.format_message().split()))
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again when it ends
        return 0
    except Exception as error:
        if os.environ.get("MODELRELEASE_DEBUG"):
            raise
        name = type(error).__name__
        return _fail(f"a bug: {name}: {' '.join(str(error).split())[:200]} (MODELRELEASE_DEBUG=1 shows where)")
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int = FAILED) -> int:
    click.echo(f"{PROGRAM}: {message}", err=True)
    return code


if __name__ == "__main__":
    main()
