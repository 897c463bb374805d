"""Install, upgrade and uninstall on a real API server: what serves is never touched.

An API server of its own: Helm takes over no CRDs that somebody else has put there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e import install_manifest
from e2e.cluster import binaries
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import ClusterError
from tests.cluster.chart import CHART

SET = "--set=registry.url=http://mlflow,prometheus.url=http://prometheus"
CRDS = ("modelreleases", "releasepolicies", "releaseapprovals", "releaserecords")
RELEASE = {
    "apiVersion": "modelrelease.dev/v1alpha1",
    "kind": "ModelRelease",
    "metadata": {"name": "churn", "namespace": "crm"},
    "spec": {
        "model": {"name": "churn", "version": 7},
        "traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["churn.example"]}},
        "workload": {"template": {"spec": {"containers": [{"name": "server", "image": "server"}]}}},
    },
}


@pytest.fixture
def server() -> Iterator[ControlPlane]:
    """An API server with a namespace for releases and nothing of modelrelease."""
    with ControlPlane() as started:
        started.kubectl("create", "namespace", "crm")
        yield started


def helm(server: ControlPlane, *arguments: str) -> None:
    command = [str(binaries.ensure(("helm",)).path("helm")), "--kubeconfig", str(server.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def serve(server: ControlPlane) -> None:
    """A release with a child, as the operator leaves them behind."""
    server.kubectl("apply", "-f", "-", input=json.dumps(RELEASE))
    live = get(server, "modelrelease", "churn")
    reference = {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "name": "churn",
        "uid": live["metadata"]["uid"],
    }
    template = {"metadata": {"labels": {"app": "churn"}}, **RELEASE["spec"]["workload"]["template"]}  # type: ignore[index]
    child = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "churn-1", "namespace": "crm", "ownerReferences": [reference]},
        "spec": {"selector": {"matchLabels": {"app": "churn"}}, "template": template},
    }
    server.kubectl("apply", "-f", "-", input=json.dumps(child))


def get(server: ControlPlane, kind: str, name: str, namespace: str = "crm") -> dict[str, Any]:
    live: dict[str, Any] = json.loads(server.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return live


def identities(server: ControlPlane) -> dict[str, tuple[str, int]]:
    """Uid and generation of all that has to survive."""
    kept = [("crd", f"{plural}.modelrelease.dev") for plural in CRDS]
    kept += [("modelrelease", "churn"), ("deployment", "churn-1")]
    live = {name: get(server, kind, name)["metadata"] for kind, name in kept}
    return {name: (metadata["uid"], metadata["generation"]) for name, metadata in live.items()}


def test_upgrade_uninstall_and_a_new_installation_leave_all_releases_as_they_are(server: ControlPlane) -> None:
    helm(server, "install", "mr", str(CHART), "-n", "system", "--create-namespace", SET)
    serve(server)
    before = identities(server)

    helm(server, "upgrade", "mr", str(CHART), "-n", "system", "--reuse-values", "--set=replicas=2,logLevel=debug")
    assert identities(server) == before
    assert get(server, "deployment", "mr-modelrelease", "system")["spec"]["replicas"] == 2

    helm(server, "uninstall", "mr", "-n", "system")
    assert identities(server) == before
    with pytest.raises(ClusterError, match="not found"):
        get(server, "deployment", "mr-modelrelease", "system")
    assert server.kubectl("get", "clusterroles", "-o", "name", "-l", "app.kubernetes.io/instance=mr") == ""
    assert server.kubectl("get", "validatingadmissionpolicies", "-o", "name") == ""

    helm(server, "install", "mr", str(CHART), "-n", "system", SET)
    assert identities(server) == before


def test_the_rendered_manifest_is_all_that_kubectl_apply_needs(server: ControlPlane) -> None:
    text = install_manifest.manifest()
    server.kubectl("apply", "-f", "-", input=text)
    serve(server)
    before = identities(server)
    server.kubectl("apply", "-f", "-", input=text)
    assert identities(server) == before
    operator = get(server, "deployment", "modelrelease", install_manifest.NAMESPACE)
    [container] = operator["spec"]["template"]["spec"]["containers"]
    told = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert told["MODELRELEASE_REGISTRY_URL"] == install_manifest.REGISTRY
    assert told["MODELRELEASE_PROMETHEUS_URL"] == install_manifest.PROMETHEUS
    namespace = get(server, "namespace", install_manifest.NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_rendered_manifest_is_the_same_every_time_and_says_nothing_of_helm() -> None:
    text = install_manifest.manifest()
    assert text == install_manifest.manifest()
    objects = list(yaml.safe_load_all(text))
    assert [item["kind"] for item in objects][: 1 + len(CRDS)][:2] == ["Namespace", "CustomResourceDefinition"]
    assert "helm.sh" not in text
    assert "managed-by: Helm" not in text
    for line in ("kubectl apply -f install.yaml", "kubectl -n modelrelease-system set env deployment/modelrelease"):
        assert line in text
