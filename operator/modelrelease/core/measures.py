"""How the checks of a revision are counted on the pods of another, in the words of that one's runtime.

Here: from a check and a preset to what is read (`core.wants.Measure`), and which checks a runtime cannot answer. Not
here: reading it (engine.readings), judging it (core.checks).
"""

from __future__ import annotations

from collections.abc import Sequence

from modelrelease.api.checks import (
    Check,
    CustomCheck,
    ErrorRateCheck,
    GaugeCheck,
    LatencyCheck,
    ScoreCheck,
    WinRateCheck,
)
from modelrelease.api.policy import ReleasePolicySpec
from modelrelease.api.release import ModelReleaseSpec
from modelrelease.presets import PRESETS, Preset, Selector, preset

from .policies import Policy
from .revision import Revision
from .wants import Measure, Queries

_GAUGES = frozenset(name for known in PRESETS.values() for name in known.gauges)


def measures(asked: Revision, runs: Revision) -> tuple[Measure, ...]:
    """How the checks of revision `asked` are counted on the pods of revision `runs`."""
    return tuple(_measure(check, runs.preset) for check in asked.checks)


def refused(spec: ModelReleaseSpec, policies: Sequence[Policy]) -> str | None:
    """What is wrong with the checks that the spec and its policies ask for; None if they can all be counted."""
    known = preset(spec.workload.runtime)
    of_policies = ((f"ReleasePolicy {item.name}", item.spec.checks) for item in policies)
    for place, checks in (("spec.checks", spec.checks), *of_policies):
        for check in checks:
            if lacks := _lacks(check, known):
                return f"{place}: check {check.name}: {lacks}"
    return None


def forbidden_query(spec: ModelReleaseSpec, policy: ReleasePolicySpec | None) -> str | None:
    """Which query of the release itself no policy allows; those of a policy are its author's own affair."""
    own = next((check for check in spec.checks if check.custom is not None), None)
    if own is not None and (policy is None or not policy.allow_custom_queries):
        return f"spec.checks: check {own.name}: custom queries need a ReleasePolicy that sets allowCustomQueries"
    return None


def _measure(check: Check, known: Preset) -> Measure:
    if lacks := _lacks(check, known):
        return Measure(check.name, lacks=lacks)
    match part := check.part:
        case ErrorRateCheck():
            bad = known.errors if part.of == "server" else known.client_errors
            return Measure(check.name, known.requests, bad=tuple((1.0, selector) for selector in bad))
        case LatencyCheck():
            return Measure(check.name, (known.histograms[part.metric],), slower_than_s=part.bounds_s)
        case ScoreCheck():
            total, reached = Selector(f"{part.metric}_count"), Selector(f"{part.metric}_sum")
            terms = ((1.0, total), (-1.0, reached)) if part.higher_is_better else ((1.0, reached),)
            return Measure(check.name, (total,), bad=terms)
        case WinRateCheck():
            judgements = Selector(part.judgements)
            ties = ((-0.5, Selector(part.ties)),) if part.ties else ()
            return Measure(check.name, (judgements,), bad=((1.0, judgements), (-1.0, Selector(part.wins)), *ties))
        case GaugeCheck():
            return Measure(check.name, gauge=known.gauges.get(part.metric) or Selector(part.metric))
        case CustomCheck():
            return Measure(check.name, custom=Queries(part.total, part.bad))


def _lacks(check: Check, known: Preset) -> str:
    """Why a runtime cannot answer a check; empty if it can."""
    match part := check.part:
        case ErrorRateCheck() if part.of == "client" and not known.client_errors:
            return f"the runtime {known.name} does not count client errors"
        case LatencyCheck() if part.metric not in known.histograms:
            there = ", ".join(known.histograms) or "none"
            return f"the runtime {known.name} has no latency {part.metric}; it has {there}"
        case GaugeCheck() if part.metric not in known.gauges and part.metric in _GAUGES:
            there = ", ".join(known.gauges) or "none"
            return f"the runtime {known.name} has no gauge {part.metric}; it has {there}, or name the metric itself"
    return ""
