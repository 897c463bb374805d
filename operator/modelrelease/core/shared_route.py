"""A route that is not ours (`traffic.httpRoute`): which of its rules carries the release, and that rule reweighted.

The owner of the route consents by a label that names the release and by naming its two Services in one rule. Of all the
route only the weights of these two backends are the operator's; they are written on the route exactly as it was read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelrelease.api.base import NAME_LABEL
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.api.status import Slot, TrafficStatus

from .slots import SLOTS, service_name

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Carrier:
    """The route that carries a release and is not its own, and the name of its rule where one is named."""

    route: str
    rule: str | None


def carrier(spec: ModelReleaseSpec | None, traffic: TrafficStatus | None) -> Carrier | None:
    """As the spec asks; where that cannot be read, as it was last. None where the route is the release's own."""
    if spec is not None:
        asked = spec.traffic.http_route
        return Carrier(asked.name, asked.rule) if asked else None
    return Carrier(traffic.route, traffic.rule) if traffic is not None and traffic.route else None


def services(release: str) -> dict[str, Slot]:
    """Names of the two Services, and the slot that each stands for."""
    return {service_name(release, slot): slot for slot in SLOTS}


def rule_of(route: Json, release: str, name: str | None) -> int | str:
    """Index of the rule that carries the release, or what the owner of the route has to mend.

    name: of the rule, None for the only one that names both Services.
    """
    called = f"HTTPRoute {route['metadata']['name']}"
    label = (route["metadata"].get("labels") or {}).get(NAME_LABEL)
    if label != release:
        seen = f"is labelled for {label}" if label else "is not labelled for this release"
        return f"{called} {seen}; its owner has to set the label {NAME_LABEL}: {release}"
    rules = route["spec"].get("rules") or []
    carrying = [number for number, rule in enumerate(rules) if services(release).keys() <= _backends(rule).keys()]
    if name is not None:
        named = [number for number, rule in enumerate(rules) if rule.get("name") == name]
        if not named:
            return f"{called} has no rule named {name}"
        carrying = [number for number in named if number in carrying]
    if not carrying:
        where = f"rule {name} of {called}" if name else f"no rule of {called}"
        verb = "does not name" if name else "names"
        return f"{where} {verb} both backends {' and '.join(services(release))}, Services with port 80"
    if len(carrying) > 1:
        return f"{called} has {len(carrying)} rules with these backends; name one in spec.traffic.httpRoute.rule"
    return carrying[0]


def only_rule(route: Json, index: int) -> dict[str, Any]:
    """The route as if it had this rule alone: what the weights and their confirmation are read from."""
    return {**route, "spec": {**route["spec"], "rules": [route["spec"]["rules"][index]]}}


def reweighted(route: Json, index: int, release: str, traffic: TrafficStatus) -> list[dict[str, Any]] | None:
    """All rules of the route with the release's two weights set; None where they stand so already."""
    weights: Mapping[Slot, int] = {"a": traffic.a, "b": traffic.b}
    rules: list[dict[str, Any]] = copy.deepcopy(list(route["spec"]["rules"]))
    changed = False
    for backend in rules[index]["backendRefs"]:
        slot = services(release).get(backend["name"]) if _is_service(backend) else None
        if slot is not None and backend.get("weight", 1) != weights[slot]:
            backend["weight"] = weights[slot]
            changed = True
    return rules if changed else None


def _backends(rule: Json) -> dict[str, Json]:
    return {backend["name"]: backend for backend in rule.get("backendRefs") or () if _is_service(backend)}


def _is_service(backend: Json) -> bool:
    return backend.get("kind", "Service") == "Service" and not backend.get("group")
