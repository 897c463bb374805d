"""What `lint` advises on specs that the schema accepts."""

from __future__ import annotations

from typing import Any

import pytest

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.core.lint import Finding, Level, advice, in_words, policy_advice

DIGEST = "@sha256:" + "0" * 64
PROBE = {"httpGet": {"path": "/health", "port": 8080}}
ARGS = ["--model=$(MODEL_URI)", "--served-model-name=$(MODEL_NAME)"]


def spec(
    container: dict[str, Any] | None = None, pod: dict[str, Any] | None = None, runtime: str = "http", **changes: Any
) -> ModelReleaseSpec:
    """A spec that nothing is to be said about; container, pod: other fields of these, None takes one away."""
    server = {"name": "server", "image": f"reg.example/server{DIGEST}", "readinessProbe": PROBE, "args": ARGS}
    server = {key: value for key, value in {**server, **(container or {})}.items() if value is not None}
    inner = {"containers": [server], "terminationGracePeriodSeconds": 660, **(pod or {})}
    workload = {"replicas": 4, "runtime": runtime, "template": {"spec": inner}, **changes.pop("workload", {})}
    body = {
        "model": {"name": "churn", "version": 7},
        "workload": workload,
        "traffic": {"gateway": {"parentRefs": [{"name": "edge"}]}},
        **changes,
    }
    return ModelReleaseSpec.model_validate(body)


def said(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(item.level.value, in_words(item.path), item.message) for item in found]


def latency(bound: str, *, metric: str = "timeToFirstToken", also: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"name": "ttft", "latency": {"metric": metric, "slowerThan": bound, "alsoSlowerThan": list(also)}}


@pytest.mark.parametrize("runtime", ["http", "vllm", "sglang"])
def test_advice_when_nothing_is_unwise_is_silent(runtime: str) -> None:
    assert said(advice("churn", spec(runtime=runtime), None)) == []


CONTAINERS = "spec.workload.template.spec.containers"
CASES = [
    pytest.param(
        spec({"image": "reg.example:5000/server"}),
        f"{CONTAINERS}[0].image",
        "reg.example:5000/server is whatever was pushed last",
        id="no tag",
    ),
    pytest.param(
        spec({"image": "server:latest"}), f"{CONTAINERS}[0].image", "is whatever was pushed last", id="latest"
    ),
    pytest.param(spec({"image": "server:1.2"}), f"{CONTAINERS}[0].image", "server:1.2 has no digest", id="a tag"),
    pytest.param(spec({"readinessProbe": None}), CONTAINERS, "no container has a readinessProbe", id="no probe"),
    pytest.param(
        spec(pod={"terminationGracePeriodSeconds": 20}),
        "spec.workload.template.spec.terminationGracePeriodSeconds",
        "terminationGracePeriodSeconds is 20, shorter than the drain of 1m",
        id="too short a grace",
    ),
    pytest.param(
        spec(runtime="vllm", pod={"terminationGracePeriodSeconds": 60}),
        "spec.workload.template.spec.terminationGracePeriodSeconds",
        "terminationGracePeriodSeconds is 60, shorter than the drain of 10m",
        id="the drain of the runtime",
    ),
    pytest.param(
        spec({"args": ["--model=$(MODEL_URI)"]}, runtime="vllm"),
        CONTAINERS,
        "no --served-model-name: a model is named by its path then",
        id="vllm without the name of the model",
    ),
    pytest.param(
        spec({"args": ["--model-path=/models/a", "--served-model-name=a"]}, runtime="sglang"),
        CONTAINERS,
        'every version would serve the same model; add "--model-path=$(MODEL_URI)"',
        id="sglang with a fixed model",
    ),
    pytest.param(spec(workload={"replicas": 1}), "spec.workload.replicas", "one pod: draining its node", id="one pod"),
    pytest.param(
        spec(runtime="vllm", checks=[latency("600ms")]),
        "spec.checks[0].latency.slowerThan",
        "600ms is no bucket bound of vllm's timeToFirstToken: it is judged at 500ms; write 500ms or 750ms",
        id="no bucket bound",
    ),
    pytest.param(
        spec(runtime="vllm", checks=[latency("500ms", also=("3s",))]),
        "spec.checks[0].latency.alsoSlowerThan[0]",
        "3s is no bucket bound of vllm's timeToFirstToken: it is judged at 2500ms; write 2500ms or 5s",
        id="no bucket bound among several",
    ),
    pytest.param(
        spec(runtime="vllm", checks=[latency("100ms", metric="requestDuration")]),
        "spec.checks[0].latency.slowerThan",
        "every request counts as slow; write 300ms",
        id="below the least bound",
    ),
    pytest.param(
        spec(
            rollout={"phases": [{"name": "canary", "weight": 5, "replicas": 4}, {"name": "full", "weight": 100}]},
        ),
        "spec.rollout.phases",
        "no phase gives a pod of the canary about the load of one of stable (canary 0.053x)",
        id="never near load parity",
    ),
    pytest.param(
        spec(rollout={"phases": [{"name": "full", "weight": 100}]}),
        "spec.rollout.phases",
        "the only phase is all traffic: latency cannot be compared under like load",
        id="one phase",
    ),
]


@pytest.mark.parametrize(("asked", "path", "words"), CASES)
def test_advice_names_the_field_and_what_to_write(asked: ModelReleaseSpec, path: str, words: str) -> None:
    [found] = advice("churn", asked, None)
    assert (found.level, in_words(found.path)) == (Level.WARNING, path)
    assert words in found.message


def test_advice_when_the_runtime_cannot_answer_a_check_is_an_error() -> None:
    [found] = advice("churn", spec(runtime="sglang", checks=[latency("100ms", metric="timePerOutputToken")]), None)
    assert (found.level, in_words(found.path)) == (Level.ERROR, "spec.checks")
    assert found.message.startswith("check ttft: the runtime sglang has no latency timePerOutputToken")


def test_advice_when_a_custom_query_has_no_policy_is_an_error() -> None:
    custom = {
        "name": "mine",
        "custom": {"total": 'sum(a{pod=~"$(pods)"}) by (pod)', "bad": 'sum(b{pod=~"$(pods)"}) by (pod)'},
    }
    found = [item for item in advice("churn", spec(checks=[custom]), None) if item.level is Level.ERROR]
    assert [item.message for item in found] == [
        "check mine: custom queries need a ReleasePolicy that sets allowCustomQueries"
    ]


GATE = {"name": "auc", "metric": {"name": "auc", "min": 0.5}}


def test_advice_when_a_gate_is_named_as_one_of_the_policy_says_that_both_apply() -> None:
    policy = ReleasePolicySpec.model_validate({"gates": [GATE]})
    asked = spec(policyRef={"name": "llm"}, gates=[GATE])
    assert said(advice("churn", asked, policy)) == [
        (
            "warning",
            "spec.gates[0].name",
            "the policy has a gate of this name, too: both apply, that one as llm/auc; rename one",
        )
    ]


def test_advice_when_the_policy_is_not_given_says_what_was_not_seen() -> None:
    assert said(advice("churn", spec(policyRef={"name": "llm"}), None)) == [
        (
            "info",
            "spec.policyRef",
            "ReleasePolicy llm is not among the files: its gates, checks and phases are not seen",
        )
    ]


def test_advice_on_a_policy_that_says_nothing() -> None:
    assert [item.level for item in policy_advice(ReleasePolicySpec())] == [Level.WARNING]
    assert policy_advice(ReleasePolicySpec.model_validate({"gates": [GATE]})) == []
