"""Digests name what runs for years: they change with what people write and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.core.revision import Revision, desired, from_data, to_data
from tests.api.builders import workload
from tests.core.builders import ERRORS, GATE, LIMIT, PHASES, revision, spec

FROZEN_REVISION, FROZEN_RULES = "ee695e1e8f", "6e4036b076"


def test_digests_are_the_same_in_every_release_of_the_operator() -> None:
    """Never change these literals: a new digest would restart every pod and lift every quarantine."""
    made = revision("8")
    assert (made.revision, made.rules) == (FROZEN_REVISION, FROZEN_RULES)


def test_names_are_built_of_the_digests() -> None:
    made = revision("8")
    assert made.name == f"churn-{FROZEN_REVISION}"
    assert made.key == f"{FROZEN_REVISION}-{FROZEN_RULES}"
    assert made.record_name == f"churn-{FROZEN_REVISION}-{FROZEN_RULES}"


@pytest.mark.parametrize(
    "changes",
    [
        {"rollout": {"bake": {"duration": "9h", "holdback": 5}}},
        {"rollout": {"progressDeadline": "1h", "onInconclusive": "Promote"}},
        {"suspend": True},
        {"registry": {"setAlias": "champion"}},
        {"workload": {**workload(), "replicas": 9}},
        {"workload": {**workload(), "drainTimeout": "9m"}},
        {"workload": {**workload(), "ports": {"http": 8080}}},
        {"model": {"name": "churn", "version": "8"}},
    ],
    ids=["bake", "deadlines", "suspend", "alias", "a scale", "drain", "the default port said aloud", "version as text"],
)
def test_no_digest_changes_with(changes: dict[str, Any]) -> None:
    assert revision("8", spec(**changes)).key == revision("8").key


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": workload(env=[{"name": "X", "value": "1"}])},
        {"workload": workload(metadata={"labels": {"team": "crm"}})},
        {"workload": {**workload(), "ports": {"http": 9000}}},
        {"model": {"name": "other", "version": 8}},
    ],
    ids=["a variable", "a label", "a port", "the model"],
)
def test_what_runs_changes_with(changes: dict[str, Any]) -> None:
    made = revision("8", spec(**changes))
    assert made.revision != revision("8").revision
    assert made.rules == revision("8").rules


@pytest.mark.parametrize(
    "changes",
    [{"gates": []}, {"checks": [ERRORS, LIMIT]}, {"rollout": {"phases": PHASES[1:]}}],
    ids=["gates", "checks", "phases"],
)
def test_how_it_is_judged_changes_with(changes: dict[str, Any]) -> None:
    made = revision("8", spec(**changes))
    assert made.revision == revision("8").revision
    assert made.rules != revision("8").rules


def test_the_version_an_alias_points_at_is_the_same_revision_as_the_version_itself() -> None:
    followed = desired("churn", spec(model={"name": "churn", "alias": "next"}), None, "8")
    assert followed.key == revision("8").key


def test_rules_of_a_policy_are_added_under_its_name() -> None:
    policy = ReleasePolicySpec.model_validate({"gates": [GATE], "checks": [LIMIT], "phases": PHASES[2:]})
    made = desired("churn", spec(policyRef={"name": "house"}), policy, "8")
    assert [gate.name for gate in made.gates] == ["auc", "house/auc"]
    assert [check.name for check in made.checks] == ["errors", "house/limit"]
    assert [phase.weight for phase in made.phases] == [20, 50, 100]


def test_a_policy_that_the_spec_does_not_name_counts_for_nothing() -> None:
    policy = ReleasePolicySpec.model_validate({"gates": [GATE]})
    assert desired("churn", spec(), policy, "8").key == revision("8").key


def test_phases_are_those_of_the_policy_where_the_spec_names_none() -> None:
    policy = ReleasePolicySpec.model_validate({"phases": PHASES[2:]})
    made = desired("churn", spec(policyRef={"name": "house"}, rollout={"phases": []}), policy, "8")
    assert [phase.weight for phase in made.phases] == [100]


def test_phases_have_a_default() -> None:
    made = desired("churn", spec(rollout={"phases": []}), None, "8")
    assert [(phase.weight, phase.parity) for phase in made.phases] == [
        (5, False),
        (50, True),
        (50, False),
        (100, False),
    ]


def stored(made: Revision) -> Revision:
    """Through a ControllerRevision and back."""
    return from_data(to_data(made))


def test_a_stored_revision_reads_back_as_it_was() -> None:
    policy = ReleasePolicySpec.model_validate({"gates": [GATE], "checks": [LIMIT]})
    made = desired("churn", spec(policyRef={"name": "house"}), policy, "8", uri="models:/m-8")
    assert stored(made) == made


def test_a_stored_digest_is_believed_and_not_computed_again() -> None:
    data = to_data(revision("8")) | {"revision": "0123456789"}
    assert from_data(data).revision == "0123456789"


def test_a_record_of_a_newer_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="revision format 2 is not known to this version of the operator"):
        from_data(to_data(revision("8")) | {"format": 2})


def test_a_record_whose_runtime_is_not_known_is_refused_when_it_is_read() -> None:
    with pytest.raises(KeyError, match="a-runtime-of-tomorrow"):
        from_data(to_data(revision("8")) | {"runtime": "a-runtime-of-tomorrow"})
