"""ModelRelease.spec: which model version a service should run, and how it gets there. The operator never writes it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

from .base import (
    LATE_DEFAULT,
    PRESERVE,
    Duration,
    IntOrString,
    Name,
    SpecModel,
    check_unique,
    one_of,
    rule,
    validations,
)
from .checks import Checks
from .gates import Gates
from .phases import Phases, check_phases
from .template import Template

NAME_MAX = 52
VERSION_PATTERN = r"^[1-9][0-9]{0,17}$"
HOSTNAME_PATTERN = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_VERSION = re.compile(VERSION_PATTERN)


class ModelRef(SpecModel):
    """A version of a registered model."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("has(self.version) != has(self.alias)", "set exactly one of version and alias"),
            rule(
                "!has(self.version) "
                f"|| (type(self.version) == int ? self.version > 0 : self.version.matches('{VERSION_PATTERN}'))",
                "version must be a whole number above 0, as MLflow counts versions; to follow an alias, set alias",
            ),
        )
    )

    name: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the registered model in MLflow.",
    )
    version: IntOrString | None = Field(
        None, description="Version of the model, a number or the same number as a string."
    )
    alias: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Alias to follow instead of a version: when it moves in the registry, a rollout starts.",
    )

    @model_validator(mode="after")
    def _exclusive(self) -> ModelRef:
        if (self.version is None) == (self.alias is None):
            raise ValueError("model: set exactly one of version and alias")
        if self.version is not None and not _VERSION.fullmatch(str(self.version)):
            raise ValueError(f"model: version must be a whole number above 0, got {self.version!r}")
        return self


class PolicyRef(SpecModel):
    """Name of a ReleasePolicy."""

    name: Name = Field(description="Name of a cluster-scoped ReleasePolicy.")


class Ports(SpecModel):
    """Where the model server listens."""

    http: int = Field(
        8080,
        ge=1,
        le=65535,
        json_schema_extra=LATE_DEFAULT,
        description="Port for predictions; the Services send traffic here. Default: the runtime's, 8080 for http, 8000 "
        "for vllm and triton, 30000 for sglang.",
    )
    metrics: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which Prometheus finds /metrics. Default: the http port; 8002 for triton.",
    )


class Workload(SpecModel):
    """The inference server that runs the model."""

    replicas: int | None = Field(
        None,
        ge=1,
        le=10000,
        description="Pods of a fully rolled out revision. Default 2. A change of it is a scale, no rollout.",
    )
    runtime: Literal["http", "vllm", "sglang", "triton"] = Field(
        "http",
        description="Inference runtime: names metrics, ports, default checks, warm-up and drain. http is any server "
        "with Prometheus HTTP metrics.",
    )
    ports: Ports | None = Field(None, description="Ports of the server container. Default: those of the runtime.")
    drain_timeout: Duration | None = Field(
        None,
        description="How long requests and streams in flight may take after traffic has gone, before pods are stopped. "
        "Default: the runtime's, 60s for http and triton, 10m for vllm and sglang. A revision keeps the value that its "
        "rollout began with.",
    )
    template: Template = Field(
        description="Pod template as in a Deployment; labels and the variables MODEL_NAME, MODEL_VERSION and MODEL_URI "
        "are added."
    )


class ParentRef(SpecModel):
    """A Gateway (or one of its listeners) that carries the traffic."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Gateway.")
    namespace: Name | None = Field(None, description="Namespace of the Gateway. Default: the release's own.")
    section_name: str | None = Field(
        None, max_length=253, description="Listener of the Gateway. Default: all that allow it."
    )
    port: int | None = Field(None, ge=1, le=65535, description="Port of the listener. Default: all that allow it.")
    group: str | None = Field(
        None, max_length=253, description="API group of the parent. Default gateway.networking.k8s.io."
    )
    kind: str | None = Field(None, max_length=63, description="Kind of the parent. Default Gateway.")


class RouteRule(SpecModel):
    """Parts of an HTTPRoute rule that are passed through unchanged; backendRefs are the operator's."""

    matches: Annotated[
        tuple[dict[str, Any], ...],
        WithJsonSchema({"type": "array", "maxItems": 16, "items": PRESERVE}),
    ] = Field((), max_length=16, description="Matches of the rule, as in HTTPRoute. Default: every path.")
    filters: Annotated[
        tuple[dict[str, Any], ...],
        WithJsonSchema({"type": "array", "maxItems": 16, "items": PRESERVE}),
    ] = Field((), max_length=16, description="Filters of the rule, as in HTTPRoute.")
    timeouts: Annotated[dict[str, Any] | None, WithJsonSchema(PRESERVE)] = Field(
        None, description="Timeouts of the rule, as in HTTPRoute."
    )


class GatewayTraffic(SpecModel):
    """The HTTPRoute that the operator creates and owns."""

    parent_refs: tuple[ParentRef, ...] = Field(
        min_length=1, max_length=8, description="Gateways that carry the traffic."
    )
    hostnames: tuple[Annotated[str, Field(min_length=1, max_length=253, pattern=HOSTNAME_PATTERN)], ...] = Field(
        (), max_length=16, description="Host names of the route. Default: those of the listener."
    )
    rule: RouteRule | None = Field(None, description="Matches, filters and timeouts of the route's only rule.")


class HttpRouteRef(SpecModel):
    """An HTTPRoute that somebody else owns, for example in Git; only two weights in it are the operator's."""

    name: str = Field(
        min_length=1,
        max_length=253,
        description="Name of an HTTPRoute in the namespace of the release. It carries the label modelrelease.dev/name "
        "with the name of the release, and one of its rules names the Services <release>-a and <release>-b, port 80.",
    )
    rule: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Name of that rule. Needed only where several rules name these Services.",
    )


class Traffic(SpecModel):
    """How users reach the model."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("has(self.gateway) != has(self.httpRoute)", "set exactly one of gateway and httpRoute")
        )
    )

    gateway: GatewayTraffic | None = Field(
        None, description="Traffic over a Gateway API route that the operator creates and owns."
    )
    http_route: HttpRouteRef | None = Field(
        None, description="Traffic over an HTTPRoute that exists: only the weights of the two Services are written."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Traffic:
        one_of(self, ("gateway", "http_route"), "traffic")
        return self


class Bake(SpecModel):
    """The time after full weight in which the former revision stays warm for an instant return."""

    duration: Duration = Field("30m", description="How long the former revision is kept at full size after weight 100.")
    holdback: int = Field(
        0,
        ge=0,
        le=50,
        json_schema_extra=LATE_DEFAULT,
        description="Percent of traffic kept on the former revision while baking, so that comparison goes on. "
        "Default 0.",
    )


class Rollout(SpecModel):
    """How traffic moves to a new revision."""

    phases: Phases = Field(
        (),
        description="Steps of the rollout. Default: those of the policy, else 5 %, the weight at which one pod "
        "carries as much as one of stable, 50 % and 100 %, with 10 minutes at each but the last.",
    )
    bake: Bake = Field(Bake(), description="The time after full weight before the former revision is stopped.")
    progress_deadline: Duration = Field(
        "30m",
        description="Longest time for the candidate's pods to become ready. It does not run while a pod cannot be "
        "created or scheduled, or an image is being pulled.",
    )
    on_inconclusive: Literal["Hold", "Rollback", "Promote"] = Field(
        "Hold", description="What happens when a phase's timeout ends without enough evidence."
    )

    @model_validator(mode="after")
    def _rising(self) -> Rollout:
        check_phases(self.phases)
        return self


class RegistrySpec(SpecModel):
    """What is written to the registry."""

    set_alias: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Alias that is moved to the version on promotion, for example champion, and given back on a "
        "rollback if it still points there.",
    )


class ModelReleaseSpec(SpecModel):
    """Which model version a service should run, and how it gets there."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!has(self.registry) || !has(self.registry.setAlias) || !has(self.model.alias) "
                "|| self.registry.setAlias != self.model.alias",
                "registry.setAlias must differ from the followed model.alias",
            )
        )
    )

    model: ModelRef = Field(description="The model version to serve.")
    policy_ref: PolicyRef | None = Field(
        None, description="ReleasePolicy whose gates and checks apply as well, and its phases where rollout names none."
    )
    workload: Workload = Field(description="The inference server.")
    traffic: Traffic = Field(description="How users reach it.")
    gates: Gates = Field((), description="Evaluation gates; all must pass.")
    checks: Checks = Field(
        (),
        description="Online checks of the canary; all must pass. Default: the runtime's, errors and latency against "
        "stable.",
    )
    rollout: Rollout = Field(Rollout(), description="How traffic moves to a new revision.")
    registry: RegistrySpec | None = Field(None, description="What is written to the registry on promotion.")
    suspend: bool = Field(
        False, description="True freezes every increase of weight and starts nothing new; rollbacks still happen."
    )

    @model_validator(mode="after")
    def _consistent(self) -> ModelReleaseSpec:
        check_unique("gates", [gate.name for gate in self.gates])
        check_unique("checks", [check.name for check in self.checks])
        if self.registry and self.registry.set_alias and self.registry.set_alias == self.model.alias:
            raise ValueError("registry.setAlias must differ from the followed model.alias")
        return self
