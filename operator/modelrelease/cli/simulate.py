"""`simulate`: play a rollout many times against chance, with the code that decides in the cluster.

Options and the order of the work; what is played is put together in `experiment`, written in `simulation_text` and
drawn in `picture`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from modelrelease.simulation.advice import advise
from modelrelease.simulation.forecast import forecasts, standings
from modelrelease.simulation.summary import Summary, summarize, typical
from modelrelease.simulation.world import Run

from . import simulation_text as text
from .amounts import BURSTS, DRIFT, DURATION, MARGIN, NAMED_SHARE, NAMED_TIMES, NOISE, OUTAGE, RATE, SHARE
from .documents import read, write_release
from .experiment import SWEEPS, Asked, Experiment, experiment, play_all, play_one, points, swept

_TYPES = {
    "traffic": RATE,
    "stable-errors": NAMED_SHARE,
    "canary-errors": NAMED_SHARE,
    "stable-latency": NAMED_TIMES,
    "canary-latency": NAMED_TIMES,
    "margin": MARGIN,
    "onset": DURATION,
    "pod-noise": NOISE,
}


@click.command()
@click.option(
    "-f", "files", multiple=True, required=True, metavar="FILE", help="ModelRelease, and the ReleasePolicy it names."
)
@click.option("--traffic", type=RATE, required=True, metavar="RATE", help="Requests of all users: 20/s, 300/min.")
@click.option(
    "--stable-errors", type=NAMED_SHARE, multiple=True, metavar="[CHECK=]SHARE", help="Failing in stable: 1%."
)
@click.option(
    "--canary-errors", type=NAMED_SHARE, multiple=True, metavar="[CHECK=]SHARE", help="Failing in the canary: 3%."
)
@click.option(
    "--stable-latency", type=NAMED_TIMES, multiple=True, metavar="[CHECK=]TIME", help="Median~sigma: 300ms~0.6."
)
@click.option(
    "--canary-latency", type=NAMED_TIMES, multiple=True, metavar="[CHECK=]TIME", help="Median~sigma: 450ms~0.6."
)
@click.option(
    "--margin", type=MARGIN, metavar="R+D", help="Try another margin in the release's own comparisons: 1.25+1%."
)
@click.option("--onset", type=DURATION, metavar="TIME", help="The canary is as good as stable until then: 30m.")
@click.option("--drift", type=DRIFT, metavar="FACTOR/TIME", help="Both arms grow worse: 3x/1h.")
@click.option(
    "--bursts",
    type=BURSTS,
    multiple=True,
    metavar="BURST",
    help="Incidents of both arms, 30%+1m/2h (share + length / every), or of the canary: canary:30%+1m/2h.",
)
@click.option("--diurnal", type=SHARE, default=0.0, metavar="SHARE", help="Daily wave of the traffic: 50%.")
@click.option(
    "--outage", "outages", type=OUTAGE, multiple=True, metavar="START+TIME", help="Prometheus is away: 20m+10m."
)
@click.option("--pod-noise", type=NOISE, metavar="ICC", help="Pods differ for life, 0.01, or at each poll, 0.01/poll.")
@click.option("--poll", type=DURATION, default="5s", metavar="TIME", help="From poll to poll. Default 5s.")
@click.option("--pod-start", type=DURATION, default="20s", metavar="TIME", help="Until a pod is ready. Default 20s.")
@click.option("--horizon", type=DURATION, metavar="TIME", help="When a run is given up. Default: by the phases.")
@click.option("--runs", type=click.IntRange(1, 100_000), default=200, help="How many. Default 200.")
@click.option("--seed", type=int, default=1, help="Of the random numbers. Default 1.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes. Default: one a core.")
@click.option("--sweep", metavar="OPTION=A,B,C", help=f"One line a value; of {', '.join(SWEEPS)}.")
@click.option("--plot", type=click.Path(dir_okay=False, writable=True), metavar="FILE", help="Draw a .png or .svg.")
@click.option(
    "--save", type=click.Path(dir_okay=False), metavar="FILE", help="Write a typical run's last status, for replay."
)
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="Default text.")
def command(
    files: tuple[str, ...],
    horizon: float | None,
    runs: int,
    seed: int,
    jobs: int | None,
    sweep: str | None,
    plot: str | None,
    save: str | None,
    output: str,
    onset: float | None,
    pod_noise: tuple[float, bool] | None,
    **world: Any,
) -> None:
    """Play a rollout many times against chance, and say what would happen.

    Uses the operator's own decisions, checks and phases; a version serves
    already, gates pass, pods start and the gateway obeys.

    \b
      kubectl modelrelease simulate -f release.yaml --traffic 20/s \\
        --stable-errors 1% --canary-errors 3%
    """
    if sweep is not None and (plot or save):
        raise click.UsageError("--plot and --save are about one scenario; leave out --sweep")
    if plot is not None:
        _drawable(plot)
    documents = read(files)
    asked = Asked(onset=onset or 0.0, pod_noise=pod_noise or (0.0, False), **world)
    if sweep is not None:
        lines = _sweep(documents, asked, sweep, horizon, runs=runs, seed=seed, jobs=jobs)
        option = sweep.partition("=")[0]
        if output == "json":
            click.echo(json.dumps([{option: value, **text.as_json(*line)} for value, line in lines], indent=2))
        else:
            click.echo(text.sweep_table(option, [(value, line[0], line[1], line[3]) for value, line in lines]))
        return
    what = experiment(documents, asked, horizon)
    played, summary, elapsed_s = _played(what, runs=runs, seed=seed, jobs=jobs)
    found, phases = standings(what.subject, what.scenario), forecasts(what.subject, what.scenario)
    words = advise(what.subject, what.scenario, summary, found, phases)
    if output == "json":
        shown = text.as_json(what, summary, elapsed_s, found)
        shown |= {"phases": text.phases_as_json(phases), "advice": words, "assumed": list(what.assumed)}
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(text.report(what, summary, found, phases, words, seed=seed, elapsed_s=elapsed_s))
    if plot is None and save is None:
        return
    number = typical(played)
    shown_run = play_one(what, seed, number, trace=True)
    if plot is not None:
        from .picture import draw

        draw(plot, what, shown_run, played, summary)
        click.echo(f"drew run {number} of {runs} to {plot}", err=True)
    if save is not None:
        assert shown_run.trace is not None, "it was traced"
        write_release(save, what.subject.name, what.subject.namespace, what.subject.spec, shown_run.trace.status)
        click.echo(f"wrote run {number} of {runs} to {save}", err=True)


def _played(what: Experiment, *, runs: int, seed: int, jobs: int | None) -> tuple[list[Run], Summary, float]:
    began = time.perf_counter()
    played = play_all(what, seed=seed, runs=runs, jobs=jobs)
    elapsed_s = time.perf_counter() - began
    harmful = not all(item.within for item in standings(what.subject, what.scenario))
    return played, summarize(played, harmful=harmful), elapsed_s


_Line = tuple[Experiment, Summary, float, Sequence[Any]]


def _sweep(
    documents: Any, asked: Asked, sweep: str, horizon: float | None, *, runs: int, seed: int, jobs: int | None
) -> list[tuple[str, _Line]]:
    try:
        option, values = points(sweep)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--sweep") from error
    lines: list[tuple[str, _Line]] = []
    for value in values:
        read_value = _TYPES[option].convert(value, None, None)
        what = experiment(documents, swept(asked, option, read_value), horizon)
        _, summary, elapsed_s = _played(what, runs=runs, seed=seed, jobs=jobs)
        lines.append((value, (what, summary, elapsed_s, standings(what.subject, what.scenario))))
    return lines


def _drawable(path: str) -> None:
    """Say before the runs what would only be found after them."""
    if not path.endswith((".png", ".svg")):
        raise click.BadParameter(f"{path!r} ends neither in .png nor in .svg", param_hint="--plot")
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise click.ClickException("--plot needs matplotlib: pip install 'modelrelease[plot]'")
