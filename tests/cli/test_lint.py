"""`lint` on files: lines, output and exit codes. What is said about a spec is a table in tests/core/test_lint.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import EXAMPLE, ROOT, invoke

BROKEN = """\
apiVersion: modelrelease.dev/v1alpha1
kind: ModelRelease
metadata:
  name: Churn
spec:
  model: {name: churn, version: 7, alias: champion}
  workload:
    replica: 3
    runtime: tgi
    drainTimeout: ten
    template:
      spec:
        containers: []
  traffic:
    gateway:
      parentRef: [{name: edge}]
  checks:
  - name: errors
    errorRate: {maxx: 0.5}
  rollout:
    phases:
    - {name: canary, weight: 5}
    - {name: canary, weight: 5}
  suspended: true
---
apiVersion: modelrelease.dev/v1alpha1
kind: ReleasePolicy
metadata: {name: llm}
spec:
  gate: []
  checks: []
  checks: []
"""


def test_lint_when_much_is_wrong_says_all_of_it_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "release.yaml"
    path.write_text(BROKEN, encoding="utf-8")
    answer = invoke(capsys, "lint", "-f", str(path), "-o", "json")
    found = [(item["line"], item["path"], item["message"]) for item in json.loads(answer.out)["findings"]]
    assert answer.code == 1
    assert found == [
        (4, "metadata.name", "'Churn': lower-case letters, digits and hyphens, starting with a letter are needed"),
        (6, "spec.model", "model: set exactly one of version and alias"),
        (8, "spec.workload.replica", "unknown field, did you mean replicas?"),
        (9, "spec.workload.runtime", "must be 'http', 'vllm', 'sglang' or 'triton', got 'tgi'"),
        (10, "spec.workload.drainTimeout", "not a duration: 'ten' (write for example 30s, 10m, 1h30m or 500ms)"),
        (11, "spec.workload.template", "template.spec.containers: at least one container is needed"),
        (15, "spec.traffic.gateway.parentRefs", "is missing"),
        (16, "spec.traffic.gateway.parentRef", "unknown field, did you mean parentRefs?"),
        (19, "spec.checks[0].errorRate.maxx", "unknown field, did you mean max?"),
        (20, "spec.rollout", "phases: weights must rise from above 0 and end at 100, got [5, 5]"),
        (24, "spec.suspended", "unknown field, did you mean suspend?"),
        (30, "spec.gate", "unknown field, did you mean gates?"),
        (31, "spec.checks", "stands twice, in lines 31 and 32: only the last would count"),
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_lint_of_the_examples_finds_no_error(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    answer = invoke(capsys, "lint", "-f", str(path), "--traffic", "20/s")
    assert answer.code == 0
    assert "0 errors" in answer.out


@pytest.fixture
def unprobed(tmp_path: Path) -> str:
    """The example without its readiness probe."""
    lines = Path(EXAMPLE).read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / "unprobed.yaml"
    path.write_text("".join(line for line in lines if "readinessProbe" not in line), encoding="utf-8")
    return str(path)


def test_lint_when_text_is_asked_for_says_file_and_line_as_compilers_do(
    capsys: pytest.CaptureFixture[str], unprobed: str
) -> None:
    answer = invoke(capsys, "lint", "-f", unprobed)
    assert (
        f"{unprobed}:19: warning: spec.workload.template.spec.containers\n  no container has a readinessProbe"
        in answer.out
    )
    assert all(len(line) <= 80 or line.startswith(unprobed) for line in answer.out.splitlines())


def test_lint_when_strict_fails_on_warnings(capsys: pytest.CaptureFixture[str], unprobed: str) -> None:
    assert invoke(capsys, "lint", "-f", unprobed, "--strict").code == 1


def test_lint_when_traffic_is_given_shows_what_each_phase_gets(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(invoke(capsys, "lint", "-f", EXAMPLE, "--traffic", "20/s", "-o", "json").out)
    assert [(row["phase"], row["weight"], row["pods"], row["perPodPerMinute"]) for row in shown["phases"]] == [
        ("canary", 5, 1, 60),
        ("half", 50, 4, 150),
        ("full", 100, 4, 300),
    ]


def test_lint_when_the_traffic_is_too_small_says_which_phase_cannot_decide(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = invoke(capsys, "lint", "-f", EXAMPLE, "--traffic", "20/h", "-o", "json")
    warned = [item["message"] for item in json.loads(answer.out)["findings"] if "cannot decide" in item["message"]]
    assert answer.code == 0
    assert warned[0].startswith("phase canary cannot decide ")
    assert "within its timeout of 6h: a Pass needs about" in warned[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a: [", "no YAML: ", id="no YAML"),
        pytest.param("- 1", "holds no Kubernetes object", id="a list"),
        pytest.param(
            "apiVersion: modelrelease.dev/v1alpha1\nkind: ModelRelese\n", "unknown kind ModelRelese", id="another kind"
        ),
        pytest.param(
            "apiVersion: modelrelease.dev/v1\nkind: ReleasePolicy\nmetadata: {name: a}\nspec: {gates: []}\n",
            "must be modelrelease.dev/v1alpha1, got 'modelrelease.dev/v1'",
            id="another API version",
        ),
    ],
)
def test_lint_when_a_file_is_not_what_it_should_be_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    answer = invoke(capsys, "lint", "-f", str(path), "-o", "json")
    assert answer.code == 1
    assert words in json.loads(answer.out)["findings"][0]["message"]


def test_lint_when_a_file_is_missing_is_an_error_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(capsys, "lint", "-f", "none.yaml").code == 2


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_lint_of_the_examples_has_nothing_to_say(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    answer = invoke(capsys, "lint", "-f", str(path), "--strict")
    assert (answer.code, "0 errors, 0 warnings" in answer.out) == (0, True)
