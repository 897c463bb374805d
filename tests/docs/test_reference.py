"""The reference is generated, complete and current."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import click
import pytest
from pydantic import BaseModel

from modelrelease.api.crd import crds
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.cli import reference
from modelrelease.cli.main import program
from modelrelease.presets import PRESETS
from tests.docs.pages import DOCS, ROOT

MADE = reference.pages()


@pytest.mark.parametrize("name", list(MADE))
def test_a_page_is_as_generated(name: str) -> None:
    path = DOCS / "reference" / name
    assert path.exists(), "run: make docs"
    assert path.read_text(encoding="utf-8") == MADE[name], f"{name} is stale; run: make docs"


def test_every_kind_and_every_field_of_a_spec_is_told_with_its_description() -> None:
    for crd in crds().values():
        page = MADE[f"{crd['spec']['names']['singular']}.md"]
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for path, field in _fields("spec", schema["properties"]["spec"]):
            row = next((line for line in page.splitlines() if line.startswith(f"| `{path}` |")), None)
            assert row is not None, path
            assert row.rstrip("| ").rpartition(" | ")[2], f"{path} has no description"
            assert "default" not in field or f"`{reference._plain(field['default'])}`" in row, path


def test_a_bound_of_the_model_is_a_bound_on_the_page() -> None:
    assert issubclass(ModelReleaseSpec, BaseModel)
    row = next(line for line in MADE["modelrelease.md"].splitlines() if "`spec.workload.ports.http`" in line)
    assert "at least 1, at most 65535" in row


def test_every_variable_that_the_operator_reads_is_told() -> None:
    tree = ast.parse((ROOT / "operator" / "modelrelease" / "settings.py").read_text(encoding="utf-8"))
    read = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "read"
        if isinstance(node.args[0], ast.Constant)
    }
    assert read, "settings are read as read.text(NAME) and the like"
    missing = [name for name in sorted(map(str, read)) if name not in MADE["settings.md"]]
    assert not missing


def test_every_preset_and_verb_is_told() -> None:
    for name in PRESETS:
        assert f"\n## {name}\n" in MADE["presets.md"]
    for verb in program.list_commands(click.Context(program)):
        assert f"\n## {verb}\n" in MADE["cli.md"]


def test_a_row_has_as_many_cells_as_its_table() -> None:
    for name, text in MADE.items():
        width = 0
        for line in text.splitlines():
            if not line.startswith("|"):
                width = 0
                continue
            cells = line.replace("\\|", "").count("|") - 1
            assert cells == (width or cells), f"{name}: {line}"
            width = cells


def _fields(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, child in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", child
        yield from _fields(f"{path}.{name}", child)
        if "items" in child:
            yield from _fields(f"{path}.{name}[]", child["items"])
