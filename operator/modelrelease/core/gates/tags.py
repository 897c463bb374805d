"""The gates tags and tag: what people and pipelines have written on the model version."""

from __future__ import annotations

from collections.abc import Mapping

from modelrelease.api.registry_gates import TagGate
from modelrelease.api.status import GateStatus

from ..observation import ModelVersion
from .context import Context
from .findings import Findings

_SHOWN = 80


def judge_all(
    name: str, rules: Mapping[str, str], candidate: ModelVersion, _: ModelVersion | None, __: Context
) -> GateStatus:
    """Each tag has its value. An absent tag is InsufficientData: nobody has said anything yet."""
    found = Findings()
    for tag, wanted in rules.items():
        _held(candidate, TagGate(name=tag, equals=wanted), found)
    return found.conclude(name)


def judge(name: str, rules: TagGate, candidate: ModelVersion, _: ModelVersion | None, __: Context) -> GateStatus:
    """One tag, by value, by a list of values or by being there. Tags of the run do not count: anybody may set them."""
    found = Findings()
    _held(candidate, rules, found)
    return found.conclude(name)


def _held(candidate: ModelVersion, rules: TagGate, found: Findings) -> None:
    value = candidate.own_tags.get(rules.name)
    shown = f"tag {rules.name} is {_quoted(value)}" if value is not None else ""
    if rules.present is False:
        if value is None:
            found.seen.append(f"tag {rules.name} is not set")
        else:
            found.failed.append(f"{shown}, must not be set")
        return
    wanted = (rules.equals,) if rules.equals is not None else rules.one_of or ()
    needs = f"needs {' or '.join(_quoted(item) for item in wanted)}" if wanted else "needs a value"
    if value is None:
        found.lacking.append(f"version {candidate.version} has no tag {rules.name}, {needs}")
    elif value in wanted or (not wanted and value.strip()):
        found.seen.append(shown)
    else:
        found.failed.append(f"{shown}, {needs}")


def _quoted(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
