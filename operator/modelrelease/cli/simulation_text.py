"""What `simulate` prints: the report, the table of a sweep, and both as JSON. Nothing is judged here.

Lines that depend on the machine (how fast it was) begin with `Played`; all others follow from files, options and seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelrelease.core.checks import share
from modelrelease.simulation.advice import margin_words, number, percent, words
from modelrelease.simulation.forecast import PhaseForecast, Standing
from modelrelease.simulation.summary import Proportion, Spread, Summary

from .experiment import Experiment
from .screen import bad, bold, doubtful, fold, good, table


def report(
    what: Experiment,
    summary: Summary,
    standings: Sequence[Standing],
    phases: Sequence[PhaseForecast],
    advice: str,
    *,
    seed: int,
    elapsed_s: float,
) -> str:
    """The whole report."""
    subject, scenario = what.subject, what.scenario
    weights = " > ".join(f"{phase.weight}%" for phase in phases)
    head = bold(f"{subject.name}: {weights}")
    head += (
        f", {number(scenario.traffic_per_s * 60)} requests/min, {subject.replicas} pods, poll {words(scenario.poll_s)}"
    )
    parts = [head, "", _standing_lines(standings, scenario.onset_s), _notes(what), "", *_result(summary), ""]
    parts += [_phase_table(phases), *_warnings(phases), "", fold(advice), "", _speed(summary, elapsed_s, seed, what)]
    return "\n".join(part for part in parts if part is not None)


def _standing_lines(standings: Sequence[Standing], onset_s: float) -> str:
    head = ("CHECK", "COUNTS", "STABLE", "CANARY", "ALLOWED", "")
    rows = [
        (
            item.check,
            item.what,
            share(item.stable),
            share(item.canary),
            share(item.allowed),
            good("within") if item.within else bad("worse than allowed"),
        )
        for item in standings
    ]
    late = [f"Until {words(onset_s)} the canary is as stable."] if onset_s else []
    return "\n".join([table(head, rows, right=(2, 3, 4)), *late])


def _notes(what: Experiment) -> str | None:
    notes = []
    if what.assumed:
        notes.append(f"Assumed: {'; '.join(what.assumed)}.")
    if what.subject.skipped:
        notes.append(f"Gates ({what.subject.skipped}) are taken to pass.")
    if what.subject.gauges:
        notes.append(f"Alike in both arms: {', '.join(what.subject.gauges)}.")
    return fold(" ".join(notes)) if notes else None


def _result(summary: Summary) -> list[str]:
    name = "false rollback" if not summary.harmful else "rollback"
    by = ", ".join(f"{check} {count}" for check, count in summary.by.items())
    waits = ", ".join(f"{reason} {count}" for reason, count in summary.waited_for.items())
    harmful = summary.harmful
    rows = [
        (name, summary.rolled_back, by, good if harmful else bad),
        ("promoted", summary.promoted, "", bad if harmful else good),
        ("held at the end", summary.held, waits, doubtful),
    ]
    lines = []
    for label, part, why, colour in rows:
        low, high = part.interval
        seen = f"{percent(part.share):>6}"
        line = f"{label:<16}{colour(seen) if part.count else seen}  {part.count:>4} of {part.of}"
        line += f"  (95%: {percent(low)} to {percent(high)})"
        lines.append(f"{line}  {why}".rstrip())
    if harmful and summary.early:
        lines.append(doubtful(f"{'':<16}{summary.early} of the rollbacks came before the canary was worse"))
    lines.append(f"{'time to detect':<16}{_times(summary.to_detect)}" if harmful else "")
    lines.append(f"{'time to promote':<16}{_times(summary.to_promote)}")
    costly = {name: cost for name, cost in summary.cost.items() if cost.most >= 0.5}
    for name, cost in costly.items():
        size = f"median {number(cost.median)}, 80% at most {number(cost.most)}"
        lines.append(f"{'requests lost':<16}{size}  {name}, until the traffic was back")
    return [line for line in lines if line]


def _times(spread: Spread | None) -> str:
    return f"median {words(spread.median)}, 80% within {words(spread.most)}" if spread is not None else "-"


def _phase_table(phases: Sequence[PhaseForecast]) -> str:
    head = ("PHASE", "WEIGHT", "PODS", "LASTS", "REQUESTS", "CHECK", "PASS NEEDS", "SEES FROM")
    rows: list[tuple[str, ...]] = []
    for phase in phases:
        own = (phase.name, f"{phase.weight}%", str(phase.pods), words(phase.duration_s), number(phase.requests))
        for line, item in enumerate(phase.checks or ()):
            needed = "never" if item.needed is None else number(item.needed)
            if item.excused:
                needed = "-"
            seen = share(item.smallest) if item.smallest is not None else "-"
            if not item.compared:
                needed = seen = "-"
            rows.append((*(own if line == 0 else ("",) * 5), item.check, needed, seen))
        if not phase.checks:
            rows.append((*own, "-", "-", "-"))
    return table(head, rows, right=(1, 2, 3, 4, 6, 7))


def _warnings(phases: Iterable[PhaseForecast]) -> list[str]:
    out = []
    for phase in phases:
        if phase.decides:
            continue
        never = [item.check for item in phase.checks if item.compared and not item.excused and item.needed is None]
        why = f"at this margin {', '.join(never)} can never pass" if never else "its evidence takes longer than that"
        said = f"warning: phase {phase.name} cannot decide in its timeout of {words(phase.timeout_s)}: {why}"
        out.append(doubtful(fold(said)))
    return out


def _speed(summary: Summary, elapsed_s: float, seed: int, what: Experiment) -> str:
    rate = summary.simulated_s / elapsed_s if elapsed_s > 0 else 0.0
    polls = summary.polls / elapsed_s if elapsed_s > 0 else 0.0
    return fold(
        f"Played {summary.runs} runs of at most {words(what.horizon_s)} (seed {seed}) in {elapsed_s:.1f} s: "
        f"{number(rate)} times faster than life, {number(polls)} polls a second."
    )


def sweep_table(option: str, lines: Sequence[tuple[str, Experiment, Summary, Sequence[Standing]]]) -> str:
    """One line a value."""
    head = (
        option.rpartition("-")[2].upper(),
        "CANARY",
        "ROLLBACK",
        "95%",
        "PROMOTED",
        "HELD",
        "DETECT",
        "PROMOTE",
        "LOST",
    )
    rows = []
    for value, _, summary, standings in lines:
        low, high = summary.rolled_back.interval
        lost = sum(cost.median for cost in summary.cost.values())
        rows.append(
            (
                value,
                "within" if all(item.within for item in standings) else "worse",
                percent(summary.rolled_back.share),
                f"{percent(low).rstrip('%')}-{percent(high)}",
                percent(summary.promoted.share),
                percent(summary.held.share),
                words(summary.to_detect.median) if summary.to_detect else "-",
                words(summary.to_promote.median) if summary.to_promote else "-",
                number(lost),
            )
        )
    return table(head, rows, right=(2, 3, 4, 5, 6, 7, 8))


def as_json(what: Experiment, summary: Summary, elapsed_s: float, standings: Sequence[Standing]) -> dict[str, Any]:
    """The numbers of the report; times in seconds, shares from 0 to 1."""
    return {
        "release": what.subject.name,
        "runs": summary.runs,
        "canary": "worse" if summary.harmful else "within",
        "rolledBack": _proportion(summary.rolled_back),
        "promoted": _proportion(summary.promoted),
        "held": _proportion(summary.held),
        "rolledBackBy": dict(summary.by),
        "rolledBackEarly": summary.early,
        "heldBecause": dict(summary.waited_for),
        "secondsToDetect": _spread(summary.to_detect),
        "secondsToPromote": _spread(summary.to_promote),
        "requestsLost": {name: _spread(cost) for name, cost in summary.cost.items()},
        "checks": [
            {
                "name": item.check,
                "stable": item.stable,
                "canary": item.canary,
                "allowed": item.allowed,
                "margin": margin_words(item.relative, item.absolute),
                "within": item.within,
            }
            for item in standings
        ],
        "horizonSeconds": what.horizon_s,
        "simulatedSeconds": round(summary.simulated_s, 3),
        "wallSeconds": round(elapsed_s, 3),
    }


def phases_as_json(phases: Sequence[PhaseForecast]) -> list[dict[str, Any]]:
    """The forecasts of the phases."""
    return [
        {
            "name": phase.name,
            "weight": phase.weight,
            "pods": phase.pods,
            "durationSeconds": phase.duration_s,
            "requests": round(phase.requests),
            "decides": phase.decides,
            "waitsSeconds": round(phase.waits_s),
            "checks": [
                {
                    "name": item.check,
                    "compared": item.compared,
                    "excused": item.excused,
                    "requestsNeeded": None if item.needed is None else round(item.needed),
                    "smallestDetectable": item.smallest,
                }
                for item in phase.checks
            ],
        }
        for phase in phases
    ]


def _proportion(part: Proportion) -> dict[str, Any]:
    low, high = part.interval
    return {"count": part.count, "share": part.share, "low": round(low, 6), "high": round(high, 6)}


def _spread(part: Spread | None) -> dict[str, float] | None:
    return None if part is None else {"median": round(part.median, 3), "p80": round(part.most, 3)}
