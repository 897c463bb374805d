"""Which cluster a run gets: by what was asked for, else by what the machine has.

MODELRELEASE_CLUSTER=local | kind | existing      default: kind where a container engine answers, else local
MODELRELEASE_CONTEXT=NAME                         which context of the kubeconfig, for `existing`; no default
MODELRELEASE_CLUSTER_STATE=FOLDER                 set by `python -m e2e.cluster run`: the cluster around us
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster import kind
from e2e.cluster.existing import ExistingCluster
from e2e.cluster.interface import Cluster, ClusterError
from e2e.cluster.local import STATE_VARIABLE, LocalCluster


def select_cluster(environment: Mapping[str, str], name: str = "test") -> Cluster:
    """A cluster that has not been started. Raises `ClusterError` when the machine can have none, or none was named."""
    wanted = environment.get("MODELRELEASE_CLUSTER") or default_provider()
    match wanted:
        case "local":
            return LocalCluster(name)
        case "kind":
            return kind.KindCluster(f"modelrelease-{name}")
        case "existing":
            context = environment.get("MODELRELEASE_CONTEXT")
            if not context:
                raise ClusterError(
                    "MODELRELEASE_CLUSTER=existing needs MODELRELEASE_CONTEXT; no context is taken by default"
                )
            return ExistingCluster(context)
    raise ClusterError(f"MODELRELEASE_CLUSTER={wanted}: it must be local, kind or existing")


def default_provider() -> str:
    """`kind` or `local`. Raises `ClusterError` when neither is possible here."""
    if kind.engine() is not None:
        return "kind"
    if sys.platform == "linux" and os.geteuid() == 0:
        return "local"
    raise ClusterError(
        "no cluster is possible here: no docker or podman engine answers, and a local one needs root on Linux; "
        "start an engine, become root, or name a cluster with MODELRELEASE_CLUSTER=existing MODELRELEASE_CONTEXT=..."
    )


def surrounding_cluster(environment: Mapping[str, str]) -> LocalCluster | None:
    """The local cluster that this process was put into by `run`, if any."""
    state = environment.get(STATE_VARIABLE)
    return LocalCluster.running(Path(state)) if state else None
