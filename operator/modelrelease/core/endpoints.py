"""Which registry and which Prometheus a release is about.

Both stand in its ReleasePolicy. Not here: whether its namespace may use them, and with which credentials
(engine.directory).

The rule: where the policy cannot be read nobody else is asked instead; another registry may know a version of the same
name and number.
"""

from __future__ import annotations

from modelrelease.api.release import ModelReleaseSpec

from .observation import Observation
from .wants import EndpointRef


def registry(spec: ModelReleaseSpec | None, obs: Observation) -> EndpointRef | None:
    """The registry to read, None where that cannot be said now."""
    if _unsaid(spec, obs):
        return None
    asked = obs.policy.registry if obs.policy else None
    if asked is None:
        return EndpointRef()
    return EndpointRef(asked.name or "", asked.url or "", asked.secret_ref.name if asked.secret_ref else "")


def prometheus(spec: ModelReleaseSpec | None, obs: Observation) -> EndpointRef | None:
    """The Prometheus to read, None where that cannot be said now."""
    if _unsaid(spec, obs):
        return None
    asked = obs.policy.prometheus if obs.policy else None
    if asked is None:
        return EndpointRef()
    secret = asked.secret_ref.name if asked.secret_ref else ""
    return EndpointRef(asked.name or "", asked.url or "", secret, asked.tenant or "")


def _unsaid(spec: ModelReleaseSpec | None, obs: Observation) -> bool:
    return spec is None or (spec.policy_ref is not None and obs.policy is None)
