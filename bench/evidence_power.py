"""What the evidence core finds, how soon, and how well it forecasts that."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from scipy.stats import lognorm  # type: ignore[import-untyped]

from bench import rivals
from bench.evidence_tables import (
    CHANGES,
    DEFAULT,
    PLAN,
    POLLS,
    RATES,
    SIZES,
    ZERO,
    Bar,
    Bench,
    Section,
    first_runs,
    quantile,
    render,
    share_stopped,
    show_found,
)
from bench.traffic import Array, Traffic, stopping_polls
from modelrelease.core import evidence as core
from modelrelease.core.evidence import Margin, TestPlan


def detection(bench: Bench) -> Section:
    """Bars 4 and 8: how soon each rule finds a regression that starts with the rollout."""
    rows, slowest = [], 0.0
    for i, (rate, worse) in enumerate(CHANGES):
        for j, size in enumerate(SIZES):
            traffic = Traffic.poisson(bench.rng(4, i, j), (bench.runs(400), POLLS), size, worse, rate)
            threshold = max(0.01, 2 * rate)
            ours, _ = stopping_polls(PLAN, traffic)
            zero, _ = stopping_polls(replace(PLAN, margin=ZERO), traffic)
            if size >= 100 and worse - rate > 0.099:
                slowest = max(slowest, quantile(ours, 0.5))
            rows.append(
                (
                    f"{100 * rate:g} → {100 * worse:g} %{'' if worse > 1.25 * rate + 0.01 else ' (within the margin)'}",
                    size,
                    f"**{show_found(ours)}**",
                    show_found(zero),
                    show_found(rivals.argo(traffic, threshold, 0)),
                    show_found(rivals.argo(traffic, threshold, 3)),
                    show_found(rivals.flagger(traffic, threshold, 5)),
                    show_found(rivals.kayenta(first_runs(traffic, bench.runs(40)))),
                )
            )
    table = render(
        (
            "errors", "requests/poll", "**this**", "this, margin 0", "Argo, failureLimit 0", "Argo, failureLimit 3",
            "Flagger, threshold 5", "Kayenta style",
        ),
        rows,
    )  # fmt: skip
    note = (
        "Share of rollouts that are rolled back within 200 polls, and the median poll at which. Read it beside the"
        " table above: a rule that also rolls back healthy canaries is not fast but blind.\n\n"
    )
    bar = Bar(
        4, "+10 points or more, ≥ 100 requests a poll: slowest median", "≤ 5 polls", f"{slowest:g} polls", slowest <= 5
    )
    return Section("Detection", note + table, (bar,))


def late_onset(bench: Bench) -> Section:
    """What the stake schedule is for: a defect that begins after a long good time."""
    rows, onset = [], 100
    for i, (rate, worse) in enumerate(((0.01, 0.03), (0.01, 0.06), (0.01, 0.11))):
        rates = np.where(np.arange(3 * POLLS // 2) < onset, rate, worse)
        traffic = Traffic.poisson(bench.rng(11, i), (bench.runs(500), rates.size), 100, rates, rate)
        plans = (replace(PLAN, planned_polls=rates.size), replace(PLAN, planned_polls=1))
        scheduled, at_once = (stopping_polls(plan, traffic)[0] - onset for plan in plans)
        change = f"{100 * rate:g} → {100 * worse:g} %"
        rows.append((change, f"**{show_found(scheduled)}**", show_found(at_once)))
    note = (
        "A hundred good polls, then worse, 100 requests a poll: share found within 200 polls, and the median number of"
        " polls after the onset.\n\n"
    )
    headings = ("errors", "**stake over the planned polls**", "whole stake at the first poll")
    return Section("Late onset", note + render(headings, rows))


def efficiency(bench: Bench) -> Section:
    """Bar 3: requests to detect against a test that knows its sample size and looks once."""
    rows: list[tuple[object, ...]] = []
    medians: dict[Margin, list[float]] = {ZERO: [], DEFAULT: []}
    eighties: dict[Margin, list[float]] = {ZERO: [], DEFAULT: []}
    for (k, margin), (s, stable_per_canary) in product(enumerate((ZERO, DEFAULT)), enumerate((9.0, 1.0))):
        plan = TestPlan(margin, planned_polls=1, min_polls=1)
        for i, (rate, worse) in enumerate(CHANGES):
            if worse <= margin.relative * rate + margin.absolute:
                continue
            rng = bench.rng(3, k, s, i)
            if margin == ZERO:
                best = rivals.exact_requests(worse, rate, stable_per_canary)
            else:
                best = rivals.score_requests(rng, margin, worse, rate, stable_per_canary)
            step = max(1, round(best / 40))
            shape = bench.runs(2000), math.ceil(6 * best / step)
            canary, stable = np.full(shape, float(step)), np.full(shape, step * stable_per_canary)
            bad = rng.binomial(step, worse, shape).astype(float)
            stable_bad = rng.binomial(int(step * stable_per_canary), rate, shape).astype(float)
            polls, _ = stopping_polls(plan, Traffic(canary, bad, stable, stable_bad))
            half, eighty = quantile(polls, 0.5) * step, quantile(polls, 0.8) * step
            medians[margin].append(half / best)
            eighties[margin].append(eighty / best)
            rows.append(
                (
                    f"({margin.relative:g}, {margin.absolute:g})",
                    f"1:{stable_per_canary:g}",
                    f"{100 * rate:g} → {100 * worse:g} %",
                    f"{best:,}",
                    f"{half:,.0f}",
                    f"{eighty:,.0f}",
                    f"{half / best:.2f}",
                    f"{eighty / best:.2f}",
                )
            )
    table = render(
        (
            "margin",
            "canary:stable",
            "errors",
            "one look, 80 %",
            "median",
            "80 %",
            "median ÷ one look",
            "80 % ÷ one look",
        ),
        rows,
    )
    note = (
        "Canary requests until the regression is found, with the whole stake at the first poll and the loosest cap, in"
        " fine polls, against one look at a sample of just the right size: Fisher's exact test for margin 0, else a"
        " score test with a critical value that holds its level on the margin whatever the stable rate.\n\n"
    )
    limits = ((ZERO, 1.3, 2.2, "margin 0"), (DEFAULT, 1.6, 3.0, "margin (1.25, 0.01)"))
    bars = []
    for margin, half_limit, eighty_limit, name in limits:
        half, eighty = max(medians[margin]), max(eighties[margin])
        for what, ratio, limit in (("median", half, half_limit), ("80 % quantile", eighty, eighty_limit)):
            asked = f"{name}: {what} against one look, worst cell"
            bars.append(Bar(3, asked, f"≤ {limit:g}", f"{ratio:.2f}", ratio <= limit))
    return Section("Requests against a single look", note + table, tuple(bars))


def passing(bench: Bench) -> Section:
    """Requests until an equal canary passes, and what was forecast before the phase."""
    rows = []
    for (i, rate), absolute in product(enumerate((0.0, *RATES, 0.1)), (0.005, 0.01, 0.02)):
        plan = TestPlan(Margin(1.25, absolute), 600, min_polls=1)
        forecast = core.requests_expected(plan, rate, 9.0)
        assert forecast is not None
        traffic = Traffic.poisson(bench.rng(9, i, round(1000 * absolute)), (bench.runs(500), 600), 10, rate, rate)
        _, passed = stopping_polls(plan, traffic)
        within = float(np.mean(passed * 10 <= forecast))
        half, eighty = (10 * quantile(passed, share) for share in (0.5, 0.8))
        rows.append(
            (
                f"{100 * rate:g} %",
                f"{absolute:g}",
                f"{half:,.0f}",
                f"{eighty:,.0f}",
                f"{forecast:,.0f}",
                f"{within:.2f}",
            )
        )
    table = render(("errors", "D (R = 1.25)", "median", "80 %", "forecast", "passed within it"), rows)
    note = "Canary requests until a canary as good as stable passes, ten a poll, stable nine times that.\n\n"
    return Section("Requests until Pass, and the forecast", note + table)


def smallest(bench: Bench) -> Section:
    """How often the smallest detectable regression announced before a phase is in fact found."""
    rows = []
    for (i, rate), (j, size) in product(enumerate(RATES), enumerate((2, 20, 200))):
        plan = TestPlan(DEFAULT, 60)
        edge = core.smallest_detectable(plan, rate, 60 * size, 540 * size)
        if edge is None:
            rows.append((f"{100 * rate:g} %", 60 * size, "none", "–"))
            continue
        found, _ = stopping_polls(plan, Traffic.poisson(bench.rng(10, i, j), (bench.runs(1000), 60), size, edge, rate))
        rows.append((f"{100 * rate:g} %", 60 * size, f"{100 * edge:.2f} %", f"{share_stopped(found):.2f}"))
    table = render(("errors of stable", "canary requests in 60 polls", "smallest detectable", "found"), rows)
    return Section("The smallest regression a phase can find (asked for: 80 %)", table)


def latency(bench: Bench) -> Section:
    """Tail fractions at one bound and at three, mean of their wealths."""
    bounds, runs, polls = (0.5, 0.75, 1.0), bench.runs(500), POLLS
    stable_tails = [float(lognorm.sf(bound, s=0.8, scale=0.3)) for bound in bounds]
    changes: tuple[tuple[str, Callable[[float], float]], ...] = (
        ("none", lambda bound: float(lognorm.sf(bound, s=0.8, scale=0.3))),
        ("1.3 times slower", lambda bound: float(lognorm.sf(bound, s=0.8, scale=0.39))),
        ("2 times slower", lambda bound: float(lognorm.sf(bound, s=0.8, scale=0.6))),
        (
            "5 % of requests 5 times slower",
            lambda bound: float(
                0.95 * lognorm.sf(bound, s=0.8, scale=0.3) + 0.05 * lognorm.sf(bound, s=0.8, scale=1.5)
            ),
        ),
    )

    def arm(rng: np.random.Generator, requests: int, tails: Sequence[float]) -> list[Array]:
        bins = -np.diff([1.0, *tails, 0.0])
        drawn = rng.multinomial(requests, bins, (runs, polls)).astype(float)
        return [drawn[:, :, first:].sum(axis=2) for first in range(1, len(bounds) + 1)]

    rows = []
    for i, (name, tail) in enumerate(changes):
        rng = bench.rng(7, i)
        slow, stable_slow = arm(rng, 10, [tail(bound) for bound in bounds]), arm(rng, 90, stable_tails)
        sizes = np.full((runs, polls), 10.0), np.full((runs, polls), 90.0)
        checks = [Traffic(sizes[0], bad, sizes[1], calm) for bad, calm in zip(slow, stable_slow, strict=True)]
        row: list[object] = [name]
        for margin in (Margin(1.25, 0.02), ZERO):
            one = replace(PLAN, margin=margin)
            row += [
                show_found(stopping_polls(one, checks[1])[0]),
                show_found(stopping_polls(replace(one, metrics=3), *checks)[0]),
            ]
        rows.append(tuple(row))
    headings = (
        "canary",
        "bound 0.75 s, (1.25, 0.02)",
        "three bounds, (1.25, 0.02)",
        "bound 0.75 s, margin 0",
        "three bounds, margin 0",
    )
    note = (
        "Time to first token, lognormal, median 0.3 s, 12.6 % above 0.75 s; ten canary requests a poll, stable nine"
        " times that; bounds 0.5, 0.75 and 1 s. Share rolled back within 200 polls, and the median poll.\n\n"
    )
    return Section("Latency tails", note + render(headings, rows))
