"""The gates of the registry within a rollout: what is wanted, what is pinned, and what a change of the files stops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import ArtifactPin, RecordedLineage, Stage
from modelrelease.core import record
from modelrelease.core.gates import pin
from modelrelease.core.gates.artifact import MANIFEST
from modelrelease.core.observation import ModelVersion, RegistryView
from modelrelease.core.record import Place
from modelrelease.core.version_facts import DatasetInput, FileEntry, ModelFile, Part, RunFacts, Unlisted
from tests.core import builders
from tests.core.builders import GATE, HEALTHY, Release, release, spec

FILES = (FileEntry("MLmodel", 10), FileEntry("model.bin", 900))
CHANGED = (FileEntry("MLmodel", 10), FileEntry("model.bin", 901))
ARTIFACT = {"name": "files", "artifact": {}}
SCHEMA = {"name": "schema", "signature": {"compatibleWith": "champion"}}
ALL = frozenset({Part.RUN, Part.MODEL_FILE, Part.FILES})
INPUTS = '[{"type": "double", "name": "age", "required": true}]'


def asked(*gates: dict[str, Any], version: int = 8) -> ModelReleaseSpec:
    """A spec with these gates beside the usual one."""
    return spec(version, gates=[GATE, *gates])


def stored(version: str, files: Any = FILES, inputs: str | None = INPUTS) -> ModelVersion:
    """A version in the registry, with all its parts."""
    found = builders.model(version)
    return replace(found, files=files, model_file=ModelFile("sha256:aa", inputs), parts=ALL)


def with_files(at: Release, files: Any = FILES) -> Release:
    """The registry says this of version 8."""
    return at.see(registry=RegistryView({"7": stored("7"), "8": stored("8", files)}))


def pinned(files: Any = FILES) -> tuple[ArtifactPin, ...]:
    """What status keeps of these files."""
    (digest,) = pin(asked(ARTIFACT).gates, stored("8", files), {}).values()
    return (ArtifactPin(source=MANIFEST, digest=digest),)


def test_the_files_are_pinned_in_status_before_a_pod_exists() -> None:
    began = with_files(release(stage=Stage.GATING, of=asked(ARTIFACT))).decided()

    assert began.status.candidate is not None
    assert began.status.candidate.stage is Stage.STARTING
    assert began.status.candidate.artifact == pinned()


def test_where_a_version_comes_from_stands_in_status_and_goes_into_the_record() -> None:
    context = {"mlflow.data.context": "training"}
    run = RunFacts("run8", tags={"features": "churn/3"}, inputs=(DatasetInput("train", "d1", tags=context),))
    at = release(stage=Stage.BAKING, of=asked()).see(
        registry=RegistryView({"7": stored("7"), "8": replace(stored("8"), run=run)}), samples=HEALTHY
    )
    known = RecordedLineage(run="run8", dataset="train@d1", features="churn/3")

    began = replace(at, status=release(stage=Stage.GATING, of=asked()).status).decided()
    assert began.status.candidate is not None
    assert began.status.candidate.lineage == known
    assert at.status.candidate is not None
    kept = at.status.candidate.model_copy(update={"lineage": known})
    (ended,) = replace(at, status=at.status.model_copy(update={"candidate": kept})).later(3600).decided().status.endings
    assert ended.outcome == "Promoted"
    assert record.spec_of(ended, Place("crm", "churn", "u1")).lineage == known


def test_files_that_changed_while_pods_start_get_no_traffic() -> None:
    at = release(stage=Stage.STARTING, of=asked(ARTIFACT), artifact=pinned())

    assert with_files(at).later(120).decided().weight == 20
    held = with_files(at, CHANGED).later(120).decided()
    assert held.weight == 0
    assert "gate files: the files have changed since the release began" in held.status.message
    assert held.status.candidate is not None
    assert held.status.candidate.artifact == pinned(), "what was pinned stays"


def test_files_that_changed_stop_a_promotion_and_the_former_revision_stays_warm() -> None:
    at = release(stage=Stage.BAKING, of=asked(ARTIFACT), artifact=pinned()).see(samples=HEALTHY).later(3600)

    promoted = with_files(at).decided()
    assert promoted.status.stable is not None
    assert promoted.status.stable.version == "8"
    held = with_files(at, CHANGED).decided()
    assert held.status.phase == "Held"
    assert held.status.stable is not None
    assert held.status.stable.version == "7"
    assert "the files have changed since the release began" in held.status.message
    assert with_files(held, FILES).decided().status.stable == promoted.status.stable, "and it goes on by itself"


def test_files_that_cannot_be_listed_block_and_pin_nothing() -> None:
    at = with_files(release(stage=Stage.GATING, of=asked(ARTIFACT)), Unlisted("the registry lists no files")).decided()

    assert at.status.phase == "Blocked"
    assert at.status.candidate is not None
    assert at.status.candidate.artifact == ()


def test_a_pin_of_another_attempt_does_not_count() -> None:
    """A new revision begins with nothing pinned, whatever the one before it had."""
    at = with_files(release(stage=Stage.GATING, of=asked(ARTIFACT), artifact=pinned()))
    again = replace(at, status=at.status.model_copy(update={"candidate": None}))

    began = with_files(again, CHANGED).decided()

    assert began.status.candidate is not None
    assert began.status.candidate.artifact in ((), pinned(CHANGED))


WANTS: dict[str, tuple[list[dict[str, Any]], frozenset[Part], frozenset[Part]]] = {
    "metrics alone": ([], frozenset({Part.RUN}), frozenset()),
    "a signature": ([SCHEMA], frozenset({Part.RUN, Part.MODEL_FILE}), frozenset({Part.MODEL_FILE})),
    "files": ([ARTIFACT], ALL, frozenset()),
    "files by a tag": ([{"name": "files", "artifact": {"tag": "digest"}}], frozenset({Part.RUN}), frozenset()),
    "all of them": ([SCHEMA, ARTIFACT], ALL, frozenset({Part.MODEL_FILE})),
}


@pytest.mark.parametrize("case", WANTS.values(), ids=WANTS.keys())
@pytest.mark.parametrize("begun", [True, False], ids=["a candidate", "a version that is only asked for"])
def test_what_is_wanted_of_the_registry_follows_from_the_gates(
    case: tuple[list[dict[str, Any]], frozenset[Part], frozenset[Part]], begun: bool
) -> None:
    gates, of_candidate, of_champion = case
    at = release(stage=Stage.GATING, of=asked(*gates)) if begun else builders.idle(8, gates=[GATE, *gates])

    wanted = at.decision().wants.registry

    assert wanted is not None
    assert (wanted.parts_of("8"), wanted.parts_of("7")) == (of_candidate, of_champion)
    assert wanted.sources == {"7": at.obs.revisions[at.status.stable.key].uri}  # type: ignore[union-attr]


def test_a_signature_that_breaks_callers_blocks_before_a_pod_exists() -> None:
    at = release(stage=Stage.GATING, of=asked(SCHEMA))
    narrower = INPUTS.replace("age", "years")
    seen = at.see(registry=RegistryView({"7": stored("7"), "8": stored("8", inputs=narrower)})).decided()

    assert seen.status.phase == "Blocked"
    assert "column age is gone; column years is new and required" in seen.status.message
