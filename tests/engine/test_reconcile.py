"""A pass against an API server that says no: what people are told. Whole passes are in tests/cluster."""

from __future__ import annotations

from typing import Any, cast

import pytest

from modelrelease.clients.kube import CONTROLLER_REVISION, MODEL_RELEASE, Kind, Kube, Refused
from modelrelease.core.observation import RegistryView, Samples
from modelrelease.core.revision import to_data
from modelrelease.engine.apply import Unapplied
from modelrelease.engine.reconcile import Reconciler, Recording, Sampling
from modelrelease.engine.refresh import RegistryRefresher
from tests.core.builders import NOW, idle, revision

KEY = ("crm", "churn")
OWNER = {"uid": "u", "controller": True}


class Refusing:
    """A cluster that holds one release and its record, and refuses every child. Remembers the Events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, str]] = []

    async def get(self, kind: Kind, *_: Any) -> Any:
        if kind is not MODEL_RELEASE:
            return None
        case = idle(7)
        assert case.spec is not None
        return {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"namespace": "crm", "name": "churn", "uid": "u", "generation": 1, "resourceVersion": "5"},
            "spec": case.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            "status": case.status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }

    async def list(self, kind: Kind, *_: Any, **__: Any) -> list[Any]:
        stored = revision("7")
        metadata = {"namespace": "crm", "name": stored.record_name, "uid": "r", "resourceVersion": "1"}
        record = {"metadata": {**metadata, "ownerReferences": [OWNER]}, "revision": 1, "data": to_data(stored)}
        return [record] if kind is CONTROLLER_REVISION else []

    async def patch_status(self, *_: Any) -> None:
        """Any status will do."""

    async def served(self, _: Kind) -> bool:
        return False

    async def apply(self, kind: Kind, *_: Any) -> None:
        raise Refused(f"{kind.kind} is not allowed here")

    async def event(self, _: Any, **said: Any) -> None:
        self.events.append((said["type"], said["reason"], said["note"], said["key"]))


class Silent:
    """A registry and a Prometheus of which nobody wants anything."""

    def want(self, *_: Any) -> None:
        """Nothing is wanted."""

    def view(self, _: Any) -> RegistryView:
        return RegistryView()

    def samples(self, _: Any) -> Samples:
        return Samples()

    def forget(self, *_: Any) -> None:
        """There is nothing to forget."""

    def seen(self, _: Any) -> frozenset[str]:
        return frozenset()


async def test_children_that_the_api_server_refuses_are_told_as_one_event() -> None:
    kube, silent = Refusing(), Silent()
    reconciler = Reconciler(
        cast(Kube, kube), cast(RegistryRefresher, silent), cast(Sampling, silent), lambda: NOW, cast(Recording, silent)
    )
    for _ in range(2):
        with pytest.raises(Unapplied):
            await reconciler(KEY)
    told = [event for event in kube.events if event[1] == "NotApplied"]
    assert len(set(told)) == 1, "the same words of the same occasion: the API server keeps one Event of them"
    kind, _, note, _ = told[0]
    assert kind == "Warning"
    assert "HTTPRoute churn: HTTPRoute is not allowed here" in note
    assert note.endswith("everything else was written, and this is tried again")
    reconciler.forget(KEY)
