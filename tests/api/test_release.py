"""What a ModelRelease and a ReleasePolicy accept, and what they say when they refuse.

The API server refuses the same (tests/cluster/test_crds.py); the models are the second line, for objects that were
stored under an older CRD.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from tests.api.builders import phases, spec, workload

GATE = {"name": "auc", "metric": {"name": "auc", "min": 0.9}}
CHECK = {"name": "errors", "errorRate": {"max": 0.05}}


def test_the_smallest_spec_is_accepted_with_its_defaults() -> None:
    read = ModelReleaseSpec.model_validate(spec())
    assert (read.workload.runtime, read.workload.replicas, read.suspend) == ("http", None, False)
    assert (read.gates, read.checks, read.rollout.phases) == ((), (), ())
    assert (read.rollout.bake.duration, read.rollout.on_inconclusive) == ("30m", "Hold")


def test_a_spec_is_written_as_it_was_read() -> None:
    given = spec(gates=[GATE], checks=[CHECK], rollout={"phases": phases(5, 100)}, workload=workload(drainTimeout="5m"))
    read = ModelReleaseSpec.model_validate(given)
    assert ModelReleaseSpec.model_validate(read.model_dump(mode="json", by_alias=True)) == read
    written = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"color": "red"}, "Extra inputs are not permitted", id="an unknown field"),
        pytest.param(
            {"model": {"name": "churn", "version": 7, "alias": "champion"}},
            "set exactly one of version and alias",
            id="version and alias",
        ),
        pytest.param(
            {"model": {"name": "churn"}}, "set exactly one of version and alias", id="neither version nor alias"
        ),
        pytest.param({"model": {"name": "churn", "version": 0}}, "whole number above 0", id="version 0"),
        pytest.param({"model": {"name": "churn", "version": "v7"}}, "whole number above 0", id="version v7"),
        pytest.param({"model": {"name": "churn", "version": "٧"}}, "whole number above 0", id="a digit of elsewhere"),
        pytest.param(
            {"model": {"name": "a/b", "version": 7}}, "should match pattern", id="a slash in the model's name"
        ),
        pytest.param({"gates": [{"name": "g"}]}, "exactly one of metric, slices", id="a gate without a kind"),
        pytest.param(
            {"gates": [{**GATE, "slices": {"metric": "recall", "min": 0.5}}]},
            "exactly one of metric, slices",
            id="a gate of two kinds",
        ),
        pytest.param({"gates": [GATE, GATE]}, "the name 'auc' is used twice", id="two gates of one name"),
        pytest.param({"checks": [CHECK, CHECK]}, "the name 'errors' is used twice", id="two checks of one name"),
        pytest.param(
            {"gates": [{"name": "g", "metric": {"name": "auc"}}]},
            "at least one of min, max",
            id="a gate without bounds",
        ),
        pytest.param(
            {"gates": [{"name": "g", "metric": {"name": "auc", "min": 2, "max": 1}}]},
            "min must not be above max",
            id="min above max",
        ),
        pytest.param(
            {"gates": [{"name": "g", "slices": {"metric": "recall", "min": 2, "max": 1}}]},
            "min must not be above max",
            id="min above max on slices",
        ),
        pytest.param(
            {"gates": [{"name": "g", "slices": {"metric": "recall", "match": "slice", "min": 0.5}}]},
            "exactly one [*]",
            id="a match without a star",
        ),
        pytest.param(
            {"gates": [{"name": "g", "metric": {"name": "auc", "champion": {"maxDrop": 0.1, "maxRise": 0.1}}}]},
            "exactly one of max_drop, max_rise",
            id="maxDrop and maxRise",
        ),
        pytest.param({"checks": [{"name": "c"}]}, "exactly one of error_rate, latency", id="a check without a kind"),
        pytest.param(
            {"checks": [{"name": "c", "errorRate": {"margin": {}, "max": 0.5}}]}, "not both", id="margin and max"
        ),
        pytest.param(
            {"checks": [{"name": "c", "errorRate": {"minPolls": 1}}]}, "minPolls belongs to max", id="minPolls alone"
        ),
        pytest.param(
            {"checks": [{"name": "c", "errorRate": {"max": 1}}]}, "less than 1", id="an error rate of everything"
        ),
        pytest.param({"rollout": {"phases": phases(5, 50)}}, "end at 100", id="phases that do not end at 100"),
        pytest.param({"rollout": {"phases": phases(50, 5, 100)}}, "must rise", id="phases that fall"),
        pytest.param({"rollout": {"phases": phases(50, 50, 100)}}, "must rise", id="phases that stay"),
        pytest.param(
            {"rollout": {"phases": [{"name": "all", "weight": 100, "parity": True}]}},
            "the last phase cannot have parity",
            id="parity of all traffic",
        ),
        pytest.param({"rollout": {"phases": phases(0, 100)}}, "must rise from above 0", id="a phase of weight 0"),
        pytest.param({"rollout": {"phases": phases(101)}}, "less than or equal to 100", id="weight 101"),
        pytest.param(
            {"rollout": {"phases": [*phases(5), {"name": "p0", "weight": 100}]}},
            "the name 'p0' is used twice",
            id="two phases of one name",
        ),
        pytest.param({"rollout": {"bake": {"duration": "ten minutes"}}}, "not a duration", id="a duration in words"),
        pytest.param({"rollout": {"bake": {"holdback": 51}}}, "less than or equal to 50", id="holdback 51"),
        pytest.param(
            {"workload": workload(runtime="tgi")}, "'http', 'vllm', 'sglang' or 'triton'", id="an unknown runtime"
        ),
        pytest.param({"workload": workload(replicas=0)}, "greater than or equal to 1", id="no replicas"),
        pytest.param(
            {"workload": workload(metadata={"labels": {"modelrelease.dev/name": "x"}})},
            "'modelrelease.dev/name' is reserved",
            id="a reserved label",
        ),
        pytest.param(
            {"workload": workload(metadata={"annotations": {"modelrelease.dev/x": "y"}})},
            "'modelrelease.dev/x' is reserved",
            id="a reserved annotation",
        ),
        pytest.param(
            {"workload": workload(env=[{"name": "MODEL_URI", "value": "x"}])},
            "'server' sets MODEL_URI, which the operator sets",
            id="a reserved variable",
        ),
        pytest.param({"workload": {"template": {}}}, "at least one container", id="a template without a pod"),
        pytest.param(
            {"workload": {"template": {"spec": {"containers": []}}}}, "at least one container", id="no container"
        ),
        pytest.param(
            {"workload": {"template": {"spec": {"containers": ["server"]}}}}, "a list of objects", id="a bare container"
        ),
        pytest.param({"workload": {"template": {"spec": "pod"}}}, "an object is needed", id="a pod that is a word"),
        pytest.param(
            {"model": {"name": "churn", "alias": "champion"}, "registry": {"setAlias": "champion"}},
            "must differ from the followed",
            id="setAlias is the alias that is followed",
        ),
        pytest.param(
            {"traffic": {"gateway": {"parentRefs": []}}}, "at least 1 item", id="no gateway to carry the traffic"
        ),
        pytest.param(
            {"traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["No Host"]}}},
            "should match pattern",
            id="a host name with a space",
        ),
    ],
)
def test_a_release_is_refused_with_its_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelReleaseSpec.model_validate(spec(**changes))


@pytest.mark.parametrize("version", [7, "7", 123456789012345678], ids=str)
def test_a_version_may_be_a_number_or_a_string(version: int | str) -> None:
    read = ModelReleaseSpec.model_validate(spec(model={"name": "churn", "version": version}))
    assert read.model.version == version


@pytest.mark.parametrize("name", ["MODEL_NAME", "MODEL_VERSION", "MODEL_URI"])
def test_a_reserved_variable_of_an_init_container_is_refused(name: str) -> None:
    bad = workload()
    bad["template"]["spec"]["initContainers"] = [{"name": "fetch", "env": [{"name": name, "value": "x"}]}]
    with pytest.raises(ValidationError, match=f"'fetch' sets {name}"):
        ModelReleaseSpec.model_validate(spec(workload=bad))


def test_a_policy_shares_gates_checks_and_phases() -> None:
    policy = ReleasePolicySpec.model_validate({"gates": [GATE], "checks": [CHECK], "phases": phases(10, 100)})
    assert [phase.weight for phase in policy.phases] == [10, 100]
    assert ReleasePolicySpec.model_validate({}) == ReleasePolicySpec()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"phases": phases(10)}, "end at 100", id="phases that do not end at 100"),
        pytest.param({"gates": [GATE, GATE]}, "used twice", id="two gates of one name"),
        pytest.param({"rollout": {}}, "Extra inputs", id="an unknown field"),
    ],
)
def test_a_policy_is_refused_with_its_reason(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReleasePolicySpec.model_validate(given)


def test_a_release_cannot_be_changed_in_place() -> None:
    read = ModelReleaseSpec.model_validate(spec())
    with pytest.raises(ValidationError, match="frozen"):
        read.suspend = True  # type: ignore[misc]
