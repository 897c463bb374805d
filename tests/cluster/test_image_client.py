"""The Kubernetes client as the image has it, without generated models: every way to authenticate, and a whole start.

The line of the Dockerfile that takes them away is run on a copy of the installed package.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from tests.cluster.test_main import Start, client, lease, start, until

__all__ = ["client", "lease", "start"]  # fixtures

ROOT = Path(__file__).parents[2]
PROBE = """
import asyncio, json, sys
import kubernetes
from kubernetes.aio.config import incluster_config
from modelrelease.clients.kube import Kind, Kube

async def main(kubeconfig, folder):
    incluster_config.SERVICE_TOKEN_FILENAME = folder + "/token"
    incluster_config.SERVICE_CERT_FILENAME = folder + "/ca.crt"
    kube = await Kube.connect(kubeconfig or None)
    told = {"package": kubernetes.__file__, "authorization": (await kube.credentials()).authorization}
    if sys.argv[3] == "ask":
        told["seen"] = await kube.get(Kind("v1", "namespaces", False, "Namespace"), None, "default") is not None
    await kube.close()
    print(json.dumps(told))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the image has it."""
    venv = tmp_path_factory.mktemp("image") / "venv"
    folder = venv / "lib" / "python3.11" / "site-packages"
    found = importlib.util.find_spec("kubernetes")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent, folder / "kubernetes", ignore=shutil.ignore_patterns("__pycache__"))
    before = size(folder)
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    [command] = re.findall(r"&& (find \S+/site-packages/kubernetes .*? -delete)", text)
    subprocess.run(["sh", "-c", command.replace("/opt/venv", str(venv))], check=True)
    assert size(folder) < before / 10
    return folder


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def jwt() -> str:
    """A token of an identity provider that expires in a hundred years."""
    parts = ({"alg": "none"}, {"exp": 4900000000}, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def with_token(known: dict[str, Any], token: str, folder: Path) -> dict[str, Any]:
    return {"token": token}


def with_token_file(known: dict[str, Any], token: str, folder: Path) -> dict[str, Any]:
    (folder / "mine").write_text(token)
    return {"tokenFile": str(folder / "mine")}


def with_certificate(known: dict[str, Any], token: str, folder: Path) -> dict[str, Any]:
    user: dict[str, Any] = known["users"][0]["user"]
    return user


def with_plugin(known: dict[str, Any], token: str, folder: Path) -> dict[str, Any]:
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    (folder / "said.json").write_text(json.dumps(said))
    plugin = {"apiVersion": said["apiVersion"], "command": "cat", "args": [str(folder / "said.json")]}
    return {"exec": plugin | {"interactiveMode": "Never"}}


def with_provider(known: dict[str, Any], token: str, folder: Path) -> dict[str, Any]:
    return {"auth-provider": {"name": "oidc", "config": {"id-token": jwt(), "client-id": "x", "refresh-token": "y"}}}


@pytest.fixture(scope="module")
def token(apiserver: ControlPlane) -> str:
    """The token of a service account."""
    apiserver.kubectl("create", "serviceaccount", "image-client", "-n", "default")
    bound = ("--clusterrole=cluster-admin", "--serviceaccount=default:image-client")
    apiserver.kubectl("create", "clusterrolebinding", "image-client", *bound)
    return apiserver.kubectl("create", "token", "image-client", "-n", "default").strip()


def probe(packages: Path, kubeconfig: str, folder: Path, ask: bool = True, **environment: str) -> dict[str, Any]:
    """What the operator's client says with these packages."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, kubeconfig, str(folder), "ask" if ask else "read"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{packages}:{ROOT / 'operator'}", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["package"] == str(packages / "kubernetes" / "__init__.py")
    return said


@pytest.mark.parametrize("user", [with_token, with_token_file, with_certificate, with_plugin, with_provider])
def test_a_kubeconfig_authenticates_in_every_way(
    packages: Path, apiserver: ControlPlane, token: str, tmp_path: Path, user: Callable[..., dict[str, Any]]
) -> None:
    known = yaml.safe_load(apiserver.kubeconfig.read_text())
    mine = user(known, token, tmp_path)
    known["users"] = [{"name": item["name"], "user": mine} for item in known["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(known))
    said = probe(packages, str(path), tmp_path, ask=user is not with_provider)
    expected = {with_certificate: None, with_provider: f"Bearer {jwt()}"}.get(user, f"Bearer {token}")
    assert said["authorization"] == expected
    assert said.get("seen", True)


def test_a_pod_authenticates_as_its_service_account(
    packages: Path, apiserver: ControlPlane, token: str, tmp_path: Path
) -> None:
    known = yaml.safe_load(apiserver.kubeconfig.read_text())["clusters"][0]["cluster"]
    data = known.get("certificate-authority-data")
    ca = base64.b64decode(data) if data else Path(known["certificate-authority"]).read_bytes()
    (tmp_path / "ca.crt").write_bytes(ca)
    (tmp_path / "token").write_text(token)
    host, _, port = known["server"].removeprefix("https://").partition(":")
    said = probe(packages, "", tmp_path, KUBERNETES_SERVICE_HOST=host, KUBERNETES_SERVICE_PORT=port)
    assert said["authorization"].lower() == f"bearer {token}".lower()
    assert said["seen"]


async def test_the_operator_starts_leads_and_ends_without_the_models(packages: Path, start: Start) -> None:
    operator = await start(PYTHONPATH=f"{packages}:{ROOT / 'operator'}")
    await until(operator.leads, 60)
    operator.process.send_signal(signal.SIGTERM)
    assert await operator.process.wait() == 0
    assert [line for line in operator.lines if "traceback" in line] == []
