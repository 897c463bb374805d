"""`lint`: everything that is wrong with a release or a policy, and what is unwise, before it meets a cluster.

Here: files, lines, what depends on the traffic, and the output. What is said about a document stands in `core.lint`.
Nothing is asked of a cluster. Exit code 1: there are errors (with --strict: or warnings).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from modelrelease.api.base import GROUP
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.core import lint
from modelrelease.core.lint import Finding, Level

from .amounts import NAMED_SHARE, NAMED_TIMES, RATE
from .documents import line_of
from .screen import bad, doubtful, fold, table

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OTHERS = ("ReleaseRecord", "ReleaseApproval")  # kinds of ours with little that could be said beforehand


@dataclass(frozen=True, slots=True)
class Source:
    """One document and where it stands. content: None where the file could not be read."""

    file: str
    node: yaml.Node | None
    content: Mapping[str, Any]

    @property
    def what(self) -> str:
        """`ModelRelease churn`."""
        metadata = self.content.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return f"{self.content.get('kind')} {name or '(no name)'}"

    def line(self, path: Sequence[str | int]) -> int:
        """The line of a field, from 1: of its nearest parent that stands there, if it does not."""
        return line_of(self.node, path) + 1


@dataclass(frozen=True, slots=True)
class Located:
    """A finding with its file, line and object."""

    file: str
    line: int
    what: str
    finding: Finding

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        path = lint.in_words(self.finding.path)
        level, message = self.finding.level.value, self.finding.message
        return {
            "file": self.file,
            "line": self.line,
            "object": self.what,
            "path": path,
            "level": level,
            "message": message,
        }


@click.command()
@click.option(
    "-f", "files", multiple=True, required=True, metavar="FILE", help="YAML or JSON; several, or - for input."
)
@click.option(
    "--traffic", type=RATE, metavar="RATE", help="Requests of all users: what each phase gets and can decide."
)
@click.option(
    "--stable-errors", type=NAMED_SHARE, multiple=True, metavar="[CHECK=]SHARE", help="Failing in stable: 1%."
)
@click.option(
    "--stable-latency", type=NAMED_TIMES, multiple=True, metavar="[CHECK=]TIME", help="Median~sigma: 300ms~0.6."
)
@click.option("--strict", is_flag=True, help="Warnings, too, end with code 1.")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="Default text.")
def command(
    files: tuple[str, ...],
    traffic: float | None,
    stable_errors: tuple[Any, ...],
    stable_latency: tuple[Any, ...],
    strict: bool,
    output: str,
) -> int:
    """Check releases and policies without a cluster: what would be refused, and what is unwise.

    \b
      kubectl modelrelease lint -f release.yaml -f policy.yaml --traffic 20/s
    """
    found: list[Located] = []
    sources = [source for file in files for source in _read(file, found)]
    sound = [source for source in sources if not _problems(source, found)]
    policies = {
        str(source.content["metadata"].get("name")): ReleasePolicySpec.model_validate(source.content["spec"])
        for source in sound
        if source.content["kind"] == "ReleasePolicy"
    }
    phases: list[dict[str, Any]] = []
    for source in sound:
        if source.content["kind"] == "ReleasePolicy":
            said = lint.policy_advice(policies[str(source.content["metadata"].get("name"))])
        else:
            said, seen = _release(source, policies, traffic, stable_errors, stable_latency)
            phases += seen
        found += [_located(source, item) for item in said]
    found.sort(key=lambda item: (files.index(item.file), item.line))
    _say(found, phases, len(sources), output)
    levels = {item.finding.level for item in found}
    return 1 if Level.ERROR in levels or (strict and Level.WARNING in levels) else 0


def _problems(source: Source, found: list[Located]) -> bool:
    said = [*lint.problems(source.content), *_doubled(source.node)]
    found += [_located(source, item) for item in said]
    return bool(said)


def _located(source: Source, item: Finding) -> Located:
    return Located(source.file, source.line(item.path), source.what, item)


# -- files -----------------------------------------------------------------------------------------------------------
def _read(file: str, found: list[Located]) -> Iterator[Source]:
    """The documents of our kinds. What is no YAML is a finding, what is of another kind is passed over."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        nodes = list(yaml.compose_all(text, Loader=_LOADER))
        contents = list(yaml.load_all(text, Loader=_LOADER))
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or "is not UTF-8"
        line = mark.line + 1 if mark is not None else 1
        found.append(Located(file, line, "file", Finding(Level.ERROR, (), f"no YAML: {words}")))
        return
    for node, content in zip(nodes, contents, strict=True):
        if content is not None:
            yield from _objects(file, node, content, found)


def _objects(file: str, node: Any, content: Any, found: list[Located]) -> Iterator[Source]:
    if not isinstance(content, dict):
        line = node.start_mark.line + 1
        found.append(Located(file, line, "file", Finding(Level.ERROR, (), "holds no Kubernetes object")))
        return
    kind, group = str(content.get("kind")), str(content.get("apiVersion", "")).partition("/")[0]
    if kind.endswith("List") and isinstance(content.get("items"), list):
        [items] = [value for key, value in node.value if key.value == "items"]
        for below, item in zip(items.value, content["items"], strict=True):
            yield from _objects(file, below, item, found)
    elif kind in lint.SPECS:
        yield Source(file, node, content)
    elif group == GROUP and kind not in _OTHERS:
        words = f"unknown kind {kind}; checked are {', '.join(lint.SPECS)}"
        found.append(_located(Source(file, node, content), Finding(Level.ERROR, ("kind",), words)))


def _doubled(node: yaml.Node | None, at: tuple[str | int, ...] = ()) -> Iterator[Finding]:
    """Keys that stand twice in one object: the former is lost without a word."""
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _doubled(item, (*at, number))
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines and name != "<<":
            words = f"stands twice, in lines {lines[name]} and {line}: only the last would count"
            yield Finding(Level.ERROR, (*at, name), words)
        lines[name] = line
        yield from _doubled(value, (*at, name))


# -- releases --------------------------------------------------------------------------------------------------------
def _release(
    source: Source,
    policies: Mapping[str, ReleasePolicySpec],
    traffic: float | None,
    stable_errors: tuple[Any, ...],
    stable_latency: tuple[Any, ...],
) -> tuple[list[Finding], list[dict[str, Any]]]:
    metadata = source.content["metadata"]
    spec = ModelReleaseSpec.model_validate(source.content["spec"])
    name = str(metadata.get("name") or "release")
    policy = policies.get(spec.policy_ref.name) if spec.policy_ref else None
    said = lint.advice(name, spec, policy)
    if traffic is None or (spec.policy_ref is not None and policy is None):
        return said, []
    from .lint_traffic import forecast

    advice, rows = forecast(name, spec, policy, traffic, stable_errors, stable_latency)
    return [*said, *advice], [{"file": source.file, "object": source.what, **row} for row in rows]


# -- output ----------------------------------------------------------------------------------------------------------
def _say(found: Sequence[Located], phases: Sequence[dict[str, Any]], objects: int, output: str) -> None:
    if output == "json":
        click.echo(json.dumps({"findings": [item.as_json() for item in found], "phases": phases}, indent=2))
        return
    paint: Mapping[Level, Callable[[str], str]] = {Level.ERROR: bad, Level.WARNING: doubtful, Level.INFO: str}
    for item in found:
        level = item.finding.level
        click.echo(f"{item.file}:{item.line}: {paint[level](level.value)}: {lint.in_words(item.finding.path)}")
        click.echo(fold(item.finding.message, indent="  "))
    for what in dict.fromkeys(row["object"] for row in phases):
        click.echo(f"\nPhases of {what}")
        rows = [
            [
                row["phase"],
                f"{row['weight']}%",
                str(row["pods"]),
                f"{row['perPodPerMinute']:,.0f}",
                f"{row['perStablePodPerMinute']:,.0f}" if row["perStablePodPerMinute"] is not None else "-",
                f"{row['requests']:,.0f}",
                row["decidesAfter"],
            ]
            for row in phases
            if row["object"] == what
        ]
        head = ["PHASE", "WEIGHT", "PODS", "REQ/MIN/POD", "STABLE", "REQUESTS", "DECIDES AFTER"]
        click.echo(table(head, rows, right=(1, 2, 3, 4, 5), indent="  "))
    counts = {level: sum(item.finding.level is level for item in found) for level in Level}
    words = (
        f"{_many(objects, 'object')}: {_many(counts[Level.ERROR], 'error')}, {_many(counts[Level.WARNING], 'warning')}"
    )
    click.echo(f"{words}" if not found else f"\n{words}")


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
