"""Releases under traffic of their own while Prometheus is away, and a witness of every status they ever had.

Here: the releases, their traffic, the witness and the outages themselves; what must hold is in `test_outages`. Rule
kept: what was seen comes from a watch, so that no status between two looks is missed.
"""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from e2e.cluster.interface import tool
from e2e.fault_proxy import FaultProxy
from e2e.scenes import SceneError
from e2e.stack import TEAM_NAMESPACE, Stack, digits
from e2e.traffic import Traffic
from e2e.training import MODEL_NAME, sample_requests

Status = dict[str, Any]
PATIENCE_S = 240
READ_AGAIN_S = 15
"""For what must follow; a busy machine takes its time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A status, and when it was seen (seconds since the epoch)."""

    at: float
    status: Status

    @property
    def weight(self) -> int:
        """Percent of traffic of the candidate; that of the version which is being released stays 100 at promotion."""
        candidate, traffic = self.status.get("candidate"), self.status.get("traffic")
        return int(traffic[candidate["slot"]]) if candidate and traffic else 0

    @property
    def ready(self) -> int:
        """Ready pods of the candidate."""
        return int((self.status.get("candidate") or {}).get("ready", 0))

    @property
    def confirmed(self) -> bool:
        """Whether the gateway has the weights."""
        return "confirmedAt" in (self.status.get("traffic") or {})

    @property
    def phase(self) -> str:
        """status.phase"""
        return str(self.status.get("phase", ""))

    @property
    def evidence(self) -> Mapping[str, str]:
        """The condition EvidenceAvailable; empty where there is none."""
        return next((item for item in self.status.get("conditions", ()) if item["type"] == "EvidenceAvailable"), {})

    @property
    def blind(self) -> bool:
        """Whether the release says that evidence is missing."""
        return self.evidence.get("status") == "False"


class Witness:
    """Every status of the releases in a namespace, in order, by a watch of its own.

    Whoever waits long for nothing reads them as well: a watch that was cut off would be waited for in vain.
    """

    def __init__(self, stack: Stack) -> None:
        self._argv = stack.cluster.enter(
            [
                *(tool("kubectl"), "--kubeconfig", str(stack.cluster.kubeconfig)),
                *("get", "modelreleases", "-n", TEAM_NAMESPACE, "--watch", "-o", "json"),
            ]
        )
        self._stack = stack
        self._seen: dict[str, list[Seen]] = {}
        self._newest: dict[str, int] = {}
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._thread.join(timeout=5)

    def of(self, name: str, since: float = 0, until: float = float("inf")) -> list[Seen]:
        """What was seen of a release within a stretch of time, and what it was when that began."""
        with self._changed:
            seen = list(self._seen.get(name, ()))
        before = [item for item in seen if item.at <= since][-1:]
        return before + [item for item in seen if since < item.at <= until]

    def wait(self, name: str, what: str, check: Callable[[Seen], bool], since: float | None = None) -> Seen:
        """The first status after `since` for which `check` holds; else from now on, the present one included.

        Raises SceneError."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            start = max(0, len(self._seen.get(name, ())) - 1)
            if since is not None:
                start = sum(item.at <= since for item in self._seen.get(name, ()))
            while True:
                for item in self._seen.get(name, [])[start:]:
                    if check(item):
                        return item
                left = deadline - time.monotonic()
                if left <= 0:
                    last = self._seen[name][-1].status if name in self._seen else {}
                    told = {key: last.get(key) for key in ("phase", "message", "summary", "traffic")}
                    raise SceneError(f"{name}, not within {PATIENCE_S} s: {what}; it says {json.dumps(told)}")
                if not self._changed.wait(min(left, READ_AGAIN_S)):
                    self._add(self._stack.cluster.get("modelreleases", "-n", TEAM_NAMESPACE)["items"])

    def _read(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        decoder, text, descriptor = json.JSONDecoder(), "", self._process.stdout.fileno()
        utf8 = codecs.getincrementaldecoder("utf-8")()
        while chunk := os.read(descriptor, 1 << 16):
            text += utf8.decode(chunk)
            while text:
                try:
                    found, end = decoder.raw_decode(text)
                except json.JSONDecodeError:  # its end has yet to come
                    break
                text = text[end:].lstrip()
                self._add(found.get("items", [found]))

    def _add(self, items: list[dict[str, Any]]) -> None:
        with self._changed:
            for item in items:
                name, version = item["metadata"]["name"], int(item["metadata"]["resourceVersion"])
                if version > self._newest.get(name, 0):
                    self._newest[name] = version
                    self._seen.setdefault(name, []).append(Seen(time.time(), item.get("status") or {}))
            self._changed.notify_all()


@dataclass(slots=True)
class Rollout:
    """One release of the digits model with traffic of its own.

    rate: requests per second. prometheus: where its evidence comes from, as a policy of its own says. allowed: errors
    beyond those of stable, as a share; with 0.2 some twenty good answers are enough to go on.
    """

    stack: Stack
    name: str
    rate: float
    prometheus: str
    phases: list[dict[str, Any]]
    on_inconclusive: str = "Hold"
    allowed: float = 0.2
    traffic: Traffic = field(init=False)

    def __post_init__(self) -> None:
        host = f"{self.name}.example"
        self.traffic = Traffic(self.stack.gateway.url, host, MODEL_NAME, sample_requests(), rate=self.rate)

    def release(self, candidate: str) -> None:
        """kubectl apply at a trained candidate."""
        version = self.stack.versions[candidate].version
        manifest = digits(self.stack, version)
        spec = manifest["spec"]
        manifest["metadata"]["name"] = self.name
        spec["traffic"]["gateway"]["hostnames"] = [f"{self.name}.example"]
        spec["workload"] |= {"replicas": 1, "drainTimeout": "5s"}
        container = spec["workload"]["template"]["spec"]["containers"][0]
        del container["resources"]["limits"]
        container["readinessProbe"]["failureThreshold"] = 30  # the only pod that serves: a busy machine is no outage
        spec["checks"] = [
            {"name": "errors", "errorRate": {"margin": {"relative": 1.25, "absolute": self.allowed}}},
            {"name": "tripwire", "errorRate": {"max": 0.9, "minPolls": 1}},
        ]
        del spec["gates"], spec["registry"]
        spec["policyRef"] = {"name": self.name}
        spec["rollout"] = {
            "phases": self.phases,
            "bake": {"duration": "8s"},
            "progressDeadline": "5m",
            "onInconclusive": self.on_inconclusive,
        }
        policy = {
            "apiVersion": manifest["apiVersion"],
            "kind": "ReleasePolicy",
            "metadata": {"name": self.name},
            "spec": {"prometheus": {"url": self.prometheus}},
        }
        self.stack.apply({"apiVersion": "v1", "kind": "List", "items": [policy, manifest]})

    def version(self, candidate: str) -> str:
        """The registry's version of a trained candidate."""
        return str(self.stack.versions[candidate].version)

    def kill_container(self, candidate_revision: str) -> int:
        """SIGKILL to the model server of each pod of a revision; how many there were."""
        names = {
            pod["metadata"]["name"]
            for pod in self.stack.pods(self.name)
            if pod["metadata"]["labels"]["modelrelease.dev/revision"] == candidate_revision
        }
        found = [pid for pid, host in _model_servers() if host in names]
        for pid in found:
            os.kill(pid, 9)
        return len(found)

    def remove(self) -> None:
        """Stop its traffic and delete it with its policy."""
        self.traffic.stop()
        kubectl = self.stack.cluster.kubectl
        kubectl("delete", "modelrelease", self.name, "-n", TEAM_NAMESPACE, "--ignore-not-found", "--wait=true")
        kubectl("delete", "releasepolicy", self.name, "--ignore-not-found")


def proxy_before(stack: Stack) -> FaultProxy:
    """A proxy in front of the Prometheus of the stack that pods can reach."""
    return FaultProxy(stack.prometheus_url, host=stack.cluster.host_ip)


def began_at(message: str) -> datetime:
    """The time that EvidenceAvailable names in `no evidence since 2026-01-01 12:00:00 UTC`. Raises ValueError."""
    _, said, when = message.partition("no evidence since ")
    if not said:
        raise ValueError(f"it does not say since when: {message}")
    return datetime.strptime(when[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def _model_servers() -> list[tuple[int, str]]:
    """(process id, name of the pod) of every model server that can be seen."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"/app/server.py" not in (folder / "cmdline").read_bytes():
                continue
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        found += [(int(folder.name), text.removeprefix("HOSTNAME=")) for text in variables if "HOSTNAME=" in text[:9]]
    return found
