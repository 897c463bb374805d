"""What is wrong with, or unwise in, a ModelRelease or ReleasePolicy, said without a cluster.

`problems` is what the API server or the operator would refuse, all of it in one go; `advice` is what they would accept
and a rollout would suffer from. Pure: a document in, findings out. The rule: a finding names the field, what is seen,
and what to write instead. What needs a traffic is said in the plugin, which knows the forecasts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ValidationError

from modelrelease.api.base import API_VERSION, DNS_LABEL_PATTERN, format_duration, parse_duration
from modelrelease.api.crd import structural
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import NAME_MAX, ModelReleaseSpec
from modelrelease.presets.buckets import BUCKETS

from . import checks, measures, parity, plan, policies
from .checks.plans import NEAR_PARITY
from .revision import Revision, desired

Path = tuple[str | int, ...]
SPECS: Mapping[str, type[BaseModel]] = {"ModelRelease": ModelReleaseSpec, "ReleasePolicy": ReleasePolicySpec}
"""The kinds that people write."""
GRACE_DEFAULT_S = 30
_ROOT = ("apiVersion", "kind", "metadata", "spec", "status")
_METADATA = ("name", "namespace", "labels", "annotations", "generateName", "finalizers", "ownerReferences")
_SERVERS = {"vllm": "--model", "sglang": "--model-path"}


class Level(StrEnum):
    """error: it would be refused. warning: it would be accepted, and is better changed. info: good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about one field."""

    level: Level
    path: Path
    message: str


def in_words(path: Path) -> str:
    """`spec.gates[0].metric`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


# -- what would be refused --------------------------------------------------------------------------------------------
def problems(document: Mapping[str, Any]) -> list[Finding]:
    """Everything that is wrong by the schema and its rules. document: of a kind in SPECS."""
    kind = str(document.get("kind"))
    found = [*_envelope(document, kind)]
    if isinstance(document.get("spec"), dict):
        found += _of_spec(SPECS[kind], document["spec"])
    else:
        found.append(Finding(Level.ERROR, ("spec",), "is missing" if "spec" not in document else "must be an object"))
    return found


def _envelope(document: Mapping[str, Any], kind: str) -> Iterator[Finding]:
    if document.get("apiVersion") != API_VERSION:
        seen = document.get("apiVersion")
        yield Finding(Level.ERROR, ("apiVersion",), f"must be {API_VERSION}, got {seen!r}")
    yield from _unknown(document, _ROOT, ())
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        yield Finding(Level.ERROR, ("metadata",), "is missing; metadata.name is needed")
        return
    name = metadata.get("name")
    if name is None and "generateName" not in metadata:
        yield Finding(Level.ERROR, ("metadata",), "name is missing")
    elif kind == "ModelRelease" and name is not None:
        if not isinstance(name, str) or not re.fullmatch(DNS_LABEL_PATTERN, name):
            wanted = "lower-case letters, digits and hyphens, starting with a letter"
            yield Finding(Level.ERROR, ("metadata", "name"), f"{name!r}: {wanted} are needed")
        elif len(name) > NAME_MAX:
            yield Finding(Level.ERROR, ("metadata", "name"), f"has {len(name)} characters, at most {NAME_MAX} may be")
    near = [item for item in _unknown(metadata, _METADATA, ("metadata",)) if "did you mean" in item.message]
    yield from near  # the API server has more fields there than a person writes
    if kind == "ReleasePolicy" and "namespace" in metadata:
        yield Finding(Level.ERROR, ("metadata", "namespace"), "a ReleasePolicy has none, it is for the whole cluster")


def _unknown(held: Mapping[str, Any], known: Sequence[str], at: Path) -> Iterator[Finding]:
    for key in held:
        if key not in known:
            yield Finding(Level.ERROR, (*at, str(key)), f"unknown field{_meant(str(key), known)}")


def _meant(key: str, known: Sequence[str]) -> str:
    lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(key.lower(), lower, n=1, cutoff=0.6)
    if near:
        return f", did you mean {lower[near[0]]}?"
    return f"; known are {', '.join(sorted(known))}" if known and len(known) <= 24 else ""


def _of_spec(model: type[BaseModel], spec: Mapping[str, Any]) -> list[Finding]:
    try:
        model.model_validate(spec)
    except ValidationError as error:
        schema = structural(model, defaults=False)
        return [_finding(item, schema) for item in error.errors()]
    return []


def _finding(item: Any, schema: Mapping[str, Any]) -> Finding:
    path: Path = ("spec", *item["loc"])
    said = str(item["msg"]).removeprefix("Value error, ")
    seen = item.get("input")
    if item["type"] == "extra_forbidden":
        parent = _at(schema, item["loc"][:-1])
        said = f"unknown field{_meant(str(item['loc'][-1]), list(parent.get('properties', {})))}"
    elif item["type"] == "missing":
        said = "is missing"
    elif item["type"] == "literal_error":
        said = f"must be {item['ctx']['expected']}, got {seen!r}"
    elif isinstance(seen, str | int | float) and repr(seen) not in said and str(seen) not in said:
        said = f"{said[:1].lower()}{said[1:]}, got {seen!r}"
    else:
        said = f"{said[:1].lower()}{said[1:]}"
    return Finding(Level.ERROR, path, said)


def _at(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The part of a structural schema at a path; empty where it says nothing about it."""
    for part in path:
        below = schema.get("items") if isinstance(part, int) else (schema.get("properties") or {}).get(part)
        below = below if below is not None else schema.get("additionalProperties")
        if not isinstance(below, dict):
            return {}
        schema = below
    return schema


# -- what is better changed -------------------------------------------------------------------------------------------
def advice(name: str, spec: ModelReleaseSpec, policy: ReleasePolicySpec | None) -> list[Finding]:
    """What the operator would refuse of a spec that the schema accepts, then what is unwise in it.

    policy: the one that the spec names; None where it names none or nobody knows it.
    """
    known = policy if spec.policy_ref is not None else None
    revision = desired(name, spec, known, str(spec.model.version or 1))
    found: list[Finding] = []
    if wrong := measures.refused(spec, policies.applying(spec, known)):
        found.append(Finding(Level.ERROR, ("spec", "checks"), wrong.removeprefix("spec.checks: ")))
    if (spec.policy_ref is None or known is not None) and (wrong := measures.forbidden_query(spec, known)):
        found.append(Finding(Level.ERROR, ("spec", "checks"), wrong.removeprefix("spec.checks: ")))
    if spec.policy_ref is not None and known is None:
        words = (
            f"ReleasePolicy {spec.policy_ref.name} is not among the files: its gates, checks and phases are not seen"
        )
        found.append(Finding(Level.INFO, ("spec", "policyRef"), words))
    if known is not None:
        found += _collisions(spec, known)
    return [*found, *_bounds(spec), *_parity(spec, revision), *_size(spec), *_pods(spec, revision)]


def policy_advice(policy: ReleasePolicySpec) -> list[Finding]:
    """What is unwise in a policy, whatever release uses it."""
    found = []
    if not (policy.gates or policy.checks or policy.phases or policy.registry or policy.prometheus):
        found.append(Finding(Level.WARNING, ("spec",), "says nothing: no gates, checks, phases or endpoints"))
    return found


def _collisions(spec: ModelReleaseSpec, policy: ReleasePolicySpec) -> Iterator[Finding]:
    assert spec.policy_ref is not None, "the caller has seen it"
    kinds: tuple[tuple[str, Sequence[str], Sequence[str]], ...] = (
        ("gate", [item.name for item in spec.gates], [item.name for item in policy.gates]),
        ("check", [item.name for item in spec.checks], [item.name for item in policy.checks]),
    )
    for kind, own, theirs in kinds:
        for number, name in enumerate(own):
            if name in theirs:
                other = f"{spec.policy_ref.name}/{name}"
                words = f"the policy has a {kind} of this name, too: both apply, that one as {other}; rename one"
                yield Finding(Level.WARNING, ("spec", f"{kind}s", number, "name"), words)


def _bounds(spec: ModelReleaseSpec) -> Iterator[Finding]:
    known = BUCKETS.get(spec.workload.runtime, {})
    for number, check in enumerate(spec.checks):
        bounds = known.get(check.latency.metric) if check.latency is not None else None
        if check.latency is None or bounds is None:
            continue
        places: list[tuple[Path, str]] = [(("slowerThan",), check.latency.slower_than)]
        places += [(("alsoSlowerThan", i), text) for i, text in enumerate(check.latency.also_slower_than)]
        for place, text in places:
            seconds = parse_duration(text).total_seconds()
            if seconds in bounds:
                continue
            lower = max((bound for bound in bounds if bound < seconds), default=None)
            upper = min((bound for bound in bounds if bound > seconds), default=None)
            near = " or ".join(_seconds(bound) for bound in (lower, upper) if bound is not None)
            judged = f"it is judged at {_seconds(lower)}" if lower is not None else "every request counts as slow"
            words = (
                f"{text} is no bucket bound of {spec.workload.runtime}'s {check.latency.metric}: {judged}; write {near}"
            )
            yield Finding(Level.WARNING, ("spec", "checks", number, "latency", *place), words)


def _seconds(value: float) -> str:
    return f"{value * 1000:g}ms" if value < 1 or value % 1 else f"{value:g}s"


def _parity(spec: ModelReleaseSpec, revision: Revision) -> Iterator[Finding]:
    owing = [check.name for check in revision.checks if checks.load_matters(check)]
    last = plan.last_step(revision)
    if not owing or not last:
        if owing:
            words = f"the only phase is all traffic: {', '.join(owing)} cannot be compared under like load"
            yield Finding(Level.WARNING, ("spec", "rollout", "phases"), words)
        return
    size = plan.replicas(spec)
    loads = []
    for step in range(last):
        pods = plan.pods_needed(spec, revision, step, first=False)
        loads.append(parity.load(plan.weight_of(spec, revision, step, pods), pods, size))
    if not any(1 / NEAR_PARITY <= load <= NEAR_PARITY for load in loads):
        seen = ", ".join(f"{revision.phases[step].name} {load:.2g}x" for step, load in enumerate(loads))
        words = (
            f"no phase gives a pod of the canary about the load of one of stable ({seen}): the rollout will stand at "
            f"ParityOwed for {', '.join(owing)}, until promote; add a phase with parity: true"
        )
        yield Finding(Level.WARNING, ("spec", "rollout", "phases"), words)


def _size(spec: ModelReleaseSpec) -> Iterator[Finding]:
    if spec.workload.replicas == 1:
        words = (
            "one pod: draining its node takes all users' requests, and no PodDisruptionBudget helps; write 2 or more"
        )
        yield Finding(Level.WARNING, ("spec", "workload", "replicas"), words)


def _pods(spec: ModelReleaseSpec, revision: Revision) -> Iterator[Finding]:
    at: Path = ("spec", "workload", "template", "spec")
    pod = spec.workload.template.get("spec") or {}
    containers = [item for item in pod.get("containers") or () if isinstance(item, dict)]
    for number, container in enumerate(containers):
        yield from _image(str(container.get("image") or ""), (*at, "containers", number))
    if not any(container.get("readinessProbe") for container in containers):
        words = (
            "no container has a readinessProbe: a pod counts as ready, and gets users, while it still loads its model"
        )
        yield Finding(Level.WARNING, (*at, "containers"), words)
    grace = pod.get("terminationGracePeriodSeconds", GRACE_DEFAULT_S)
    drain = revision.drain_timeout
    if isinstance(grace, int) and grace < drain.total_seconds():
        shown = "terminationGracePeriodSeconds" in pod
        words = (
            f"terminationGracePeriodSeconds is {grace}{'' if shown else ' by default'}, shorter than the drain of "
            f"{format_duration(drain)}: a pod that is evicted or scaled away cuts off requests that a rollback would "
            f"let end; write {int(drain.total_seconds()) + 30}"
        )
        yield Finding(Level.WARNING, (*at, "terminationGracePeriodSeconds") if shown else at, words)
    if spec.workload.runtime in _SERVERS:
        yield from _arguments(spec.workload.runtime, containers, (*at, "containers"))


def _image(image: str, at: Path) -> Iterator[Finding]:
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if not image:
        yield Finding(Level.ERROR, at, "image is missing")
    elif "@" in image:
        return
    elif tag in ("", "latest"):
        words = f"{image} is whatever was pushed last: pods of one revision may differ; name a digest (@sha256:...)"
        yield Finding(Level.WARNING, (*at, "image"), words)
    else:
        words = f"{image} has no digest: the tag may move after the evaluation; {image}@sha256:... cannot"
        yield Finding(Level.WARNING, (*at, "image"), words)


def _arguments(runtime: str, containers: Sequence[Mapping[str, Any]], at: Path) -> Iterator[Finding]:
    """Which model a server loads, and under which name it answers."""
    flag = _SERVERS[runtime]
    words = [str(word) for item in containers for word in (*(item.get("command") or ()), *(item.get("args") or ()))]
    text = " ".join(words)
    if "--served-model-name" not in text:
        named = (
            "no --served-model-name: a model is named by its path then, which changes with every version, and a "
            'request that names the model gets a 404; add "--served-model-name=$(MODEL_NAME)"'
        )
        yield Finding(Level.WARNING, at, named)
    if "MODEL_URI" not in text:
        same = f'nothing names $(MODEL_URI): every version would serve the same model; add "{flag}=$(MODEL_URI)"'
        yield Finding(Level.WARNING, at, same)
