"""What `init` makes of a Deployment; that the result is accepted is seen on a real API server (tests/cluster)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelrelease.core import lint
from modelrelease.core.adopt import Adoption, Asked, NotAdoptable, adopt

POD = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}


def deployment(container: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    """A Deployment as the API server shows it, with its defaults."""
    server = {
        "name": "server",
        "image": "reg.example/churn:1",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "web", "containerPort": 9000, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "web", "scheme": "HTTP"}, "timeoutSeconds": 1},
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **(container or {}),
    }
    metadata = {
        "labels": {"app": "churn", "team": "crm", "pod-template-hash": "abc", **labels},
        "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01", "note": "kept"},
        "creationTimestamp": None,
    }
    return {
        "metadata": {"name": "churn", "namespace": "crm", "resourceVersion": "1"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "churn"}},
            "template": {"metadata": metadata, "spec": {**POD, "containers": [server]}},
        },
    }


SERVICE = {
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "churn"}, "ports": [{"port": 80, "targetPort": "web"}]},
}
OTHER = {"metadata": {"name": "other"}, "spec": {"selector": {"app": "other"}, "ports": [{"port": 80}]}}
ROUTE = {
    "metadata": {"name": "edge-route"},
    "spec": {
        "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "infra"}],
        "hostnames": ["churn.example"],
        "rules": [
            {"backendRefs": [{"name": "other", "port": 80, "kind": "Service"}]},
            {
                "name": "main",
                "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
                "timeouts": {"request": "30s"},
                "backendRefs": [{"name": "web", "port": 80, "kind": "Service", "weight": 1}],
            },
        ],
    },
}
SAID = Asked(model="churn", version="7")


def adopted(
    live: dict[str, Any] | None = None, asked: Asked = SAID, routes: tuple[dict[str, Any], ...] = (ROUTE,)
) -> Adoption:
    return adopt(live or deployment(), [SERVICE, OTHER], routes, asked)


def remarks(made: Adoption) -> dict[str, str]:
    return {lint.in_words(path): words for path, words in made.remarks}


def test_adopt_takes_over_what_runs_and_how_users_reach_it() -> None:
    live = deployment()
    before = copy.deepcopy(live)
    made = adopted(live)
    assert live == before
    assert made.document["metadata"] == {"name": "churn", "namespace": "crm"}
    assert made.document["spec"] == {
        "model": {"name": "churn", "version": 7},
        "workload": {
            "replicas": 3,
            "runtime": "http",
            "ports": {"http": 9000},
            "template": {
                "metadata": {"labels": {"team": "crm"}, "annotations": {"note": "kept"}},
                "spec": {
                    "terminationGracePeriodSeconds": 90,
                    "containers": [
                        {
                            "name": "server",
                            "image": "reg.example/churn:1",
                            "ports": [{"name": "web", "containerPort": 9000}],
                            "readinessProbe": {"httpGet": {"path": "/ready", "port": "web"}},
                        }
                    ],
                },
            },
        },
        "traffic": {
            "gateway": {
                "parentRefs": [{"name": "edge", "namespace": "infra"}],
                "hostnames": ["churn.example"],
                "rule": {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
                    "timeouts": {"request": "30s"},
                },
            }
        },
    }
    assert "Service web would send users to every pod of a canary" in remarks(made)["spec.workload.template"]


@pytest.mark.parametrize(
    ("container", "runtime", "args"),
    [
        pytest.param(
            {"image": "vllm/vllm-openai:v0.9", "args": ["--model", "meta-llama/Llama-3.1-8B", "--port=8000"]},
            "vllm",
            ["--model", "$(MODEL_URI)", "--port=8000", "--served-model-name=meta-llama/Llama-3.1-8B"],
            id="vllm, the name that clients ask for stays",
        ),
        pytest.param(
            {"image": "reg.example/llm", "command": ["vllm"], "args": ["serve", "/models/a"]},
            "vllm",
            ["serve", "$(MODEL_URI)", "--served-model-name=/models/a"],
            id="vllm serve",
        ),
        pytest.param(
            {"image": "lmsysorg/sglang:1", "args": ["--model-path=/models/a", "--served-model-name=chat"]},
            "sglang",
            ["--model-path=$(MODEL_URI)", "--served-model-name=chat"],
            id="sglang",
        ),
        pytest.param(
            {"image": "vllm/vllm-openai:v0.9"},
            "vllm",
            ["--model=$(MODEL_URI)", "--served-model-name=$(MODEL_NAME)"],
            id="no arguments",
        ),
        pytest.param(
            {"image": "nvcr.io/nvidia/tritonserver:25.01-py3", "args": ["tritonserver"]},
            "triton",
            ["tritonserver"],
            id="triton is left alone",
        ),
    ],
)
def test_adopt_lets_the_server_load_the_version(container: dict[str, Any], runtime: str, args: list[str]) -> None:
    workload = adopted(deployment(container)).document["spec"]["workload"]
    assert workload["runtime"] == runtime
    assert workload["template"]["spec"]["containers"][0]["args"] == args


@pytest.mark.parametrize(
    ("container", "model"),
    [
        pytest.param({"args": ["--model=models:/fraud/12"]}, {"name": "fraud", "version": 12}, id="arguments"),
        pytest.param(
            {"env": [{"name": "MODEL", "value": "models:/fraud/3"}]}, {"name": "fraud", "version": 3}, id="environment"
        ),
        pytest.param(
            {"env": [{"name": "MODEL_NAME", "value": "fraud"}, {"name": "MODEL_VERSION", "value": "4"}]},
            {"name": "fraud", "version": 4},
            id="the operator's own variables",
        ),
        pytest.param({}, {"name": "churn", "version": 1}, id="nothing says it"),
    ],
)
def test_adopt_finds_the_model_where_something_names_it(container: dict[str, Any], model: dict[str, Any]) -> None:
    made = adopted(deployment(container), Asked())
    assert made.document["spec"]["model"] == model
    assert "spec.model.version" in remarks(made)


def test_adopt_when_the_route_is_kept_names_its_rule_and_what_its_owner_has_to_do() -> None:
    made = adopted(asked=Asked(model="churn", version="7", http_route="edge-route"))
    assert made.document["spec"]["traffic"] == {"httpRoute": {"name": "edge-route", "rule": "main"}}
    assert made.steps[0] == "kubectl -n crm label httproute/edge-route modelrelease.dev/name=churn"
    assert "churn-a and churn-b" in made.steps[1]


def test_adopt_when_a_route_has_the_name_of_the_deployment_takes_another_one() -> None:
    route = copy.deepcopy(ROUTE)
    route["metadata"]["name"] = "churn"
    made = adopted(routes=(route,))
    assert made.document["metadata"]["name"] == "churn-release"
    assert "kubectl -n crm delete httproute churn    # the release's own route takes over at once" in made.steps


def test_adopt_when_no_route_leads_there_asks_for_the_gateway() -> None:
    with pytest.raises(NotAdoptable, match="give --gateway"):
        adopted(routes=())
    made = adopted(asked=Asked(model="churn", version="7", gateway=("infra", "edge")), routes=())
    assert made.document["spec"]["traffic"] == {"gateway": {"parentRefs": [{"name": "edge", "namespace": "infra"}]}}


@pytest.mark.parametrize("image", ["reg.example/churn:1", "vllm/vllm-openai:v0.9", "nvcr.io/nvidia/tritonserver:1"])
def test_adopt_makes_what_lint_has_nothing_against_but_the_image(image: str) -> None:
    made = adopted(deployment({"image": image}))
    assert lint.problems(made.document) == []
    from modelrelease.api.release import ModelReleaseSpec

    found = lint.advice("churn", ModelReleaseSpec.model_validate(made.document["spec"]), None)
    assert [lint.in_words(item.path) for item in found] == ["spec.workload.template.spec.containers[0].image"]
