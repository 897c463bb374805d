"""Evidence that a canary is worse than it may be, or good enough, which may be looked at after every poll.

Here: the two-arm margin e-process for shares of bad requests (errors, latency tails, scores in [0, 1]), the combination
of several checks and the forecasts shown before a verdict. Not here: which counters are read (engine), what a verdict
does to a rollout (checks, decide), how it is kept in status (packing). The rule: a wealth changes only by stakes fixed
before the poll and by factors whose mean is at most 1 under the hypothesis they test, so that under it a wealth reaches
1/alpha with probability at most alpha, whenever and however often it is looked at (Ville's inequality).

The method, its proof sketch, limits and measurements are in docs/statistics.md. Sources: Lindon & Malek 2022
(arXiv 2011.03567) for the conditional two-arm ratio; Turner, Ly & Grünwald 2024 (arXiv 2106.02693) for e-variables of
two arms; Shin, Ramdas & Rinaldo 2022 for weighted start times; Vovk & Wang 2021 for the mean over checks.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

REGRESSION_BETS = (1.2, 1.6, 2.5, 4.0, 8.0, 20.0, 60.0)
"""How many times worse than allowed each regression bet takes the canary to be; equal shares."""

SAFETY_BETS = (0.0, 0.3, 0.6, 0.8, 0.9)
"""Which part of the allowed rate each safety bet takes the canary to have; equal shares."""

WEALTH_LIMIT = 1e38
"""No wealth grows past this: lowering a wealth is always valid, and single precision then holds every one."""

EARLY_STAKE = 0.5
"""Share of the regression stake placed at the first poll; the rest is spread evenly over the planned polls."""

DETECTION_Z = 0.8416
"""Standard normal quantile of the 80 % power that `smallest_detectable` asks for."""

MOST_KEPT = 2.0**40
"""No total grows past this: a thousand requests a second for thirty years."""

FRACTION = 256.0
"""Sums of scores are remembered in these parts of a request."""

_MOST_REQUESTS = 2.0**53  # doubles count exactly up to here
_LEAST_TRAFFIC = 1e-6  # what extrapolation leaves of no request at all
_BETS = REGRESSION_BETS + SAFETY_BETS
_SINGLE = struct.Struct(f"<{len(REGRESSION_BETS) + len(SAFETY_BETS)}f")
_BELOW = 1.0 - 2.0**-23  # before rounding to single precision, so that no wealth is ever rounded up
MOST_REQUESTS = 2.0**53
"""Doubles count exactly up to here."""

MOST_KEPT = 2.0**40
"""No total grows past this: a thousand requests a second for thirty years."""

FRACTION = 256.0
"""Sums of scores are remembered in these parts of a request."""
_MOST_FRACTIONAL = 2.0**32
_LEAST_PIVOT_FACTOR = 0.05


@dataclass(frozen=True, slots=True)
class Margin:
    """The canary's bad share may be up to `relative * stable share + absolute`; a fixed limit p0 is `Margin(0.0, p0)`.

    relative is at least 0 and absolute in [0, 1); anything else raises ValueError.
    """

    relative: float
    absolute: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.relative < math.inf and 0.0 <= self.absolute < 1.0):
            raise ValueError(f"margin needs relative >= 0 and 0 <= absolute < 1, got {self}")


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and the bad ones among them, increments of one poll or totals; `bad` may sum scores in [0, 1]."""

    total: float
    bad: float

    @property
    def rate(self) -> float | None:
        """Bad share, None without requests."""
        return self.bad / self.total if self.total > 0 else None


_NONE = Counts(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class TestPlan:
    """What is fixed before the first poll; a later change loses the promise. ValueError when out of range."""

    margin: Margin
    planned_polls: int
    """Polls of the whole rollout over which the later half of the stake is spread; more polls may follow."""
    min_polls: int = 3
    """From a fresh start about this many polls are needed for a verdict, however bad one poll is; 1 for a tripwire."""
    metrics: int = 1
    """How many wealths the rollout combines by `combined` (the inverse of this one's weight there)."""
    alpha: float = 0.05
    """Probability allowed for a rollback, over the whole rollout, while every canary is within its margin."""
    alpha_safe: float = 0.05
    """Probability allowed, in each phase, for Pass while the canary is at or past its margin."""
    tempering: float = 1.0
    """Overdispersion of the counts (Pearson chi-square by degrees of freedom), at least 1; divides the evidence."""
    pivot: bool = False
    """Bet around the stable rate seen so far: stronger where about a fifth or more of stable requests are bad."""

    __test__ = False  # the name makes pytest take it for a test class

    def __post_init__(self) -> None:
        if min(self.planned_polls, self.min_polls, self.metrics) < 1:
            raise ValueError(f"planned_polls, min_polls and metrics must be at least 1, got {self}")
        if not (1e-9 <= self.alpha < 1.0 and 1e-9 <= self.alpha_safe < 1.0):
            raise ValueError(f"alpha and alpha_safe must be in [1e-9, 1), got {self}")
        if not 1.0 <= self.tempering < math.inf:
            raise ValueError(f"tempering must be at least 1, got {self}")

    @property
    def log_cap(self) -> float:
        """The most that one poll can add to the logarithm of a wealth."""
        return math.log(self.metrics / (self.alpha * EARLY_STAKE)) / self.min_polls


@dataclass(frozen=True, slots=True)
class Wealth:
    """All that one bound remembers: regression over the whole rollout, safety and `canary`, `stable` over the phase.

    polls: those that were bets on a regression; phase_polls: all that were evidence in this phase. Wealths are single
    precision numbers, rounded down, so that what status stores is what was computed.
    """

    polls: int
    regression: tuple[float, ...]
    cash: float
    safety: tuple[float, ...]
    canary: Counts
    stable: Counts
    phase_polls: int
    rollout_canary: Counts
    rollout_stable: Counts


def start(plan: TestPlan) -> Wealth:
    """No evidence yet, at the beginning of a rollout; `plan` is taken so that its stake could depend on it."""
    del plan
    none = Counts(0.0, 0.0)
    fresh_regression, fresh_safety = (0.0,) * len(REGRESSION_BETS), (1.0,) * len(SAFETY_BETS)
    return Wealth(0, fresh_regression, 1.0, fresh_safety, none, none, 0, none, none)


def start_phase(wealth: Wealth) -> Wealth:
    """Forget what counts per phase (safety and phase totals); regression evidence goes on."""
    none = Counts(0.0, 0.0)
    return Wealth(
        wealth.polls,
        wealth.regression,
        wealth.cash,
        (1.0,) * len(SAFETY_BETS),
        none,
        none,
        0,
        wealth.rollout_canary,
        wealth.rollout_stable,
    )


def log_e_value(
    bet: float, margin: Margin, canary: Counts, stable: Counts, pivot_rate: float = 0.0, *, tempering: float = 1.0
) -> float:
    """Logarithm of one poll's e-value, whose mean is at most 1 while the canary is on the null side of the margin.

    The null is "share <= R * stable + D" for a bet above 1, ">=" for one below. Needs canary.total > 0, bad <= total
    and, with a relative margin, stable.total > 0. `pivot_rate` must come from earlier polls. -inf is possible.

    With kappa = R n_c / n_s and u = (g - 1) / (1 + kappa g) the mean is a product of powers of 1 + p_c u and
    1 + p_s beta over its value at the pivot. On the margin its logarithm is concave in p_s with slope 0 at the pivot,
    so 0, its value there, is its maximum (docs/statistics.md). For D = 0 and pivot 0 this is the conditional ratio of
    Lindon & Malek 2022; for R = 0 the Bernoulli likelihood ratio of D (1 + u) / (1 + D u) against D.
    """
    return log_e_values((bet,), margin, canary, stable, pivot_rate, tempering=tempering)[0]


def log_e_values(
    bets: Sequence[float],
    margin: Margin,
    canary: Counts,
    stable: Counts,
    pivot_rate: float = 0.0,
    *,
    tempering: float = 1.0,
) -> list[float]:
    """`log_e_value` of several bets on one poll: all that costs time in a poll is in here."""
    relative, absolute, log1p = margin.relative, margin.absolute, math.log1p
    canary_total, canary_bad, stable_total, stable_bad = canary.total, canary.bad, stable.total, stable.bad
    kappa = relative * canary_total / stable_total if relative else 0.0
    q = relative * pivot_rate + absolute
    found = []
    for bet in bets:
        u = (bet - 1.0) / (1.0 + kappa * bet)
        if canary_bad <= 0.0:
            gain = 0.0
        elif u <= -1.0:
            found.append(-math.inf)
            continue
        else:
            gain = canary_bad * log1p(u)
        if not relative:
            found.append((gain - canary_total * log1p(absolute * u)) / tempering)
            continue
        if pivot_rate > 0.0 and 1.0 + q * u >= _LEAST_PIVOT_FACTOR:
            c = kappa * u / (1.0 + q * u)
            if 1.0 + c * pivot_rate >= _LEAST_PIVOT_FACTOR:
                beta = -c / (1.0 + c * pivot_rate)
                paid = canary_total * log1p(q * u) + stable_total * log1p(pivot_rate * beta)
                found.append((gain + stable_bad * log1p(beta) - paid) / tempering)
                continue
        beta = -kappa * u / (1.0 + absolute * u)
        found.append((gain + stable_bad * log1p(beta) - canary_total * log1p(absolute * u)) / tempering)
    return found


def observe(wealth: Wealth, plan: TestPlan, canary: Counts, stable: Counts | None) -> Wealth:
    """Wealth after one poll, whose increments of both arms cover the same interval.

    Without canary requests, or without stable ones under a relative margin, the poll is no evidence and `wealth` comes
    back unchanged. More bad requests than requests (scrape skew) are clipped. Negative or non-finite counts, and those
    above 2**53, raise ValueError.
    """
    return observe_strata(wealth, plan, ((canary, stable),))


def observe_strata(
    wealth: Wealth,
    plan: TestPlan,
    strata: Sequence[tuple[Counts, Counts | None]],
    *,
    harm: bool = True,
    good: bool = True,
) -> Wealth:
    """`observe` over arms that were split alike, for example by hardware: like is compared with like.

    The factors of the strata are multiplied, each being fair given the others' numbers of requests, and the cap binds
    their product. harm, good: whether the poll may count for a regression and for safety; the caller decides by what
    was known before the poll or by numbers of requests, never by how many of them were bad.
    """
    used = []
    for canary, stable in strata:
        seen, other = _clipped(canary), _NONE if stable is None else _clipped(stable)
        if seen.total >= _LEAST_TRAFFIC and (plan.margin.relative == 0.0 or other.total >= _LEAST_TRAFFIC):
            used.append((seen, other))
    if not used or not (harm or good):
        return wealth
    margin, tempering, log_cap = plan.margin, plan.tempering, plan.log_cap
    pivot_rate = (wealth.rollout_stable.rate or 0.0) if plan.pivot else 0.0

    logs = [0.0] * len(_BETS)
    for seen, other in used:
        factors = log_e_values(_BETS, margin, seen, other, pivot_rate, tempering=tempering)
        logs = factors if len(used) == 1 else [log_e + more for log_e, more in zip(logs, factors, strict=True)]
    exp, split = math.exp, len(REGRESSION_BETS)
    cash, regression, safety = wealth.cash, wealth.regression, wealth.safety
    if harm:
        later_stake = (1.0 - EARLY_STAKE) / plan.planned_polls
        stake = min(later_stake + (EARLY_STAKE if wealth.polls == 0 else 0.0), cash)
        cash -= stake
        regression = tuple(
            [(held + stake) * exp(min(log_e, log_cap)) for held, log_e in zip(regression, logs[:split], strict=True)]
        )
    if good:
        safety = tuple([held * exp(min(log_e, log_cap)) for held, log_e in zip(safety, logs[split:], strict=True)])
    stored = single((*regression, *safety))
    canary, stable = used[0] if len(used) == 1 else (_pooled(seen for seen, _ in used), _pooled(o for _, o in used))
    return Wealth(
        wealth.polls + harm,
        stored[: len(REGRESSION_BETS)] if harm else wealth.regression,
        cash,
        stored[len(REGRESSION_BETS) :] if good else wealth.safety,
        add(wealth.canary, canary),
        add(wealth.stable, stable),
        wealth.phase_polls + 1,
        add(wealth.rollout_canary, canary),
        add(wealth.rollout_stable, stable),
    )


def single(wealths: Sequence[float]) -> tuple[float, ...]:
    """Wealths of all the bets as single precision numbers, never more than they were."""
    bounded = [min(value, WEALTH_LIMIT) * _BELOW for value in wealths]
    return _SINGLE.unpack(_SINGLE.pack(*bounded))


def add(before: Counts, increment: Counts) -> Counts:
    """Totals of two counts, as they are kept."""
    return Counts(kept(before.total + increment.total), kept(before.bad + increment.bad))


def kept(total: float) -> float:
    """A total as status keeps it: whole, or in 256ths while it is small enough for them to count, up to 2**40."""
    if total == int(total):
        return min(total, MOST_KEPT)
    return round(total * FRACTION) / FRACTION if total < _MOST_FRACTIONAL else min(float(round(total)), MOST_KEPT)


def regression(wealth: Wealth) -> float:
    """W: under "within the margin" it ever reaches 1/alpha with probability at most alpha."""
    return math.fsum(wealth.regression) / len(wealth.regression) + wealth.cash


def safety(wealth: Wealth) -> float:
    """S: under "at or past the margin all phase" it ever reaches 1/alpha_safe with probability at most alpha_safe."""
    return math.fsum(wealth.safety) / len(wealth.safety)


def combined(wealths: Sequence[Wealth], weights: Sequence[float] | None = None) -> float:
    """Evidence against the whole rollout: the mean of W over all checks. Roll back if and only if it is >= 1/alpha.

    The mean holds under any dependence between checks (Vovk & Wang 2021, Theorem 3.2). A latency check over several
    bounds gives one wealth for each bound; it passes when each of them does. `weights`, fixed in advance and not
    negative, are normalised. Without wealths the answer is 1.0, no evidence.
    """
    if weights is None:
        weights = (1.0,) * len(wealths)
    whole = math.fsum(weights)
    if whole <= 0.0:
        return 1.0
    return math.fsum(weight * (regression(wealth) / whole) for weight, wealth in zip(weights, wealths, strict=True))


def evidence_percent(w: float, alpha: float) -> float:
    """How far a wealth is on its way to 1/alpha, on the logarithmic scale on which it grows: 0 to 100."""
    return 0.0 if w <= 1.0 else min(100.0, 100.0 * math.log(w) / -math.log(alpha))


def requests_needed(wealth: Wealth, plan: TestPlan) -> float | None:
    """Canary requests still needed until Pass, if the canary is as good as stable and traffic goes on as in this phase.

    Between the median and the 80 % quantile of what it takes, in most cases. None when the margin cannot be decided: at
    these rates an equal canary gains no evidence. For an absolute limit the canary's own rate so far is used.
    """
    if safety(wealth) >= 1.0 / plan.alpha_safe:
        return 0.0
    seen, seen_rollout = (
        (wealth.stable, wealth.rollout_stable) if plan.margin.relative else (wealth.canary, wealth.rollout_canary)
    )
    rate = next((counts.rate for counts in (seen, seen_rollout) if counts.rate is not None), 0.0)
    both = (wealth.canary, wealth.stable) if wealth.phase_polls else (wealth.rollout_canary, wealth.rollout_stable)
    ratio = both[1].total / both[0].total if both[0].total > 0 and both[1].total > 0 else 1.0
    per_poll = wealth.canary.total / wealth.phase_polls if wealth.phase_polls else 0.0
    return _requests(plan, rate, ratio, wealth.safety, per_poll)


def requests_expected(plan: TestPlan, stable_rate: float, stable_per_canary: float) -> float | None:
    """Canary requests that a phase needs until Pass, before it starts; None when the margin cannot be decided.

    `stable_rate` is the bad share expected in both arms, `stable_per_canary` the stable requests for one of the canary.
    """
    return _requests(plan, stable_rate, stable_per_canary, (1.0,) * len(SAFETY_BETS), 0.0)


def smallest_detectable(
    plan: TestPlan, stable_rate: float, canary_requests: float, stable_requests: float
) -> float | None:
    """The smallest bad share of the canary that is found with about 80 % probability within these requests.

    Assumes that the canary is bad from the first poll and requests arrive over at least `min_polls` polls. None when no
    share up to 1 is: too few requests, or too few planned polls. A normal approximation of each bet's log wealth.
    """
    relative = plan.margin.relative
    if canary_requests <= 0.0 or (relative and stable_requests <= 0.0) or plan.planned_polls < plan.min_polls:
        return None
    ratio = stable_requests / canary_requests if relative else 1.0
    stake = EARLY_STAKE + (1.0 - EARLY_STAKE) / plan.planned_polls
    needed = math.log(len(REGRESSION_BETS) * plan.metrics / (plan.alpha * stake)) * plan.tempering
    within = relative * stable_rate + plan.margin.absolute
    found = []
    for bet in REGRESSION_BETS:
        on_bad, on_stable_bad, on_request = _log_terms(bet, plan.margin, ratio)
        base = ratio * stable_rate * on_stable_bad - on_request
        stable_variance = ratio * stable_rate * (1.0 - stable_rate) * on_stable_bad**2

        def surplus(rate: float, gain: float = on_bad, base: float = base, extra: float = stable_variance) -> float:
            spread = math.sqrt(canary_requests * (rate * (1.0 - rate) * gain**2 + extra) * plan.tempering)
            return canary_requests * (rate * gain + base) - DETECTION_Z * spread - needed

        low, high = min(within, 1.0), 1.0
        if surplus(high) < 0.0:
            continue
        for _ in range(60):  # convex and negative at the margin: one crossing, found to the last bit
            middle = (low + high) / 2.0
            low, high = (middle, high) if surplus(middle) < 0.0 else (low, middle)
        found.append(high)
    return min(found, default=None)


def _clipped(counts: Counts) -> Counts:
    total, bad = counts.total, counts.bad
    if not (0.0 <= total <= _MOST_REQUESTS and 0.0 <= bad < math.inf):
        raise ValueError(f"counts must be finite, not negative and at most 2**53, got {counts}")
    return counts if bad <= total else Counts(total, total)


def _pooled(parts: Iterable[Counts]) -> Counts:
    listed = list(parts)
    return Counts(math.fsum(part.total for part in listed), math.fsum(part.bad for part in listed))


def _log_terms(bet: float, margin: Margin, ratio: float) -> tuple[float, float, float]:
    """Log e of a bad canary request, of a bad stable one, the price of each canary one; `ratio`: stable per canary."""
    kappa = margin.relative / ratio
    u = (bet - 1.0) / (1.0 + kappa * bet)
    on_request = math.log1p(margin.absolute * u)
    on_stable_bad = math.log1p(-kappa * u / (1.0 + margin.absolute * u))
    return (math.log1p(u) if u > -1.0 else -math.inf), on_stable_bad, on_request


def _requests(
    plan: TestPlan, rate: float, ratio: float, held: tuple[float, ...], canary_per_poll: float
) -> float | None:
    """Requests until the best bet alone brings S to 1/alpha_safe; a poll's growth never passes the cap."""
    most = plan.log_cap / canary_per_poll if canary_per_poll > 0.0 else math.inf
    forecasts = []
    for bet, wealth in zip(SAFETY_BETS, held, strict=True):
        on_bad, on_stable_bad, on_request = _log_terms(bet, plan.margin, ratio)
        bad_terms = rate * (on_bad + (ratio * on_stable_bad if plan.margin.relative else 0.0)) if rate > 0.0 else 0.0
        growth = min((bad_terms - on_request) / plan.tempering, most)
        if growth > 0.0 and wealth > 0.0:
            target = math.log(len(SAFETY_BETS) / plan.alpha_safe)
            forecasts.append(max(0.0, target - math.log(wealth)) / growth)
    return min(forecasts, default=None)
