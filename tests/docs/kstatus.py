"""The generic rules of kstatus, by which Flux and kpt tell from any object whether it is ready.

Restated from the specification in sigs.k8s.io/cli-utils (pkg/kstatus): deletion, then the observed generation, then the
conditions Reconciling and Stalled, then Ready; an object that says nothing is current.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Status = Literal["Current", "InProgress", "Failed", "Terminating"]


def status_of(obj: Mapping[str, Any]) -> Status:
    """What kstatus computes of an object of a kind that it has no rules of its own for."""
    metadata, status = obj.get("metadata") or {}, obj.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    seen = status.get("observedGeneration")
    if seen is not None and metadata.get("generation") is not None and seen != metadata["generation"]:
        return "InProgress"
    held = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    if held.get("Reconciling") == "True":
        return "InProgress"
    if held.get("Stalled") == "True":
        return "Failed"
    return "Current" if held.get("Ready", "True") == "True" else "InProgress"
