"""CustomResourceDefinitions, generated from the resource models as structural OpenAPI v3 schemas.

The models say what a field means and may hold; this module says how Kubernetes wants to hear it, and how the kinds are
named, printed and scaled. No files are read or written here (`cli.crds` does that). The rule: a keyword of JSON Schema
that is not known here is an error, so nothing that a model promises gets lost on the way.

Defaults: the schema carries those of plain values in the spec, so that the live object shows what holds and a newer
operator with another default does not change what an existing release does. It carries none for lists and objects
(an absent `checks` means "those of the runtime"), none where the policy or the runtime decides, none for replicas (an
autoscaler owns them), and none in status (only the operator writes it) but the generation that it has not seen.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from .approval import ReleaseApprovalSpec
from .base import DNS_LABEL_PATTERN, GROUP, LATE_DEFAULT, VERSION, rule, validations
from .policy import ReleasePolicySpec
from .record import ReleaseRecordSpec, ReleaseRecordStatus
from .release import NAME_MAX, ModelReleaseSpec
from .status import ModelReleaseStatus

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "pattern",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    }
)
_DROPPED = frozenset({"title", *LATE_DEFAULT})
_LEAVES = (str, bool, int, float)
_UNSEEN = {"observedGeneration": -1}
"""Status of a release that the operator has not seen. Without it those who wait by kstatus's rules, Flux for example,
take an object that says nothing for one that is ready."""
_DNS_LABEL_MESSAGE = "lower-case letters, digits and hyphens only, starting with a letter and not ending with a hyphen"


def crds() -> dict[str, dict[str, Any]]:
    """All CustomResourceDefinitions by plural name, ready to be applied."""
    return {
        "modelreleases": _model_release(),
        "releaseapprovals": _release_approval(),
        "releasepolicies": _release_policy(),
        "releaserecords": _release_record(),
    }


def structural(model: type[BaseModel], *, defaults: bool) -> Schema:
    """The structural schema of a model: no references, no nulls, no titles.

    `defaults` keeps the defaults of plain values. Raises ValueError for what a structural schema cannot say.
    """
    document = model.model_json_schema(by_alias=True)
    return _convert(document, document.pop("$defs", {}), defaults)


def _convert(node: Schema, definitions: dict[str, Schema], defaults: bool) -> Schema:
    node = _resolve(node, definitions)
    out: Schema = {}
    for key, value in node.items():
        match key:
            case "properties":
                out[key] = {name: _convert(child, definitions, defaults) for name, child in value.items()}
            case "items":
                out[key] = _convert(value, definitions, defaults)
            case "additionalProperties" if isinstance(value, dict):
                out[key] = _convert(value, definitions, defaults)
            case "additionalProperties" if value is False:
                pass  # pruning, and kubectl's strict validation, say the same
            case "exclusiveMinimum":
                out |= {"minimum": value, "exclusiveMinimum": True}
            case "exclusiveMaximum":
                out |= {"maximum": value, "exclusiveMaximum": True}
            case "const":
                out["enum"] = [value]
            case "default":
                if defaults and isinstance(value, _LEAVES) and not LATE_DEFAULT.keys() & node.keys():
                    out[key] = value
            case _ if key in _KEPT:
                out[key] = value
            case _ if key not in _DROPPED:
                raise ValueError(f"a structural schema has no {key!r}: {node}")
    if out.get("type") == "array":
        out.setdefault("x-kubernetes-list-type", "atomic")
    return out


def _resolve(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Put references in place and take `null` out of unions; what stands beside them wins."""
    if "anyOf" in node:
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise ValueError(f"a structural schema has no unions: {node}")
        return _resolve(options[0] | rest, definitions)
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _resolve(definitions[node["$ref"].rpartition("/")[2]] | rest, definitions)
    return node


def _model_release() -> dict[str, Any]:
    name_rules = validations(
        rule(
            f"self.metadata.name.size() <= {NAME_MAX}",
            f"metadata.name must have at most {NAME_MAX} characters: other objects are named after it",
        ),
        _name_rule(),
    )
    schema = _root(
        "A ModelRelease says which version of a model a service runs and how a new version gets its traffic: through "
        "evaluation gates, in phases, compared with the version that serves today, and back at once when it is worse.",
        {
            "spec": ("What should run and how it gets there.", structural(ModelReleaseSpec, defaults=True)),
            "status": (
                "What the operator knows and decided.",
                structural(ModelReleaseStatus, defaults=False) | {"default": _UNSEEN},
            ),
        },
        name_rules,
    )
    columns = [
        _column("Serving", ".status.summary.serving", "Version and ready pods that serve."),
        _column("Candidate", ".status.summary.candidate", "Version and ready pods on their way."),
        _column("Phase", ".status.phase", "Where the release stands."),
        _column("Step", ".status.summary.step", "Phase of the rollout."),
        _column("Weight", ".status.summary.weight", "Share of traffic on the candidate."),
        _column("Why", ".status.summary.why", "Why it stands where it stands."),
        _column("For", ".status.summary.since", "Since when.", type="date"),
        _column("Model", ".spec.model.name", "Registered model.", priority=1),
        _column("Age", ".metadata.creationTimestamp", "Age of the release.", type="date", priority=1),
    ]
    subresources = {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.workload.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    # In `all`, because the Deployments and Services that it makes are listed there too.
    names = {"kind": "ModelRelease", "plural": "modelreleases", "shortNames": ["mr"], "categories": ["all"]}
    return _crd(names, "Namespaced", schema, columns, subresources)


def _release_policy() -> dict[str, Any]:
    schema = _root(
        "A ReleasePolicy holds gates, checks and phases that several releases share by naming it in spec.policyRef.",
        {"spec": ("What the releases share.", structural(ReleasePolicySpec, defaults=True))},
        validations(
            rule("self.metadata.name.size() <= 63", "metadata.name must have at most 63 characters"),
            _name_rule(),
        ),
    )
    columns = [_column("Age", ".metadata.creationTimestamp", "Age of the policy.", type="date")]
    return _crd({"kind": "ReleasePolicy", "plural": "releasepolicies"}, "Cluster", schema, columns, {})


def _release_approval() -> dict[str, Any]:
    schema = _root(
        "A ReleaseApproval is the yes or no of one person to one revision of a ModelRelease at one gate. It never "
        "changes; deleting it takes it back.",
        {"spec": ("What is approved or denied, and by whom.", structural(ReleaseApprovalSpec, defaults=True))},
        {},
    )
    columns = [
        _column("Release", ".spec.release", "The ModelRelease."),
        _column("Gate", ".spec.gate", "The gate."),
        _column("Decision", ".spec.decision", "Approve or Deny."),
        _column("By", ".spec.approver.username", "Who said so."),
        _column("Group", ".spec.approver.group", "The group that they spoke for.", priority=1),
        _column("Revision", ".spec.revision", "What would run."),
        _column("Rules", ".spec.rules", "How it is judged.", priority=1),
        _column("Comment", ".spec.comment", "Their words.", priority=1),
        _column("Age", ".metadata.creationTimestamp", "Since when.", type="date"),
    ]
    names = {"kind": "ReleaseApproval", "plural": "releaseapprovals", "shortNames": ["ra"]}
    crd = _crd(names, "Namespaced", schema, columns, {})
    [version] = crd["spec"]["versions"]
    version["selectableFields"] = [{"jsonPath": ".spec.release"}]  # a pass asks for those of one release
    return crd


def _release_record() -> dict[str, Any]:
    spec = structural(ReleaseRecordSpec, defaults=False)
    spec |= validations(rule("self == oldSelf", "a ReleaseRecord never changes; only its status does"))
    schema = _root(
        "A ReleaseRecord says how one rollout went and how it ended. It is written once, and outlives its release.",
        {
            "spec": ("How the rollout went.", spec),
            "status": ("What has been told to whom.", structural(ReleaseRecordStatus, defaults=False)),
        },
        {},
    )
    columns = [
        _column("Release", ".spec.release", "The ModelRelease."),
        _column("Model", ".spec.model.name", "Registered model.", priority=1),
        _column("Version", ".spec.model.version", "Version of the model."),
        _column("Outcome", ".spec.outcome", "How the rollout ended."),
        _column("Reason", ".spec.reason", "Why it ended so."),
        _column("Began", ".spec.startedAt", "When the rollout began.", type="date"),
        _column("Ended", ".spec.endedAt", "When it ended.", type="date"),
        _column("Told", ".status.state", "Whether everybody has been told.", priority=1),
        _column("Message", ".spec.message", "What was seen.", priority=1),
    ]
    names = {"kind": "ReleaseRecord", "plural": "releaserecords", "shortNames": ["rr"]}
    crd = _crd(names, "Namespaced", schema, columns, {"status": {}})
    # The outbox asks for what is not exported yet, and gets no more than that.
    crd["spec"]["versions"][0]["selectableFields"] = [{"jsonPath": ".status.state"}]
    return crd


def _name_rule() -> dict[str, str]:
    return rule(f"self.metadata.name.matches('{DNS_LABEL_PATTERN}')", f"metadata.name: {_DNS_LABEL_MESSAGE}")


def _root(description: str, parts: dict[str, tuple[str, Schema]], rules: Schema) -> Schema:
    """The schema of a whole object; metadata.name is declared because rules see declared fields only.

    The API server refuses a description of metadata itself.
    """
    return {
        "description": description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"{GROUP}/{VERSION}.", "type": "string"},
            "kind": {"description": "Kind of the object.", "type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"description": "Name of the object.", "type": "string", "maxLength": 253}},
            },
            **{name: schema | {"description": text} for name, (text, schema) in parts.items()},
        },
        **rules,
    }


def _column(name: str, path: str, description: str, type: str = "string", priority: int = 0) -> dict[str, Any]:
    return {"name": name, "type": type, "jsonPath": path, "description": description, "priority": priority}


def _crd(
    names: dict[str, Any], scope: str, schema: Schema, columns: list[dict[str, Any]], subresources: dict[str, Any]
) -> dict[str, Any]:
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": columns,
    }
    if subresources:
        version["subresources"] = subresources
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names | {"listKind": f"{names['kind']}List", "singular": names["kind"].lower()},
            "scope": scope,
            "versions": [version],
        },
    }
