"""The page docs/state-machine.md, written from the table of transitions, so that it cannot say anything else.

Text only: `python -m modelrelease.cli.diagram` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from .decide import TRANSITIONS, State

_MEANS: Mapping[State, str] = {
    State.IDLE: "nothing is under way: what was promoted last serves, or nothing does yet",
    State.GATING: "evaluation gates are read; no pod exists",
    State.STARTING: "pods for the current phase become ready; the weight is that of the phase before, or 0",
    State.SHIFTING: "the candidate has the weight of its phase; time and evidence are waited for",
    State.BAKING: "the candidate has full weight; the former revision stays warm",
    State.RETURNING: "all traffic is going, or has gone, back to stable; requests in flight have their time",
}

_INTRODUCTION = """\
# The state machine

<!-- Written by `python -m modelrelease.cli.diagram` from the table in operator/modelrelease/core/decide.py. -->

A release is in one of six states. A pass either stays in its state and says in `status.phase`, `status.message` and the
condition `Progressing` what it waits for, or walks one or more of the edges below. Anything else raises an error.
Whichever state a release is in, harm is looked at first, then what was lost, and only then what may rise.
"""


def page() -> str:
    """The whole page: a diagram, what each state means, and when each edge is walked."""
    return "\n".join((_INTRODUCTION, mermaid(), _states(), _edges()))


def mermaid() -> str:
    """The diagram, as GitHub and most documentation tools draw it."""
    arrows = [f"    {origin} --> {to}" for origin, to in TRANSITIONS]
    return "\n".join(("```mermaid", "stateDiagram-v2", f"    [*] --> {State.IDLE}", *arrows, "```", ""))


def _states() -> str:
    rows = [f"| {state} | {_MEANS[state]} |" for state in State]
    return "\n".join(("| state | means |", "|---|---|", *rows, ""))


def _edges() -> str:
    rows = [f"| {origin} | {to} | {when} |" for (origin, to), when in TRANSITIONS.items()]
    return "\n".join(("| from | to | when |", "|---|---|---|", *rows, ""))
