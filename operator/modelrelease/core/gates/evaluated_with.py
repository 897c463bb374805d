"""The gate evaluatedWith: the model was evaluated with the image, the engine arguments and the GPU that will serve it.

The evaluation's side are tags (or params) of the version, its LoggedModel or its run; the serving side is the pod
template of the revision. Only what both sides tell is compared, unless the gate requires all of it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from modelrelease.api.registry_gates import EvaluatedWithGate, ServingFact
from modelrelease.api.status import GateStatus

from .. import lineage
from ..observation import ModelVersion
from .context import Context
from .findings import Findings, unread

IMAGE_TAG = "eval.image"
ARGS_TAG = "eval.args"
GPU_TAG = "eval.gpu_product"
_TAGS: Mapping[ServingFact, str] = {"image": IMAGE_TAG, "args": ARGS_TAG, "gpuProduct": GPU_TAG}
GPU_LABELS = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator")
PLACE_ARGS = frozenset({"model", "model-path", "model-name", "served-model-name", "host", "port", "api-key"})
"""Arguments that say which model runs where: they differ between an evaluation and a service, and change no answer."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHOWN_DIGEST = 19
_SHOWN = 60


def judge(
    name: str, gate: EvaluatedWithGate, candidate: ModelVersion, _: ModelVersion | None, context: Context
) -> GateStatus:
    """Pass where nothing that is known of both sides differs; a required fact that is not known is InsufficientData."""
    if not lineage.was_read(candidate):
        return unread(name, "the run")
    if context.revision is None:
        return unread(name, "the revision")
    pod: Mapping[str, Any] = context.revision.template["spec"]
    container = next((item for item in pod["containers"] if gate.container in (None, item.get("name"))), None)
    found = Findings()
    if container is None:
        found.failed.append(f"the template has no container {gate.container}")
        return found.conclude(name)
    silent: list[str] = []
    for fact in sorted(gate.compare, key=list(_TAGS).index):
        tag = _TAGS[fact]
        if (value := logged(candidate, tag)) is not None:
            match fact:
                case "image":
                    _image(value, container, found)
                case "args":
                    _args(value, container, found)
                case "gpuProduct":
                    _gpu(value, pod, found)
        elif gate.require:
            found.lacking.append(f"{tag} of the evaluation is not logged; set it as a tag of the version")
        else:
            silent.append(tag)
    if silent:
        found.seen.append(f"not logged, not compared: {', '.join(silent)}")
    return found.conclude(name, source=f"run {candidate.run_id}" if candidate.run_id else None)


def logged(candidate: ModelVersion, name: str) -> str | None:
    """A tag of the version, of its LoggedModel (or a param of it) or of its run, else a param of the run."""
    value = lineage.tag(candidate, name, whole=True)
    if value is None and candidate.run is not None:
        value = candidate.run.params.get(name, "").strip() or None
    return value


def _image(evaluated: str, container: Mapping[str, Any], found: Findings) -> None:
    serves = str(container.get("image", ""))
    before, now = _DIGEST.search(evaluated), _DIGEST.search(serves)
    if before and now:
        if before[0] == now[0]:
            found.seen.append(f"image {now[0][:_SHOWN_DIGEST]}")
        else:
            found.failed.append(
                f"evaluated with image {before[0][:_SHOWN_DIGEST]}, {now[0][:_SHOWN_DIGEST]} will serve"
            )
    elif before or now:
        where = "in the template" if before else f"in the tag {IMAGE_TAG}"
        found.lacking.append(f"the image {_cut(serves if before else evaluated)} {where} has no digest to compare")
    elif evaluated == serves:
        found.seen.append(f"image {_cut(serves)}, by name")
    else:
        found.failed.append(f"evaluated with image {_cut(evaluated)}, {_cut(serves)} will serve")


def _args(evaluated: str, container: Mapping[str, Any], found: Findings) -> None:
    try:
        listed = json.loads(evaluated) if evaluated.startswith("[") else shlex.split(evaluated)
    except ValueError:
        found.lacking.append(f"{ARGS_TAG} is {_cut(evaluated)!r}, neither a JSON list nor a command line")
        return
    before = arguments([str(item) for item in listed])
    now = arguments([str(item) for key in ("command", "args") for item in container.get(key) or []])
    different = [
        f"evaluated with {_option(key, before)}, will serve with {_option(key, now)}"
        for key in sorted(before.keys() | now.keys())
        if not _same(before.get(key), now.get(key))
    ]
    if different:
        found.failed += different
    else:
        found.seen.append(f"{len(now)} engine arguments")


def arguments(words: Sequence[str]) -> dict[str, str]:
    """Options by name without dashes, `_` read as `-`; a repeated one keeps all its values. Plain words before the
    first option (a program, a model) and PLACE_ARGS are left out."""
    found: dict[str, str] = {}
    key: str | None = None
    for word in words:
        if word.startswith("-") and not re.match(r"-\.?\d", word):
            name, _, value = word.lstrip("-").partition("=")
            key = name.replace("_", "-")
            found[key] = f"{found[key]} {value}".strip() if key in found else value
        elif key is not None:
            found[key] = f"{found[key]} {word}".strip()
    return {key: value for key, value in found.items() if key and key not in PLACE_ARGS}


def _option(key: str, options: Mapping[str, str]) -> str:
    return _cut(f"--{key} {options[key]}".rstrip()) if key in options else f"no --{key}"


def _same(one: str | None, other: str | None) -> bool:
    if one == other:
        return True
    try:
        return one is not None and other is not None and float(one) == float(other)
    except ValueError:
        return False


def _gpu(evaluated: str, pod: Mapping[str, Any], found: Findings) -> None:
    products = gpu_products(pod)
    if products is None:
        helps = f"pin it with nodeSelector {GPU_LABELS[0]}"
        found.lacking.append(f"evaluated on {_cut(evaluated)}; the template may run on any GPU: {helps}")
    elif {_product(item) for item in products} == {_product(evaluated)}:
        found.seen.append(f"GPU {_cut(evaluated)}")
    else:
        shown = _cut(" or ".join(sorted(products)) or "none that the template allows")
        found.failed.append(f"evaluated on {_cut(evaluated)}, will serve on {shown}")


def gpu_products(pod: Mapping[str, Any]) -> frozenset[str] | None:
    """The GPU products that node selector and required node affinity leave to the pod; None where they leave all."""
    selector = pod.get("nodeSelector") or {}
    chosen = [str(selector[label]) for label in GPU_LABELS if label in selector]
    allowed: frozenset[str] | None = frozenset(chosen[:1]) if chosen else None
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [_of_term(term) for term in required.get("nodeSelectorTerms") or []]
    if terms and all(term is not None for term in terms):  # one term is enough for a node
        either = frozenset[str]().union(*(term for term in terms if term is not None))
        allowed = either if allowed is None else allowed & either
    return allowed


def _of_term(term: Mapping[str, Any]) -> frozenset[str] | None:
    allowed: frozenset[str] | None = None
    for rule in term.get("matchExpressions") or []:
        if rule.get("key") in GPU_LABELS and rule.get("operator") == "In":
            values = frozenset(map(str, rule.get("values") or []))
            allowed = values if allowed is None else allowed & values
    return allowed


def _product(name: str) -> str:
    """`NVIDIA L4` and `NVIDIA-L4` are one; a share or a MIG slice of it (`-SHARED`, `-MIG-1g.10gb`) is another."""
    return re.sub(r"[\s_]+", "-", name.strip()).lower()


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
