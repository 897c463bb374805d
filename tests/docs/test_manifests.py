"""Manifests in the documentation are what the API accepts, as far as the models say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from modelrelease.api.base import API_VERSION
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from tests.docs.pages import Block, blocks, pages

SPECS = {"ModelRelease": ModelReleaseSpec, "ReleasePolicy": ReleasePolicySpec}


def _manifests() -> Iterator[tuple[Block, dict[str, Any]]]:
    for page in pages():
        if page.name == "design.md":
            continue  # the agreed shape, of which section 7 says what is built
        for block in blocks(page):
            for document in yaml.safe_load_all(block.text) if block.language == "yaml" else ():
                if isinstance(document, dict) and document.get("apiVersion") == API_VERSION:
                    yield block, document


MANIFESTS = list(_manifests())


@pytest.mark.parametrize(("block", "manifest"), MANIFESTS, ids=[str(block) for block, _ in MANIFESTS])
def test_a_manifest_is_accepted(block: Block, manifest: dict[str, Any]) -> None:
    model = SPECS.get(manifest["kind"])
    if model is not None:
        model.model_validate(manifest["spec"])


def test_there_are_manifests_of_both_kinds() -> None:
    assert set(SPECS) <= {manifest["kind"] for _, manifest in MANIFESTS}
