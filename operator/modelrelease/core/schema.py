"""The input schema of a model, as MLflow writes it into the signature, and what one accepts that another does not.

    parse(inputs, params) -> Schema             from the JSON texts of the MLmodel file
    differences(former, latter) -> words        why the latter does not accept all that the former accepted

Types widen as MLflow's own schema enforcement does: integer -> long, integer -> double, float -> double, and anything
-> any. A tensor's type must be equal. What was optional may not become required, nor the other way harm anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_WIDER = {"integer": {"long", "double"}, "float": {"double"}}
_DEPTH = 32
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Type:
    """A scalar (`double`, `any`, ...), an array or map (with `items`) or an object (with `fields`)."""

    kind: str
    items: Type | None = None
    fields: tuple[Field, ...] = ()

    def __str__(self) -> str:
        if self.items is not None:
            return f"{self.kind} of {self.items}"
        return self.kind


@dataclass(frozen=True, slots=True)
class Field:
    """A column, or a property of an object. name: its position, as text, where columns have no names."""

    name: str
    type: Type
    required: bool = True


@dataclass(frozen=True, slots=True)
class Tensor:
    """dtype as numpy names it; shape with -1 for any length. name: empty for the only, unnamed tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of inference; it always has a default. shape: None for a single value."""

    name: str
    type: Type
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """Columns or tensors, never both; and parameters."""

    columns: tuple[Field, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    params: tuple[Param, ...] = ()


def parse(inputs: str, params: str | None) -> Schema:
    """Read the JSON texts. Raises ValueError where they are not a schema of MLflow's."""
    try:
        entries = json.loads(inputs)
        taken = json.loads(params) if params else []
        if not isinstance(entries, list) or not isinstance(taken, list) or not entries:
            raise ValueError("not a list of inputs")
        tensors = [entry for entry in entries if entry["type"] == "tensor"]
        if tensors and len(tensors) != len(entries):
            raise ValueError("tensors and columns together")
        return Schema(
            columns=() if tensors else tuple(_column(at, entry) for at, entry in enumerate(entries)),
            tensors=tuple(_tensor(entry) for entry in tensors),
            params=tuple(Param(str(entry["name"]), _type(entry, 0), _shape(entry.get("shape"))) for entry in taken),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a schema ({type(error).__name__})") from error


def differences(former: Schema, latter: Schema) -> list[str]:
    """What the former accepted and the latter does not, or not in the same way; empty where it accepts it all."""
    if bool(former.tensors) != bool(latter.tensors):
        was, now = ("tensors", "columns") if former.tensors else ("columns", "tensors")
        return [f"takes {now} where the champion takes {was}"]
    found = _of_fields(former.columns, latter.columns, "column ")
    found += _of_tensors(former.tensors, latter.tensors)
    later = {param.name: param for param in latter.params}
    for param in former.params:
        new = later.get(param.name)
        if new is None:
            found.append(f"parameter {_cut(param.name)} is gone")
            continue
        found += _of_types(param.type, new.type, f"parameter {_cut(param.name)}")
        if not _fits(param.shape, new.shape):
            found.append(f"parameter {_cut(param.name)} has shape {_dims(new.shape)}, had {_dims(param.shape)}")
    return found


def _of_fields(former: Iterable[Field], latter: Iterable[Field], what: str) -> list[str]:
    before, after = {item.name: item for item in former}, {item.name: item for item in latter}
    found = []
    for name, old in before.items():
        new = after.get(name)
        label = f"{what}{_cut(name)}"
        if new is None:
            found.append(f"{label} is gone")
            continue
        found += _of_types(old.type, new.type, label)
        if new.required and not old.required:
            found.append(f"{label} is required now")
    found += [
        f"{what}{_cut(name)} is new and required" for name in after if name not in before and after[name].required
    ]
    return found


def _of_tensors(former: tuple[Tensor, ...], latter: tuple[Tensor, ...]) -> list[str]:
    before, after = {item.name: item for item in former}, {item.name: item for item in latter}
    found = [f"{_tensor_label(name)} is gone" for name in before if name not in after]
    found += [f"{_tensor_label(name)} is new and required" for name in after if name not in before]
    for name in before.keys() & after.keys():
        old, new, label = before[name], after[name], _tensor_label(name)
        if old.dtype != new.dtype:
            found.append(f"{label} is {new.dtype}, was {old.dtype}")
        if not _fits(old.shape, new.shape):
            found.append(f"{label} has shape {_dims(new.shape)}, had {_dims(old.shape)}")
    return found


def _of_types(old: Type, new: Type, label: str) -> list[str]:
    if new.kind in ("any", *_WIDER.get(old.kind, ())):
        return []
    if old.kind != new.kind:
        return [f"{label} is {_cut(str(new))}, was {_cut(str(old))}"]
    found = []
    if old.items is not None and new.items is not None:
        found += _of_types(old.items, new.items, f"{label}[]")
    return found + _of_fields(old.fields, new.fields, f"{label}.")


def _fits(old: tuple[int, ...] | None, new: tuple[int, ...] | None) -> bool:
    """Whether each length of the old shape is one that the new shape takes."""
    if old is None or new is None:
        return old is new
    return len(old) == len(new) and all(after in (-1, before) for before, after in zip(old, new, strict=True))


def _column(at: int, entry: Mapping[str, Any]) -> Field:
    name = entry.get("name")
    return Field(str(at) if name is None else str(name), _type(entry, 0), _required(entry))


def _required(entry: Mapping[str, Any]) -> bool:
    return bool(entry["required"]) if "required" in entry else not entry.get("optional", False)


def _type(entry: Mapping[str, Any], depth: int) -> Type:
    if depth > _DEPTH:
        raise ValueError("nested too deeply")
    kind = str(entry["type"])
    if kind == "array":
        return Type(kind, _type(entry["items"], depth + 1))
    if kind == "map":
        return Type(kind, _type(entry["values"], depth + 1))
    if kind == "object":
        fields = entry["properties"].items()
        return Type(kind, None, tuple(Field(str(n), _type(item, depth + 1), _required(item)) for n, item in fields))
    return Type(kind)


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    spec = entry["tensor-spec"]
    return Tensor(str(entry.get("name") or ""), str(spec["dtype"]), _shape(spec["shape"]) or ())


def _shape(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(int(length) for length in value)


def _tensor_label(name: str) -> str:
    return f"tensor {_cut(name)}" if name else "the tensor"


def _dims(shape: tuple[int, ...] | None) -> str:
    return "of a single value" if shape is None else f"({', '.join(map(str, shape))})"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
