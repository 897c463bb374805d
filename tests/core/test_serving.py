"""What serves and would not pass its gates any more: told once for each change, and nothing else happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.api.status import GateStatus, ModelReleaseStatus, QuarantineEntry, StableStatus, Stage
from modelrelease.core.observation import Lookup, Missing, OtherRelease, RegistryView, Unavailable
from modelrelease.core.revision import desired
from modelrelease.core.version_facts import Part
from modelrelease.core.wants import RARELY
from tests.core.builders import GATE, HEALTHY, NOW, Release, idle, model, release

DOWN = Unavailable(Reason.REGISTRY_UNREACHABLE, "the registry does not answer")
DAY = timedelta(days=1)


def serving(**changes: Any) -> Release:
    """Version 7 was promoted at NOW, and passed its gates then."""
    at = idle(7, **changes)
    runs = desired("churn", at.spec, None, "7", "models:/m-7") if at.spec else None
    assert runs is not None
    assert at.status.stable is not None
    stable = at.status.stable.model_copy(update={"rules": runs.rules, "model": "churn"})
    passed = tuple(GateStatus(name=gate.name, verdict="Pass", message="0.9, champion 0.88") for gate in runs.gates)
    status = at.status.model_copy(update={"stable": stable, "gates": passed})
    obs = replace(at.obs, revisions={runs.key: runs}, promoted=(runs.key,))
    return replace(at, status=status, obs=obs).decided()


def says(at: Release, found: Lookup, days: int = 1) -> Release:
    """So many days later the registry says this of version 7."""
    if not isinstance(found, Missing | Unavailable):
        found = replace(found, read_at=at.now + days * DAY)
    return replace(at, now=at.now + days * DAY).see(registry=RegistryView({"7": found}))


def condition(at: Release) -> tuple[str, str]:
    """Status and reason of GatesPassed."""
    return next((item.status, item.reason) for item in at.status.conditions if item.type == "GatesPassed")


def test_what_serves_is_read_about_daily_with_the_parts_of_its_gates() -> None:
    wanted = serving(gates=[GATE, {"name": "files", "artifact": {}}]).decision().wants.registry

    assert wanted is not None
    assert wanted.versions == wanted.rarely == {"7"}
    assert wanted.age_of("version", "7") == RARELY
    assert wanted.parts_of("7") == {Part.RUN, Part.MODEL_FILE, Part.FILES}
    assert wanted.aliases == frozenset()


def test_a_followed_alias_is_read_as_often_as_ever_and_a_rollout_reads_what_serves_as_often() -> None:
    follows = serving(model={"name": "churn", "alias": "champion"}).decision().wants.registry
    assert follows is not None
    assert follows.age_of("alias", "champion") == timedelta(seconds=60)
    rolls = release(stage=Stage.GATING).decision().wants.registry
    assert rolls is not None
    assert rolls.rarely == frozenset()


def test_without_gates_nothing_is_read() -> None:
    wanted = serving(gates=[]).decision().wants.registry
    assert wanted is not None
    assert wanted.versions == frozenset(), "only its tag is written"


def test_a_gate_that_fails_by_now_is_told_once_and_nothing_else_happens() -> None:
    case = says(serving(), model("7", 0.7))
    told = case.announced()
    after = case.decided()

    assert [(item.type, item.reason.value) for item in told] == [("Warning", "ServingNoLongerPasses")]
    assert told[0].note == (
        "v7 serves and would not pass its gates now: gate auc: auc: 0.7, needs 0.8; it goes on serving"
    )
    assert after.rest == ("Promoted", "Promoted")
    assert after.status.candidate is None
    assert after.status.quarantine == ()
    assert condition(after) == ("False", "ServingNoLongerPasses")
    assert next(item.status for item in after.status.conditions if item.type == "Ready") == "True"
    assert says(after, model("7", 0.7)).announced() == ()
    assert says(after, model("7", 0.6)).announced() == (), "the same gate, another figure"


def test_after_a_restart_it_is_not_told_again() -> None:
    after = says(serving(), model("7", 0.7)).decided()
    unread = after.see(registry=RegistryView()).decided()

    assert unread.announced() == ()
    assert unread.status.stable == after.status.stable, "while nothing has been read yet, what was told stays"
    assert condition(unread) == ("False", "ServingNoLongerPasses")
    assert says(unread, model("7", 0.7)).announced() == ()


def test_another_gate_that_fails_is_told_too() -> None:
    tag = {"name": "approved", "tags": {"status": "approved"}}
    fine = replace(model("7"), own_tags={"status": "approved"})
    first = says(serving(gates=[GATE, tag]), replace(fine, metrics=model("7", 0.7).metrics)).decided()
    assert first.status.stable is not None
    assert first.status.stable.no_longer_passes == "auc"
    both = says(first, model("7", 0.7))
    assert [item.reason.value for item in both.announced()] == ["ServingNoLongerPasses"]
    assert both.decided().status.stable.no_longer_passes == "auc, approved"  # type: ignore[union-attr]


def test_a_gate_that_passes_again_is_shown_and_a_later_failure_told_anew() -> None:
    failing = says(serving(), model("7", 0.7)).decided()
    mended = says(failing, model("7", 0.9)).decided()
    assert condition(mended) == ("True", "GatesPassed")
    assert mended.status.stable is not None
    assert mended.status.stable.no_longer_passes == ""
    assert [item.reason.value for item in says(mended, model("7", 0.7)).announced()] == ["ServingNoLongerPasses"]


def test_while_it_passes_status_goes_on_showing_what_let_it_through() -> None:
    after = says(serving(), model("7", 0.95)).decided()
    assert [gate.message for gate in after.status.gates] == ["0.9, champion 0.88"]


@pytest.mark.parametrize("found", [DOWN, Missing(Reason.VERSION_NOT_FOUND, "gone")], ids=["an outage", "a gap"])
def test_what_cannot_be_read_changes_nothing_that_was_told(found: Lookup) -> None:
    before = serving()
    after = says(before, found).decided()
    assert (after.status.stable, after.status.gates) == (before.status.stable, before.status.gates)


def test_what_was_read_before_the_promotion_says_nothing_yet() -> None:
    at = serving().see(registry=RegistryView({"7": model("7", 0.7)}))
    assert at.announced() == ()


def test_an_advisory_gate_is_not_told() -> None:
    assert says(serving(gates=[{**GATE, "advisory": True}]), model("7", 0.7)).announced() == ()


def test_a_rollback_in_an_earlier_wave_is_told_of_what_serves() -> None:
    after = {"name": "eu-first", "after": {"release": "chat-eu"}}
    stable = StableStatus(revision="aa", rules="r", version="7", model="churn", slot="a", promoted_at=NOW)
    good = OtherRelease("churn", ModelReleaseStatus(stable=stable))
    words = {"reason": "CheckFailed", "message": "errors 2.9 %", "outcome": "RolledBack"}
    entry = QuarantineEntry.model_validate({"key": "aa-r", "version": "7", "since": NOW, **words})
    old = stable.model_copy(update={"version": "6"})
    bad = OtherRelease("churn", ModelReleaseStatus(stable=old, quarantine=(entry,)))

    at = serving(gates=[after]).see(releases={"chat-eu": good}).decided()
    assert at.announced() == ()
    (told,) = at.see(releases={"chat-eu": bad}).announced()
    assert "gate eu-first: chat-eu rolled v7 back: errors 2.9 %" in told.note


def test_pins_of_the_files_are_kept_beyond_the_promotion() -> None:
    at = release(stage=Stage.BAKING).see(samples=HEALTHY).later(3600)
    assert at.status.candidate is not None
    pins = ({"source": "tag digest", "digest": "sha256:aa"},)
    candidate = at.status.candidate.model_validate({**at.status.candidate.model_dump(), "artifact": pins})
    after = replace(at, status=at.status.model_copy(update={"candidate": candidate})).decided()
    assert after.status.stable is not None
    assert after.status.stable.version == "8"
    assert after.status.stable.artifact == candidate.artifact
