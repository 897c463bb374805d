"""Small scenarios and releases for the tests of the simulation; each run takes milliseconds."""

from __future__ import annotations

from random import Random
from typing import Any

from modelrelease.api.release import ModelReleaseSpec
from modelrelease.simulation.scenario import Failing, Lasting, Scenario, Truth, quantities
from modelrelease.simulation.subject import Subject, subject
from modelrelease.simulation.world import Run, play
from tests.api import builders as api

ERRORS = {"name": "errors", "errorRate": {}}
LATENCY = {"name": "latency", "latency": {"slowerThan": "500ms", "alsoSlowerThan": ["1s"]}}
TRIPWIRE = {"name": "tripwire", "errorRate": {"max": 0.5, "minPolls": 1}}
PHASES = [
    {"name": "canary", "weight": 20, "duration": "2m", "timeout": "1h"},
    {"name": "half", "weight": 50, "duration": "2m", "timeout": "1h"},
    {"name": "full", "weight": 100, "duration": "30s"},
]


def release(*checks: dict[str, Any], phases: list[dict[str, Any]] | None = None, **rollout: Any) -> Subject:
    """A release of four pods with these checks, errors alone where none is given."""
    fields = {
        "checks": list(checks) or [ERRORS],
        "rollout": {"phases": phases or PHASES, "bake": {"duration": "2m"}, **rollout},
    }
    spec = ModelReleaseSpec.model_validate(api.spec(**fields))
    sized = spec.model_copy(update={"workload": spec.workload.model_copy(update={"replicas": 4})})
    return subject("churn", "crm", sized, None)


def scenario(of: Subject, stable: float = 0.01, canary: float = 0.01, traffic: float = 100.0, **more: Any) -> Scenario:
    """Shares of failing requests; latencies alike in both arms unless `slower` multiplies the canary's median."""
    slower = more.pop("slower", 1.0)
    laws = {check.name: Lasting(0.2, 0.6) if check.latency else Failing(stable) for check in of.checks}
    own = {check.name: Lasting(0.2 * slower, 0.6) if check.latency else Failing(canary) for check in of.checks}
    return Scenario(traffic, laws, own, **more)


def run(of: Subject, what: Scenario, seed: int = 1, horizon_s: float = 7200.0, **how: bool) -> Run:
    """One run."""
    return play(of, Truth(what, quantities(of.checks, what), Random(seed), horizon_s), **how)
