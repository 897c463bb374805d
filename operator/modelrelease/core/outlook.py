"""What a phase will show, said before it starts: the smallest regression that it finds, and how long a Pass takes.

Here: from the traffic seen lately to a sentence. Not here: the formulas (core.checks). The rule: it is said once for a
phase, in rounded numbers, and nothing is decided by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from modelrelease.api.base import format_duration, parse_duration
from modelrelease.api.phases import Phase
from modelrelease.api.status import Stage

from . import checks, exposure, parity, plan
from .draft import Draft
from .evidence import Counts

_UNDERLOADED = 0.75


@dataclass(frozen=True, slots=True)
class Outlook:
    """A sentence about a phase. decides: whether every check can come to a verdict within the phase's timeout."""

    message: str
    decides: bool


def outlook(draft: Draft) -> Outlook | None:
    """Of the candidate's present phase; None while traffic is not known, and where nothing is to be compared."""
    candidate, stable, spec = draft.candidate, draft.status.stable, draft.spec
    revision = draft.candidate_revision
    if spec is None or stable is None or candidate.fast or candidate.stage not in (Stage.STARTING, Stage.SHIFTING):
        return None
    pods = max(candidate.replicas, 1)
    weight, per_second = plan.weight_of(spec, revision, candidate.step, pods), _requests_per_second(draft)
    if per_second is None or weight >= 100:
        return None
    phase = plan.phase_of(revision, candidate.step)
    within, ratio = parse_duration(phase.timeout), (100 - weight) / weight
    slow = parity.load(weight, pods, plan.replicas(spec)) < _UNDERLOADED
    found = [
        (checks.forecast(revision, check, rate, ratio, per_second * weight / 100, within=within), rate)
        for check in revision.checks
        if not (slow and checks.load_matters(check)) and (rate := _stable_rate(draft, check.name)) is not None
    ]
    if not found:
        return None
    worst, rate = max(found, key=lambda item: (not item[0].decides, item[0].seconds or math.inf, item[0].check))
    return Outlook(_in_words(phase, worst, rate), worst.decides)


def _in_words(phase: Phase, found: checks.Forecast, rate: float) -> str:
    long = "" if found.seconds is None else f", about {_rounded(found.seconds)} at the present traffic"
    needs = f"about {_two_digits(found.requests):,} requests{long}" if found.requests else ""
    if not found.decides:
        why = f"a Pass needs {needs}" if needs else "at this margin and traffic no number of requests is enough"
        return f"phase {phase.name} cannot decide {found.check} within its timeout of {phase.timeout}: {why}"
    seen = "" if found.detectable is None else f"finds {found.check} from {checks.share(found.detectable)}"
    seen += f" (stable {checks.share(rate)})" if seen else ""
    pass_ = f"a Pass needs {needs}" if needs else f"a Pass of {found.check} takes{long.removeprefix(',')}"
    return f"phase {phase.name} {seen}; {pass_}" if seen else f"phase {phase.name}: {pass_}"


def _requests_per_second(draft: Draft) -> float | None:
    """Of both arms together: from what was watched under the last weight, else from stable alone, which has it all."""
    stable, watched = draft.status.stable, exposure.decode(draft.candidate.exposure)
    if watched is not None:
        return exposure.traffic(watched)
    polls = draft.obs.samples.polls
    if stable is None or draft.weight(draft.candidate.slot) > 0 or not polls:
        return None
    if polls[-1].at - polls[0].at < exposure.LEAST_SEEN:
        return None
    for check in draft.candidate_revision.checks:
        counted = [counts[0].total for poll in polls[1:] if (counts := poll.counts(stable.revision, check.name))]
        if counted:
            return sum(counted) / (polls[-1].at - polls[0].at).total_seconds()
    return None


def _stable_rate(draft: Draft, check: str) -> float | None:
    """Bad share of stable: of this rollout so far, else of the polls that are held; None where it has no requests."""
    told = next((item.stable for item in draft.status.checks if item.name == check), None)
    if told is not None and told.total > 0 and told.rate is not None:
        return told.rate
    stable = draft.status.stable
    assert stable is not None, "a comparison has two arms"
    parts = [part for poll in draft.obs.samples.polls for part in poll.counts(stable.revision, check)[:1]]
    return Counts(sum(part.total for part in parts), sum(part.bad for part in parts)).rate


def _rounded(seconds: float) -> str:
    """Two digits of the largest unit that fits: a number that pretends no more than it knows."""
    for unit in (86400, 3600, 60):
        if seconds >= 2 * unit:
            return format_duration(timedelta(seconds=math.ceil(seconds / unit) * unit))
    return format_duration(timedelta(seconds=math.ceil(seconds)))


def _two_digits(value: float) -> int:
    size: int = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 1)
    return math.ceil(value / size) * size
