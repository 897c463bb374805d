"""What gates say of a candidate, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from modelrelease.api.gates import Gate
from modelrelease.api.reasons import Reason
from modelrelease.core.gates import Context, evaluate
from modelrelease.core.observation import Lookup, MetricValue, Missing, ModelVersion, Unavailable
from tests.core.builders import NOW


def version(
    number: str, metrics: dict[str, float] | None = None, *values: MetricValue, source: str = "LoggedModel"
) -> ModelVersion:
    """A version with these metrics, of no data set, or with these values."""
    found = tuple(MetricValue(key, value) for key, value in (metrics or {}).items())
    return ModelVersion("churn", number, "models:/m", "READY", NOW, "r1", (*found, *values), source)


def metric(name: str = "auc", **bounds: Any) -> Gate:
    """A gate on one metric."""
    return Gate.model_validate({"name": "gate", "metric": {"name": name, **bounds}})


def slices(**bounds: Any) -> Gate:
    """A gate on the recall of every slice."""
    return Gate.model_validate({"name": "gate", "slices": {"metric": "recall", **bounds}})


DROP: dict[str, Any] = {"champion": {"maxDrop": 0.02}}
RISE: dict[str, Any] = {"champion": {"maxRise": 0.02}}
ON: dict[str, Any] = {"dataset": "holdout"}
CASES: dict[str, tuple[Gate, Lookup | None, Lookup | None, str, str]] = {
    "a value at its minimum passes": (
        metric(min=0.9), version("2", {"auc": 0.9}), None, "Pass", "auc: 0.9, needs 0.9"),
    "a value below its minimum fails": (
        metric(min=0.9), version("2", {"auc": 0.85}), None, "Fail", "auc: 0.85, needs 0.9"),
    "a value just below its minimum is shown with as many digits as it takes": (
        metric(min=0.9), version("2", {"auc": 0.89999}), None, "Fail", "auc: 0.89999, needs 0.9"),
    "a value above its maximum fails": (
        metric("loss", max=0.3), version("2", {"loss": 0.4}), None, "Fail", "loss: 0.4, allowed 0.3"),
    "a value between both bounds passes and shows the nearer": (
        metric(min=0.5, max=0.95), version("2", {"auc": 0.9}), None, "Pass", "auc: 0.9, allowed 0.95"),
    "a value as good as the champion's less the drop passes": (
        metric(**DROP), version("2", {"auc": 0.85}), version("1", {"auc": 0.87}), "Pass",
        "auc: 0.85, needs 0.85 (champion 0.87)"),
    "a value that fell further than the drop fails": (
        metric(**DROP), version("2", {"auc": 0.81}), version("1", {"auc": 0.87}), "Fail",
        "auc: 0.81, needs 0.85 (champion 0.87)"),
    "a loss that rose further than allowed fails": (
        metric("loss", **RISE), version("2", {"loss": 0.35}), version("1", {"loss": 0.3}), "Fail",
        "loss: 0.35, allowed 0.32 (champion 0.3)"),
    "an absolute bound that leaves less room than the champion is the one shown": (
        metric(min=0.9, **DROP), version("2", {"auc": 0.88}), version("1", {"auc": 0.87}), "Fail",
        "auc: 0.88, needs 0.9 (champion 0.87)"),
    "nothing serves: the champion's bound passes": (
        metric(**DROP), version("2", {"auc": 0.1}), None, "Pass", "auc: 0.1, nothing to compare with yet"),
    "NaN is no value": (
        metric(min=0.9), version("2", {"auc": float("nan")}), None, "InsufficientData",
        "metric auc of version 2 is nan: no bound can be held against it, evaluate again"),
    "an infinite value, which MLflow stores as the largest float, passes no minimum": (
        metric(min=0.9), version("2", {"auc": 1.7976931348623157e308}), None, "InsufficientData",
        "metric auc of version 2 is infinite: no bound can be held against it, evaluate again"),
    "a champion whose value is NaN cannot be compared with": (
        metric(**DROP), version("2", {"auc": 0.9}), version("1", {"auc": float("nan")}), "InsufficientData",
        "auc: 0.9, but of the champion metric auc of version 1 is nan: no bound can be held against it, "
        "evaluate again"),
    "a metric that was not logged is missing": (
        metric(min=0.9), version("2"), None, "InsufficientData", "metric auc was not logged for version 2"),
    "a metric of another data set is missing": (
        metric(min=0.9, **ON), version("2", None, MetricValue("auc", 0.95, "train", "d1")), None, "InsufficientData",
        "metric auc of version 2 was not logged for data set holdout"),
    "a metric of two data sets is ambiguous": (
        metric(min=0.9),
        version("2", None, MetricValue("auc", 0.95, "train"), MetricValue("auc", 0.9, "holdout")), None,
        "InsufficientData",
        "metric auc of version 2 was logged for data sets holdout, train: name one in the gate"),
    "a metric of the named data set counts": (
        metric(min=0.9, **ON),
        version("2", None, MetricValue("auc", 0.95, "train"), MetricValue("auc", 0.9, "holdout")), None, "Pass",
        "auc: 0.9, needs 0.9"),
    "a run's metric has lost its data set and counts": (
        metric(min=0.9, **ON), version("2", {"auc": 0.95}, source="Run"), None, "Pass",
        "auc: 0.95, needs 0.9; logged for the run, which does not record the data set"),
    "a run's metric cannot be of a certain state of a data set": (
        metric(min=0.9, **ON, datasetDigest="d1"), version("2", {"auc": 0.95}, source="Run"), None, "InsufficientData",
        "metric auc of version 2 was logged for its run only, which does not tell the state of a data set"),
    "a value on another state of the named data set does not count": (
        metric(min=0.9, **ON, datasetDigest="d2"), version("2", None, MetricValue("auc", 0.95, "holdout", "d1")), None,
        "InsufficientData", "metric auc of version 2 was logged for holdout@d1, not for holdout@d2"),
    "a metric of two states of a data set is ambiguous": (
        metric(min=0.9, **ON),
        version("2", None, MetricValue("auc", 0.95, "holdout", "d1"), MetricValue("auc", 0.85, "holdout", "d2")), None,
        "InsufficientData",
        "metric auc of version 2 was logged for holdout@d1, holdout@d2: name the datasetDigest in the gate"),
    "of a champion that was evaluated on both states of the data set the right one counts": (
        metric(**DROP), version("2", None, MetricValue("auc", 0.85, "holdout", "d1")),
        version("1", None, MetricValue("auc", 0.86, "holdout", "d1"), MetricValue("auc", 0.95, "holdout", "d2")),
        "Pass", "auc: 0.85, needs 0.84 (champion 0.86)"),
    "a drop in percent is of the champion's value": (
        metric(champion={"maxDropPercent": 10}), version("2", {"auc": 0.71}), version("1", {"auc": 0.8}), "Fail",
        "auc: 0.71, needs 0.72 (champion 0.8)"),
    "a rise in percent is of the champion's value": (
        metric("loss", champion={"maxRisePercent": 5}), version("2", {"loss": 2.08}), version("1", {"loss": 2.0}),
        "Pass", "loss: 2.08, allowed 2.1 (champion 2)"),
    "a percentage of a negative value is of its size": (
        metric("score", champion={"maxDropPercent": 10}), version("2", {"score": -10.5}),
        version("1", {"score": -10.0}), "Pass", "score: -10.5, needs -11 (champion -10)"),
    "a value without a data set cannot be compared with one that has one": (
        metric(**DROP), version("2", {"auc": 0.9}), version("1", None, MetricValue("auc", 0.87, "holdout", "d1")),
        "InsufficientData",
        "auc: logged without a data set, the champion's on holdout@d1: the values cannot be compared"),
    "a run's value is compared all the same, for it cannot have a data set": (
        metric(**DROP), version("2", {"auc": 0.9}, source="Run"),
        version("1", None, MetricValue("auc", 0.87, "holdout", "d1")), "Pass",
        "auc: 0.9, needs 0.85 (champion 0.87)"),
    "samples are shown with the value": (
        metric(min=0.9, samples="auc/n"), version("2", {"auc": 0.95, "auc/n": 1204}), None, "Pass",
        "auc: 0.95, needs 0.9 (1,204 samples)"),
    "samples that were not logged are missing": (
        metric(min=0.9, samples="auc/n"), version("2", {"auc": 0.95}), None, "InsufficientData",
        "metric auc/n was not logged for version 2"),
    "a champion that never logged the metric cannot be compared with": (
        metric(**DROP), version("2", {"auc": 0.9}), version("1"), "InsufficientData",
        "auc: 0.9, but of the champion metric auc was not logged for version 1"),
    "another state of the data set cannot be compared with": (
        metric(**DROP), version("2", None, MetricValue("auc", 0.9, "holdout", "d2")),
        version("1", None, MetricValue("auc", 0.87, "holdout", "d1")), "InsufficientData",
        "auc: evaluated on data set holdout@d2, the champion on holdout@d1: the values cannot be compared"),
    "a registry that has not been read yet says nothing": (
        metric(min=0.9), None, None, "Unavailable", "the registry has not been read yet"),
    "a registry that does not answer says nothing": (
        metric(min=0.9), Unavailable(Reason.REGISTRY_UNREACHABLE, "no answer in 5s"), None, "Unavailable",
        "no answer in 5s"),
    "a champion that cannot be read stops only gates that compare with it": (
        metric(min=0.9), version("2", {"auc": 0.95}), Missing(Reason.VERSION_NOT_FOUND, "gone"), "Pass",
        "auc: 0.95, needs 0.9"),
    "a champion that cannot be read stops a gate that compares with it": (
        metric(**DROP), version("2", {"auc": 0.95}), Missing(Reason.VERSION_NOT_FOUND, "version 1 is gone"),
        "Unavailable", "the champion's evaluation cannot be read: version 1 is gone"),
    "every slice above its minimum passes and the tightest is shown": (
        slices(min=0.8), version("2", {"slice/day/recall": 0.95, "slice/night/recall": 0.85}), None, "Pass",
        "2 slices, the tightest recall[slice/night]: 0.85, needs 0.8"),
    "one slice that fell further than the drop fails": (
        slices(**DROP), version("2", {"slice/day/recall": 0.95, "slice/night/recall": 0.81}),
        version("1", {"slice/day/recall": 0.9, "slice/night/recall": 0.87}), "Fail",
        "recall[slice/night]: 0.81, needs 0.85 (champion 0.87)"),
    "a slice that the champion has and the candidate lacks fails": (
        slices(**DROP), version("2", {"slice/day/recall": 0.95}),
        version("1", {"slice/day/recall": 0.9, "slice/night/recall": 0.87}), "Fail",
        "recall[slice/night] was not evaluated"),
    "a required slice that is missing fails": (
        slices(min=0.5, required=["rain"]), version("2", {"slice/day/recall": 0.95}), None, "Fail",
        "recall[slice/rain] was not evaluated"),
    "a new slice has nothing to compare with": (
        slices(**DROP), version("2", {"slice/day/recall": 0.9, "slice/fog/recall": 0.2}),
        version("1", {"slice/day/recall": 0.9}), "Pass",
        "2 slices, the tightest recall[slice/day]: 0.9, needs 0.88 (champion 0.9)"),
    "no slice at all is missing": (
        slices(min=0.5), version("2", {"recall": 0.9}), None, "InsufficientData",
        "no slice matches slice/*/recall in the evaluation of version 2"),
    "of many failing slices three are shown": (
        slices(min=0.9), version("2", {f"slice/s{number}/recall": 0.1 for number in range(5)}), None, "Fail",
        "recall[slice/s0]: 0.1, needs 0.9; recall[slice/s1]: 0.1, needs 0.9; "
        "recall[slice/s2]: 0.1, needs 0.9; and 2 more"),
    "a pattern of its own finds its slices": (
        slices(min=0.5, match="by-*-group"), version("2", {"by-young-group/recall": 0.4}), None, "Fail",
        "recall[by-young-group]: 0.4, needs 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_gate_says(case: tuple[Gate, Lookup | None, Lookup | None, str, str]) -> None:
    gate, candidate, champion, verdict, message = case
    (seen,) = evaluate([gate], candidate, champion, Context(NOW))
    assert (seen.verdict, seen.message) == (verdict, message)


def test_a_gate_keeps_the_figures_it_judged() -> None:
    candidate = version("2", None, MetricValue("auc", 0.81, "holdout", "d1"))
    champion = version("1", None, MetricValue("auc", 0.87, "holdout", "d1"))
    (seen,) = evaluate([metric(**DROP, **ON)], candidate, champion, Context(NOW))
    assert (seen.value, seen.champion, seen.threshold) == (0.81, 0.87, 0.85)
    assert (seen.dataset, seen.source) == ("holdout@d1", "LoggedModel")
    assert (seen.run, seen.origin, seen.read_at) == ("r1", "spec", NOW)
