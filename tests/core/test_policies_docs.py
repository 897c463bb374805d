"""docs/policies.md and docs/waves.md: their examples are resources, and the words that they name exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.reasons import Reason
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.core.policies import MOST_CHECKS, MOST_GATES

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {"ModelRelease": ModelReleaseSpec, "ReleasePolicy": ReleasePolicySpec}
PAGES = {name: (DOCS / name).read_text() for name in ("policies.md", "waves.md")}


def examples(page: str) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL)]


@pytest.mark.parametrize(("page", "kind"), [("policies.md", "ReleasePolicy"), ("waves.md", "ModelRelease")])
def test_the_example_is_a_resource(page: str, kind: str) -> None:
    (example,) = examples(page)
    assert example["kind"] == kind
    assert KINDS[kind].model_validate(example["spec"]).gates


def test_the_wave_names_the_release_that_the_page_speaks_of() -> None:
    (gate,) = ModelReleaseSpec.model_validate(examples("waves.md")[0]["spec"]).gates
    assert gate.after is not None
    assert (gate.after.release, gate.after.promoted_for, gate.on_revoked) == ("chat-eu", "1h", "Rollback")


@pytest.mark.parametrize(
    "reason",
    [Reason.WAITING_FOR_RELEASE, Reason.GATE_REVOKED, Reason.SERVING_NO_LONGER_PASSES, Reason.POLICY_UNREADABLE],
)
def test_the_reasons_are_named(reason: Reason) -> None:
    assert any(f"`{reason.value}`" in page for page in PAGES.values())


def test_the_limits_are_the_real_ones() -> None:
    assert f"At most {MOST_GATES} gates and {MOST_CHECKS} checks together" in PAGES["policies.md"]
