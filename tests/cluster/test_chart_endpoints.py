"""docs/endpoints.md: its examples are read by what reads them in a cluster, and the chart gives no more rights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from modelrelease.api.endpoints import Endpoints, read_endpoints
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.settings import from_environment
from tests.cluster.chart import CHART, ChartRefused, find, of_kinds, render

PAGE = (CHART.parents[1] / "docs" / "endpoints.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
VALUES = [block for block in BLOCKS if block.startswith("# values of the chart")]
[FILE] = [block for block in BLOCKS if block.startswith("# the operator's own file")]
OBJECTS = [yaml.safe_load(block) for block in BLOCKS if block not in (*VALUES, FILE)]


@pytest.fixture
def values(tmp_path: Path) -> list[str]:
    """The options of helm for all values of the page."""
    options = []
    for number, block in enumerate(VALUES):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        options += ["-f", str(path)]
    return options


def endpoints(objects: list[dict[str, Any]]) -> Endpoints:
    """What the operator reads from the chart's file."""
    return read_endpoints(find(objects, "ConfigMap", "modelrelease-endpoints")["data"]["endpoints.yaml"])


def test_the_page_has_an_example_of_each_kind() -> None:
    assert (len(VALUES), [item["kind"] for item in OBJECTS]) == (2, ["ReleasePolicy", "ReleasePolicy", "Secret"])


def test_the_values_of_the_page_become_a_file_that_the_operator_reads(values: list[str], tmp_path: Path) -> None:
    objects = render(*values)
    pod = find(objects, "Deployment")["spec"]["template"]
    [container] = pod["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    found = endpoints(objects)
    shared = found.registry("")

    assert shared is not None
    assert shared.credentials_dir in mounted
    assert [shared.reads("crm-eu", model) for model in ("public/a", "crm/churn", "ads/clicks")] == [True, True, False]
    assert [shared.writes(namespace, "crm/churn") for namespace in ("crm-eu", "ads")] == [True, False]
    assert pod["metadata"]["annotations"]["modelrelease.dev/endpoints"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    file = tmp_path / "endpoints.yaml"
    file.write_text(find(objects, "ConfigMap", "modelrelease-endpoints")["data"]["endpoints.yaml"])
    read = {name: value for name, value in variables.items() if value} | {
        "MODELRELEASE_ENDPOINTS_FILE": str(file),
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    }
    assert from_environment(read).endpoints == found


def test_the_file_and_the_policies_of_the_page_can_be_read() -> None:
    read = read_endpoints(FILE)
    policies = [ReleasePolicySpec.model_validate(item["spec"]) for item in OBJECTS if item["kind"] == "ReleasePolicy"]

    assert read.registry("shared") == read.registry("")
    assert [policy.registry is not None and policy.prometheus is not None for policy in policies] == [True, True]


def test_an_endpoint_is_named_in_one_place_only(values: list[str]) -> None:
    with pytest.raises(ChartRefused, match=r"set registry\.url or endpoints\.registries, not both"):
        render(*values, "--set=registry.url=http://mlflow")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--set=endpoints.registries[0].name=a", "url"),
        ("--set=endpoints.registries[0].name=A,endpoints.registries[0].url=http://a", "name"),
        ("--set=endpoints.registries[0].name=a,endpoints.registries[0].url=http://u:p@a", "url"),
        ("--set=secretNamespaces[0].namespace=crm", "secrets"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(option: str, says: str) -> None:
    with pytest.raises(ChartRefused, match=says):
        render(option)


def test_without_endpoints_there_is_neither_a_file_nor_a_right_to_read_secrets() -> None:
    objects = render()
    assert of_kinds(objects, "ConfigMap") == []
    assert not any(
        "secrets" in rule["resources"] for role in of_kinds(objects, "Role", "ClusterRole") for rule in role["rules"]
    )


def test_only_the_secrets_that_are_listed_can_be_read(apiserver: ControlPlane, values: list[str]) -> None:
    system, name = f"system-{uuid4().hex[:8]}", f"mr-{uuid4().hex[:8]}"
    for namespace in (system, "crm"):
        if namespace not in apiserver.kubectl("get", "namespaces", "-o", "name"):
            apiserver.kubectl("create", "namespace", namespace)
    objects = render(*values, namespace=system, name=name)
    wanted = of_kinds(objects, "ServiceAccount", "Role", "RoleBinding", "ConfigMap")
    apiserver.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(wanted))
    account = find(objects, "ServiceAccount", f"{name}-modelrelease")["metadata"]["name"]

    def can(verb: str, secret: str, namespace: str) -> bool:
        asked = {"verb": verb, "resource": "secrets", "namespace": namespace, "name": secret}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": f"system:serviceaccount:{system}:{account}", "resourceAttributes": asked},
        }
        out = apiserver.kubectl("create", "-f", "-", "-o", "yaml", input=yaml.safe_dump(review))
        return bool(yaml.safe_load(out)["status"].get("allowed"))

    assert can("get", "mlflow", "crm")
    assert can("get", "mimir", "crm")
    assert not can("get", "other", "crm")
    assert not can("list", "", "crm")
    assert not can("get", "mlflow", "default")
    assert not can("get", "mlflow", system)
