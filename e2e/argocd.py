"""Argo CD beside a cluster: its controller and repository server, and a Git repository that it syncs from.

Only what decides is run: no web server, no single sign-on. The application controller acts as the cluster's
administrator, as it does where Argo CD manages its own cluster. Rule kept: what `start` began ends with `stop`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries
from e2e.cluster.interface import Cluster, Process, wait_until

NAMESPACE = "argocd"
ROOT = Path(__file__).resolve().parents[1]
_REDIS, _REPO, _METRICS = "127.0.0.1:6379", "127.0.0.1:8091", "8092"


class GitRepository:
    """What a team keeps in Git: files of one folder, each commit replacing all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._git("init", "-q", "-b", "main")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def commit(self, message: str, files: Mapping[str, list[Mapping[str, Any]]]) -> str:
        """Replace all files; returns the commit."""
        for old in self.folder.glob("*.yaml"):
            old.unlink()
        for name, manifests in files.items():
            (self.folder / name).write_text(yaml.safe_dump_all(manifests, sort_keys=False))
        self._git("add", "-A")
        self._git("commit", "-q", "--allow-empty", "-m", message)
        return self._git("rev-parse", "HEAD").strip()

    def revert(self) -> str:
        """git revert HEAD; returns the new commit."""
        self._git("revert", "--no-edit", "HEAD")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *args: str) -> str:
        own = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        identity = ("-c", "user.name=team", "-c", "user.email=team@example.org")
        done = subprocess.run(
            ["git", "-C", str(self.folder), *identity, *args],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


class ArgoCD:
    """A running Argo CD. `folder` is its home, and must be reachable from the cluster's network."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self._processes: list[Process] = []
        self._commands: list[tuple[str, list[str], dict[str, str]]] = []

    def start(self) -> None:
        """Install its kinds and configuration, with our health and actions, and start it."""
        built = binaries.ensure(binaries.ARGOCD)
        argocd, kubectl = built.folder("argocd"), self.cluster.kubectl
        kubectl("apply", "--server-side", "-f", str(argocd / "crds"))
        kubectl("create", "namespace", NAMESPACE)
        kubectl("apply", "-n", NAMESPACE, "-f", str(argocd / "config"))
        key = base64.b64encode(b"only for this run").decode()
        kubectl(
            "patch", "secret", "argocd-secret", "-n", NAMESPACE, "-p", json.dumps({"data": {"server.secretkey": key}})
        )
        ours = str(ROOT / "argocd" / "argocd-cm.yaml")
        kubectl("patch", "configmap", "argocd-cm", "-n", NAMESPACE, "--patch-file", ours)
        project = {"sourceRepos": ["*"], "destinations": [{"namespace": "*", "server": "*"}]}
        project["clusterResourceWhitelist"] = [{"group": "*", "kind": "*"}]
        self.apply("AppProject", "default", project)
        env = self._environment(built)
        program = str(built.path("argocd"))
        self._spawn("argocd-redis", [str(built.path("miniredis")), _REDIS], {})
        repository = (
            "--address 127.0.0.1 --port 8091 --metrics-address 127.0.0.1 --metrics-port 8094 "
            f"--redis {_REDIS} --disable-tls --revision-cache-expiration 2s"
        )
        controller = (
            f"--namespace {NAMESPACE} --redis {_REDIS} --repo-server {_REPO} --repo-server-plaintext "
            f"--metrics-port {_METRICS} --app-resync 5 --app-resync-jitter 0"
        )
        own = {"ARGOCD_BINARY_NAME": "argocd-repo-server"}
        self._spawn("argocd-repo-server", [program, *repository.split()], {**env, **own})
        own = {"ARGOCD_BINARY_NAME": "argocd-application-controller", "HOSTNAME": "argocd-application-controller-0"}
        self._spawn("argocd-application-controller", [program, *controller.split()], {**env, **own})

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.stop()

    def restart_controller(self) -> None:
        """End the application controller and start it again, as an upgrade of Argo CD does."""
        self._processes[-1].stop()
        name, argv, env = self._commands[-1]
        self._processes[-1] = self.cluster.spawn(name, argv, env)

    def apply(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """kubectl apply of one of Argo CD's own objects."""
        metadata = {"name": name, "namespace": NAMESPACE}
        body = {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(body))

    def application(
        self, name: str, repository: GitRepository, namespace: str, *, options: Sequence[str] = (), **more: Any
    ) -> None:
        """An Application that follows the repository by itself: prune and self-heal. options: of every sync."""
        policy = {"automated": {"prune": True, "selfHeal": True}, "syncOptions": list(options)}
        self.apply(
            "Application",
            name,
            {
                "project": "default",
                "source": {"repoURL": repository.url, "path": ".", "targetRevision": "main"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
                "syncPolicy": policy,
                **more,
            },
        )

    def status(self, name: str) -> dict[str, Any]:
        """Status of an Application, empty while there is none."""
        found = self.cluster.get("application", name, "-n", NAMESPACE)
        return dict(found.get("status") or {})

    def refresh(self, name: str, *, hard: bool = False) -> None:
        """Look at Git now, and (hard) render everything anew."""
        kind = "hard" if hard else "normal"
        self.cluster.kubectl(
            "annotate", "application", name, "-n", NAMESPACE, "--overwrite", f"argocd.argoproj.io/refresh={kind}"
        )

    def wait(self, name: str, commit: str, health: str, sync: str = "Synced", timeout_s: float = 180) -> dict[str, Any]:
        """Wait until this commit is synced with this health. Raises ClusterError with what Argo CD says instead."""
        seen: dict[str, Any] = {}

        def there() -> bool:
            seen.clear()
            seen.update(self.status(name))
            found = (seen.get("sync", {}).get("revision"), seen.get("sync", {}).get("status"))
            return found == (commit, sync) and seen.get("health", {}).get("status") == health

        self.refresh(name)
        try:
            wait_until(f"{name} {sync} and {health} at {commit[:8]}", there, timeout_s, interval_s=0.5)
        except Exception as error:
            told = {key: seen.get(key) for key in ("sync", "health", "conditions", "operationState")}
            error.add_note(json.dumps(told, default=str)[:2000])
            raise
        return seen

    def _spawn(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        self._commands.append((name, argv, env))
        self._processes.append(self.cluster.spawn(name, argv, env))

    def _environment(self, built: binaries.Binaries) -> dict[str, str]:
        """Argo CD expects the folders of its own image; all of them are below `folder`."""
        for name in ("home/.kube", "tls", "ssh", "gpg/source", "gpg/home", "plugins", "tmp"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "ssh" / "ssh_known_hosts").touch()
        (self._folder / "home" / ".kube" / "config").write_bytes(self.cluster.kubeconfig.read_bytes())
        git = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
        return {
            **git,
            "GIT_CONFIG_VALUE_0": "*",
            "HOME": str(self._folder / "home"),
            "KUBECONFIG": str(self._folder / "home" / ".kube" / "config"),
            "TMPDIR": str(self._folder / "tmp"),
            "PATH": os.pathsep.join([str(built.folder("argocd")), os.environ.get("PATH", os.defpath)]),
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_GNUPGHOME": str(self._folder / "gpg" / "home"),
            "ARGOCD_GPG_DATA_PATH": str(self._folder / "gpg" / "source"),
            "ARGOCD_TLS_DATA_PATH": str(self._folder / "tls"),
            "ARGOCD_SSH_DATA_PATH": str(self._folder / "ssh"),
            "ARGOCD_PLUGINSOCKFILEPATH": str(self._folder / "plugins"),
        }
