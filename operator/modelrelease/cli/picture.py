"""`simulate --plot`: one typical run (weight and evidence over time) and when all runs ended, as a PNG or SVG.

matplotlib is an optional extra and takes a second to import: nothing but `simulate --plot` imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from modelrelease.simulation.advice import number, percent
from modelrelease.simulation.summary import Summary
from modelrelease.simulation.world import Run, Trace

from .experiment import Experiment

_ENDS = {"Promoted": ("promoted", "#2e8b57"), "RolledBack": ("rolled back", "#c0392b"), "Held": ("held", "#9a9a9a")}
_LINES = ("#1f5fa8", "#d9822b", "#6b4fa0", "#3a9188", "#a83279", "#7a6a2f")
_UNITS = (
    (2 * 86400.0, "days", 86400.0),
    (3 * 3600.0, "hours", 3600.0),
    (120.0, "minutes", 60.0),
    (0.0, "seconds", 1.0),
)
_TIGHT = 0.06  # of the width: a phase that is shorter has no room for its name


def draw(path: str, what: Experiment, run: Run, runs: Sequence[Run], summary: Summary) -> None:
    """Write the picture; the ending of `path` says which kind. `run` must have been traced."""
    assert run.trace is not None, "only a traced run can be drawn"
    figure = Figure(figsize=(9.0, 8.6), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(3, 1, height_ratios=(1.0, 1.5, 1.2))
    above = figure.add_subplot(grid[0])
    middle = figure.add_subplot(grid[1], sharex=above)
    below = figure.add_subplot(grid[2])
    unit, size = _unit(run.ended_s)
    _weight(above, run.trace, run.ended_s, size)
    _evidence(middle, run, size)
    middle.set_xlabel(f"time since the rollout began ({unit})")
    _ends(below, runs)
    figure.suptitle(_title(what, summary), fontsize=11, x=0.01, ha="left")
    figure.savefig(path, dpi=130, metadata={"Date": None} if path.endswith(".svg") else None)


def _title(what: Experiment, summary: Summary) -> str:
    canary = "past its margin" if summary.harmful else "within its margins"
    scenario = what.scenario
    return (
        f"{what.subject.name}: {number(scenario.traffic_per_s * 60)} requests/min, a canary {canary}\n"
        f"{summary.runs} runs: {percent(summary.rolled_back.share)} rolled back, "
        f"{percent(summary.promoted.share)} promoted, {percent(summary.held.share)} held"
    )


def _weight(axes: Axes, trace: Trace, ended_s: float, size: float) -> None:
    times = [0.0, *(at for at, _ in trace.weights), ended_s]
    weights = [0, *(weight for _, weight in trace.weights)]
    weights.append(weights[-1])
    places = [at / size for at in times]
    axes.fill_between(places, weights, step="post", color="#1f5fa8", alpha=0.18, linewidth=0)
    axes.step(places, weights, where="post", color="#1f5fa8", linewidth=1.8)
    axes.set_ylabel("canary's weight")
    axes.set_ylim(0, 118)
    axes.set_yticks((0, 25, 50, 75, 100))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.tick_params(labelbottom=False)
    starts = [at for at, _ in trace.phases]
    for (at, name), end in zip(trace.phases, [*starts[1:], ended_s], strict=True):
        if at > 0:
            axes.axvline(at / size, color="#cccccc", linewidth=0.8, zorder=0)
        if end - at >= _TIGHT * ended_s:
            axes.text((at + end) / 2 / size, 109, name, ha="center", va="center", fontsize=9, color="#444444")
    _plain(axes)
    axes.set_title("A typical run: weight", fontsize=10, loc="left")


def _evidence(axes: Axes, run: Run, size: float) -> None:
    assert run.trace is not None, "drawn runs are traced"
    for place, (name, points) in enumerate(run.trace.evidence.items()):
        colour = _LINES[place % len(_LINES)]
        axes.step(
            [at / size for at, _ in points],
            [value for _, value in points],
            where="post",
            label=name,
            color=colour,
            linewidth=1.6,
        )
    axes.axhline(100, color="#c0392b", linewidth=1.2, linestyle="--")
    axes.text(0.005, 101.5, "rollback", color="#c0392b", fontsize=9, va="bottom", transform=axes.get_yaxis_transform())
    axes.set_ylim(0, 118)
    axes.set_xlim(0, run.ended_s / size)
    axes.set_yticks((0, 25, 50, 75, 100))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.set_ylabel("evidence of harm")
    ends, colour = _ENDS[run.outcome]
    if run.decided_s < run.ended_s or run.outcome != "Held":
        axes.axvline(run.decided_s / size, color=colour, linewidth=1.2)
    axes.set_title(f"The same run, {ends} at the end: evidence", fontsize=10, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), fontsize=9, frameon=False, ncols=4, columnspacing=1.2)
    _plain(axes)


def _ends(axes: Axes, runs: Sequence[Run]) -> None:
    unit, size = _unit(max(run.decided_s for run in runs))
    kinds = [kind for kind in _ENDS if any(run.outcome == kind for run in runs)]
    values = [[run.decided_s / size for run in runs if run.outcome == kind] for kind in kinds]
    last = max(max(part) for part in values)
    labels = [f"{_ENDS[kind][0]} ({len(part)})" for kind, part in zip(kinds, values, strict=True)]
    axes.hist(
        values,
        bins=40,
        range=(0.0, last * 1.0001),
        stacked=True,
        color=[_ENDS[kind][1] for kind in kinds],
        label=labels,
        edgecolor="white",
        linewidth=0.4,
    )
    axes.set_xlim(0, last * 1.02)
    axes.set_xlabel(f"time from the start of the rollout to its decision ({unit})")
    axes.set_ylabel("runs")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("When all runs ended", fontsize=10, loc="left")
    axes.legend(fontsize=9, frameon=False, loc="best")
    _plain(axes)


def _unit(length_s: float) -> tuple[str, float]:
    """The unit in which so long an axis reads well, and its seconds."""
    return next((name, size) for least, name, size in _UNITS if length_s >= least)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
