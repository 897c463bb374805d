"""Which input schemas accept what another one accepted, in the JSON that MLflow writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelrelease.core.schema import Field, Param, Schema, Tensor, Type, differences, parse

Entry = dict[str, Any]


def column(name: str, type_: str | Entry = "double", *, required: bool = True) -> Entry:
    """A column; of a nested type where a dict is given."""
    kind = type_ if isinstance(type_, dict) else {"type": type_}
    return {**kind, "name": name, "required": required}


def tensor(*shape: int, dtype: str = "float64", name: str | None = None) -> Entry:
    """A tensor, the only one where it has no name."""
    entry: Entry = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(shape)}}
    return entry if name is None else {**entry, "name": name}


def array(items: str | Entry) -> Entry:
    """An array type."""
    return {"type": "array", "items": items if isinstance(items, dict) else {"type": items}}


def thing(**fields: Entry) -> Entry:
    """An object type."""
    return {"type": "object", "properties": fields}


def prop(type_: str | Entry = "long", *, required: bool = True) -> Entry:
    """A property of an object type."""
    return {**(type_ if isinstance(type_, dict) else {"type": type_}), "required": required}


def param(name: str, type_: str = "double", shape: list[int] | None = None) -> Entry:
    """A parameter."""
    return {"name": name, "type": type_, "default": None, "shape": shape}


A, B = column("a"), column("b", "string", required=False)
CASES: dict[str, tuple[list[Entry], list[Entry], list[str]]] = {
    "the same columns": ([A, B], [A, B], []),
    "columns in another order": ([A, B], [B, A], []),
    "a new optional column": ([A], [A, B], []),
    "a new required column": ([B], [B, A], ["column a is new and required"]),
    "a column that is gone": ([A, B], [A], ["column b is gone"]),
    "a column that is optional now": ([A], [column("a", required=False)], []),
    "a column that is required now": ([B], [column("b", "string")], ["column b is required now"]),
    "a type that changed": ([A], [column("a", "string")], ["column a is string, was double"]),
    "integer to long": ([column("a", "integer")], [column("a", "long")], []),
    "integer to double": ([column("a", "integer")], [column("a", "double")], []),
    "float to double": ([column("a", "float")], [column("a", "double")], []),
    "anything to any": ([column("a", "string")], [column("a", "any")], []),
    "any to something": ([column("a", "any")], [column("a", "string")], ["column a is string, was any"]),
    "long to integer": ([column("a", "long")], [column("a", "integer")], ["column a is integer, was long"]),
    "long to double loses digits": ([column("a", "long")], [column("a", "double")], ["column a is double, was long"]),
    "items of an array that widen": ([column("a", array("float"))], [column("a", array("double"))], []),
    "items of an array that changed": (
        [column("a", array("double"))], [column("a", array("string"))], ["column a[] is string, was double"]),
    "an array that was a value": ([A], [column("a", array("double"))], ["column a is array of double, was double"]),
    "values of a map that changed": (
        [column("a", {"type": "map", "values": {"type": "long"}})],
        [column("a", {"type": "map", "values": {"type": "string"}})], ["column a[] is string, was long"]),
    "a property that is new and required": (
        [column("a", thing(x=prop()))], [column("a", thing(x=prop(), y=prop()))],
        ["column a.y is new and required"]),
    "a property that is new and optional": (
        [column("a", thing(x=prop()))], [column("a", thing(x=prop(), y=prop(required=False)))], []),
    "a property deep inside": (
        [column("messages", array(thing(role=prop("string"), content=prop("string", required=False))))],
        [column("messages", array(thing(role=prop("long"), content=prop("string"))))],
        ["column messages[].role is long, was string", "column messages[].content is required now"]),
    "the same tensor": ([tensor(-1, 64)], [tensor(-1, 64)], []),
    "a tensor that takes any length now": ([tensor(32, 64)], [tensor(-1, -1)], []),
    "a tensor of a fixed length now": (
        [tensor(-1, 64)], [tensor(32, 64)], ["the tensor has shape (32, 64), had (-1, 64)"]),
    "a tensor of another rank": (
        [tensor(-1, 8, 8)], [tensor(-1, 64)], ["the tensor has shape (-1, 64), had (-1, 8, 8)"]),
    "a tensor of another type": ([tensor(-1)], [tensor(-1, dtype="float32")], ["the tensor is float32, was float64"]),
    "a named tensor that is gone, and a new one": (
        [tensor(-1, name="ids")], [tensor(-1, name="tokens")],
        ["tensor ids is gone", "tensor tokens is new and required"]),
    "tensors where columns were": ([A], [tensor(-1)], ["takes tensors where the champion takes columns"]),
    "columns where tensors were": ([tensor(-1)], [A], ["takes columns where the champion takes tensors"]),
    "columns without names count by place": (
        [{"type": "double"}, {"type": "string"}], [{"type": "double"}], ["column 1 is gone"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_schema_is_compared_with(case: tuple[list[Entry], list[Entry], list[str]]) -> None:
    former, latter, expected = case
    assert differences(parse(json.dumps(former), None), parse(json.dumps(latter), None)) == expected


PARAMS: dict[str, tuple[list[Entry], list[Entry], list[str]]] = {
    "a new parameter has a default": ([], [param("t")], []),
    "a parameter that is gone": ([param("t")], [], ["parameter t is gone"]),
    "a parameter that widens": ([param("n", "integer")], [param("n", "long")], []),
    "a parameter of another type": ([param("n", "long")], [param("n", "string")], ["parameter n is string, was long"]),
    "a parameter that takes a list now": (
        [param("n")],
        [param("n", shape=[-1])],
        ["parameter n has shape (-1), had of a single value"],
    ),
}


@pytest.mark.parametrize("case", PARAMS.values(), ids=PARAMS.keys())
def test_parameters_are_compared(case: tuple[list[Entry], list[Entry], list[str]]) -> None:
    former, latter, expected = case
    inputs = json.dumps([A])
    assert differences(parse(inputs, json.dumps(former)), parse(inputs, json.dumps(latter))) == expected


def test_a_schema_is_read_whole() -> None:
    columns = parse(json.dumps([A, column("o", thing(x=prop(array("long"))))]), json.dumps([param("t", shape=[-1])]))
    assert columns == Schema(
        columns=(
            Field("a", Type("double")),
            Field("o", Type("object", None, (Field("x", Type("array", Type("long"))),))),
        ),
        params=(Param("t", Type("double"), (-1,)),),
    )
    assert parse(json.dumps([tensor(-1, 64)]), None) == Schema(tensors=(Tensor("", "float64", (-1, 64)),))


def test_the_older_word_for_optional_is_understood() -> None:
    found = parse('[{"type": "double", "name": "a", "optional": true}]', None)
    assert found.columns == (Field("a", Type("double"), required=False),)


DEEP = '{"type": "array", "items": ' * 100 + '{"type": "long"}' + "}" * 100


@pytest.mark.parametrize(
    "inputs",
    [
        "",
        "no",
        "{}",
        "[]",
        "7",
        "[7]",
        '["type"]',
        "[{}]",
        '[{"type": "array"}]',
        '[{"type": "object", "properties": []}]',
        '[{"type": "tensor"}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "f", "shape": ["x"]}}]',
        json.dumps([A, tensor(-1)]),
        f"[{DEEP}]",
        "[" * 100_000,
    ],
)
def test_what_is_no_schema_is_refused(inputs: str) -> None:
    with pytest.raises(ValueError):
        parse(inputs, None)
