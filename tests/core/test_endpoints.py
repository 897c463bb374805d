"""Which endpoint a release means, by its policy: what goes into its wants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.reasons import Phase, Reason
from modelrelease.core import endpoints
from modelrelease.core.observation import Observation
from modelrelease.core.wants import EndpointRef
from tests.core.builders import Release, idle, release, spec

URL = "https://mlflow.crm.example"


def under(case: Release, policy: dict[str, Any] | None) -> Release:
    """The release names a policy; None: the policy that it names is not there."""
    asked = spec(8, policyRef={"name": "crm"})
    seen = replace(
        case.obs,
        policy=None if policy is None else ReleasePolicySpec.model_validate(policy),
        policy_missing="crm" if policy is None else None,
    )
    return replace(case, spec=asked, obs=seen)


@pytest.mark.parametrize(
    ("policy", "registry", "prometheus"),
    [
        pytest.param({}, EndpointRef(), EndpointRef(), id="a policy that names none means the defaults"),
        pytest.param(
            {"registry": {"name": "eu"}, "prometheus": {"name": "mimir"}},
            EndpointRef("eu"),
            EndpointRef("mimir"),
            id="those of the operator are named",
        ),
        pytest.param(
            {
                "registry": {"url": f"{URL}/", "secretRef": {"name": "mlflow"}},
                "prometheus": {"url": "http://p:9090", "tenant": "ml-$(namespace)"},
            },
            EndpointRef(url=URL, secret="mlflow"),
            EndpointRef(url="http://p:9090", tenant="ml-$(namespace)"),
            id="others by URL",
        ),
        pytest.param(None, None, None, id="a policy that is not there leaves it open"),
    ],
)
def test_a_release_wants_the_endpoints_of_its_policy(
    policy: dict[str, Any] | None, registry: EndpointRef | None, prometheus: EndpointRef | None
) -> None:
    case = under(release(step=1), policy)
    wants = case.decision().wants

    assert wants.registry is not None
    assert wants.samples is not None
    assert (wants.registry.endpoint, wants.samples.endpoint) == (registry, prometheus)


def test_a_spec_that_cannot_be_read_leaves_it_open() -> None:
    assert endpoints.prometheus(None, Observation("churn", "crm", 1)) is None


@pytest.mark.parametrize(
    "registry",
    [
        {},
        {"name": "eu", "url": URL},
        {"name": "eu", "secretRef": {"name": "mlflow"}},
        {"url": "mlflow:5000"},
        {"url": "https://me:pw@mlflow"},
        {"url": "https://mlflow/?token=x"},
        {"url": "https://mlflow:port"},
    ],
)
def test_a_policy_names_an_endpoint_in_one_way(registry: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ReleasePolicySpec.model_validate({"registry": registry})


QUERIES = {"total": 'sum by (pod) (t{pod=~"$(pods)"})', "bad": 'sum by (pod) (b{pod=~"$(pods)"})'}
CUSTOM = {"name": "mine", "custom": {**QUERIES}}


@pytest.mark.parametrize(
    ("policy", "own", "allowed"),
    [
        pytest.param({}, [CUSTOM], False, id="not allowed"),
        pytest.param({"allowCustomQueries": True}, [CUSTOM], True, id="allowed"),
        pytest.param({"checks": [CUSTOM]}, [], True, id="the policy's own"),
    ],
)
def test_a_query_of_the_releases_own_needs_a_policy_that_allows_it(
    policy: dict[str, Any], own: list[Any], allowed: bool
) -> None:
    case = under(idle(7), policy)
    status = replace(case, spec=spec(8, policyRef={"name": "crm"}, checks=own)).decision().status
    invalid = status.phase == Phase.INVALID

    assert invalid is not allowed
    if invalid:
        assert Reason.CUSTOM_QUERIES_NOT_ALLOWED in {condition.reason for condition in status.conditions}
        assert "check mine: custom queries need a ReleasePolicy that sets allowCustomQueries" in status.message
