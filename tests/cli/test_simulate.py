"""`simulate` and `replay` from the command line: numbers that can be checked, the same from seed to seed."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from .invoke import EXAMPLE, Answer, invoke, own_process

RUN = "import sys; from modelrelease.cli.main import run; sys.exit(run(sys.argv[1:]))"
WORLD = ("simulate", "-f", EXAMPLE, "--traffic", "200/s", "--stable-errors", "1%", "--jobs", "1", "--horizon", "1h")


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    answer = invoke(capsys, *WORLD, *words, "-o", "json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def _save(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> Answer:
    return invoke(capsys, *WORLD, *words, "--runs", "3", "--save", str(path))


def test_simulate_when_the_canary_is_bad_finds_it_and_says_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    seen = _json(capsys, "--canary-errors", "8%", "--runs", "10")
    assert (seen["canary"], seen["rolledBack"]["count"], seen["rolledBackBy"]) == ("worse", 10, {"errors": 10})
    assert 10 <= seen["secondsToDetect"]["median"] <= 300
    lost_per_s = 200 * 0.05 * 0.07
    assert seen["requestsLost"]["errors"]["median"] == pytest.approx(
        lost_per_s * (seen["secondsToDetect"]["median"] + 1), rel=0.05
    )
    assert seen["checks"][0]["allowed"] == pytest.approx(0.0225)


def test_simulate_when_the_canary_is_as_good_promotes_it(capsys: pytest.CaptureFixture[str]) -> None:
    seen = _json(capsys, "--runs", "4")
    assert (seen["canary"], seen["promoted"]["count"], seen["rolledBack"]["count"]) == ("within", 4, 0)
    assert seen["secondsToPromote"]["median"] >= 55 * 60  # 15, 10 and 30 minutes
    assert seen["rolledBack"]["high"] == pytest.approx(0.489891, abs=1e-4)  # Wilson, 0 of 4
    assert [phase["decides"] for phase in seen["phases"]] == [True, True, True]


def test_simulate_when_it_runs_on_two_processes_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--canary-errors", "5%", "--runs", "24")
    alone = _json(capsys, *words)
    together = _json(capsys, *words, "--jobs", "2")
    assert {**alone, "wallSeconds": 0} == {**together, "wallSeconds": 0}


@pytest.mark.parametrize("runtime", ["http", "vllm", "sglang", "triton"])
def test_simulate_when_a_runtime_brings_its_checks_finds_a_canary_that_fails(
    capsys: pytest.CaptureFixture[str], runtime: str
) -> None:
    path = str(Path(EXAMPLE).parent / f"{runtime}.yaml")
    words = ("--traffic", "200/s", "--stable-errors", "1%", "--canary-errors", "20%", "--runs", "2", "--jobs", "1")
    answer = invoke(capsys, "simulate", "-f", path, *words, "-o", "json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["rolledBackBy"] == {"errors": 2}


def test_sweep_when_a_share_is_varied_has_one_line_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, *WORLD, "--runs", "2", "--sweep", "canary-errors=1%,9%")
    head, good, bad = answer.out.splitlines()
    assert head.split()[:3] == ["ERRORS", "CANARY", "ROLLBACK"]
    assert good.split()[:3] == ["1%", "within", "0%"]
    assert bad.split()[:3] == ["9%", "worse", "100%"]
    assert max(len(line) for line in answer.out.splitlines()) <= 80


def test_sweep_when_the_margin_is_varied_judges_by_each(capsys: pytest.CaptureFixture[str]) -> None:
    seen = _json(capsys, "--canary-errors", "4%", "--runs", "2", "--sweep", "margin=1.25+1%,1.25+8%")
    assert [line["canary"] for line in seen] == ["worse", "within"]
    assert [line["checks"][0]["margin"] for line in seen] == ["1.25 x stable + 1%", "1.25 x stable + 8%"]


def test_report_when_printed_fits_80_columns_and_says_how_fast_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, *WORLD, "--canary-errors", "5%", "--runs", "3", "--onset", "2m", "--bursts", "20%+20s/1h")
    assert max(len(line) for line in answer.out.splitlines()) <= 80
    assert "times faster than life" in answer.out.replace("\n", " ")


def test_report_when_a_phase_cannot_decide_warns(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("simulate", "-f", EXAMPLE, "--traffic", "2/min", "--runs", "1", "--horizon", "1h", "--margin", "1.25+0.1%")
    answer = invoke(capsys, *words)
    assert "warning: phase canary cannot decide in its timeout of 6h" in answer.out


def test_plot_when_asked_draws_a_png_and_an_svg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    for path in (png, svg):
        assert invoke(capsys, *WORLD, "--canary-errors", "5%", "--runs", "3", "--plot", str(path)).code == 0
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    assert (width, height) == (1170, 1118)
    assert ElementTree.fromstring(svg.read_text(encoding="utf-8")).tag.endswith("svg")
    assert "time since the rollout began" in svg.read_text(encoding="utf-8")


def test_plot_when_matplotlib_is_missing_says_how_to_install_it() -> None:
    hidden = "import sys, importlib.util as u; find = u.find_spec; "
    hidden += "u.find_spec = lambda name, *a: None if name == 'matplotlib' else find(name, *a); "
    answer = own_process(hidden + RUN.removeprefix("import sys; "), *WORLD, "--plot", "a.png")
    assert answer.code == 2
    assert "pip install 'modelrelease[plot]'" in answer.err


def test_replay_when_the_rollout_failed_explains_which_check_and_what_would_have_turned_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "status.yaml"
    _save(capsys, path, "--canary-errors", "8%")
    answer = invoke(capsys, "replay", "-f", str(path))
    assert answer.code == 0
    assert "rollback: errors was to blame" in answer.out
    assert "bad requests or fewer" in answer.out
    assert "an absolute margin of about" in answer.out
    assert answer.out.rstrip().endswith("Every verdict is as it is recorded.")


def test_replay_when_a_recorded_verdict_is_another_one_says_so_with_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "status.yaml"
    _save(capsys, path, "--canary-errors", "8%")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["status"]["checks"][0]["verdict"] = "Pass"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    answer = invoke(capsys, "replay", "-f", str(path))
    assert answer.code == 1
    assert "Fail, recorded as Pass" in answer.out
    assert "DIFFERS from what is recorded: errors" in answer.out


def test_replay_when_the_spec_has_moved_on_asks_for_the_controller_revision(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from modelrelease.cli.documents import read
    from modelrelease.core.revision import desired, to_data

    path, rules = tmp_path / "status.yaml", tmp_path / "rules.yaml"
    _save(capsys, path, "--canary-errors", "8%")
    release = read([str(path)]).release()
    revision = desired(release.name, release.spec, None, str(release.spec.model.version))
    rules.write_text(yaml.safe_dump({"kind": "ControllerRevision", "data": to_data(revision)}), encoding="utf-8")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["spec"]["checks"][0]["errorRate"]["margin"]["absolute"] = 0.5
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    answer = invoke(capsys, "replay", "-f", str(path))
    assert answer.code == 2
    assert f"kubectl get controllerrevision churn-{revision.key} -o yaml, with another -f" in answer.err
    found = invoke(capsys, "replay", "-f", str(path), "-f", str(rules), "-o", "json")
    assert (found.code, json.loads(found.out)["failed"]) == (0, "errors")


def test_replay_when_a_record_is_given_judges_that(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "record.yaml"
    _save(capsys, path, "--canary-errors", "8%")
    release = yaml.safe_load(path.read_text(encoding="utf-8"))
    status = release["status"]
    spec = {
        "release": "churn",
        "namespace": "crm",
        "uid": "1",
        "sequence": 1,
        "operatorVersion": "0",
        "revision": status["candidate"]["revision"],
        "rules": status["candidate"]["rules"],
        "model": {"name": "churn", "version": "7"},
        "champion": "6",
        "outcome": "RolledBack",
        "reason": "CheckFailed",
        "startedAt": "2026-01-01T00:00:00Z",
        "endedAt": "2026-01-01T01:00:00Z",
        "checks": status["checks"],
        "evidence": status["evidence"],
    }
    record = {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ReleaseRecord",
        "metadata": {"name": "churn-1"},
        "spec": spec,
    }
    del release["status"]
    path.write_text(yaml.safe_dump_all([record, release]), encoding="utf-8")
    answer = invoke(capsys, "replay", "-f", str(path))
    assert (answer.code, answer.out.splitlines()[0]) == (0, f"churn-1: v7, revision {spec['revision']}")
