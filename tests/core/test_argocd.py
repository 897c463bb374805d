"""Health and actions for Argo CD, run with its limits (Lua 5.1 without string and math) on what `decide` has made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
import yaml

from modelrelease.api.status import Stage
from modelrelease.core.observation import Command, RegistryView
from tests.core.builders import FAILING, SILENT, Release, idle, model, release, revision

CONFIG = yaml.safe_load(Path("argocd/argocd-cm.yaml").read_text())["data"]
HEALTH = CONFIG["resource.customizations.health.modelrelease.dev_ModelRelease"]
ACTIONS = yaml.safe_load(CONFIG["resource.customizations.actions.modelrelease.dev_ModelRelease"])
BY_NAME = {item["name"]: item["action.lua"] for item in ACTIONS["definitions"]}


def run(script: str, obj: dict[str, Any]) -> Any:
    """Run a script as Argo CD does: the object is the global `obj`; only base, table and a part of os are there."""
    lua = lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.globals()["obj"] = _table(lua, obj)
    lua.execute("os = {time = os.time, date = os.date}; string, math, io, debug, package, require = nil")
    lua.execute("getmetatable('').__index = nil")
    return lua.execute(script)


def _table(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: _table(lua, item) for key, item in value.items()})
    if isinstance(value, list):
        return lua.table_from([_table(lua, item) for item in value])
    return value


def resource(case: Release, **metadata: Any) -> dict[str, Any]:
    """The release as Argo CD reads it."""
    status = case.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"metadata": {"name": "churn", "generation": case.obs.generation, **metadata}, "status": status}


def health(case: Release) -> tuple[str, str]:
    found = run(HEALTH, resource(case))
    return found["status"], found["message"]


def blocked() -> Release:
    low = {"7": model("7"), "8": model("8", auc=0.1)}
    case = idle(version=8)
    case = case.see(registry=RegistryView(low, case.obs.registry.aliases)).decided()
    return case.decided()


def rolled_back() -> Release:
    case = release(step=1).see(samples=FAILING).decided()
    for _ in range(4):
        case = case.later(120).decided()
    return case


CASES: list[Any] = [
    pytest.param(lambda: idle().decided(), "Healthy", "v7 serves", id="promoted"),
    pytest.param(lambda: idle(version=8).decided(), "Progressing", "", id="gating or starting"),
    pytest.param(blocked, "Degraded", "Blocked: ", id="a gate failed"),
    pytest.param(lambda: release(step=0).decided(), "Progressing", "", id="the canary has traffic"),
    pytest.param(
        lambda: release(step=0).see(samples=SILENT).later(90).decided(),
        "Progressing",
        "",
        id="no data: nobody is asked",
    ),
    pytest.param(lambda: release(step=0).say("pause").decided(), "Suspended", "paused", id="a person paused it"),
    pytest.param(lambda: release(stage=Stage.BAKING, step=2).decided(), "Progressing", "Baking", id="baking"),
    pytest.param(
        lambda: release(step=1).see(samples=FAILING).decided(), "Progressing", "RollingBack", id="traffic is going back"
    ),
    pytest.param(rolled_back, "Degraded", "RolledBack: ", id="rolled back"),
    pytest.param(lambda: idle().broken().decided(), "Degraded", "Invalid: ", id="a spec that cannot be read"),
    pytest.param(lambda: idle(version=8, suspend=True).decided(), "Suspended", "Pending", id="spec.suspend"),
    pytest.param(
        lambda: idle().see(pods={"7": 0}).decided(), "Degraded", "no ready pod", id="promoted, but nobody is served"
    ),
    pytest.param(
        lambda: idle().see(pods={"7": 1}).decided(), "Progressing", "1 of 2", id="promoted, and a pod is away"
    ),
]


@pytest.mark.parametrize(("made", "expected", "words"), CASES)
def test_health_of_every_phase(made: Callable[[], Release], expected: str, words: str) -> None:
    status, message = health(made())
    assert status == expected, message
    assert words in message


def test_health_before_the_operator_has_seen_the_spec_is_progressing() -> None:
    assert run(HEALTH, {"metadata": {"generation": 1}})["status"] == "Progressing"
    stale = resource(idle().decided(), generation=2)
    assert run(HEALTH, stale)["status"] == "Progressing"
    assert "to see this change" in run(HEALTH, stale)["message"]


@pytest.mark.parametrize(
    ("made", "enabled"),
    [
        pytest.param(lambda: idle().decided(), set(), id="nothing to do while steady"),
        pytest.param(lambda: release(step=0).decided(), {"promote", "abort", "pause"}, id="a canary"),
        pytest.param(
            lambda: release(step=0).say("pause").decided(), {"promote", "abort", "resume"}, id="a paused canary"
        ),
        pytest.param(rolled_back, {"retry"}, id="a quarantined version"),
    ],
)
def test_only_actions_that_can_work_are_offered(made: Callable[[], Release], enabled: set[str]) -> None:
    found = run(ACTIONS["discovery.lua"], resource(made()))
    assert set(BY_NAME) == set(found.keys())
    assert {name for name in found if not found[name]["disabled"]} == enabled
    assert all(found[name]["displayName"] for name in found)


@pytest.mark.parametrize(
    ("verb", "made", "reason"),
    [
        ("pause", lambda: release(step=0).decided(), "Paused"),
        ("resume", lambda: release(step=0).say("pause").decided(), "Resumed"),
        ("promote", lambda: release(step=0).decided(), "Accepted"),
        ("abort", lambda: release(step=0).decided(), "Aborted"),
        ("retry", rolled_back, "Retried"),
    ],
)
def test_an_action_sets_a_command_that_the_operator_obeys(verb: str, made: Callable[[], Release], reason: str) -> None:
    case = made()
    changed = run(BY_NAME[verb], resource(case))
    text = changed["metadata"]["annotations"]["modelrelease.dev/command"]
    assert text.startswith(f"{verb}@{revision('8').revision}-")
    told = case.later(1).see(command=Command(text)).announced()
    assert reason in {item.reason for item in told}, told


def test_other_annotations_stay_as_they_are() -> None:
    changed = run(BY_NAME["pause"], resource(release(step=0).decided(), annotations={"team": "ml"}))
    assert changed["metadata"]["annotations"]["team"] == "ml"
