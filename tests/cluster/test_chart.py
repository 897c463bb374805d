"""The Helm chart: what it makes, what the API server says to it, and what its values schema refuses."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.interface import ClusterError
from modelrelease.api.crd import crds
from modelrelease.settings import from_environment
from tests.cluster.chart import CHART, ChartRefused, find, helm, of_kinds, render
from tests.cluster.prometheus_operator import install_crds

OPERATOR_RULES = {
    ("modelrelease.dev", "modelreleases"): "get list watch",
    ("modelrelease.dev", "releasepolicies"): "get list watch",
    ("modelrelease.dev", "releaseapprovals"): "get list watch",
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): "get",
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): "get",
    ("modelrelease.dev", "modelreleases/status"): "patch",
    ("modelrelease.dev", "releaserecords"): "get list create delete",
    ("modelrelease.dev", "releaserecords/status"): "patch",
    ("apps", "deployments"): "get list watch create patch delete",
    ("apps", "controllerrevisions"): "get list create patch delete",
    ("", "services"): "get list watch create patch",
    ("gateway.networking.k8s.io", "httproutes"): "get list watch create patch delete",
    ("monitoring.coreos.com", "podmonitors"): "get create patch",
    ("", "pods"): "get list",
    ("", "nodes"): "get",
    ("", "namespaces"): "get",
    ("discovery.k8s.io", "endpointslices"): "list",
    ("events.k8s.io", "events"): "create",
}
"""All that the operator may do in the cluster. A change here is a change of what an installation must trust it with."""

LEADER_RULES = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["modelrelease"],
        "verbs": ["get", "patch"],
    },
]

EVERYTHING = (
    "--set=replicas=2",
    "--set=image.repository=registry.example:5000/ml/modelrelease",
    f"--set=image.digest=sha256:{'a' * 64}",
    "--set=imagePullSecrets={pull}",
    "--set=registry.url=http://mlflow.mlflow.svc:5000",
    "--set=registry.credentialsSecret=mlflow",
    "--set=prometheus.url=https://prometheus.monitoring.svc",
    "--set=webhook.url=https://pipelines.ml.svc/hooks",
    "--set=webhook.secret=hook,webhook.caConfigMap=hook-ca",
    "--set=records.retentionDays=30",
    "--set=tickSeconds=2.5",
    "--set=logLevel=debug",
    "--set=extraEnv[0].name=REQUESTS_CA_BUNDLE,extraEnv[0].value=/ca/ca.crt",
    "--set=extraVolumes[0].name=ca,extraVolumes[0].configMap.name=ca",
    "--set=extraVolumeMounts[0].name=ca,extraVolumeMounts[0].mountPath=/ca",
    "--set=serviceAccount.annotations.team=ml",
    "--set=metrics.service.annotations.scrape=yes",
    "--set=podAnnotations.a=b,podLabels.c=d",
    "--set=nodeSelector.disk=ssd",
    "--set=tolerations[0].operator=Exists",
    "--set=priorityClassName=system-cluster-critical",
    "--set=affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
    "--set=affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey=zone",
    "--set=terminationGracePeriodSeconds=60",
    "--set=metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.release=prometheus",
    "--set=prometheusRule.enabled=true,prometheusRule.labels.release=prometheus",
    "--set=dashboard.enabled=true,dashboard.annotations.folder=ML",
    "--set=networkPolicy.enabled=true,networkPolicy.apiServer.cidrs={10.96.0.1/32,192.0.2.0/24}",
    "--set=networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
    "--set=networkPolicy.endpoints[0].to[0].ipBlock.cidr=198.51.100.0/24",
    "--set=networkPolicy.endpoints[0].ports[0].port=5000",
    "--set=releasePodMonitors.labels.release=prometheus,releasePodMonitors.labels.team=ml,releasePodMonitors.interval=10s",
)

ONE_NAMESPACE = ("--set=watchNamespace=default",)


def rules(role: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The rules of a role, verbs by group and resource."""
    return {
        (group, resource): " ".join(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    only: dict[str, Any]
    [only] = find(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return only


def environment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(objects)["env"]}


@pytest.fixture(scope="module")
def namespace(apiserver: ControlPlane) -> Iterator[str]:
    """A namespace that enforces the restricted pod security standard, with the chart's service account in it."""
    name = f"chart-{uuid4().hex[:8]}"
    apiserver.kubectl("create", "namespace", name)
    apiserver.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    apiserver.kubectl("create", "serviceaccount", "modelrelease", "-n", name)
    install_crds(apiserver, "servicemonitors", "prometheusrules")
    yield name
    apiserver.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="defaults"),
        pytest.param(ONE_NAMESPACE, id="one namespace"),
        pytest.param(EVERYTHING, id="every value set"),
        pytest.param((*EVERYTHING, *ONE_NAMESPACE), id="every value set, for one namespace"),
    ],
)
def test_the_api_server_accepts_all_objects(apiserver: ControlPlane, namespace: str, options: tuple[str, ...]) -> None:
    objects = render(*options, namespace=namespace)
    apiserver.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", input=yaml.safe_dump_all(objects, sort_keys=False)
    )


@pytest.mark.parametrize("options", [pytest.param((), id="defaults"), pytest.param(EVERYTHING, id="every value set")])
def test_the_pod_fits_a_namespace_of_the_restricted_standard(
    apiserver: ControlPlane, namespace: str, options: tuple[str, ...]
) -> None:
    template = find(render(*options, namespace=namespace), "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"]["name"] = "operator"
    apiserver.kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", input=json.dumps(pod))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        apiserver.kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", input=json.dumps(pod))


def test_the_operator_has_the_rights_of_the_list_and_no_others() -> None:
    objects = render()
    assert rules(find(objects, "ClusterRole")) == OPERATOR_RULES
    assert find(objects, "Role", "modelrelease-leader")["rules"] == LEADER_RULES
    for kind, name, role in [
        ("ClusterRoleBinding", "modelrelease", "modelrelease"),
        ("RoleBinding", "modelrelease-leader", "modelrelease-leader"),
    ]:
        binding = find(objects, kind, name)
        assert binding["roleRef"]["name"] == role
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "modelrelease", "namespace": "modelrelease-system"}
        ]


@pytest.fixture(scope="module")
def account(apiserver: ControlPlane, namespace: str) -> Iterator[str]:
    """The operator's account as a user name, with the chart's roles bound to it."""
    roles = of_kinds(render(namespace=namespace), "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    apiserver.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(roles))
    yield f"system:serviceaccount:{namespace}:modelrelease"
    apiserver.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(roles))


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        pytest.param("patch", "modelrelease.dev/modelreleases/status", True, id="it writes status"),
        pytest.param("create", "apps/deployments", True, id="it creates Deployments"),
        pytest.param("patch", "gateway.networking.k8s.io/httproutes", True, id="it moves routes"),
        pytest.param("create", "modelrelease.dev/releaserecords", True, id="it writes records"),
        pytest.param("patch", "modelrelease.dev/releaserecords", False, id="it cannot change a record"),
        pytest.param("patch", "modelrelease.dev/releaserecords/status", True, id="it notes what it has told"),
        pytest.param("patch", "modelrelease.dev/modelreleases", False, id="it cannot patch a spec"),
        pytest.param("update", "modelrelease.dev/modelreleases", False, id="it cannot update a spec"),
        pytest.param("command", "modelrelease.dev/modelreleases", False, id="it gives no commands"),
        pytest.param("create", "modelrelease.dev/releaseapprovals", False, id="it approves nothing"),
        pytest.param("delete", "modelrelease.dev/releaseapprovals", False, id="it takes no approval back"),
        pytest.param(
            "get", "admissionregistration.k8s.io/validatingadmissionpolicies", False, id="it reads no other policy"
        ),
        pytest.param("get", "/secrets", False, id="it reads no Secrets"),
        pytest.param("create", "/pods", False, id="it creates no pods by itself"),
        pytest.param("patch", "coordination.k8s.io/leases", False, id="it touches no Lease of other namespaces"),
    ],
)
def test_the_api_server_agrees_about_the_rights(
    apiserver: ControlPlane, account: str, verb: str, resource: str, allowed: bool
) -> None:
    assert may(apiserver, account, verb, resource, "default") is allowed


def test_the_operator_may_hold_its_own_lease_only(apiserver: ControlPlane, namespace: str, account: str) -> None:
    lease = "coordination.k8s.io/leases"
    assert may(apiserver, account, "create", lease, namespace)
    assert may(apiserver, account, "patch", lease, namespace, name="modelrelease")
    assert not may(apiserver, account, "patch", lease, namespace, name="somebody-elses")
    assert not may(apiserver, account, "create", lease, "default")


def may(apiserver: ControlPlane, user: str, verb: str, resource: str, namespace: str, name: str = "") -> bool:
    """What the authorizer says; `resource` is group/resource[/subresource]."""
    group, kind, *sub = resource.split("/")
    asked = {"namespace": namespace, "verb": verb, "group": group, "resource": kind, "name": name}
    asked["subresource"] = "".join(sub)
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    said = apiserver.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(review))
    return bool(json.loads(said)["status"]["allowed"])


@pytest.fixture(scope="module")
def account_of_one(apiserver: ControlPlane, namespace: str) -> Iterator[str]:
    """The account of an operator for the namespace `default` only."""
    objects = render(*ONE_NAMESPACE, namespace=namespace, name="one")
    wanted = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    roles = yaml.safe_dump_all(of_kinds(objects, *wanted))
    apiserver.kubectl("apply", "-f", "-", input=roles)
    yield f"system:serviceaccount:{namespace}:one-modelrelease"
    apiserver.kubectl("delete", "-f", "-", input=roles)


@pytest.mark.parametrize(
    ("verb", "resource", "place", "allowed"),
    [
        pytest.param("patch", "modelrelease.dev/modelreleases/status", "default", True, id="it works its namespace"),
        pytest.param("create", "apps/deployments", "default", True, id="it creates Deployments there"),
        pytest.param("patch", "modelrelease.dev/modelreleases/status", "kube-system", False, id="and no other one"),
        pytest.param("create", "apps/deployments", "kube-system", False, id="nor Deployments elsewhere"),
        pytest.param("list", "modelrelease.dev/modelreleases", "", False, id="it does not even list the others"),
        pytest.param("watch", "modelrelease.dev/releasepolicies", "", True, id="policies belong to no namespace"),
        pytest.param("get", "/nodes", "", True, id="nor do nodes"),
        pytest.param("get", "/secrets", "default", False, id="it reads no Secrets"),
    ],
)
def test_an_operator_for_one_namespace_has_no_rights_in_others(
    apiserver: ControlPlane, account_of_one: str, verb: str, resource: str, place: str, allowed: bool
) -> None:
    assert may(apiserver, account_of_one, verb, resource, place) is allowed


def test_an_operator_for_one_namespace_is_told_so_and_its_rights_are_bound_there() -> None:
    objects = render(*ONE_NAMESPACE)
    assert environment(objects)["MODELRELEASE_NAMESPACE"] == "default"
    assert "MODELRELEASE_NAMESPACE" not in environment(render())
    assert find(objects, "RoleBinding")["metadata"]["namespace"] == "default"
    assert [item["metadata"]["name"] for item in of_kinds(objects, "ClusterRoleBinding")] == ["modelrelease-cluster"]
    everywhere = rules(find(objects, "ClusterRole"))
    here = rules(find(objects, "ClusterRole", "modelrelease-cluster"))
    assert {verb for verbs in here.values() for verb in verbs.split()} == {"get", "list", "watch"}
    assert all(set(verbs.split()) <= set(everywhere[what].split()) for what, verbs in here.items())


def test_people_get_their_rights_with_view_and_edit() -> None:
    objects = render()
    view, edit = find(objects, "ClusterRole", "modelrelease-view"), find(objects, "ClusterRole", "modelrelease-edit")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert "command" in rules(edit)["modelrelease.dev", "modelreleases"].split()
    assert ("modelrelease.dev", "modelreleases/status") not in rules(edit)
    assert ("modelrelease.dev", "releasepolicies") not in rules(edit)
    assert rules(view)["modelrelease.dev", "releaserecords"] == "get list watch"
    assert ("modelrelease.dev", "releaserecords") not in rules(edit), "nobody else writes the audit trail"
    without = render("--set=rbac.aggregateToDefaultRoles=false")
    assert sorted(item["metadata"]["name"] for item in of_kinds(without, "ClusterRole")) == [
        "modelrelease",
        "modelrelease-approver",
        "modelrelease-releaser",
    ]


def test_who_approves_gets_a_role_of_its_own_and_may_write_no_release() -> None:
    objects = render()
    approver = find(objects, "ClusterRole", "modelrelease-approver")
    assert rules(approver)["modelrelease.dev", "releaseapprovals"] == "get list watch create delete"
    assert rules(approver)["modelrelease.dev", "modelreleases"] == "get list watch"
    assert not any("aggregate" in label for label in approver["metadata"]["labels"])
    view, edit = find(objects, "ClusterRole", "modelrelease-view"), find(objects, "ClusterRole", "modelrelease-edit")
    assert rules(view)["modelrelease.dev", "releaseapprovals"] == "get list watch"
    assert ("modelrelease.dev", "releaseapprovals") not in rules(edit), "who edits does not approve by that"


@pytest.mark.parametrize(
    ("role", "resource", "verbs"),
    [
        pytest.param("view", "modelreleases", "get list watch", id="viewers change nothing"),
        pytest.param("releaser", "modelreleases", "get list watch patch command", id="releasers give commands"),
        pytest.param("releaser", "modelreleases/scale", "", id="releasers do not scale"),
        pytest.param("releaser", "releaseapprovals", "", id="releasers do not approve"),
        pytest.param("edit", "releaseapprovals", "", id="editors do not approve"),
        pytest.param("approver", "releaseapprovals", "get list watch create delete", id="approvers approve"),
        pytest.param("approver", "modelreleases", "get list watch", id="approvers give no commands"),
    ],
)
def test_each_role_of_people_has_its_part_and_no_more(role: str, resource: str, verbs: str) -> None:
    found = find(render(), "ClusterRole", f"modelrelease-{role}")
    assert rules(found).get(("modelrelease.dev", resource), "") == verbs
    labels = {name.rpartition("/")[2] for name in found["metadata"]["labels"] if "aggregate-to" in name}
    expected = {"view": {"aggregate-to-view"}, "edit": {"aggregate-to-edit", "aggregate-to-admin"}}
    assert labels == expected.get(role, set()), "a releaser and an approver are made by a binding, not by the way"


def test_the_crds_are_the_generated_ones_and_are_kept_on_uninstall() -> None:
    rendered = {item["spec"]["names"]["plural"]: item for item in of_kinds(render(), "CustomResourceDefinition")}
    for item in rendered.values():
        assert item["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert rendered == crds()
    assert of_kinds(render("--set=crds.install=false"), "CustomResourceDefinition") == []


def test_admission_policies_can_be_left_out() -> None:
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    assert len(of_kinds(render(), *kinds)) == 6
    assert of_kinds(render("--set=admissionPolicies.enabled=false"), *kinds) == []


def test_the_environment_carries_what_the_values_say() -> None:
    plain = environment(render())
    assert plain["MODELRELEASE_TICK_SECONDS"] == "5"
    assert plain["MODELRELEASE_LOG_LEVEL"] == "info"
    assert plain["MODELRELEASE_REGISTRY_URL"] == plain["MODELRELEASE_PROMETHEUS_URL"] == ""
    assert not any(name.startswith("MLFLOW_") for name in plain)
    assert "MODELRELEASE_WEBHOOK_URL" not in plain
    full = environment(render(*EVERYTHING))
    assert full["MODELRELEASE_WEBHOOK_URL"] == "https://pipelines.ml.svc/hooks"
    assert full["MODELRELEASE_RECORD_RETENTION_DAYS"] == "30"
    assert full["MODELRELEASE_REGISTRY_URL"] == "http://mlflow.mlflow.svc:5000"
    assert full["MODELRELEASE_PROMETHEUS_URL"] == "https://prometheus.monitoring.svc"
    assert full["MODELRELEASE_TICK_SECONDS"] == "2.5"
    assert full["REQUESTS_CA_BUNDLE"] == "/ca/ca.crt"
    assert full["POD_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    for key in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        assert full[key] == {"secretKeyRef": {"name": "mlflow", "key": key, "optional": True}}


def test_the_operator_reads_its_settings_from_what_the_chart_sets(tmp_path: Path) -> None:
    variables = {name: value for name, value in environment(render(*EVERYTHING)).items() if isinstance(value, str)}
    for name in ("MODELRELEASE_WEBHOOK_SECRET_FILE", "MODELRELEASE_WEBHOOK_CA_FILE"):
        path = tmp_path / name
        path.write_text("mounted")
        variables[name] = str(path)
    settings = from_environment(variables | {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "POD_NAMESPACE": "ml"})
    assert (settings.registry_url, settings.prometheus_url) == (
        "http://mlflow.mlflow.svc:5000",
        "https://prometheus.monitoring.svc",
    )
    assert (settings.tick_s, settings.log_level) == (2.5, "debug")
    assert (settings.webhook_url, settings.record_retention_days) == ("https://pipelines.ml.svc/hooks", 30)
    assert (settings.pod_monitor_labels, settings.pod_monitor_interval) == (
        {"release": "prometheus", "team": "ml"},
        "10s",
    )
    assert (settings.lease_name, settings.lease_namespace) == ("modelrelease", "ml")
    assert settings.port == container(render())["ports"][0]["containerPort"]


def test_the_webhooks_secret_and_authorities_are_mounted_where_the_operator_reads_them() -> None:
    full = environment(render(*EVERYTHING))
    pod = find(render(*EVERYTHING), "Deployment")["spec"]["template"]["spec"]
    volumes = {item["name"]: item for item in pod["volumes"]}
    mounts = {item["name"]: item["mountPath"] for item in pod["containers"][0]["volumeMounts"]}
    assert volumes["webhook"]["secret"]["secretName"] == "hook"
    assert volumes["webhook-ca"]["configMap"]["name"] == "hook-ca"
    assert full["MODELRELEASE_WEBHOOK_SECRET_FILE"] == f"{mounts['webhook']}/secret"
    assert full["MODELRELEASE_WEBHOOK_CA_FILE"] == f"{mounts['webhook-ca']}/ca.crt"
    with pytest.raises(ChartRefused, match=r"webhook\.secret is needed"):
        render("--set=webhook.url=https://pipelines.ml.svc/hooks")


def test_the_image_is_named_by_digest_where_there_is_one_and_by_version_else() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert container(render())["image"] == f"modelrelease:{version}"
    assert container(render("--set=image.tag=edge"))["image"] == "modelrelease:edge"
    assert container(render(*EVERYTHING))["image"] == f"registry.example:5000/ml/modelrelease@sha256:{'a' * 64}"


def test_probes_and_the_metrics_service_reach_the_port_that_listens() -> None:
    objects = render()
    server = container(objects)
    assert {port["name"]: port["containerPort"] for port in server["ports"]} == {"http": 8080}
    probes = {name: server[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["path"] for probe in probes.values()} == {"/healthz", "/readyz"}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    service = find(objects, "Service", "modelrelease-metrics")
    labels = find(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == "http"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        pytest.param("--set=replica=2", "additional properties 'replica' not allowed", id="a misspelt value"),
        pytest.param("--set=image.tags=x", "additional properties 'tags' not allowed", id="a misspelt value below"),
        pytest.param("--set=replicas=two", "at '/replicas': got string, want integer", id="replicas in words"),
        pytest.param("--set=replicas=9", "at '/replicas': maximum: got 9, want 5", id="nine replicas"),
        pytest.param("--set=tickSeconds=0", "at '/tickSeconds'", id="no tick at all"),
        pytest.param("--set=logLevel=loud", "at '/logLevel': value must be one of", id="an unknown log level"),
        pytest.param("--set=registry.url=mlflow:5000", "at '/registry/url'", id="a registry without a scheme"),
        pytest.param(
            "--set=registry.url=http://me:secret@mlflow:5000", "at '/registry/url'", id="a password in the address"
        ),
        pytest.param("--set=image.digest=sha256:abc", "at '/image/digest'", id="half a digest"),
        pytest.param("--set=image.repository=", "at '/image/repository'", id="no image"),
        pytest.param(
            "--set-string=crds.install=yes", "at '/crds/install': got string, want boolean", id="a string yes"
        ),
        pytest.param("--set=extraEnv[0].value=x", "missing property 'name'", id="a variable without a name"),
        pytest.param(
            "--set=terminationGracePeriodSeconds=0", "at '/terminationGracePeriodSeconds'", id="no time to drain"
        ),
    ],
)
def test_the_values_schema_refuses_nonsense(option: str, says: str) -> None:
    with pytest.raises(ChartRefused) as refused:
        render(option)
    assert says in str(refused.value)


def test_every_value_has_a_place_in_the_schema_and_none_is_only_there() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert compare(values, schema, "") == []


def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    optional = {"global", "claims"}
    known = schema["properties"].keys() - optional
    wrong = [f"{path}.{name}" for name in values.keys() ^ known]
    for name in values.keys() & known:
        child = schema["properties"][name]
        if isinstance(values[name], dict) and "properties" in child:
            wrong += compare(values[name], child, f"{path}.{name}")
    return wrong


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        pytest.param((), ["registry.url is empty", "prometheus.url is empty"], id="nothing configured"),
        pytest.param(EVERYTHING, [], id="all configured"),
        pytest.param(
            (
                "--set=endpoints.registries[0].name=a,endpoints.registries[0].url=http://a",
                "--set=endpoints.prometheuses[0].name=b,endpoints.prometheuses[0].url=http://b",
            ),
            [],
            id="endpoints by name",
        ),
        pytest.param(
            (*EVERYTHING, "--set=admissionPolicies.enabled=false"),
            ["admissionPolicies.enabled is false"],
            id="open doors",
        ),
    ],
)
def test_the_notes_say_what_to_do_next_and_warn_of_what_is_missing(
    options: tuple[str, ...], warnings: list[str]
) -> None:
    printed = helm("install", "mr", str(CHART), "--dry-run=client", *options).partition("NOTES:")[2]
    assert "kubectl get mr -w" in printed
    assert re.findall(r"WARNING: ([\w.]+ is \w+)", printed) == warnings


def test_helm_lint_finds_nothing() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("replicas", "kinds"),
    [pytest.param(1, [], id="one replica"), pytest.param(2, ["PodDisruptionBudget"], id="two replicas")],
)
def test_a_budget_and_a_spread_come_with_a_second_replica(replicas: int, kinds: list[str]) -> None:
    objects = render(f"--set=replicas={replicas}")
    assert [item["kind"] for item in of_kinds(objects, "PodDisruptionBudget")] == kinds
    pod = find(objects, "Deployment")["spec"]["template"]
    spread = pod["spec"].get("topologySpreadConstraints", [])
    assert len(spread) == (0 if replicas == 1 else 2)
    for one in spread:
        assert one["whenUnsatisfiable"] == "ScheduleAnyway", "a cluster of one node can still run both"
        assert one["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    mine = render("--set=replicas=2,topologySpreadConstraints[0].topologyKey=rack")
    assert find(mine, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"] == [
        {"topologyKey": "rack"}
    ]


def test_a_network_policy_lets_metrics_in_and_names_api_server_and_endpoints_out() -> None:
    assert of_kinds(render(), "NetworkPolicy") == [], "off by default: wrong addresses would lock the operator out"
    objects = render(*EVERYTHING)
    spec = find(objects, "NetworkPolicy")["spec"]
    labels = find(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    [incoming] = spec["ingress"]
    assert [port["port"] for port in incoming["ports"]] == ["http"]
    assert incoming["from"] == [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]
    names, api, endpoints = spec["egress"]
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert [peer["ipBlock"]["cidr"] for peer in api["to"]] == ["10.96.0.1/32", "192.0.2.0/24"]
    assert endpoints == {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 5000}]}
    with pytest.raises(ChartRefused, match=r"networkPolicy\.endpoints is empty"):
        render("--set=networkPolicy.enabled=true")


def test_a_service_monitor_finds_the_service_and_keeps_the_namespace_of_releases() -> None:
    objects = render(*EVERYTHING)
    monitor, service = find(objects, "ServiceMonitor"), find(objects, "Service", "modelrelease-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["honorLabels"] is True
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    with pytest.raises(ChartRefused, match=r"needs metrics\.service\.enabled"):
        render("--set=metrics.serviceMonitor.enabled=true,metrics.service.enabled=false")


def test_every_value_is_explained_by_a_comment() -> None:
    """Above each key that is no map, or at the head of the map for maps of one line."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = []
    for before, line in itertools.pairwise(lines):
        key = re.match(r"^( *)([A-Za-z]+):( \S.*)?$", line)
        if key and key.group(3) and not before.lstrip().startswith("#") and key.group(2) not in PLAIN:
            bare.append(line)
    assert bare == []


PLAIN = {"replicas", "repository", "pullPolicy", "cpu", "memory"}
"""Values that say by their name all that there is to say."""
