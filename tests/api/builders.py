"""The smallest specs that are accepted, for tests that change one thing about them."""

from __future__ import annotations

import copy
from typing import Any

_SPEC: dict[str, Any] = {
    "model": {"name": "churn", "version": 7},
    "traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["churn.example"]}},
    "workload": {"template": {"spec": {"containers": [{"name": "server", "image": "registry.example/server:1"}]}}},
}


def spec(**changes: Any) -> dict[str, Any]:
    """The smallest spec of a ModelRelease with top-level fields replaced or added; None takes a field away."""
    out = copy.deepcopy(_SPEC) | changes
    return {key: value for key, value in out.items() if value is not None}


def release(name: str = "churn", **changes: Any) -> dict[str, Any]:
    """The smallest ModelRelease, with fields of its spec changed as in `spec`."""
    return {
        "apiVersion": "modelrelease.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": name},
        "spec": spec(**changes),
    }


def workload(metadata: dict[str, Any] | None = None, env: list[dict[str, Any]] | None = None, **fields: Any) -> Any:
    """The workload of the smallest spec, with metadata of its pods, variables of its container, or fields changed."""
    out = copy.deepcopy(_SPEC["workload"]) | fields
    if metadata is not None:
        out["template"]["metadata"] = metadata
    if env is not None:
        out["template"]["spec"]["containers"][0]["env"] = env
    return out


def phases(*weights: int) -> list[dict[str, Any]]:
    """Phases named p0, p1, ... with these weights."""
    return [{"name": f"p{number}", "weight": weight} for number, weight in enumerate(weights)]
