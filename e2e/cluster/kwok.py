"""Simulated nodes for scale tests: Kubernetes sees nodes and Ready pods, and nothing runs on them.

Their label is `type=kwok`; their taint `kwok.x-k8s.io/node=fake:NoSchedule` keeps other pods off, so a pod that is
meant for them needs that toleration and a nodeSelector of the label.
"""

from __future__ import annotations

import json
from typing import Any

from e2e.cluster.binaries import Binaries
from e2e.cluster.interface import Cluster, Process, wait_until

LABEL = {"type": "kwok"}
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}


def render_node(number: int) -> dict[str, Any]:
    """One simulated node: 64 CPUs, 512 GiB, 250 pods."""
    size = {"cpu": "64", "memory": "512Gi", "pods": "250"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"kwok-{number}",
            "labels": {**LABEL, "kubernetes.io/hostname": f"kwok-{number}"},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [TAINT]},
        "status": {"capacity": size, "allocatable": size},
    }


def start(cluster: Cluster, binaries: Binaries) -> Process:
    """Run kwok, which plays the kubelet of nodes with the label; its stages are those it ships: Ready at once."""
    stages = sorted((binaries.folder("kwok") / "stages").rglob("*.yaml"))
    argv = [str(binaries.path("kwok")), f"--kubeconfig={cluster.kubeconfig}", "--node-lease-duration-seconds=40"]
    argv += [f"--config={stage}" for stage in stages]
    return cluster.spawn("kwok", [*argv, "--manage-nodes-with-label-selector=type=kwok"])


def add_nodes(cluster: Cluster, binaries: Binaries, count: int) -> None:
    """Add nodes to those that are there, and wait until all are Ready."""
    present = len(cluster.get("nodes", "-l", "type=kwok")["items"])
    if not present:
        start(cluster, binaries)
    items = [render_node(present + i) for i in range(count)]
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def ready() -> bool:
        nodes = cluster.get("nodes", "-l", "type=kwok")["items"]
        conditions = [c for n in nodes for c in n["status"].get("conditions", ()) if c["type"] == "Ready"]
        return len(conditions) == present + count and all(c["status"] == "True" for c in conditions)

    wait_until(f"{present + count} Ready kwok nodes", ready, timeout_s=60)
