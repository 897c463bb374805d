"""What a pass takes from the refreshers: what was asked for under an older spec is not said of the model named now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from modelrelease.clients.kube import MODEL_RELEASE, NAMESPACE, RELEASE_POLICY, Kind, Kube, Refused
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


class Cluster:
    """Policies, the labels of the namespace and other releases; `denied` kinds may not be read."""

    def __init__(self, policies: dict[str, Any], labels: dict[str, str], denied: tuple[Kind, ...] = ()) -> None:
        self.policies = [{"metadata": {"name": name}, "spec": spec} for name, spec in policies.items()]
        self.labels, self.denied = labels, denied
        self.releases: dict[str, Any] = {}
        self.asked: list[str] = []

    async def list(self, kind: Kind, *_: Any, **__: Any) -> list[Any]:
        if kind in self.denied:
            raise Refused(f"{kind.plural} is forbidden")
        return self.policies if kind is RELEASE_POLICY else []

    async def get(self, kind: Kind, _: str | None, name: str) -> Any:
        self.asked.append(f"{kind.kind} {name}")
        if kind in self.denied:
            raise Refused(f"{kind.plural} is forbidden")
        if kind is NAMESPACE:
            return {"metadata": {"name": name, "labels": self.labels}}
        return self.releases.get(name) if kind is MODEL_RELEASE else None


def enforcing(*, gates: Any = (), **labels: str) -> dict[str, Any]:
    """Spec of a policy that is enforced by these labels."""
    return {"gates": list(gates), "enforce": {"namespaceSelector": {"matchLabels": labels}}}


async def seen(cluster: Cluster, **spec: Any) -> Any:
    """The observation of the release churn in the namespace crm."""
    metadata = {"namespace": "crm", "name": "churn", "uid": "u", "generation": 2}
    release = {"metadata": metadata, "spec": api.spec(**{"model": {"name": "churn", "version": 1}, **spec})}
    kube = cast(Kube, cluster)
    observer = Observer(kube, ApprovalReader(kube))
    look = await observer.look(release, RegistryView(), Samples(), NOW)
    assert look.spec is not None
    assert observer.followers(("crm", "chat-eu")) == ([("crm", "churn")] if look.observation.releases else [])
    assert observer.followers(("other", "chat-eu")) == []
    return look.observation


async def test_policies_are_enforced_by_the_labels_of_the_namespace() -> None:
    policies = {"zeta": enforcing(tier="prod"), "alpha": enforcing(), "test": enforcing(tier="test"), "plain": {}}
    found = await seen(Cluster(policies, {"tier": "prod"}))
    assert [policy.name for policy in found.enforced] == ["alpha", "zeta"]
    assert found.policies_unread is None


async def test_without_an_enforced_policy_no_namespace_is_read() -> None:
    cluster = Cluster({"plain": {}}, {})
    await seen(cluster)
    assert not [item for item in cluster.asked if item.startswith("Namespace")]


UNREAD: dict[str, tuple[Cluster, str]] = {
    "the namespace may not be read": (
        Cluster({"house": enforcing(tier="prod")}, {}, (NAMESPACE,)),
        "the labels of namespace crm cannot be read (namespaces is forbidden), by which house may be enforced; let the "
        "operator get namespaces",
    ),
    "policies may not be listed": (
        Cluster({}, {}, (RELEASE_POLICY,)),
        "ReleasePolicies cannot be listed (releasepolicies is forbidden), and some may be enforced here",
    ),
    "an enforced policy has a gate of a later version": (
        Cluster({"house": enforcing(gates=[{"name": "new", "horoscope": {}}], tier="prod")}, {"tier": "prod"}),
        "ReleasePolicy house is enforced and cannot be read: spec.gates.0.horoscope: Extra inputs are not permitted",
    ),
    "a selector of a later version": (
        Cluster({"house": {"enforce": {"clusterSelector": {}}}}, {}),
        "ReleasePolicy house is enforced and cannot be read: spec.namespaceSelector: Field required",
    ),
}


@pytest.mark.parametrize(("cluster", "words"), UNREAD.values(), ids=UNREAD.keys())
async def test_what_may_be_enforced_and_cannot_be_read_is_told(cluster: Cluster, words: str) -> None:
    found = await seen(cluster)
    assert found.policies_unread is not None
    assert found.policies_unread.startswith(words)


async def test_a_policy_of_elsewhere_that_cannot_be_read_is_nobodys_affair_here() -> None:
    bad = enforcing(gates=[{"name": "new", "horoscope": {}}], tier="prod")
    assert (await seen(Cluster({"house": bad}, {"tier": "test"}))).policies_unread is None


async def test_releases_that_gates_of_spec_and_policies_name_are_read() -> None:
    def after(name: str) -> dict[str, Any]:
        return {"name": f"after-{name}", "after": {"release": name}}

    cluster = Cluster({"house": enforcing(gates=[after("chat-us"), after("churn")])}, {})
    cluster.releases["chat-eu"] = {"spec": api.spec(gates=[after("churn")]), "status": {"phase": "Promoted"}}
    found = (await seen(cluster, gates=[after("chat-eu")])).releases
    assert found.keys() == {"chat-eu", "chat-us"}
    assert found["chat-us"] is None
    assert (found["chat-eu"].waits_for, found["chat-eu"].status.phase) == (frozenset({"churn"}), "Promoted")
    assert sorted(item for item in cluster.asked if item.startswith("ModelRelease")) == [
        "ModelRelease chat-eu",
        "ModelRelease chat-us",
    ]
