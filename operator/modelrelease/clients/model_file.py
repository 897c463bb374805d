"""The MLmodel file: which lines of it the gates need, found without building anything of the rest.

Who registers a model writes this file. Building it whole would let him end the operator: a deeply nested one overflows
the stack of the C parser, and merge keys double its size with every line. So its events are read one by one, to a
bounded depth, and only `signature.inputs` and `signature.params` are kept; both are JSON text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from modelrelease.core.version_facts import ModelFile

from .failures import one_line

DEPTH_LIMIT = 64
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_KEPT = frozenset({"inputs", "params"})


@dataclass(slots=True)
class _Level:
    """A mapping or sequence that is open. key: of the value that comes next, None where a key comes next."""

    is_mapping: bool
    key: str | None = None


def parse_model_file(content: bytes) -> ModelFile:
    """What gates need of an MLmodel file. Raises ValueError where it is not one."""
    try:
        found = dict(_signature(content))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not YAML: {one_line(str(error))}") from error
    return ModelFile(f"sha256:{hashlib.sha256(content).hexdigest()}", found.get("inputs"), found.get("params"))


def _signature(content: bytes) -> Iterator[tuple[str, str | None]]:
    """The parts of the signature that are kept, the last one counting, as for every reader of YAML."""
    levels: list[_Level] = []
    documents = 0
    for event in yaml.parse(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        match event:
            case yaml.DocumentStartEvent():
                documents += 1
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                yield from _value(event, levels)
                levels.append(_Level(isinstance(event, yaml.MappingStartEvent)))
                if len(levels) > DEPTH_LIMIT:
                    raise ValueError("it is nested too deeply")
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                levels.pop()
                _close(levels)
            case yaml.ScalarEvent() if levels and levels[-1].is_mapping and levels[-1].key is None:
                levels[-1].key = event.value
            case yaml.ScalarEvent() | yaml.AliasEvent():
                yield from _value(event, levels)
                _close(levels)
    if documents != 1:
        raise ValueError("it is not one YAML document")


def _close(levels: list[_Level]) -> None:
    if levels:
        levels[-1].key = None


def _value(event: Any, levels: list[_Level]) -> Iterator[tuple[str, str | None]]:
    path = [level.key for level in levels]
    is_mapping = isinstance(event, yaml.MappingStartEvent)
    null = isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value in _NULL
    if (not path and not is_mapping) or (path == ["signature"] and not (is_mapping or null)):
        raise ValueError("it has not the shape of an MLmodel file")
    if levels and levels[-1].is_mapping and levels[-1].key is None:
        raise ValueError("it has a key that is no text")
    if path == ["signature"]:
        yield from ((name, None) for name in _KEPT)
    elif len(path) == 2 and path[0] == "signature" and path[1] in _KEPT:
        if not isinstance(event, yaml.ScalarEvent):
            raise ValueError(f"its signature's {path[1]} are not JSON text")
        yield str(path[1]), None if null else event.value
