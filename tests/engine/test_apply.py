"""What is written beside the children: outcomes on ControllerRevisions, of which some may be a newer operator's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from modelrelease.api.status import ModelReleaseStatus, QuarantineEntry
from modelrelease.clients.kube import Kube
from modelrelease.engine.apply import Applier
from modelrelease.engine.observe import OUTCOME, QUARANTINED, Live

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "0123456789-abcdef0123"


class Patched:
    """Remembers what was patched, by name."""

    def __init__(self) -> None:
        self.annotations: dict[str, Any] = {}

    async def patch(self, _: object, __: str, name: str, body: dict[str, Any]) -> None:
        self.annotations[name] = body["metadata"]["annotations"]


async def test_an_outcome_is_kept_on_a_record_whose_data_cannot_be_read() -> None:
    metadata = {"namespace": "crm", "name": f"churn-{KEY}", "uid": "r", "resourceVersion": "5"}
    release = {
        "apiVersion": "v1",
        "kind": "ModelRelease",
        "metadata": {"namespace": "crm", "name": "churn", "uid": "of-the-release"},
    }
    live = Live(release, {}, ({"metadata": metadata, "revision": 1},))
    failed = QuarantineEntry(
        key=KEY, version="8", outcome="RolledBack", reason="CheckFailed", message="errors", since=NOW
    )
    kube = Patched()
    await Applier(cast(Kube, kube)).apply(live, (), ModelReleaseStatus(quarantine=(failed,)))
    assert kube.annotations == {f"churn-{KEY}": {OUTCOME: QUARANTINED}}
