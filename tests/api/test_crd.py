"""The generated CRDs: structural, described, bounded, and the same as the committed ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from modelrelease.api.base import SpecModel, StatusModel
from modelrelease.api.crd import crds, structural
from modelrelease.cli import crds as cli

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "nullable"}
NO_TEXT = {"metadata"}  # the API server refuses a description of metadata


def schema_of(plural: str) -> dict[str, Any]:
    schema: dict[str, Any] = crds()[plural]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema with its path, such as `.spec.gates[].name`."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


@pytest.mark.parametrize("plural", crds())
def test_every_field_has_a_description_that_says_something(plural: str) -> None:
    poor = [
        path
        for path, node in nodes(schema_of(plural))
        if path.rpartition(".")[2] not in NO_TEXT
        and not path.endswith(("[]", "{}"))
        and (len(node.get("description", "")) < 5 or not node["description"].rstrip().endswith("."))
    ]
    assert poor == []


@pytest.mark.parametrize("plural", crds())
def test_every_string_list_and_map_is_bounded(plural: str) -> None:
    """CEL's cost is estimated from the bounds, and a status without them may outgrow etcd's limit."""
    root = {".apiVersion", ".kind"}  # set by the API server's own decoding
    unbounded = []
    for path, node in nodes(schema_of(plural)):
        bounded = {"string": {"maxLength", "enum", "format"}, "array": {"maxItems"}}.get(node.get("type", ""), set())
        if "additionalProperties" in node:
            bounded = {"maxProperties"}
        if bounded and path not in root and not bounded & node.keys():
            unbounded.append(path)
    assert unbounded == []


@pytest.mark.parametrize("plural", crds())
def test_a_schema_is_structural(plural: str) -> None:
    for path, node in nodes(schema_of(plural)):
        assert not FORBIDDEN & node.keys(), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert isinstance(node.get("exclusiveMinimum", True), bool), path


@pytest.mark.parametrize("plural", crds())
def test_keys_of_list_maps_are_required_in_the_items(plural: str) -> None:
    for path, node in nodes(schema_of(plural)):
        for key in node.get("x-kubernetes-list-map-keys", []):
            assert key in node["items"]["required"], path


@pytest.mark.parametrize("plural", crds())
def test_every_rule_has_a_message_for_people(plural: str) -> None:
    for path, node in nodes(schema_of(plural)):
        for rule in node.get("x-kubernetes-validations", []):
            assert 10 <= len(rule["message"]) <= 140, path
            assert "self." not in rule["message"], path


def test_defaults_are_plain_values_and_only_those_that_nobody_else_decides() -> None:
    defaults = {path: node["default"] for path, node in nodes(schema_of("modelreleases")) if "default" in node}
    assert defaults == {
        ".spec.workload.runtime": "http",
        ".spec.gates[].advisory": False,
        ".spec.gates[].after.promotedFor": "0s",
        ".spec.gates[].onRevoked": "Hold",
        ".spec.gates[].slices.match": "slice/*",
        ".spec.gates[].winRate.min": 0.5,
        ".spec.gates[].winRate.confidence": 0.95,
        ".spec.gates[].winRate.method": "clopperPearson",
        ".spec.gates[].winRate.lengthControlled": False,
        ".spec.gates[].winRate.judge.agreement": "judge/agreement",
        ".spec.gates[].winRate.judge.annotators": "judge/annotators",
        ".spec.gates[].winRate.judge.humanShare": "judge/human_share",
        ".spec.gates[].winRate.judge.tieShare": "judge/tie_share",
        ".spec.gates[].winRate.judge.identity": "judge",
        ".spec.gates[].approval.count": 1,
        ".spec.gates[].approval.separateDuties": False,
        ".spec.gates[].dataset.context": "training",
        ".spec.gates[].dataset.requireDocumentation": False,
        ".spec.gates[].evaluatedWith.require": False,
        ".spec.checks[].errorRate.margin.relative": 1.25,
        ".spec.checks[].errorRate.margin.absolute": 0.01,
        ".spec.checks[].latency.metric": "requestDuration",
        ".spec.checks[].latency.margin.relative": 1.25,
        ".spec.checks[].latency.margin.absolute": 0.01,
        ".spec.checks[].errorRate.of": "server",
        ".spec.checks[].score.higherIsBetter": True,
        ".spec.checks[].score.margin.relative": 1.25,
        ".spec.checks[].score.margin.absolute": 0.01,
        ".spec.checks[].winRate.min": 0.47,
        ".spec.checks[].gauge.worse": "higher",
        ".spec.checks[].gauge.polls": 5,
        ".spec.checks[].custom.margin.relative": 1.25,
        ".spec.checks[].custom.margin.absolute": 0.01,
        ".spec.rollout.phases[].parity": False,
        ".spec.rollout.phases[].duration": "0s",
        ".spec.rollout.phases[].timeout": "24h",
        ".spec.rollout.bake.duration": "30m",
        ".spec.rollout.progressDeadline": "30m",
        ".spec.rollout.onInconclusive": "Hold",
        ".spec.suspend": False,
        ".status": {"observedGeneration": -1},
    }


def test_the_scale_subresource_points_at_fields_that_exist() -> None:
    version = crds()["modelreleases"]["spec"]["versions"][0]
    paths = {path for path, _ in nodes(version["schema"]["openAPIV3Schema"])}
    assert set(version["subresources"]["scale"].values()) <= paths
    assert {column["jsonPath"] for column in version["additionalPrinterColumns"]} <= paths | {
        ".metadata.creationTimestamp"
    }


def test_a_status_as_big_as_allowed_stays_below_a_fifth_of_what_etcd_stores() -> None:
    status = schema_of("modelreleases")["properties"]["status"]
    assert largest(status) < 1.5 * 2**20 / 5


def largest(node: dict[str, Any]) -> int:
    """Most characters that a value of this schema takes as JSON; text for people is counted as one byte a character."""
    match node["type"]:
        case "object":
            return 2 + sum(len(name) + 4 + largest(child) for name, child in node["properties"].items())
        case "array":
            return 2 + int(node["maxItems"]) * (1 + largest(node["items"]))
        case "string" if "enum" in node:
            return 2 + max(len(value) for value in node["enum"])
        case "string" if "format" in node:
            return 2 + len("2026-01-01T00:00:00.000Z")
        case "string":
            return 2 + int(node["maxLength"])
        case "boolean":
            return 5
        case _:
            return 20


def test_a_union_is_refused_because_a_structural_schema_has_none() -> None:
    class Odd(SpecModel):
        either: int | bool = Field(description="No.")

    with pytest.raises(ValueError, match="no unions"):
        structural(Odd, defaults=True)


def test_an_unknown_keyword_is_refused_and_not_lost() -> None:
    class Odd(SpecModel):
        step: Annotated[int, Field(multiple_of=5, description="Step.")]

    with pytest.raises(ValueError, match="no 'multipleOf'"):
        structural(Odd, defaults=True)


def test_a_schema_says_what_the_model_says_in_the_words_of_openapi_v3() -> None:
    class Inner(StatusModel):
        share: float | None = Field(None, gt=0, lt=1, description="A share.")

    class Outer(StatusModel):
        inner: Inner | None = Field(None, description="What it is here.")
        many: tuple[Inner, ...] = Field((), max_length=3, description="Many.")

    inner = {
        "share": {
            "description": "A share.",
            "type": "number",
            "minimum": 0,
            "exclusiveMinimum": True,
            "maximum": 1,
            "exclusiveMaximum": True,
        }
    }
    assert structural(Outer, defaults=False) == {
        "type": "object",
        "properties": {
            "inner": {"type": "object", "description": "What it is here.", "properties": inner},
            "many": {
                "type": "array",
                "description": "Many.",
                "maxItems": 3,
                "x-kubernetes-list-type": "atomic",
                "items": {"type": "object", "properties": inner},
            },
        },
    }


def test_the_committed_crds_are_the_generated_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--check", str(ROOT / "crds")]) == 0, capsys.readouterr().err


def test_check_fails_and_names_the_file_when_one_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(tmp_path / "crds")]) == 0
    assert cli.main(["--check", str(tmp_path / "crds")]) == 0
    (tmp_path / "crds" / "modelreleases.yaml").write_text("changed by hand")
    capsys.readouterr()
    assert cli.main(["--check", str(tmp_path / "crds")]) == 1
    assert "crds/modelreleases.yaml is not what the models say; run: make crds" in capsys.readouterr().err


def test_what_is_written_is_read_back_as_it_was_generated() -> None:
    for plural, crd in crds().items():
        assert yaml.safe_load(cli.files(Path("crds"))[Path("crds") / f"{plural}.yaml"]) == crd


def test_the_chart_gets_no_text_that_helm_would_evaluate() -> None:
    crd = {"metadata": {"name": "x"}, "spec": {"description": "write {{ .Values }}"}}
    with pytest.raises(ValueError, match="Helm would evaluate"):
        cli.to_chart(crd)
