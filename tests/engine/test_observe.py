"""What a pass takes from the refreshers: what was asked for under an older spec is not said of the model named now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from modelrelease.clients.kube import Kube
from modelrelease.core.observation import AliasTarget, RegistryView, Samples
from modelrelease.engine.approvals import ApprovalReader
from modelrelease.engine.observe import Observer
from tests.api import builders as api

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Empty:
    """A cluster in which nothing exists."""

    async def list(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def get(self, *_: Any, **__: Any) -> None:
        return None


@pytest.mark.parametrize(
    ("asked_of", "aliases"),
    [("churn", {"champion": AliasTarget("7", NOW)}), ("another", {})],
    ids=["the model that the spec names", "the model that it named before"],
)
async def test_only_what_the_registry_said_of_this_model_is_seen(asked_of: str, aliases: dict[str, Any]) -> None:
    metadata = {"namespace": "crm", "name": "churn", "uid": "u", "generation": 2}
    release = {"metadata": metadata, "spec": api.spec(model={"name": "churn", "version": 1})}
    view = RegistryView({}, {"champion": AliasTarget("7", NOW)}, asked_of)
    kube = cast(Kube, Empty())
    look = await Observer(kube, ApprovalReader(kube)).look(release, view, Samples(), NOW)
    assert look.spec is not None
    assert look.observation.registry.aliases == aliases
