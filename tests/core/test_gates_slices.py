"""Slices judged by what they rest on, and slices that are data sets of their own, word for word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.api.gates import Gate
from modelrelease.api.status import GateStatus
from modelrelease.core.gates import Context, evaluate
from modelrelease.core.observation import MetricValue, ModelVersion
from tests.core.builders import NOW

Values = dict[str, tuple[float, float]]


def version(number: str, values: Values, **more: float) -> ModelVersion:
    """A version with a recall and a number of samples on every slice."""
    metrics = [MetricValue(f"slice/{name}/recall", value) for name, (value, _) in values.items()]
    metrics += [MetricValue(f"slice/{name}/n", samples) for name, (_, samples) in values.items()]
    metrics += [MetricValue(key.replace("__", "/"), value) for key, value in more.items()]
    return ModelVersion("churn", number, "models:/m", "READY", NOW, "r1", tuple(metrics))


def said(candidate: ModelVersion, champion: ModelVersion | None = None, /, **rules: Any) -> GateStatus:
    """What a gate on recall says."""
    gate = Gate.model_validate({"name": "gate", "slices": {"metric": "recall", **rules}})
    (seen,) = evaluate([gate], candidate, champion, Context(NOW))
    return seen


COUNTED: dict[str, Any] = {"champion": {"maxDrop": 0.02}, "samples": "slice/*/n"}
PROVEN: dict[str, Any] = COUNTED | {"evidence": "nonInferior"}
CASES: dict[str, tuple[dict[str, Any], Values, Values | None, str, str]] = {
    "noise of a small slice does not block, and does not pass either": (
        COUNTED, {"night": (0.8, 50)}, {"night": (0.86, 50)}, "InsufficientData",
        "recall[slice/night]: 0.8, needs 0.84 (champion 0.86, 50 samples): too few to find a value 0.12 lower; about "
        "144 more samples are needed"),
    "a difference that may be noise passes where a regression would have been found": (
        COUNTED, {"night": (0.83, 1000)}, {"night": (0.86, 1000)}, "Pass",
        "1 slice: recall[slice/night]: 0.83, needs 0.84 (champion 0.86, 1,000 samples)"),
    "a regression beyond doubt fails": (
        COUNTED, {"night": (0.76, 1000), "day": (0.9, 1000)}, {"night": (0.86, 1000), "day": (0.9, 1000)}, "Fail",
        "recall[slice/night]: 0.76, needs 0.84 (champion 0.86, 1,000 samples)"),
    "a fixed bound is broken whatever the samples": (
        COUNTED | {"min": 0.8}, {"night": (0.79, 10)}, {"night": (0.79, 10)}, "Fail",
        "recall[slice/night]: 0.79, needs 0.8 (champion 0.79, 10 samples)"),
    "samples that were not logged are asked for": (
        COUNTED | {"samples": "slice/*/size"}, {"night": (0.79, 10)}, {"night": (0.79, 10)}, "InsufficientData",
        "recall[slice/night]: 0.79, but metric slice/night/size was not logged for version 2"),
    "non-inferiority passes where it is shown": (
        PROVEN, {"night": (0.86, 5000)}, {"night": (0.86, 5000)}, "Pass",
        "1 slice: recall[slice/night]: 0.86, needs 0.84 (champion 0.86, 5,000 samples)"),
    "non-inferiority that is not shown is insufficient": (
        PROVEN, {"night": (0.86, 1000)}, {"night": (0.86, 1000)}, "InsufficientData",
        "recall[slice/night]: 0.86, needs 0.84 (champion 0.86, 1,000 samples): too few to be sure that it holds; about "
        "632 more samples are needed"),
    "a value just at the margin cannot be told by more samples": (
        PROVEN, {"night": (0.84, 1000)}, {"night": (0.86, 1000)}, "InsufficientData",
        "recall[slice/night]: 0.84, needs 0.84 (champion 0.86, 1,000 samples): too few to be sure that it holds; it is "
        "too close to the bound for more samples to tell"),
    "inferiority beyond doubt fails": (
        PROVEN, {"night": (0.76, 1000)}, {"night": (0.86, 1000)}, "Fail",
        "recall[slice/night]: 0.76, needs 0.84 (champion 0.86, 1,000 samples)"),
    "point holds the values themselves and shows the samples": (
        COUNTED | {"evidence": "point"}, {"night": (0.83, 50)}, {"night": (0.86, 50)}, "Fail",
        "recall[slice/night]: 0.83, needs 0.84 (champion 0.86, 50 samples)"),
    "less is better where a rise is bounded": (
        COUNTED | {"champion": {"maxRise": 0.02}}, {"night": (0.24, 1000)}, {"night": (0.14, 1000)}, "Fail",
        "recall[slice/night]: 0.24, allowed 0.16 (champion 0.14, 1,000 samples)"),
    "a percentage is of the champion's value on the slice": (
        COUNTED | {"champion": {"maxDropPercent": 50}}, {"night": (0.31, 1000)}, {"night": (0.8, 1000)}, "Fail",
        "recall[slice/night]: 0.31, needs 0.4 (champion 0.8, 1,000 samples)"),
    "values that are no shares have no known error": (
        COUNTED | {"champion": {"maxRise": 1}}, {"night": (33, 1000)}, {"night": (31, 1000)}, "Fail",
        "recall[slice/night]: 33, allowed 32 (champion 31, 1,000 samples); not between 0 and 1 and without a standard "
        "error: compared as it is, without a confidence"),
    "a new slice has nothing to be compared with": (
        COUNTED, {"day": (0.9, 1000), "fog": (0.2, 5)}, {"day": (0.9, 1000)}, "Pass",
        "2 slices, the tightest recall[slice/day]: 0.9, needs 0.88 (champion 0.9, 1,000 samples)"),
    "a slice that the champion had and the candidate lacks fails": (
        COUNTED, {"day": (0.9, 1000)}, {"day": (0.9, 1000), "night": (0.9, 1000)}, "Fail",
        "recall[slice/night] was not evaluated"),
    "required slices are named": (
        COUNTED | {"required": ["rain", "fog"]}, {"day": (0.9, 1000)}, {"day": (0.9, 1000)}, "Fail",
        "recall[slice/fog] was not evaluated; recall[slice/rain] was not evaluated"),
    "slices too far apart fail": (
        {"maxSpread": 0.1}, {"day": (0.95, 10), "night": (0.8, 10)}, None, "Fail",
        "recall: 0.95 on day and 0.8 on night are 0.15 apart, allowed 0.1"),
    "slices near each other pass": (
        {"maxSpread": 0.2}, {"day": (0.95, 10), "night": (0.8, 10)}, None, "Pass",
        "2 slices, the tightest recall: 0.95 on day and 0.8 on night are 0.15 apart, allowed 0.2"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_gate_on_slices_says(case: tuple[dict[str, Any], Values, Values | None, str, str]) -> None:
    rules, candidate, champion, verdict, message = case
    seen = said(version("2", candidate), version("1", champion) if champion else None, **rules)
    assert (seen.verdict, seen.message) == (verdict, message)


def test_samples_of_the_champion_are_asked_for_as_well() -> None:
    bare = ModelVersion("churn", "1", "models:/m", "READY", NOW, "r", (MetricValue("slice/night/recall", 0.9),))
    seen = said(version("2", {"night": (0.9, 1000)}), bare, **COUNTED)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "recall[slice/night]: 0.9, but of the champion metric slice/night/n was not logged for version 1",
    )
    assert said(version("2", {"night": (0.9, 1000)}), bare, **COUNTED, evidence="point").verdict == "Pass"


def test_what_is_said_to_be_needed_is_about_enough() -> None:
    short = said(version("2", {"night": (0.86, 1000)}), version("1", {"night": (0.86, 1000)}), **PROVEN)
    assert "about 632 more" in short.message
    enough = said(version("2", {"night": (0.86, 1632)}), version("1", {"night": (0.86, 1632)}), **PROVEN)
    too_few = said(version("2", {"night": (0.86, 1600)}), version("1", {"night": (0.86, 1600)}), **PROVEN)
    assert (enough.verdict, too_few.verdict) == ("Pass", "InsufficientData")


def test_twenty_slices_need_more_than_one_alone() -> None:
    """Holm: what would be a regression of one slice is expected of one in twenty."""
    alone = said(version("2", {"night": (0.79, 500)}), version("1", {"night": (0.86, 500)}), **COUNTED)
    others = {f"s{at}": (0.9, 500.0) for at in range(19)}
    among = said(
        version("2", {"night": (0.79, 500), **others}), version("1", {"night": (0.86, 500), **others}), **COUNTED
    )
    assert (alone.verdict, among.verdict) == ("Fail", "Pass")


def test_figures_of_the_deciding_slice_stand_in_the_status() -> None:
    seen = said(version("2", {"night": (0.76, 1000)}), version("1", {"night": (0.86, 900)}), **COUNTED)
    assert (seen.value, seen.champion, seen.samples, seen.champion_samples) == (0.76, 0.86, 1000, 900)
    assert seen.threshold == pytest.approx(0.84)


def test_standard_errors_make_any_metric_comparable() -> None:
    rules = {"champion": {"maxRise": 1.0}, "standardErrors": "slice/*/se", "detect": 2.0}
    candidate = version("2", {"night": (33.9, 1)}, slice__night__se=0.5)
    champion = version("1", {"night": (31, 1)}, slice__night__se=0.4)
    assert said(candidate, champion, **rules).verdict == "Fail"
    noisy = said(version("2", {"night": (33.9, 1)}, slice__night__se=5), champion, **rules)
    assert noisy.verdict == "InsufficientData"
    assert noisy.message == (
        "recall[slice/night]: 33.9, allowed 32 (champion 31): too few to find a value 3 higher; "
        "about 38.9 times as many samples are needed"
    )


def of_datasets(number: str, digest: str = "d", **values: float) -> ModelVersion:
    """A version evaluated on one data set a slice, with 900 samples each."""
    metrics = []
    for name, value in values.items():
        metrics.append(MetricValue("recall", value, f"holdout-{name}", digest))
        metrics.append(MetricValue("n", 900, f"holdout-{name}", digest))
    return ModelVersion("churn", number, "models:/m", "READY", NOW, "r1", tuple(metrics))


BY_DATASET: dict[str, Any] = {"datasets": "holdout-*", "champion": {"maxDrop": 0.02}}


def test_every_data_set_is_a_slice() -> None:
    seen = said(of_datasets("2", day=0.9, night=0.8), of_datasets("1", day=0.9, night=0.9), **BY_DATASET)
    assert (seen.verdict, seen.message, seen.dataset) == (
        "Fail",
        "recall[holdout-night]: 0.8, needs 0.88 (champion 0.9)",
        "holdout-night@d",
    )
    counted = said(of_datasets("2", night=0.89), of_datasets("1", night=0.9), **BY_DATASET, samples="n")
    assert counted.verdict == "Pass"
    assert counted.message.endswith("recall[holdout-night]: 0.89, needs 0.88 (champion 0.9, 900 samples)")


def test_a_data_set_that_changed_cannot_be_compared() -> None:
    seen = said(of_datasets("2", digest="e", night=0.9), of_datasets("1", night=0.9), **BY_DATASET)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "recall[holdout-night]: evaluated on data set holdout-night@e, the champion on holdout-night@d: the values "
        "cannot be compared",
    )


def test_no_data_set_that_matches_is_insufficient() -> None:
    seen = said(of_datasets("2"), None, **BY_DATASET)
    assert (seen.verdict, seen.message) == (
        "InsufficientData",
        "no slice matches recall on data sets holdout-* in the evaluation of version 2",
    )


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "evidence without samples": (
        {"champion": {"maxDrop": 0.1}, "evidence": "noRegression"}, "needs samples or standardErrors"),
    "evidence without a champion": (
        {"min": 0.1, "samples": "slice/*/n", "evidence": "nonInferior"}, "needs champion"),
    "samples without a star": ({"min": 0.1, "samples": "n"}, "samples must contain exactly one"),
    "datasets and dataset": ({"min": 0.1, "datasets": "h-*", "dataset": "h"}, "set datasets or dataset, not both"),
    "a digest without a name": ({"min": 0.1, "datasetDigest": "d"}, "datasetDigest needs dataset"),
    "two bounds of the champion": (
        {"champion": {"maxDrop": 0.1, "maxDropPercent": 1}}, "exactly one of max_drop, max_rise, max_drop_percent"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_a_gate_on_slices_refuses(case: tuple[dict[str, Any], str]) -> None:
    rules, words = case
    with pytest.raises(ValueError, match=words):
        Gate.model_validate({"name": "gate", "slices": {"metric": "recall", **rules}})


shares = st.integers(0, 100).map(lambda hundredths: hundredths / 100)
sizes = st.integers(1, 5000)


@given(
    st.lists(st.tuples(shares, shares, sizes, sizes), min_size=1, max_size=6),
    st.sampled_from(["noRegression", "nonInferior"]),
)
def test_a_candidate_that_is_nowhere_worse_never_fails(
    slices: list[tuple[float, float, int, int]], evidence: str
) -> None:
    better = {f"s{at}": (max(own, other), n) for at, (own, other, n, _) in enumerate(slices)}
    former = {f"s{at}": (min(own, other), n) for at, (own, other, _, n) in enumerate(slices)}
    seen = said(version("2", better), version("1", former), **COUNTED | {"evidence": evidence})
    assert seen.verdict in ("Pass", "InsufficientData")


@given(shares, shares, sizes, st.sampled_from(["noRegression", "nonInferior"]))
def test_more_samples_never_turn_a_failure_into_a_pass(own: float, other: float, n: int, evidence: str) -> None:
    rules = COUNTED | {"evidence": evidence}
    few, many = (
        said(version("2", {"s": (own, size)}), version("1", {"s": (other, size)}), **rules).verdict
        for size in (n, 4 * n)
    )
    assert (few, many) not in {("Fail", "Pass"), ("Fail", "InsufficientData"), ("Pass", "InsufficientData")}
