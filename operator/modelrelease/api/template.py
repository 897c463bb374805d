"""The pod template of a release: the few parts that the operator must rely on, as a check and as a schema.

Everything else of a pod passes through unknown to us: the API server judges it, in a dry run of the Deployment. The
rule: what is refused here is refused by the schema at `kubectl apply`, with the same words.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from .base import GROUP, rule, validations

RESERVED_PREFIX = f"{GROUP}/"
RESERVED_ENV = ("MODEL_NAME", "MODEL_VERSION", "MODEL_URI")
_KEYS_MAX = 64
_CONTAINERS_MAX = 32
_ENV_MAX = 512
_PRESERVE = {"x-kubernetes-preserve-unknown-fields": True}


def check_template(template: dict[str, Any]) -> dict[str, Any]:
    """Return the template. Raises ValueError where it has no container or uses what is reserved for the operator."""
    metadata = _mapping(template.get("metadata"), "metadata")
    for kind in ("labels", "annotations"):
        for key in _mapping(metadata.get(kind), f"metadata.{kind}"):
            if str(key).startswith(RESERVED_PREFIX):
                raise ValueError(f"template.metadata.{kind}: {key!r} is reserved for the operator")
    pod = _mapping(template.get("spec"), "spec")
    containers = _mappings(pod.get("containers"), "spec.containers")
    if not containers:
        raise ValueError("template.spec.containers: at least one container is needed")
    for container in [*containers, *_mappings(pod.get("initContainers"), "spec.initContainers")]:
        for variable in _mappings(container.get("env"), "env"):
            if variable.get("name") in RESERVED_ENV:
                raise ValueError(
                    f"template: container {container.get('name')!r} sets {variable['name']}, which the operator sets"
                )
    return template


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"template.{where}: an object is needed")  # noqa: TRY004  pydantic reports ValueError only
    return value


def _mappings(value: Any, where: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"template.{where}: a list of objects is needed")
    return value


def _keys(kind: str, value_max: int) -> dict[str, Any]:
    return {
        "description": f"{kind.capitalize()} of the pods; keys under {RESERVED_PREFIX} are the operator's.",
        "type": "object",
        "maxProperties": _KEYS_MAX,
        "additionalProperties": {"type": "string", "maxLength": value_max},
        **validations(
            rule(
                f"self.all(key, !key.startsWith('{RESERVED_PREFIX}'))",
                f"keys under {RESERVED_PREFIX} are reserved for the operator",
            )
        ),
    }


def _containers(description: str, **bounds: int) -> dict[str, Any]:
    return {
        "description": description,
        "type": "array",
        "maxItems": _CONTAINERS_MAX,
        **bounds,
        "items": {
            "type": "object",
            "description": "A container, as in a pod.",
            **_PRESERVE,
            "required": ["name"],
            "properties": {
                "name": {"description": "Name of the container.", "type": "string", "maxLength": 63},
                "env": {
                    "description": "Environment; MODEL_NAME, MODEL_VERSION and MODEL_URI are put before it.",
                    "type": "array",
                    "maxItems": _ENV_MAX,
                    "items": {
                        "description": "A variable, as in a pod.",
                        "type": "object",
                        **_PRESERVE,
                        "required": ["name"],
                        "properties": {
                            "name": {"description": "Name of the variable.", "type": "string", "maxLength": 256}
                        },
                    },
                    **validations(
                        rule(
                            f"!self.exists(variable, variable.name in {list(RESERVED_ENV)!r})",
                            f"{', '.join(RESERVED_ENV[:-1])} and {RESERVED_ENV[-1]} are set by the operator",
                        )
                    ),
                },
            },
        },
    }


_SCHEMA: dict[str, Any] = {
    "type": "object",
    **_PRESERVE,
    "required": ["spec"],
    "properties": {
        "metadata": {
            "description": "Labels and annotations of the pods.",
            "type": "object",
            **_PRESERVE,
            "properties": {"labels": _keys("labels", 63), "annotations": _keys("annotations", 16384)},
        },
        "spec": {
            "description": "The pod, as in a Deployment.",
            "type": "object",
            **_PRESERVE,
            "required": ["containers"],
            "properties": {
                "containers": _containers("Containers of the pod, the model server among them.", minItems=1),
                "initContainers": _containers("Containers that run before the others."),
            },
        },
    },
}

Template = Annotated[dict[str, Any], AfterValidator(check_template), WithJsonSchema(_SCHEMA)]
