"""The gate `slices` on evaluations that mlflow's client logged to a real server."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.mlflow_server import MlflowServer
from modelrelease.core.observation import Lookup, ModelVersion
from tests.clients.evaluations import Registry

Slices = dict[str, tuple[float, float]]
COUNTED: dict[str, Any] = {"slices": {"metric": "recall", "champion": {"maxDrop": 0.02}, "samples": "slice/*/n"}}


@pytest.fixture
def registry(mlflow_server: MlflowServer) -> Registry:
    return Registry(mlflow_server)


def figures(slices: Slices) -> dict[str, float]:
    """A recall and a number of samples for every slice, as they are logged."""
    out = {}
    for name, (recall, n) in slices.items():
        out[f"slice/{name}/recall"], out[f"slice/{name}/n"] = recall, n
    return out


def test_slices_without_a_regression_pass(registry: Registry) -> None:
    champion = registry.evaluated(figures({"day": (0.93, 2000), "night": (0.87, 1204)}))
    candidate = registry.evaluated(figures({"day": (0.94, 2000), "night": (0.86, 1204), "fog": (0.7, 30)}))
    seen = registry.says(COUNTED, candidate, champion)
    assert (seen.verdict, seen.message) == (
        "Pass",
        "3 slices, the tightest recall[slice/night]: 0.86, needs 0.85 (champion 0.87, 1,204 samples)",
    )
    assert (seen.samples, seen.champion_samples, seen.dataset) == (1204, 1204, "holdout@h1")


def test_a_regression_on_one_slice_fails(registry: Registry) -> None:
    champion = registry.evaluated(figures({"day": (0.93, 2000), "night": (0.87, 1204)}))
    candidate = registry.evaluated(figures({"day": (0.97, 2000), "night": (0.79, 1204)}))
    seen = registry.says(COUNTED, candidate, champion)
    assert (seen.verdict, seen.message) == (
        "Fail",
        "recall[slice/night]: 0.79, needs 0.85 (champion 0.87, 1,204 samples)",
    )


def test_too_few_samples_are_insufficient_and_name_how_many_are_missing(registry: Registry) -> None:
    slices: Slices = {"day": (0.93, 2000), "night": (0.87, 40)}
    seen = registry.says(COUNTED, registry.evaluated(figures(slices)), registry.evaluated(figures(slices)))
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "recall[slice/night]: 0.87, needs 0.85 (champion 0.87, 40 samples): too few to find a value 0.12 lower; "
        "about 196 more samples are needed",
    )


def test_a_slice_that_the_candidate_lacks_fails(registry: Registry) -> None:
    champion = registry.evaluated(figures({"day": (0.93, 2000), "night": (0.87, 1204)}))
    candidate = registry.evaluated(figures({"day": (0.93, 2000)}))
    rules = {"slices": COUNTED["slices"] | {"required": ["rain"]}}
    seen = registry.says(rules, candidate, champion)
    assert (seen.verdict, seen.message) == (
        "Fail",
        "recall[slice/night] was not evaluated; recall[slice/rain] was not evaluated",
    )


def test_an_unreadable_champion_is_unavailable(registry: Registry) -> None:
    seen = registry.says(COUNTED, registry.evaluated(figures({"day": (0.93, 2000)})), "7")
    assert seen.verdict == "Unavailable"
    assert seen.message.startswith(f"the champion's evaluation cannot be read: {registry.model} has no version 7")


def test_one_data_set_a_slice(registry: Registry) -> None:
    """The same metric name on every data set: the run keeps the last one only, the LoggedModel all."""

    def on(day: float, night: float) -> str:
        return registry.evaluated(
            {"recall": day, "n": 900},
            data=("holdout-day", "d1"),
            also={("holdout-night", "n1"): {"recall": night, "n": 900}, ("train", "t1"): {"recall": 0.1}},
        )

    champion = on(0.93, 0.87)
    rules = {"slices": {"metric": "recall", "datasets": "holdout-*", "champion": {"maxDrop": 0.02}, "samples": "n"}}
    passed, failed = registry.says(rules, on(0.93, 0.88), champion), registry.says(rules, on(0.93, 0.7), champion)
    assert (passed.verdict, passed.message) == (
        "Pass",
        "2 slices, the tightest recall[holdout-day]: 0.93, needs 0.91 (champion 0.93, 900 samples)",
    )
    assert (failed.verdict, failed.message, failed.dataset) == (
        "Fail",
        "recall[holdout-night]: 0.7, needs 0.85 (champion 0.87, 900 samples)",
        "holdout-night@n1",
    )


def test_slices_too_far_apart_fail(registry: Registry) -> None:
    rules = {"slices": {"metric": "recall", "maxSpread": 0.1}}
    seen = registry.says(rules, registry.evaluated(figures({"day": (0.95, 9), "night": (0.8, 9)})))
    assert (seen.verdict, seen.message) == (
        "Fail",
        "recall: 0.95 on day and 0.8 on night are 0.15 apart, allowed 0.1",
    )


def test_twenty_slices_against_the_champion_cost_four_requests(registry: Registry) -> None:
    """Version, run and LoggedModel, also with a figure that is 0 and must be told from NaN; and one LoggedModel."""
    slices: Slices = {f"s{at}": (0.9, 900) for at in range(20)}
    champion, candidate = registry.evaluated(figures(slices)), registry.evaluated(figures(slices | {"s0": (0.0, 900)}))
    source = registry.source(champion)
    sent = registry.requests_of(lambda: (registry.read(candidate), registry.read_served(champion, source)))
    assert len(sent) == 4, sent
    assert registry.says(COUNTED, champion, champion).verdict == "Pass"


def test_what_is_read_by_its_source_has_the_same_figures(registry: Registry) -> None:
    logged, of_run = registry.evaluated(figures({"day": (0.93, 2000)})), registry.run_only({"a": 1.0}, with_model=True)
    for version, requests in ((logged, 1), (of_run, 4)):
        source, whole = registry.source(version), registry.read(version)
        assert isinstance(whole, ModelVersion)
        served: list[Lookup] = []
        sent = registry.requests_of(lambda: served.append(registry.read_served(version, source)))  # noqa: B023
        assert isinstance(served[0], ModelVersion)
        assert (served[0].metrics, served[0].metrics_from) == (whole.metrics, whole.metrics_from)
        assert len(sent) == requests, sent


def test_a_source_of_another_model_tells_nothing_of_it(registry: Registry, mlflow_server: MlflowServer) -> None:
    """Whoever can write a revision of a release must not read by it what the allow-list refuses."""
    other = Registry(mlflow_server)
    source = other.source(other.evaluated(figures({"day": (0.5, 10)})))
    version = registry.evaluated(figures({"day": (0.93, 2000)}))
    seen = registry.read_served(version, source)
    assert isinstance(seen, ModelVersion)
    assert seen.source == registry.source(version)
    assert {item.value for item in seen.metrics} == {0.93, 2000}
