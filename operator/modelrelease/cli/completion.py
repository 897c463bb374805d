"""`completion`: the script that lets a shell complete verbs and options, and the answers kubectl asks a plugin for."""

from __future__ import annotations

import sys

import click
from click.shell_completion import ShellComplete, get_completion_class

from .main import PROGRAM, program

VARIABLE = "_KUBECTL_MODELRELEASE_COMPLETE"
_NO_FILES = 4  # cobra's ShellCompDirectiveNoFileComp
_FILES = 0


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  source <(kubectl-modelrelease completion bash)
    zsh:   source <(kubectl-modelrelease completion zsh)
    fish:  kubectl-modelrelease completion fish | source

    `kubectl modelrelease` completes by itself where kubectl's own completion is on.
    """
    found = get_completion_class(shell)
    assert found is not None, "click knows the three shells"
    click.echo(found(program, {}, PROGRAM, VARIABLE).source())


def for_kubectl() -> None:
    """Entry point of `kubectl_complete-modelrelease`, which kubectl runs with the words so far, the last unfinished."""
    words = sys.argv[1:] or [""]
    answers = ShellComplete(program, {}, PROGRAM, VARIABLE).get_completions(words[:-1], words[-1])
    plain = [answer for answer in answers if answer.type == "plain"]
    for answer in plain:
        click.echo(f"{answer.value}\t{answer.help}" if answer.help else answer.value)
    click.echo(f":{_FILES if len(plain) < len(answers) else _NO_FILES}")
