"""What differs between two revisions, short enough for a screen. Pure.

Values of environment variables are not shown: they may be what nobody should read over a shoulder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .views.values import Change

Stored = Mapping[str, Any]
"""The data of a ControllerRevision."""


def changes(before: Stored, after: Stored) -> tuple[Change, ...]:
    """From what serves to the candidate, as stored: model, runtime, pod template, then how it is judged."""
    out = [
        Change(what, str(old), str(new))
        for what, old, new in (
            ("model", _model(before, after), _model(after, before)),
            ("runtime", before.get("runtime"), after.get("runtime")),
            ("port", (before.get("ports") or {}).get("http"), (after.get("ports") or {}).get("http")),
            ("drain", f"{before.get('drainSeconds', 0):.0f}s", f"{after.get('drainSeconds', 0):.0f}s"),
        )
        if old != new
    ]
    out += _template(dict(_leaves("", before.get("template"))), dict(_leaves("", after.get("template"))))
    for what in ("gates", "checks", "phases"):
        old_rules, new_rules = before.get(what) or [], after.get(what) or []
        if old_rules != new_rules:
            out.append(Change(what, *_names(old_rules, new_rules)))
    return tuple(out)


def _model(one: Stored, other: Stored) -> str:
    version = f"v{one.get('version')}"
    return version if one.get("model") == other.get("model") else f"{one.get('model')} {version}"


def _template(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    out = []
    for path in sorted({*before, *after}, key=lambda path: (".image" not in path, ".args" not in path, path)):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if isinstance(old, tuple) and isinstance(new, tuple):
            gone, come = [item for item in old if item not in new], [item for item in new if item not in old]
            out.append(Change(path, " ".join(gone), " ".join(come)) if gone or come else Change(path, "", "reordered"))
        elif path.rpartition(".")[0].endswith(".env"):
            both = old is not None and new is not None
            out.append(Change(path, "" if new is not None else "unset", "changed" if both else "set" if new else ""))
        else:
            out.append(Change(path, _text(old), _text(new)))
    return out


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """By path; items of a list that have a name go by it, a list of plain values is one value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            short = path if key == "spec" and not path else f"{path}.{key}".lstrip(".")
            yield from _leaves(short, item)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        for item in value:
            rest = {key: part for key, part in item.items() if key != "name"}
            where = f"{path}.{item['name']}".removeprefix("containers.").removeprefix("initContainers.")
            yield from _leaves(where, rest) if not path.endswith("env") else iter([(where, repr(rest))])
    elif isinstance(value, list):
        yield path, tuple(str(item) for item in value)
    else:
        yield path, value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, tuple) else str(value).strip() or '""'


def _names(before: list[Any], after: list[Any]) -> tuple[str, str]:
    """Names of the rules that differ on either side."""
    old, new = {item["name"]: item for item in before}, {item["name"]: item for item in after}
    gone = [name for name in old if name not in new]
    come = [name for name in new if name not in old]
    edited = [f"{name} edited" for name in new if name in old and old[name] != new[name]]
    return ", ".join(gone), ", ".join([*come, *edited]) or ("" if gone else "reordered")
