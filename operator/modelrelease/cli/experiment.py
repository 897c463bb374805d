"""From the options of `simulate` to what is played: a subject and a scenario, with what had to be assumed.

Pure but for the errors it raises for the user. `play_all` plays the runs on several cores, the same ones whatever the
number of cores: each run's randomness comes from the seed and its number alone.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

import click

from modelrelease.api.base import parse_duration
from modelrelease.api.checks import Check, MarginSpec
from modelrelease.core.revision import margin_of
from modelrelease.simulation.scenario import Bursts, Drift, Failing, Lasting, Law, Outage, Scenario, Truth, quantities
from modelrelease.simulation.subject import Subject, subject
from modelrelease.simulation.world import Run, play

from .documents import Documents

USUAL_ERRORS, USUAL_CLIENT_ERRORS, USUAL_SLOW, USUAL_SIGMA = 0.005, 0.01, 0.05, 0.6
USUAL_SCORE_LACK, USUAL_LOSSES = 0.2, 0.5
_MANY = 12  # runs from which a second process pays

Named = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that describe the world, as they were given; a sweep changes one of them from line to line."""

    traffic: float
    stable_errors: tuple[Named, ...] = ()
    canary_errors: tuple[Named, ...] = ()
    stable_latency: tuple[Named, ...] = ()
    canary_latency: tuple[Named, ...] = ()
    margin: tuple[float, float] | None = None
    onset: float = 0.0
    drift: Drift | None = None
    bursts: tuple[Bursts, ...] = ()
    diurnal: float = 0.0
    outages: tuple[Outage, ...] = ()
    pod_noise: tuple[float, bool] = (0.0, False)
    poll: float = 5.0
    pod_start: float = 20.0


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is played. assumed: one sentence for each law that nobody gave."""

    subject: Subject
    scenario: Scenario
    horizon_s: float
    assumed: tuple[str, ...]


def experiment(documents: Documents, asked: Asked, horizon_s: float | None) -> Experiment:
    """Put it together. Raises click.ClickException where something does not fit."""
    release = documents.release()
    spec, policy = release.spec, documents.policy_of(release)
    try:
        plain = subject(release.name, release.namespace, spec, policy)
        if asked.margin is not None:
            own = tuple(_with_margin(check, asked.margin) for check in plain.candidate.checks if "/" not in check.name)
            plain = subject(release.name, release.namespace, spec.model_copy(update={"checks": own}), policy)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    stable, canary, assumed = _laws(plain.checks, asked)
    scenario = Scenario(
        traffic_per_s=asked.traffic,
        stable=stable,
        canary=canary,
        onset_s=asked.onset,
        drift=asked.drift,
        bursts=asked.bursts,
        diurnal=asked.diurnal,
        outages=asked.outages,
        pod_noise=asked.pod_noise[0],
        every_poll=asked.pod_noise[1],
        poll_s=asked.poll,
        pod_start_s=asked.pod_start,
    )
    return Experiment(plain, scenario, horizon_s or _horizon(plain), tuple(assumed))


def play_all(what: Experiment, *, seed: int, runs: int, jobs: int | None = None) -> list[Run]:
    """Play runs 0 to `runs` - 1. jobs: processes, as many as there are cores where it is not said."""
    workers = min(jobs or os.cpu_count() or 1, max(1, runs // (_MANY // 2)))
    if workers == 1 or runs < _MANY or "fork" not in multiprocessing.get_all_start_methods():
        return [play_one(what, seed, number) for number in range(runs)]
    context = multiprocessing.get_context("fork")
    chunks = [range(start, min(start + 4, runs)) for start in range(0, runs, 4)]
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        parts = pool.map(_play_some, [(what, seed, chunk) for chunk in chunks])
        return [run for part in parts for run in part]


def play_one(what: Experiment, seed: int, number: int, *, trace: bool = False) -> Run:
    """Play one run; traced or not, it goes the same way."""
    truth = Truth(
        what.scenario, quantities(what.subject.checks, what.scenario), Random(f"{seed}/{number}"), what.horizon_s
    )
    return play(what.subject, truth, trace=trace)


def _play_some(part: tuple[Experiment, int, Sequence[int]]) -> list[Run]:
    what, seed, numbers = part
    return [play_one(what, seed, number) for number in numbers]


def _horizon(of: Subject) -> float:
    """Twice what the phases and the bake take, and two hours more, in whole hours."""
    whole = sum((parse_duration(phase.duration) for phase in of.candidate.phases), start=timedelta())
    whole += parse_duration(of.spec.rollout.bake.duration)
    return math.ceil((2 * whole.total_seconds() + 7200.0) / 3600.0) * 3600.0


def _with_margin(check: Check, margin: tuple[float, float]) -> Check:
    """The check with another margin, where it is one that compares."""
    held = margin_of(check)
    if held is None or not held.relative:
        return check
    asked = MarginSpec(relative=margin[0], absolute=margin[1])
    return check.model_copy(update={check.kind: check.part.model_copy(update={"margin": asked})})


def _laws(checks: Sequence[Check], asked: Asked) -> tuple[Mapping[str, Law], Mapping[str, Law], list[str]]:
    assumed: list[str] = []
    stable: dict[str, Law] = {}
    canary: dict[str, Law] = {}
    errors = {check.name for check in checks if check.latency is None}
    times = {check.name for check in checks if check.latency is not None}
    for values, known, option in (
        (asked.stable_errors, errors, "--stable-errors"),
        (asked.canary_errors, errors, "--canary-errors"),
        (asked.stable_latency, times, "--stable-latency"),
        (asked.canary_latency, times, "--canary-latency"),
    ):
        for name, _ in values:
            if name and name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise click.ClickException(f"{option}: no such check {name!r}; the release has {there}")
        if any(not name for name, _ in values) and not known:
            raise click.ClickException(f"{option}: the release has no check that this is about")
    for check in checks:
        if check.latency is not None:
            given = _value(check, asked.stable_latency), _value(check, asked.canary_latency)
        else:
            given = _value(check, asked.stable_errors), _value(check, asked.canary_errors)
        usual, words = _usual(check)
        if given[0] is None:
            assumed.append(f"{check.name}: {words} in stable")
        stable[check.name] = given[0] or usual
        canary[check.name] = given[1] or stable[check.name]
        if given[1] is None and given[0] is not None:
            assumed.append(f"{check.name}: the canary is as stable")
    return stable, canary, assumed


def _value(check: Check, values: Sequence[Named]) -> Law | None:
    """The last value for this check: by its name, or without a name where it is of the ordinary kind."""
    ordinary = check.latency or check.custom or (check.error_rate and check.error_rate.of == "server")
    own = [value for name, value in values if name == check.name]
    general = [value for name, value in values if not name and ordinary]
    found = (general + own)[-1] if general or own else None
    return found if found is None or isinstance(found, Lasting) else Failing(found)


def _usual(check: Check) -> tuple[Law, str]:
    """What is taken where nobody says it."""
    if check.latency is not None:
        bound = check.latency.bounds_s[0]
        median = bound * math.exp(-1.645 * USUAL_SIGMA)
        return Lasting(median, USUAL_SIGMA), f"{USUAL_SLOW:.0%} slower than {check.latency.slower_than}"
    if check.error_rate is not None and check.error_rate.of == "client":
        return Failing(USUAL_CLIENT_ERRORS), "1% refused as wrong"
    if check.score is not None:
        return Failing(USUAL_SCORE_LACK), "a mean score of 0.8"
    if check.win_rate is not None:
        return Failing(USUAL_LOSSES), "half of the judgements won"
    return Failing(USUAL_ERRORS), "0.5% failing"


SWEEPS: Mapping[str, str] = {
    "traffic": "traffic",
    "stable-errors": "stable_errors",
    "canary-errors": "canary_errors",
    "stable-latency": "stable_latency",
    "canary-latency": "canary_latency",
    "margin": "margin",
    "onset": "onset",
    "pod-noise": "pod_noise",
}
"""What can be swept: the option, and its field in `Asked`."""


def swept(asked: Asked, option: str, value: Any) -> Asked:
    """The options of one line of a sweep; a named value replaces the one of the same name."""
    field = SWEEPS[option]
    held = getattr(asked, field)
    if isinstance(held, tuple) and option.endswith(("errors", "latency")):
        value = (*(item for item in held if item[0] != value[0]), value)
    return replace(asked, **{field: value})


def points(text: str) -> tuple[str, Iterator[str]]:
    """The option and the values of `--sweep canary-errors=1%,2%`. Raises ValueError."""
    option, found, values = text.partition("=")
    if not found or option not in SWEEPS or not values:
        raise ValueError(f"write for example canary-errors=1%,2%,5%; can be swept: {', '.join(SWEEPS)}")
    prefix, equals, rest = values.partition("=")  # canary-errors=checkout=1%,2% names the check once
    each = (rest if equals else values).split(",")
    return option, (f"{prefix}={value}" if equals else value for value in each if value)
