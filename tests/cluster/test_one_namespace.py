"""An operator for one namespace, with the rights that the chart gives it there: it works its releases and no others."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import yaml

from e2e.cluster.controlplane import ControlPlane
from modelrelease.clients.kube import MODEL_RELEASE, Kube
from tests.cluster.chart import find, of_kinds, render
from tests.cluster.test_main import Start, client, lease, start, until
from tests.cluster.test_watch import NAMESPACE, release

__all__ = ["client", "lease", "start"]  # fixtures


async def test_an_operator_for_one_namespace_works_it_with_the_rights_of_the_chart_alone(
    start: Start, client: Kube, lease: str, apiserver: ControlPlane, tmp_path: Path
) -> None:
    name = f"one-{uuid4().hex[:8]}"
    objects = render(f"--set=watchNamespace={lease},fullnameOverride={name}", namespace=lease, name=name)
    wanted = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    apiserver.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(of_kinds(objects, *wanted)))
    token = apiserver.kubectl("create", "token", name, "-n", lease).strip()
    known = yaml.safe_load(apiserver.kubeconfig.read_text())
    known["users"] = [{"name": user["name"], "user": {"token": token}} for user in known["users"]]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(known))
    [container] = find(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    told = {entry["name"]: entry.get("value") for entry in container["env"]}
    elsewhere = f"{lease}-other"
    await client.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}})
    await client.create(MODEL_RELEASE, elsewhere, release("churn"))
    await client.create(MODEL_RELEASE, lease, release("churn"))

    names = ("MODELRELEASE_NAMESPACE", "MODELRELEASE_LEASE_NAME", "MODELRELEASE_APPROVAL_POLICY")
    operator = await start(MODELRELEASE_KUBECONFIG=str(kubeconfig), **{key: told[key] for key in names})
    await until(operator.leads, 60)

    async def worked() -> bool:
        live = await client.get(MODEL_RELEASE, lease, "churn")
        return bool(live and live.get("status", {}).get("observedGeneration") == 1)

    await until(worked, 60)
    other = await client.get(MODEL_RELEASE, elsewhere, "churn")
    assert other is not None
    assert other["status"]["observedGeneration"] == -1, "as the API server makes it"
    assert await operator.metric('modelrelease_api_requests_total{code="403"') == 0
    assert not operator.said("forbidden")
