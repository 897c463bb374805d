"""Tags on model versions: what they say, when they are written, and who hears that they may not be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelrelease.api.base import format_time
from modelrelease.api.reasons import Reason
from modelrelease.api.status import Stage
from modelrelease.core.observation import Missing, TagWritten, Unavailable
from tests.core.builders import FAILING, HEALTHY, NOW, Release, idle, model, release

AT = format_time(NOW)
DENIED = Unavailable(Reason.ALIAS_WRITE_NOT_ALLOWED, "namespace crm may not write")


def tags(case: Release) -> dict[str, tuple[str, str]]:
    return {item.version: (item.value, item.state) for item in case.status.tags}


def answered(case: Release, **answers: TagWritten | Missing | Unavailable) -> Release:
    """What the registry says of the tags of versions v7, v8."""
    said = {version.removeprefix("v"): answer for version, answer in answers.items()}
    return case.see(registry=replace(case.obs.registry, tags=said))


def test_what_serves_and_what_is_on_its_way_are_tagged_once() -> None:
    case = release().decided()
    assert tags(case) == {"8": (f"progressing since {AT}", "Pending"), "7": (f"promoted since {AT}", "Pending")}
    want = case.decision().wants.registry
    assert want is not None
    assert {(item.model, item.version, item.key) for item in want.tags} == {
        ("churn", "8", "modelrelease.dev/crm.churn"),
        ("churn", "7", "modelrelease.dev/crm.churn"),
    }
    written = {f"v{version}": TagWritten(value) for version, (value, _) in tags(case).items()}
    case = answered(case, **written).decided()
    assert {state for _, state in tags(case).values()} == {"Written"}
    again = case.decision().wants.registry
    assert again is not None
    assert again.tags == ()


def test_a_promotion_tags_both_versions_anew() -> None:
    case = release(stage=Stage.BAKING, step=2).see(samples=HEALTHY).later(301).decided()
    now = format_time(case.now)
    assert tags(case) == {"7": (f"replaced since {now}", "Pending"), "8": (f"promoted since {now}", "Pending")}


def test_a_version_that_its_gates_block_says_so() -> None:
    case = idle(8)
    bad = {**case.obs.registry.versions, "8": model("8", 0.1)}
    case = case.see(registry=replace(case.obs.registry, versions=bad)).decided()
    assert tags(case)["8"] == (f"blocked since {AT}", "Pending")


def test_an_answer_to_an_earlier_value_is_no_answer() -> None:
    case = release().decided()
    assert tags(answered(case, v8=TagWritten("something else")).decided())["8"][1] == "Pending"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        pytest.param(DENIED, "Denied", id="not allowed"),
        pytest.param(Unavailable(Reason.REGISTRY_UNAUTHORIZED, "no"), "Denied", id="no rights"),
        pytest.param(Missing(Reason.VERSION_NOT_FOUND, "gone"), "Denied", id="deleted"),
        pytest.param(Unavailable(Reason.REGISTRY_UNREACHABLE, "away"), "Pending", id="away"),
    ],
)
def test_a_refusal_ends_it_and_an_outage_does_not(answer: Missing | Unavailable, state: str) -> None:
    assert tags(answered(release().decided(), v8=answer).decided())["8"][1] == state


def test_refusals_are_told_once_and_stop_nothing() -> None:
    case = answered(release().decided(), v7=DENIED, v8=DENIED)
    told = [item for item in case.announced() if item.reason == "TagWriteFailed"]
    assert len(told) == 1
    assert "namespace crm may not write; nothing else depends on it" in told[0].note
    after = case.decided()
    assert after.weight == case.weight
    assert not [item for item in after.announced() if item.reason == "TagWriteFailed"]


def test_refusals_of_what_a_rollout_writes_later_are_not_told_again() -> None:
    case = answered(release().decided(), v7=DENIED, v8=DENIED).decided()
    case = case.see(samples=FAILING).decided()
    assert tags(case)["8"][1] == "Pending", "the tag says something else while the traffic goes back"
    again = answered(case, v7=DENIED, v8=DENIED)
    assert not [item for item in again.announced() if item.reason == "TagWriteFailed"]


def test_many_rollouts_keep_the_tags_of_what_is_there() -> None:
    case = release().decided()
    old = tuple(case.status.tags[0].model_copy(update={"version": str(number)}) for number in (1, 2, 3, 4))
    case = replace(case, status=case.status.model_copy(update={"tags": old})).decided()
    assert set(tags(case)) == {"3", "4", "7", "8"}
