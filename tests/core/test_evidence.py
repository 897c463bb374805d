"""The promises of `core.evidence`: exact validity by enumeration, replay, error rates and power in small simulations.

The full tables are made by bench/evidence.py; what is simulated here is seeded and small.
"""

import math
from itertools import pairwise, product
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom  # type: ignore[import-untyped]

from modelrelease.core.evidence import (
    REGRESSION_BETS,
    SAFETY_BETS,
    WEALTH_LIMIT,
    Counts,
    Margin,
    TestPlan,
    Wealth,
    combined,
    evidence_percent,
    log_e_value,
    observe,
    regression,
    requests_expected,
    requests_needed,
    safety,
    smallest_detectable,
    start,
    start_phase,
)
from modelrelease.core.packing import decode, encode

EXACT = 1.0 + 1e-9
DEFAULT = Margin(1.25, 0.01)
MARGINS = (
    Margin(1.0, 0.0),
    DEFAULT,
    Margin(1.25, 0.02),
    Margin(2.0, 0.005),
    Margin(1.0, 0.02),
    Margin(0.0, 0.05),
    Margin(0.0, 0.5),
)
SIZES = ((1, 1), (1, 9), (3, 27), (8, 8), (20, 5), (12, 40))
RATES = (0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 1.0)
PIVOTS = (0.0, 0.1, 0.6)


def plan(margin: Margin = DEFAULT, polls: int = 200, **fields: object) -> TestPlan:
    return TestPlan(margin, polls, **fields)  # type: ignore[arg-type]


def wealth_after(test: TestPlan, *polls: tuple[Counts, Counts | None]) -> Wealth:
    wealth = start(test)
    for canary, stable in polls:
        wealth = observe(wealth, test, canary, stable)
    return wealth


def null_rates(margin: Margin, stable_rate: float, bet: float) -> list[float]:
    """Canary rates that the bet's hypothesis allows: on the margin, half way in, and the extreme."""
    edge = margin.relative * stable_rate + margin.absolute
    if bet > 1.0:
        edge = min(edge, 1.0)
        return [edge, edge / 2, 0.0]
    return [edge, (edge + 1.0) / 2, 1.0] if edge <= 1.0 else []


@pytest.mark.parametrize("margin", MARGINS, ids=lambda m: f"R={m.relative} D={m.absolute}")
@pytest.mark.parametrize(("canary_total", "stable_total"), SIZES)
def test_the_exact_mean_of_every_bet_is_at_most_one(margin: Margin, canary_total: int, stable_total: int) -> None:
    canary_grid, stable_grid = range(canary_total + 1), range(stable_total + 1)
    worst = 0.0
    for bet, pivot in product(REGRESSION_BETS + SAFETY_BETS, PIVOTS):
        e_values = np.array(
            [
                [
                    math.exp(log_e_value(bet, margin, Counts(canary_total, x), Counts(stable_total, y), pivot))
                    for y in stable_grid
                ]
                for x in canary_grid
            ]
        )
        for stable_rate in RATES:
            stable_weights = binom.pmf(stable_grid, stable_total, stable_rate)
            for canary_rate in null_rates(margin, stable_rate, bet):
                canary_weights = binom.pmf(canary_grid, canary_total, canary_rate)
                worst = max(worst, float(canary_weights @ e_values @ stable_weights))
    assert worst <= EXACT


@pytest.mark.parametrize("pivot", [False, True])
@pytest.mark.parametrize("tempering", [1.0, 3.0])
@pytest.mark.parametrize("on_margin", [True, False], ids=["on the margin", "equal arms"])
def test_the_exact_mean_of_whole_wealths_over_drifting_polls_is_at_most_one(
    pivot: bool, tempering: float, on_margin: bool
) -> None:
    test = plan(polls=3, min_polls=1, pivot=pivot, tempering=tempering)
    polls = [(2, 3, 0.4), (4, 1, 0.02), (1, 2, 0.7)]  # canary and stable requests, stable rate: weights and rates move
    paths = [(1.0, start(test))]
    for canary_total, stable_total, rate in polls:
        canary_rate = min(1.0, DEFAULT.relative * rate + DEFAULT.absolute) if on_margin else rate
        outcomes = [
            (float(binom.pmf(x, canary_total, canary_rate) * binom.pmf(y, stable_total, rate)), x, y)
            for x, y in product(range(canary_total + 1), range(stable_total + 1))
        ]
        paths = [
            (weight * chance, observe(wealth, test, Counts(canary_total, x), Counts(stable_total, y)))
            for weight, wealth in paths
            for chance, x, y in outcomes
        ]
    assert sum(weight * regression(wealth) for weight, wealth in paths) <= EXACT
    if on_margin:
        assert sum(weight * safety(wealth) for weight, wealth in paths) <= EXACT


@pytest.mark.parametrize("bet", REGRESSION_BETS)
def test_without_a_relative_margin_the_e_value_is_the_bernoulli_likelihood_ratio(bet: float) -> None:
    limit, total, bad = 0.05, 40, 7
    u = bet - 1.0
    worse = limit * (1 + u) / (1 + limit * u)
    expected = bad * math.log(worse / limit) + (total - bad) * math.log((1 - worse) / (1 - limit))
    assert log_e_value(bet, Margin(0.0, limit), Counts(total, bad), Counts(0, 0)) == pytest.approx(expected)


def test_without_an_absolute_margin_the_e_value_is_the_conditional_likelihood_ratio() -> None:
    canary, stable, bet = Counts(30, 4), Counts(270, 9), 2.5
    share = canary.total / (canary.total + stable.total)
    worse = bet * share / (bet * share + 1 - share)
    expected = 4 * math.log(worse / share) + 9 * math.log((1 - worse) / (1 - share))
    assert log_e_value(bet, Margin(1.0, 0.0), canary, stable) == pytest.approx(expected)


counts = st.integers(0, 5_000).flatmap(lambda n: st.builds(Counts, st.just(n), st.integers(0, n)))
scores = st.floats(0, 1e6).flatmap(lambda n: st.builds(Counts, st.just(n), st.floats(0, n)))
polls = st.lists(st.tuples(counts | scores, st.none() | counts | scores), max_size=25)
plans = st.builds(
    TestPlan,
    st.sampled_from(MARGINS),
    planned_polls=st.integers(1, 300),
    min_polls=st.integers(1, 5),
    metrics=st.integers(1, 10),
    tempering=st.sampled_from([1.0, 2.5]),
    pivot=st.booleans(),
)


@given(plans, polls, st.sets(st.integers(0, 25)), st.sets(st.integers(0, 25)))
@settings(deadline=None, max_examples=60)
def test_killing_after_any_poll_gives_the_same_wealth_and_the_same_stopping_poll(
    test: TestPlan, increments: list[tuple[Counts, Counts | None]], kills: set[int], phases: set[int]
) -> None:
    straight = killed = start(test)
    for number, (canary, stable) in enumerate(increments):
        if number in phases:
            straight, killed = start_phase(straight), start_phase(killed)
        if number in kills:
            killed = decode(encode(killed))
        straight, killed = observe(straight, test, canary, stable), observe(killed, test, canary, stable)
        stops = [(regression(w) >= 1 / test.alpha, safety(w) >= 1 / test.alpha_safe) for w in (straight, killed)]
        assert stops[0] == stops[1]
    assert straight == killed


@given(plans, polls)
@settings(deadline=None, max_examples=60)
def test_any_history_keeps_every_number_finite_and_spends_at_most_the_whole_stake(
    test: TestPlan, increments: list[tuple[Counts, Counts | None]]
) -> None:
    before = start(test)
    for canary, stable in increments:
        after = observe(before, test, canary, stable)
        assert all(0.0 <= value <= WEALTH_LIMIT for value in (*after.regression, *after.safety))
        assert 0.0 <= after.cash <= before.cash
        assert regression(after) <= regression(before) * math.exp(test.log_cap) * EXACT
        assert 0.0 <= evidence_percent(regression(after), test.alpha) <= 100.0
        needed = requests_needed(after, test)
        assert needed is None or 0.0 <= needed < math.inf
        assert decode(encode(after)) == after
        before = after


@given(plans, st.integers(1, 400), st.integers(1, 4_000), st.data())
@settings(deadline=None, max_examples=60)
def test_more_bad_canary_requests_never_look_better_and_more_bad_stable_ones_never_look_worse(
    test: TestPlan, canary_total: int, stable_total: int, data: st.DataObject
) -> None:
    fewer, more = sorted(data.draw(st.tuples(st.integers(0, canary_total), st.integers(0, canary_total))))
    calm, noisy = sorted(data.draw(st.tuples(st.integers(0, stable_total), st.integers(0, stable_total))))

    def after(bad: int, stable_bad: int) -> Wealth:
        return wealth_after(test, (Counts(canary_total, bad), Counts(stable_total, stable_bad)))

    slack = 1 + 1e-12
    assert regression(after(fewer, calm)) <= regression(after(more, calm)) * slack
    assert safety(after(more, calm)) <= safety(after(fewer, calm)) * slack
    assert regression(after(fewer, noisy)) <= regression(after(fewer, calm)) * slack
    assert safety(after(fewer, calm)) <= safety(after(fewer, noisy)) * slack


def test_a_million_requests_all_bad_for_ever_stay_at_the_limit_and_survive_the_encoding() -> None:
    test = plan(min_polls=1)
    wealth = start(test)
    for _ in range(3_000):
        wealth = observe(wealth, test, Counts(1e6, 1e6), Counts(9e6, 0))
    assert regression(wealth) == pytest.approx(WEALTH_LIMIT)
    assert safety(wealth) == 0.0
    assert decode(encode(wealth)) == wealth
    assert combined([wealth, start(test)]) == pytest.approx(WEALTH_LIMIT / 2)


@pytest.mark.parametrize(
    ("margin", "canary", "stable"),
    [
        (DEFAULT, Counts(0, 0), Counts(900, 9)),
        (DEFAULT, Counts(100, 50), Counts(0, 0)),
        (DEFAULT, Counts(100, 50), None),
        (Margin(0.0, 0.05), Counts(0, 0), None),
    ],
    ids=["no canary traffic", "no stable traffic", "stable unknown", "absolute without canary traffic"],
)
def test_a_poll_without_traffic_changes_nothing(margin: Margin, canary: Counts, stable: Counts | None) -> None:
    before = wealth_after(plan(margin), (Counts(100, 2), Counts(900, 9)))
    assert observe(before, plan(margin), canary, stable) == before


def test_an_absolute_limit_takes_evidence_from_the_canary_alone_and_ignores_stable() -> None:
    test = plan(Margin(0.0, 0.05))
    alone = wealth_after(test, *[(Counts(100, 20), None)] * 4)
    beside = wealth_after(test, *[(Counts(100, 20), Counts(900, 300))] * 4)
    assert regression(alone) >= 1 / test.alpha
    assert alone.regression == beside.regression


def test_more_bad_requests_than_requests_are_clipped() -> None:
    skewed = wealth_after(plan(), (Counts(10, 12), Counts(90, 95)))
    assert skewed == wealth_after(plan(), (Counts(10, 10), Counts(90, 90)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("place", range(4))
def test_a_count_that_is_negative_or_not_finite_is_refused(value: float, place: int) -> None:
    numbers = [100.0, 2.0, 900.0, 9.0]
    numbers[place] = value
    with pytest.raises(ValueError, match="finite"):
        observe(start(plan()), plan(), Counts(*numbers[:2]), Counts(*numbers[2:]))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Margin(-0.1, 0.0),
        lambda: Margin(1.0, 1.0),
        lambda: Margin(math.nan, 0.0),
        lambda: plan(polls=0),
        lambda: plan(alpha=0.0),
        lambda: plan(alpha_safe=1.0),
        lambda: plan(tempering=0.5),
        lambda: plan(metrics=0),
        lambda: plan(min_polls=0),
    ],
)
def test_a_margin_or_plan_out_of_range_is_refused(build: object) -> None:
    with pytest.raises(ValueError):
        build()  # type: ignore[operator]


def test_a_new_phase_forgets_safety_and_phase_totals_and_keeps_regression() -> None:
    before = wealth_after(plan(), *[(Counts(100, 1), Counts(900, 9))] * 5)
    after = start_phase(before)
    assert safety(after) == 1.0
    assert (after.canary, after.stable, after.phase_polls) == (Counts(0, 0), Counts(0, 0), 0)
    assert (after.regression, after.cash, after.polls) == (before.regression, before.cash, 5)
    assert after.rollout_canary == Counts(500, 5)


def test_the_stake_is_a_half_at_first_then_even_and_spent_after_the_planned_polls() -> None:
    test = plan(polls=4)
    wealths = [start(test)]
    for _ in range(6):
        wealths.append(observe(wealths[-1], test, Counts(1, 0), Counts(9, 0)))
    stakes = [before.cash - after.cash for before, after in pairwise(wealths)]
    assert stakes == [0.625, 0.125, 0.125, 0.125, 0.0, 0.0]


@pytest.mark.parametrize("metrics", [1, 5])
@pytest.mark.parametrize("min_polls", [1, 3, 5])
def test_from_a_fresh_start_a_verdict_takes_min_polls_however_bad_the_canary(min_polls: int, metrics: int) -> None:
    test = plan(min_polls=min_polls, metrics=metrics)
    quiet = [wealth_after(test, *[(Counts(1e5, 1e3), Counts(9e5, 9e3))] * 1)] * (metrics - 1)
    wealth, needed = start(test), 0
    while combined([wealth, *quiet]) < 1 / test.alpha:
        wealth, needed = observe(wealth, test, Counts(1e5, 1e5), Counts(9e5, 0)), needed + 1
    assert min_polls <= needed <= min_polls + 1


def test_tempering_divides_the_logarithm_of_the_evidence() -> None:
    canary, stable = Counts(50, 3), Counts(450, 5)
    plain = log_e_value(2.5, DEFAULT, canary, stable)
    assert log_e_value(2.5, DEFAULT, canary, stable, tempering=4.0) == pytest.approx(plain / 4)


def test_the_pivot_uses_only_the_stable_rate_of_earlier_polls() -> None:
    first = (Counts(100, 50), Counts(900, 450))
    assert wealth_after(plan(pivot=True), first) == wealth_after(plan(), first)
    seen = wealth_after(plan(pivot=True), first)
    for bet, before, after in zip(
        SAFETY_BETS, seen.safety, observe(seen, plan(pivot=True), Counts(10, 4), Counts(90, 80)).safety, strict=True
    ):
        log_e = log_e_value(bet, DEFAULT, Counts(10, 4), Counts(90, 80), pivot_rate=0.5)
        assert after == pytest.approx(before * math.exp(min(log_e, plan().log_cap)))


def test_combined_is_the_mean_over_checks_or_the_weighted_one() -> None:
    bad = wealth_after(plan(), *[(Counts(100, 30), Counts(900, 9))] * 3)
    fresh = start(plan())
    assert combined([]) == 1.0
    assert combined([bad, fresh, fresh]) == pytest.approx((regression(bad) + 2) / 3)
    assert combined([bad, fresh], weights=[3, 1]) == pytest.approx((3 * regression(bad) + 1) / 4)


@pytest.mark.parametrize(
    ("w", "expected"), [(0.0, 0), (0.5, 0), (1.0, 0), (math.sqrt(20), 50), (20, 100), (1e300, 100)]
)
def test_evidence_percent_is_logarithmic_and_clipped(w: float, expected: float) -> None:
    assert evidence_percent(w, 0.05) == pytest.approx(expected)


def test_the_encoding_of_a_long_rollout_is_short() -> None:
    test = plan()
    wealth = start(test)
    for number in range(500):
        wealth = observe(wealth, test, Counts(12_345.6, 67.8 + number % 3), Counts(123_456, 701))
    assert len(encode(wealth)) <= 200
    assert encode(wealth).isascii()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "0" + text[1:],
        lambda text: text[:-8],
        lambda text: text[:-1] + "!",
        lambda text: "",
        lambda text: text + ",1",
        lambda text: text + "AAAA",
        lambda text: text[:1] + "////" * 4 + text[17:],
        lambda text: text[:-4] + "////",
    ],
)
def test_damaged_evidence_is_refused(damage: object) -> None:
    text = encode(wealth_after(plan(), (Counts(100, 2), Counts(900, 9))))
    with pytest.raises(ValueError):
        decode(damage(text))  # type: ignore[operator]


def run(
    rng: np.random.Generator, test: TestPlan, requests: int, rates: tuple[float, float], *, stable_share: int = 9
) -> tuple[int | None, int | None]:
    """The polls at which a rollout of Poisson traffic would be rolled back, and would pass."""
    rolled_back = passed = None
    size = test.planned_polls
    canary, stable = rng.poisson(requests, size), rng.poisson(requests * stable_share, size)
    bad, stable_bad = rng.binomial(canary, rates[0]), rng.binomial(stable, rates[1])
    wealth = start(test)
    for poll in range(size):
        wealth = observe(
            wealth,
            test,
            Counts(int(canary[poll]), int(bad[poll])),
            Counts(int(stable[poll]), int(stable_bad[poll])),
        )
        if passed is None and safety(wealth) >= 1 / test.alpha_safe:
            passed = poll + 1
        if regression(wealth) >= 1 / test.alpha:
            rolled_back = poll + 1
            break
    return rolled_back, passed


@pytest.mark.parametrize("at_margin", [False, True], ids=["equal arms", "on the margin"])
@pytest.mark.parametrize("requests", [10, 100])
@pytest.mark.parametrize("rate", [0.001, 0.05])
def test_a_healthy_canary_is_rolled_back_and_a_bad_one_passed_at_most_as_often_as_promised(
    rate: float, requests: int, at_margin: bool
) -> None:
    rng = np.random.default_rng(20220815)
    canary_rate = 1.25 * rate + 0.01 if at_margin else rate
    outcomes = [run(rng, plan(), requests, (canary_rate, rate)) for _ in range(120)]
    assert sum(rolled_back is not None for rolled_back, _ in outcomes) / len(outcomes) <= 0.05
    if at_margin:
        assert sum(passed is not None for _, passed in outcomes) <= binom.ppf(0.99, len(outcomes), 0.05)


@pytest.mark.parametrize("requests", [100, 1000])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_ten_more_points_of_errors_are_found_within_five_polls(rate: float, requests: int) -> None:
    rng = np.random.default_rng(7)
    found = [run(rng, plan(), requests, (rate + 0.1, rate))[0] for _ in range(60)]
    assert median(poll if poll is not None else math.inf for poll in found) <= 5


@pytest.mark.parametrize(
    ("rate", "forecasts"),
    [
        (0.0, (919, 458, 228)),
        (0.001, (1507, 716, 348)),
        (0.01, (2633, 1252, 438)),
        (0.05, (2194, 1419, 654)),
        (0.1, (1396, 1091, 691)),
    ],
)
def test_the_forecast_before_a_phase_is_the_published_one(rate: float, forecasts: tuple[int, ...]) -> None:
    found = [requests_expected(plan(Margin(1.25, absolute)), rate, 9.0) for absolute in (0.005, 0.01, 0.02)]
    assert [round(value) if value is not None else None for value in found] == list(forecasts)


@pytest.mark.parametrize(("rate", "absolute"), [(0.001, 0.01), (0.01, 0.01), (0.05, 0.02)])
def test_most_equal_canaries_pass_within_the_forecast_and_few_long_before(rate: float, absolute: float) -> None:
    test = plan(Margin(1.25, absolute), polls=400, min_polls=1)
    forecast = requests_expected(test, rate, 9.0)
    assert forecast is not None
    rng = np.random.default_rng(11)
    passed = [run(rng, test, 10, (rate, rate))[1] or math.inf for _ in range(100)]
    assert 0.45 <= sum(poll * 10 <= forecast for poll in passed) / len(passed) <= 0.9
    assert median(passed) * 10 >= forecast / 2


def test_requests_needed_starts_at_the_forecast_falls_with_good_polls_and_ends_at_zero() -> None:
    test = plan(min_polls=1)
    wealth, needed = start(test), []
    for _ in range(40):
        wealth = observe(wealth, test, Counts(100, 1), Counts(900, 9))
        needed.append(requests_needed(wealth, test))
    expected = requests_expected(test, 0.01, 9.0)
    assert expected is not None
    assert needed[0] == pytest.approx(expected - 100, rel=0.1)
    assert all(later is not None and earlier is not None and later <= earlier for earlier, later in pairwise(needed))
    assert needed[-1] == 0.0


def test_requests_needed_counts_polls_where_the_cap_binds() -> None:
    wealth = wealth_after(plan(), (Counts(10_000, 0), Counts(90_000, 0)))
    polls_left = math.log(5 * 20) / plan().log_cap - 1
    assert requests_needed(wealth, plan()) == pytest.approx(10_000 * polls_left)


@pytest.mark.parametrize(
    ("margin", "canary", "stable"),
    [(Margin(1.0, 0.0), Counts(100, 1), Counts(900, 9)), (Margin(0.0, 0.05), Counts(100, 8), None)],
    ids=["no margin at all", "absolute limit already passed"],
)
def test_requests_needed_is_none_when_an_equal_canary_gains_nothing(
    margin: Margin, canary: Counts, stable: Counts | None
) -> None:
    assert requests_needed(wealth_after(plan(margin), (canary, stable)), plan(margin)) is None


def test_requests_needed_before_any_traffic_is_the_fewest_possible() -> None:
    assert requests_needed(start(plan()), plan()) == requests_expected(plan(), 0.0, 9.0)


def test_requests_needed_right_after_a_phase_starts_uses_the_rollout() -> None:
    before = wealth_after(plan(), *[(Counts(100, 1), Counts(900, 9))] * 5)
    assert requests_needed(start_phase(before), plan()) == requests_expected(plan(), 0.01, 9.0)


@pytest.mark.parametrize(("rate", "requests"), [(0.001, 20), (0.01, 100), (0.05, 10)])
def test_the_smallest_detectable_rate_is_found_in_about_four_runs_of_five(rate: float, requests: int) -> None:
    test = plan(polls=60)
    smallest = smallest_detectable(test, rate, requests * 60, requests * 540)
    assert smallest is not None
    assert smallest > 1.25 * rate + 0.01
    rng = np.random.default_rng(3)
    found = [run(rng, test, requests, (smallest, rate))[0] for _ in range(120)]
    assert 0.7 <= sum(poll is not None for poll in found) / len(found) <= 0.95


def test_the_smallest_detectable_rate_falls_with_traffic_and_is_none_without_enough() -> None:
    rates = [smallest_detectable(plan(), 0.01, requests, 9 * requests) for requests in (30, 100, 1_000, 100_000)]
    assert None not in rates
    assert rates == sorted(rates, reverse=True)  # type: ignore[type-var]
    assert smallest_detectable(plan(), 0.01, 1, 9) is None
    assert smallest_detectable(plan(), 0.01, 0, 0) is None
    assert smallest_detectable(plan(polls=2), 0.01, 1_000, 9_000) is None
    assert smallest_detectable(plan(Margin(0.0, 0.05)), 0.0, 1_000, 0) is not None
