"""`make playground`: all that a release needs around it, and a shell to try the README and the tutorial in.

The same parts as the demo's, in a namespace and behind a hostname of their own, with constant traffic. The test of the
documentation (`e2e/test_tutorial.py`) runs the pages' commands in it. Rule kept: everything ends with `close()`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.fixtures import session_cluster
from e2e.cluster.interface import Cluster
from e2e.demo import INSIDE, enter
from e2e.stack import ROOT, Stack, digits
from e2e.traffic import Traffic
from e2e.training import MODEL_NAME, sample_requests

NAMESPACE, HOSTNAME = "playground", "playground.example"
REQUESTS_PER_S = 40
_A_DAY_S = 86400
LINKED = ("charts", "crds", "examples", "argocd")
_WORDS = """
A shell with kubectl for a cluster of its own: a gateway, Prometheus, MLflow with the models below, the operator,
and {rate} requests a second for http://{host}. Its namespace is {namespace}; digits.yaml is a release.
  {models}
Go on at docs/tutorial.md; exit takes everything down.
"""


class Playground:
    """A namespace with a release's manifest and traffic, and the environment of a shell in it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._folder = tempfile.TemporaryDirectory(prefix="modelrelease-playground-")
        self.folder = Path(self._folder.name)
        self._traffic = Traffic(
            stack.gateway.url, HOSTNAME, MODEL_NAME, sample_requests(), rate=REQUESTS_PER_S, max_seconds=_A_DAY_S
        )

    def open(self) -> None:
        """Make the namespace and the files, and start the traffic: it gets no answer until a release serves."""
        self._stack.cluster.kubectl("create", "namespace", NAMESPACE)
        (self.folder / "digits.yaml").write_text(yaml.safe_dump(manifest(self._stack), sort_keys=False))
        for name in LINKED:
            (self.folder / name).symlink_to(ROOT / name)
        self._own_kubeconfig()
        self._traffic.start()

    def close(self) -> None:
        """End the traffic and remove files and namespace."""
        self._traffic.stop()
        self._stack.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout_s=180)
        self._folder.cleanup()

    def environment(self) -> dict[str, str]:
        """Of a shell: kubectl for this namespace, helm and kubectl-modelrelease, and what README.md calls by name."""
        surroundings = self._stack.cluster.environment()
        image, _, tag = self._operator_image().rpartition(":")
        return {
            **os.environ,
            **surroundings,
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), surroundings["PATH"]]),
            "IMAGE": image,
            "TAG": tag,
            "MLFLOW_URL": self._stack.mlflow_url,
            "PROMETHEUS_URL": self._stack.prometheus_url,
        }

    def run(self, commands: str, timeout_s: float = 600) -> str:
        """What a block of shell commands prints; raises AssertionError with all of it where one of them fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"exit code {done.returncode} of\n{commands}\n{done.stdout[-6000:]}")
        return done.stdout

    def shell(self) -> int:
        """A shell for a person; its exit code."""
        rc = self.folder / ".bashrc"
        rc.write_text("[ -r ~/.bashrc ] && . ~/.bashrc\nPS1='playground$ '\n")
        argv = ["bash", "--rcfile", str(rc), "-i"]
        process = subprocess.Popen(argv, cwd=self.folder, env=self.environment())
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the shell got it, too
                continue

    def _operator_image(self) -> str:
        pod = self._stack.operator_pod()
        return str(pod["spec"]["containers"][0]["image"])

    def _own_kubeconfig(self) -> None:
        config = yaml.safe_load(self._stack.cluster.kubeconfig.read_text())
        for context in config["contexts"]:
            context["context"]["namespace"] = NAMESPACE
        path = self.folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))


def manifest(stack: Stack) -> dict[str, Any]:
    """The release of the tutorial, at version 1: the demo's, behind a hostname of its own, on no GPU, with less time
    for requests in flight, as nobody streams."""
    made = digits(stack, 1)
    made["metadata"]["namespace"] = NAMESPACE
    spec = made["spec"]
    spec["traffic"]["gateway"]["hostnames"] = [HOSTNAME]
    spec["workload"]["drainTimeout"] = "10s"
    del spec["registry"]
    container = spec["workload"]["template"]["spec"]["containers"][0]
    container["resources"]["limits"] = {"memory": "1Gi"}
    # read as a person writes it, without the anchors that YAML makes of what occurs twice
    plain: dict[str, Any] = json.loads(json.dumps(made))
    return plain


def main() -> int:
    """0 when the person has left the shell."""
    if INSIDE not in os.environ:
        enter("e2e.playground")
    with session_cluster() as cluster:
        return _play(cluster)


def _play(cluster: Cluster) -> int:
    stack = Stack(cluster, lambda text: print(text, flush=True))
    try:
        stack.up()
        playground = Playground(stack)
        playground.open()
        try:
            models = ", ".join(f"v{trained.version} {name}" for name, trained in stack.versions.items())
            print(_WORDS.format(rate=REQUESTS_PER_S, host=HOSTNAME, namespace=NAMESPACE, models=models), flush=True)
            playground.shell()
        finally:
            playground.close()
    finally:
        stack.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
