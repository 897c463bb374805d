"""What `lint --traffic` says: the requests that each phase gets, and whether its checks can come to a verdict on them.

The forecasts are the simulator's, for a canary as good as stable. What nobody gave (stable's own rates) is assumed, as
`simulate` does, and said.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from modelrelease.api.base import format_duration
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.core.lint import Finding, Level
from modelrelease.simulation.forecast import PhaseForecast, forecasts

from .documents import Documents, ReleaseDocument
from .experiment import Asked, experiment

_PHASES = ("spec", "rollout", "phases")


def forecast(
    name: str,
    spec: ModelReleaseSpec,
    policy: ReleasePolicySpec | None,
    traffic: float,
    stable_errors: tuple[Any, ...],
    stable_latency: tuple[Any, ...],
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings, and a row for each phase. traffic: requests a second of all users."""
    policies = {spec.policy_ref.name: policy} if spec.policy_ref is not None and policy is not None else {}
    documents = Documents((ReleaseDocument(name, "default", spec, None),), policies)
    asked = Asked(traffic, stable_errors=stable_errors, stable_latency=stable_latency)
    what = experiment(documents, asked, None)
    found, rows = [], []
    for number, phase in enumerate(forecasts(what.subject, what.scenario)):
        last = phase.weight >= 100
        rows.append(_row(phase, traffic, what.subject.replicas))
        if not last and (words := _undecided(phase)):
            place = (*_PHASES, number) if spec.rollout.phases else ("spec", "rollout")
            found.append(Finding(Level.WARNING, place, words))
    if what.assumed:
        words = f"assumed: {'; '.join(what.assumed)} (--stable-errors and --stable-latency say otherwise)"
        found.append(Finding(Level.INFO, ("spec", "checks"), words))
    return found, rows


def _row(phase: PhaseForecast, traffic: float, replicas: int) -> dict[str, Any]:
    per_minute = traffic * 60
    rest = per_minute * (100 - phase.weight) / 100 / replicas if phase.weight < 100 else None
    return {
        "phase": phase.name,
        "weight": phase.weight,
        "pods": phase.pods,
        "perPodPerMinute": per_minute * phase.weight / 100 / max(phase.pods, 1),
        "perStablePodPerMinute": rest,
        "requests": phase.requests,
        "decides": phase.decides,
        "decidesAfter": _after(phase),
    }


def _after(phase: PhaseForecast) -> str:
    if phase.weight >= 100:
        return "-"
    return _words(phase.duration_s + phase.waits_s) if phase.decides else "never"


def _undecided(phase: PhaseForecast) -> str:
    if phase.decides:
        return ""
    waiting = [item for item in phase.checks if item.compared and not item.excused]
    never = [item.check for item in waiting if item.needed is None]
    if never:
        return f"phase {phase.name}: no number of requests shows {', '.join(never)} at its margin; widen the margin"
    slowest = max(waiting, key=lambda item: item.needed or 0.0)
    return (
        f"phase {phase.name} cannot decide {slowest.check} within its timeout of {_words(phase.timeout_s)}: a Pass "
        f"needs about {slowest.needed or 0:,.0f} requests of the canary, which at {phase.weight}% take "
        f"{_words(phase.duration_s + phase.waits_s)}; raise the weight, the timeout or the margin"
    )


def _words(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds)))
