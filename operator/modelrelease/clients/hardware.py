"""Which accelerator a pod holds, from what the pod asks for and how its node is labelled. Pure.

Labels are those of NVIDIA's GPU feature discovery, of AMD's node labeller and of GKE. The rule it keeps: a pod that
asks for no accelerator holds none, on whatever node it runs, so that ordinary servers are always alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

_MIG = "nvidia.com/mig-"
_ACCELERATORS = ("nvidia.com/", "amd.com/gpu", "gpu.intel.com/")
_PRODUCTS = (
    "nvidia.com/gpu.product",  # carries the profile itself where all of the node's GPUs are cut alike: ...-MIG-1g.10gb
    "amd.com/gpu.product-name",
    "cloud.google.com/gke-accelerator",
    "amd.com/gpu.device-id",
)
_PARTITIONS = ("amd.com/gpu.compute-memory-partition", "cloud.google.com/gke-gpu-partition-size")


def hardware_of(pod: Json, node_labels: Mapping[str, str]) -> str:
    """Product and partition of the accelerator, for example `NVIDIA-H100-80GB-HBM3-MIG-1g.10gb`; empty for none.

    A pod may ask by extended resource or, with dynamic resource allocation, by claim.
    """
    asked = sorted(set(_asked(pod)))
    if not asked and not pod["spec"].get("resourceClaims"):
        return ""
    product = next((node_labels[label] for label in _PRODUCTS if node_labels.get(label)), "")
    for resource in asked:
        if resource.startswith(_MIG):
            whole = f"{product}-MIG-{resource.removeprefix(_MIG)}" if product else resource
            return node_labels.get(f"{resource}.product", whole)
    partition = next((node_labels[label] for label in _PARTITIONS if node_labels.get(label)), "")
    return f"{product}/{partition}" if product and partition else product


def _asked(pod: Json) -> Iterator[str]:
    spec = pod["spec"]
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for kind in ("requests", "limits"):
            for resource in (container.get("resources") or {}).get(kind) or {}:
                if resource.startswith(_ACCELERATORS):
                    yield resource
