"""Revisions: what a rollout runs and how it is judged, fixed before anything is created.

A revision has two digests. `revision` covers what runs (model version, pod template, runtime, ports) and names the
Deployment and its pods; `rules` covers how it is judged (effective gates, checks, phases). Both hash the user's fields
in a frozen canonical form, never rendered output: a newer operator never restarts a serving pod. The pair is the key of
the ControllerRevision <release>-<revision>-<rules> and of quarantine. Editing only the rules is therefore another
attempt with the same pods, not another workload.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from modelrelease.api.base import parse_duration
from modelrelease.api.checks import (
    Check,
    CustomCheck,
    ErrorRateCheck,
    GaugeCheck,
    LatencyCheck,
    MarginSpec,
    ScoreCheck,
    WinRateCheck,
)
from modelrelease.api.gates import Gate
from modelrelease.api.phases import Phase
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.presets import Preset, preset

from .policies import Policy, rules

DIGEST_LENGTH = 10
_FORMAT = 1  # of the canonical form; a change of it renames every revision


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable revision, as the ControllerRevision stores it.

    uri: the model's resolved source, empty until the registry was read. drain_timeout: how long requests in flight may
    take after traffic has gone. phases: never empty, the last has weight 100.
    """

    release: str
    model: str
    version: str
    uri: str
    runtime: str
    http_port: int
    metrics_port: int
    drain_timeout: timedelta
    template: Mapping[str, Any]
    gates: tuple[Gate, ...]
    checks: tuple[Check, ...]
    phases: tuple[Phase, ...]
    revision: str
    rules: str

    @property
    def key(self) -> str:
        """Key of quarantine and of the ControllerRevision's name."""
        return f"{self.revision}-{self.rules}"

    @property
    def name(self) -> str:
        """Name of the Deployment."""
        return f"{self.release}-{self.revision}"

    @property
    def record_name(self) -> str:
        """Name of the ControllerRevision."""
        return f"{self.release}-{self.key}"

    @property
    def preset(self) -> Preset:
        """What is known of its runtime."""
        return preset(self.runtime)


DEFAULT_PHASES = (
    Phase(name="canary", weight=5, duration="10m"),
    Phase(name="parity", weight=50, parity=True, duration="10m"),
    Phase(name="half", weight=50, duration="10m"),
    Phase(name="full", weight=100, duration="0s"),
)


def desired(
    release: str,
    spec: ModelReleaseSpec,
    policy: ReleasePolicySpec | None,
    version: str,
    uri: str = "",
    enforced: Sequence[Policy] = (),
) -> Revision:
    """The revision that the spec asks for, with `version` standing for the version or the alias' target.

    Policy gates and checks are added as <policy>/<name> (`core.policies`); phases come from the spec, else the policy
    that it names, else the default.
    """
    known = preset(spec.workload.runtime)
    ports = spec.workload.ports
    http = ports.http if ports else known.http_port
    beside = known.metrics_port if known.metrics_port != known.http_port else http
    metrics = (ports.metrics if ports else None) or beside
    held = rules(spec, policy, enforced)
    gates, checks, phases = held.gates, held.checks, held.phases or DEFAULT_PHASES
    drain = spec.workload.drain_timeout
    runs = {
        "format": _FORMAT,
        "model": spec.model.name,
        "version": version,
        "runtime": spec.workload.runtime,
        "http": http,
        "metrics": metrics,
        "template": spec.workload.template,
    }
    judged = {
        "gates": [_plain(gate) for gate in gates],
        "checks": [_plain(check) for check in checks],
        "phases": [_plain(phase) for phase in phases],
    }
    return Revision(
        release=release,
        model=spec.model.name,
        version=version,
        uri=uri,
        runtime=spec.workload.runtime,
        http_port=http,
        metrics_port=metrics,
        drain_timeout=parse_duration(drain) if drain else known.drain_timeout,
        template=spec.workload.template,
        gates=gates,
        checks=checks,
        phases=phases,
        revision=_digest(runs),
        rules=_digest(judged),
    )


def margin_of(check: Check) -> MarginSpec | None:
    """The margin a check is judged by: its own, an absolute limit as (0, limit), else the default of its kind.

    None for a gauge: that has a tolerance, and no test.
    """
    match part := check.part:
        case GaugeCheck():
            return None
        case WinRateCheck():
            return MarginSpec(relative=0, absolute=1 - part.min)
        case ScoreCheck():
            if part.min is not None:
                return MarginSpec(relative=0, absolute=1 - part.min)
            return part.margin or MarginSpec(relative=1, absolute=0.02)
        case ErrorRateCheck() | LatencyCheck() | CustomCheck():
            if part.max is not None:
                return MarginSpec(relative=0, absolute=part.max)
            return part.margin or MarginSpec(relative=1.25, absolute=0.02 if check.latency else 0.01)


def to_data(revision: Revision) -> dict[str, Any]:
    """The data of the ControllerRevision."""
    return {
        "format": _FORMAT,
        "release": revision.release,
        "model": revision.model,
        "version": revision.version,
        "uri": revision.uri,
        "runtime": revision.runtime,
        "ports": {"http": revision.http_port, "metrics": revision.metrics_port},
        "drainSeconds": revision.drain_timeout.total_seconds(),
        "template": revision.template,
        "gates": [_plain(gate) for gate in revision.gates],
        "checks": [_plain(check) for check in revision.checks],
        "phases": [_plain(phase) for phase in revision.phases],
        "revision": revision.revision,
        "rules": revision.rules,
    }


def from_data(data: Mapping[str, Any]) -> Revision:
    """Read a ControllerRevision's data, digests included. Raises KeyError or ValueError if it is foreign."""
    if data["format"] != _FORMAT:
        raise ValueError(f"revision format {data['format']} is not known to this version of the operator")
    preset(data["runtime"])  # a KeyError now, not in the middle of a decision
    return Revision(
        release=data["release"],
        model=data["model"],
        version=data["version"],
        uri=data["uri"],
        runtime=data["runtime"],
        http_port=data["ports"]["http"],
        metrics_port=data["ports"]["metrics"],
        drain_timeout=timedelta(seconds=data["drainSeconds"]),
        template=data["template"],
        gates=tuple(_named(Gate, item) for item in data["gates"]),
        checks=tuple(_named(Check, item) for item in data["checks"]),
        phases=tuple(Phase.model_validate(item) for item in data["phases"]),
        revision=data["revision"],
        rules=data["rules"],
    )


def _named(model: type[Gate] | type[Check], item: Mapping[str, Any]) -> Any:
    """Gates and checks of a policy carry `<policy>/<name>`, which the name pattern of the spec refuses."""
    name = item["name"]
    return model.model_validate({**item, "name": name.rsplit("/", 1)[-1]}).model_copy(update={"name": name})


def _plain(item: Gate | Check | Phase) -> dict[str, Any]:
    plain = item.model_dump(mode="json", by_alias=True, exclude_none=True)
    if plain.get("parity") is False:
        del plain["parity"]  # younger than the format: at its default it must change no digest
    return plain


def _digest(value: Mapping[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGEST_LENGTH]
