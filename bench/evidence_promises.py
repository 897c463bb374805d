"""What the evidence core promises whatever the traffic: exact means, error rates, replay, and the time it takes."""

import math
import platform
import timeit
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
from scipy.stats import binom  # type: ignore[import-untyped]

from bench import rivals
from bench.evidence_like import STABLE, START, STEP, release_of
from bench.evidence_tables import (
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
    render,
    share_stopped,
    show_share,
)
from bench.traffic import NEVER, Traffic, stopping_polls
from modelrelease.core import checks, packing
from modelrelease.core import evidence as core
from modelrelease.core.evidence import Counts, Margin
from modelrelease.core.observation import PodPoll, Poll
from modelrelease.core.revision import Revision

WHOLE = "a poll of one check, from pods' counts to evidence"


def exact_means(_: Bench) -> Section:
    """Bar 1: the mean of every bet's e-value, summed over all outcomes."""
    sizes = ((1, 1), (1, 9), (5, 45), (10, 10), (30, 10), (15, 120))
    margins = (ZERO, DEFAULT, Margin(1.25, 0.02), Margin(2.0, 0.005), Margin(1.0, 0.02), Margin(0.0, 0.05))
    rates, pivots = (0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 1.0), (0.0, 0.1, 0.6)
    worst, means = 0.0, 0
    for (n_c, n_s), margin, bet, pivot in product(sizes, margins, core.REGRESSION_BETS + core.SAFETY_BETS, pivots):
        stable = [Counts(n_s, y) for y in range(n_s + 1)]
        e = np.array(
            [
                [math.exp(core.log_e_value(bet, margin, Counts(n_c, x), arm, pivot)) for arm in stable]
                for x in range(n_c + 1)
            ]
        )
        for rate in rates:
            edge = margin.relative * rate + margin.absolute
            beyond = (min(edge, 1.0), min(edge, 1.0) / 2, 0.0) if bet > 1 else (edge, (edge + 1) / 2, 1.0)
            if edge > 1 and bet < 1:
                continue
            weights = binom.pmf(range(n_s + 1), n_s, rate)
            for canary_rate in beyond:
                worst = max(worst, float(binom.pmf(range(n_c + 1), n_c, canary_rate) @ e @ weights))
                means += 1
    table = (
        f"{means:,} exact means over {len(sizes)} sizes, {len(margins)} margins, 12 bets, 8 rates and 3 pivots, on the"
    )
    table += f" margin and inside the hypothesis: the largest is {worst:.13f}."
    return Section(
        "Exact means", table, (Bar(1, "largest exact E[e]", "≤ 1 + 1e-9", f"{worst:.13f}", worst <= 1 + 1e-9),)
    )


def false_rollbacks(bench: Bench) -> Section:
    """Bars 2 and 8: what each rule does to a healthy canary, and ours to one on its margin."""
    rows, ours, passes = [], [], []
    for (i, rate), (j, size) in product(enumerate(RATES), enumerate(SIZES)):
        rng, runs = bench.rng(2, i, j), bench.runs(2000)
        equal = Traffic.poisson(rng, (runs, POLLS), size, rate, rate)
        on_margin = Traffic.poisson(rng, (runs, POLLS), size, 1.25 * rate + 0.01, rate)
        threshold = max(0.01, 2 * rate)
        healthy, _ = stopping_polls(PLAN, equal)
        at_edge, passed = stopping_polls(PLAN, on_margin)
        ours += [share_stopped(healthy), share_stopped(at_edge)]
        passes.append(share_stopped(passed))
        rows.append(
            (
                f"{100 * rate:g} %",
                size,
                show_share(rivals.argo(equal, threshold, 0)),
                show_share(rivals.argo(equal, threshold, 3)),
                show_share(rivals.flagger(equal, threshold, 5)),
                show_share(rivals.peeked_z(equal)),
                show_share(rivals.kayenta(first_runs(equal, bench.runs(60)))),
                f"**{show_share(healthy)}**",
                f"**{show_share(at_edge)}**",
                show_share(passed),
            )
        )
    table = render(
        (
            "errors", "requests/poll", "Argo, failureLimit 0", "Argo, failureLimit 3", "Flagger, threshold 5",
            "z test, looked at each poll", "Kayenta style", "**this**", "**this, canary on its margin**",
            "this, Pass on the margin",
        ),
        rows,
    )  # fmt: skip
    note = (
        "Probability that a canary *exactly as good as stable* is rolled back within 200 polls (last two columns:"
        " that one exactly on its margin is rolled back, or passes). Stable has nine times the canary's traffic. The"
        " fixed rules compare each poll's canary rate with the larger of 1 % and twice the true rate.\n\n"
    )
    bars = (
        Bar(
            2,
            "false rollback, worst of 24 cells",
            "≤ 5 % (expected ≤ 1 %)",
            f"{100 * max(ours):.2f} %",
            max(ours) <= 0.05,
        ),
        Bar(
            2, "false Pass on the margin, worst of 12 cells", "≤ 5 %", f"{100 * max(passes):.2f} %", max(passes) <= 0.05
        ),
        Bar(8, "rivals in the same run, on the same counts", "yes", "yes", True),
    )
    return Section("False rollbacks of a healthy canary", note + table, bars)


def robustness(bench: Bench) -> Section:
    """Bar 5: traffic that is not independent, and worlds that move."""
    runs, rate = bench.runs(2000), 0.01
    shape = runs, POLLS
    progress = np.linspace(0, 1, POLLS)
    weight = 0.05 + 0.7 * progress
    spikes = np.where(np.arange(POLLS) % 20 == 10, 0.4, rate)

    def pods(size: int, correlation: float, **more: int | bool) -> Callable[[np.random.Generator], Traffic]:
        return lambda rng: Traffic.of_pods(rng, shape, size, rate, correlation, **more)  # type: ignore[arg-type]

    def burst(errors: int) -> Callable[[np.random.Generator], Traffic]:
        def build(rng: np.random.Generator) -> Traffic:
            traffic = Traffic.poisson(rng, shape, 100, rate, rate)
            bad = traffic.canary_bad.copy()
            bad[:, 100] = np.minimum(bad[:, 100] + errors, traffic.canary[:, 100])
            return replace(traffic, canary_bad=bad)

        return build

    noise = (
        ("pods differ each poll: 100 a pod, φ = 2", pods(100, 0.01)),
        ("… 100 a pod, φ = 6", pods(100, 0.05)),
        ("… 1000 a pod, φ = 11", pods(1000, 0.01)),
        ("… 1000 a pod, φ = 51", pods(1000, 0.05)),
    )
    worlds = (
        *noise,
        ("one burst of 50 errors", burst(50)),
        ("one burst of 100 errors", burst(100)),
        (
            "both drift 0.5 → 5 %, weight 5 → 75 %",
            lambda rng: Traffic.poisson(
                rng, shape, 1000 * weight, 0.005 + 0.045 * progress, 0.005 + 0.045 * progress, (1 - weight) / weight
            ),
        ),
        ("both spike to 40 % every 20 polls", lambda rng: Traffic.poisson(rng, shape, 100, spikes, spikes)),
        ("**a bad pod that stays**: 1 canary pod, ICC 0.001", pods(100, 0.001, persistent=True)),
        ("**a bad pod that stays**: 1 canary pod, ICC 0.01", pods(100, 0.01, persistent=True)),
        ("… 4 canary pods, ICC 0.01", pods(100, 0.01, persistent=True, canary_pods=4, stable_pods=36)),
    )
    rows, worst = [], 0.0
    for i, (name, build) in enumerate(worlds):
        traffic = build(bench.rng(5, i))
        ours, _ = stopping_polls(PLAN, traffic)
        zero, _ = stopping_polls(replace(PLAN, margin=ZERO), traffic)
        if i < len(noise):
            worst = max(worst, share_stopped(ours))
        rows.append(
            (
                name,
                show_share(rivals.peeked_z(traffic)),
                show_share(rivals.argo(traffic, 0.02, 3)),
                show_share(zero),
                f"**{show_share(ours)}**",
            )
        )
    checks = [Traffic.poisson(bench.rng(6, i), shape, 100, rate, rate) for i in range(10)]
    ten = {margin: stopping_polls(replace(PLAN, margin=margin, metrics=10), *checks)[0] for margin in (ZERO, DEFAULT)}
    rows.append(
        ("ten independent checks, mean of e", "–", "–", show_share(ten[ZERO]), f"**{show_share(ten[DEFAULT])}**")
    )
    headings = (
        "world (canary no worse than stable, 1 % errors)",
        "z test",
        "Argo, failureLimit 3",
        "this, margin 0",
        "**this**",
    )
    table = render(headings, rows)
    note = "Probability of a rollback within 200 polls. Bold rows are the limit of every comparison of two arms.\n\n"
    bar = Bar(5, "pod noise φ = 2 to 51, false rollback, worst", "≤ 1 %", f"{100 * worst:.2f} %", worst <= 0.01)
    return Section("Where requests are not independent, and where the world moves", note + table, (bar,))


def replay(bench: Bench) -> Section:
    """Bar 7: the core straight, the core killed at random polls, and the arrays of this benchmark stop alike."""
    rng, runs = bench.rng(8), bench.runs(150)
    disagreements, longest = 0, 0
    for rate, worse in ((0.01, 0.01), (0.01, 0.03), (0.05, 0.15), (0.01, 0.0225)):
        traffic = Traffic.poisson(rng, (runs, POLLS), 30, worse, rate)
        rollback, passed = stopping_polls(PLAN, traffic)
        for run in range(runs):
            straight = killed = core.start(PLAN)
            stops: list[list[float]] = [[NEVER, NEVER], [NEVER, NEVER]]
            for poll in range(POLLS):
                n_c, x_c, n_s, x_s = (float(column[run]) for column in traffic.poll(poll))
                if rng.random() < 0.2:
                    text = packing.encode(killed)
                    longest = max(longest, len(text))
                    killed = packing.decode(text)
                straight, killed = (
                    core.observe(wealth, PLAN, Counts(n_c, x_c), Counts(n_s, x_s)) for wealth in (straight, killed)
                )
                for stop, wealth in zip(stops, (straight, killed), strict=True):
                    if core.regression(wealth) >= 1 / PLAN.alpha:
                        stop[0] = min(stop[0], poll + 1)
                    if core.safety(wealth) >= 1 / PLAN.alpha_safe:
                        stop[1] = min(stop[1], poll + 1)
            disagreements += straight != killed or stops[0] != stops[1] or stops[0] != [rollback[run], passed[run]]
    table = f"{4 * runs:,} rollouts: {disagreements} disagreements; the longest encoding has {longest} characters."
    return Section(
        "Replay",
        table,
        (
            Bar(7, "stopping polls that differ: straight, killed, numpy", "0", str(disagreements), disagreements == 0),
            Bar(7, "longest encoding of one check", "≤ 300", f"{longest} characters", longest <= 300),
        ),
    )


def _release() -> tuple[Revision, checks.Evidence, list[Poll]]:
    """A release with one check of errors, and polls of a canary pod and a stable pod."""
    release = release_of({"name": "errors", "errorRate": {}})
    arms = {
        release.revision: {"canary": PodPoll({"errors": (Counts(100.0, 2.0),)})},
        STABLE: {"stable": PodPoll({"errors": (Counts(900.0, 9.0),)})},
    }
    return release, checks.begin(release, START), [Poll(START + (n + 1) * STEP, arms) for n in range(100)]


def speed(_: Bench) -> Section:
    """Bar 6: pure Python, one core; the fastest of several repeats, since other programs only add."""
    wealth = core.start(PLAN)
    for _number in range(3):
        wealth = core.observe(wealth, PLAN, Counts(100.0, 1.0), Counts(900.0, 9.0))
    pivoting, text = replace(PLAN, pivot=True), packing.encode(wealth)
    canary, stable = Counts(100.0, 2.0), Counts(900.0, 9.0)

    def judge(held: core.Wealth) -> tuple[float, float, float | None]:
        return core.regression(held), core.safety(held), core.requests_needed(held, PLAN)

    release, begun, polls = _release()
    actions: tuple[tuple[str, Callable[[], object]], ...] = (
        ("observe", lambda: core.observe(wealth, PLAN, canary, stable)),
        ("observe with pivot", lambda: core.observe(wealth, pivoting, canary, stable)),
        ("regression, safety and requests_needed", lambda: judge(wealth)),
        ("encode", lambda: packing.encode(wealth)),
        ("decode", lambda: packing.decode(text)),
        ("smallest_detectable (once a phase)", lambda: core.smallest_detectable(PLAN, 0.01, 6000, 54000)),
    )
    took = {name: min(timeit.repeat(action, number=200, repeat=150)) / 200 * 1e6 for name, action in actions}
    fed = min(timeit.repeat(lambda: checks.advance(begun, release, polls, STABLE), number=1, repeat=300))
    took[WHOLE] = fed / len(polls) * 1e6
    slowest = max(took["observe"], took["observe with pivot"], took[WHOLE])
    table = render(("call", "microseconds"), [(name, f"{value:.1f}") for name, value in took.items()])
    bar = Bar(6, "microseconds a check and poll", "≤ 60", f"{slowest:.0f}", slowest <= 60)
    return Section(f"Speed (Python {platform.python_version()}, one core)", table, (bar,))
