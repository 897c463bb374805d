"""The gate `metric` on evaluations that mlflow's client logged to a real server."""

from __future__ import annotations

from math import isnan
from typing import Any

import pytest

from e2e.mlflow_server import MlflowServer
from tests.clients.evaluations import HOLDOUT, Registry


@pytest.fixture
def registry(mlflow_server: MlflowServer) -> Registry:
    return Registry(mlflow_server)


AUC: dict[str, Any] = {"metric": {"name": "auc", "dataset": "holdout", "champion": {"maxDrop": 0.02}}}


def test_a_value_within_the_drop_passes_with_all_its_evidence(registry: Registry) -> None:
    champion = registry.evaluated({"auc": 0.87})
    candidate = registry.evaluated({"auc": 0.86, "auc/n": 1204}, also={("train", "t1"): {"auc": 0.99}})
    rules = {"metric": AUC["metric"] | {"samples": "auc/n"}}
    seen = registry.says(rules, candidate, champion)
    assert (seen.verdict, seen.message) == ("Pass", "auc: 0.86, needs 0.85 (champion 0.87, 1,204 samples)")
    assert (seen.value, seen.champion, seen.samples) == (0.86, 0.87, 1204)
    assert seen.threshold == pytest.approx(0.85)
    assert (seen.dataset, seen.source, seen.origin) == ("holdout@h1", "LoggedModel", "spec")
    found = registry.read(candidate)
    assert (seen.run, seen.read_at is not None) == (getattr(found, "run_id", None), True)


def test_a_value_that_fell_too_far_fails(registry: Registry) -> None:
    champion, candidate = registry.evaluated({"auc": 0.87}), registry.evaluated({"auc": 0.81})
    seen = registry.says(AUC, candidate, champion)
    assert (seen.verdict, seen.message) == ("Fail", "auc: 0.81, needs 0.85 (champion 0.87)")


def test_a_drop_in_percent_is_of_the_champions_value(registry: Registry) -> None:
    champion, candidate = registry.evaluated({"loss": 2.0}), registry.evaluated({"loss": 2.15})
    rules = {"metric": {"name": "loss", "champion": {"maxRisePercent": 5}}}
    seen = registry.says(rules, candidate, champion)
    assert (seen.verdict, seen.message) == ("Fail", "loss: 2.15, allowed 2.1 (champion 2)")


def test_a_metric_that_was_not_logged_is_insufficient(registry: Registry) -> None:
    seen = registry.says(AUC, registry.evaluated({"f1": 0.9}))
    assert (seen.verdict, seen.message) == ("InsufficientData", "metric auc was not logged for version 1")


def test_a_champion_on_another_state_of_the_data_is_insufficient(registry: Registry) -> None:
    champion = registry.evaluated({"auc": 0.87}, data=("holdout", "h0"))
    seen = registry.says(AUC, registry.evaluated({"auc": 0.9}), champion)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "auc: evaluated on data set holdout@h1, the champion on holdout@h0: the values cannot be compared",
    )


def test_a_champion_on_other_data_is_insufficient(registry: Registry) -> None:
    champion = registry.evaluated({"auc": 0.87}, data=("easy", "e1"))
    seen = registry.says(AUC, registry.evaluated({"auc": 0.9}), champion)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "auc: 0.9, but of the champion metric auc of version 1 was not logged for data set holdout",
    )


def test_a_digest_picks_one_state_of_the_data(registry: Registry) -> None:
    candidate = registry.evaluated({"auc": 0.9}, also={("holdout", "h2"): {"auc": 0.6}})
    named: dict[str, Any] = {"name": "auc", "dataset": "holdout", "min": 0.8}
    seen = registry.says({"metric": named}, candidate)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "metric auc of version 1 was logged for holdout@h1, holdout@h2: name the datasetDigest in the gate",
    )
    assert registry.says({"metric": named | {"datasetDigest": "h1"}}, candidate).verdict == "Pass"
    assert registry.says({"metric": named | {"datasetDigest": "h2"}}, candidate).verdict == "Fail"


@pytest.mark.parametrize("with_model", [False, True], ids=["no LoggedModel", "a LoggedModel without metrics"])
def test_a_runs_metric_counts_where_there_is_no_other_and_says_so(registry: Registry, with_model: bool) -> None:
    seen = registry.says(AUC, registry.run_only({"auc": 0.9}, with_model=with_model))
    assert (seen.verdict, seen.message, seen.source) == (
        "Pass",
        "auc: 0.9, nothing to compare with yet; logged for the run, which does not record the data set",
        "Run: the data set of this value is not recorded",
    )


def test_of_two_data_sets_the_runs_last_write_does_not_win(registry: Registry) -> None:
    """The run itself says 0.99 now; the LoggedModel knows better."""
    candidate = registry.evaluated({"auc": 0.5}, also={("train", "t1"): {"auc": 0.99}})
    seen = registry.says({"metric": {"name": "auc", "dataset": "holdout", "min": 0.8}}, candidate)
    assert (seen.verdict, seen.message) == ("Fail", "auc: 0.5, needs 0.8")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("logged", ["LoggedModel", "Run"])
def test_what_is_no_number_passes_no_bound(registry: Registry, value: float, logged: str) -> None:
    figures = {"loss": value}
    version = registry.evaluated(figures) if logged == "LoggedModel" else registry.run_only(figures)
    seen = registry.says({"metric": {"name": "loss", "min": -1, "max": 0.5}}, version)
    word = "nan" if isnan(value) else "infinite"
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        f"metric loss of version 1 is {word}: no bound can be held against it, evaluate again",
    )


def test_a_nan_among_data_sets_is_told_from_a_zero(registry: Registry) -> None:
    """The run remembers the last data set only; the history of the metric remembers all."""
    others = {("night", "n1"): {"loss": 0.0}, ("rain", "r1"): {"loss": 0.3}}
    version = registry.evaluated({"loss": float("nan")}, also=others)
    rules: dict[str, Any] = {"name": "loss", "max": 0.5}
    seen = {
        name: registry.says({"metric": rules | {"dataset": name}}, version).verdict
        for name in ("holdout", "night", "rain")
    }
    assert seen == {"holdout": "InsufficientData", "night": "Pass", "rain": "Pass"}


def test_an_unreadable_registry_is_unavailable(registry: Registry) -> None:
    seen = registry.says(AUC, "7")
    assert seen.verdict == "Unavailable"
    assert seen.message.startswith(f"{registry.model} has no version 7 in the registry at http://")


def test_an_advisory_gate_says_so(registry: Registry) -> None:
    seen = registry.says({"metric": {"name": "auc", "min": 0.9}, "advisory": True}, registry.evaluated({"auc": 0.5}))
    assert (seen.verdict, seen.advisory) == ("Fail", True)
    assert HOLDOUT[0] in (seen.dataset or "")
