"""How often slice gates and win-rate gates block what is good and pass what is not, in one reproducible run.

`python -m bench.gates` takes about two minutes on one core, prints its tables, writes them between the markers of
docs/gates.md and ends with status 1 when a bar is missed; `--seed` moves the draws. Every verdict is that of
`modelrelease.core.gates.evaluate` on the metrics as they would have been logged: nothing is judged here.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bench.evidence_tables import Bar, Bench, Section, render
from modelrelease.api.gates import Gate
from modelrelease.core.gates import Context, evaluate
from modelrelease.core.gates.intervals import Share, clopper_pearson, newcombe, wilson
from modelrelease.core.observation import MetricValue, ModelVersion

DOCUMENT = Path(__file__).parent.parent / "docs" / "gates.md"
MARKERS = "<!-- bench/gates.py: begin -->", "<!-- bench/gates.py: end -->"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT = Context(NOW)
ACCURACY, MARGIN, LOSS = 0.85, 0.02, 0.10
CELLS = ((5, 50), (20, 50), (20, 200), (5, 1000), (20, 1000))
FIELDS = {"metric": "accuracy", "champion": {"maxDrop": MARGIN}, "samples": "slice/*/n"}
RATE = {"metric": "win_rate", "samples": "win_rate/n"}

Verdicts = Counter[str]


def gate(**rules: Any) -> Gate:
    """One gate by its rules."""
    return Gate.model_validate({"name": "gate", **rules})


def version(metrics: Iterable[tuple[str, float]]) -> ModelVersion:
    """A version with these metrics."""
    found = tuple(MetricValue(key, value) for key, value in metrics)
    return ModelVersion("m", "1", "models:/m", "READY", NOW, metrics=found)


def sliced(hits: Sequence[int], n: int) -> ModelVersion:
    """A version evaluated on so many slices of n samples each, with so many hits."""
    metrics = [(f"slice/s{at}/accuracy", found / n) for at, found in enumerate(hits)]
    return version(metrics + [(f"slice/s{at}/n", n) for at in range(len(hits))])


def verdicts(rules: Gate, draws: Iterable[tuple[ModelVersion, ModelVersion | None]]) -> Verdicts:
    """How often each verdict fell."""
    return Counter(evaluate([rules], candidate, champion, CONTEXT)[0].verdict for candidate, champion in draws)


def share(found: Verdicts, verdict: str) -> float:
    """Of all."""
    return found[verdict] / found.total()


def show(value: float) -> str:
    """Three digits."""
    return "0" if value == 0 else f"{value:.3f}"


def bar(number: int, what: str, measured: float, limit: float, asked: str = "≤ 5 %") -> Bar:
    """One promise about a share."""
    return Bar(number, what, asked, show(measured), measured <= limit)


def noisy(runs: int) -> float:
    """5 % and three standard deviations of a simulation of so many runs."""
    return float(0.05 + 3 * np.sqrt(0.05 * 0.95 / runs))


def slice_draws(
    bench: Bench, cell: int, slices: int, n: int, truth: Sequence[float], runs: int
) -> list[tuple[ModelVersion, ModelVersion | None]]:
    """Candidates with these true accuracies beside champions with the usual one, both on samples of their own."""
    rng = bench.rng(5, cell, slices, n)
    candidates = rng.binomial(n, np.asarray(truth), (runs, slices))
    champions = rng.binomial(n, ACCURACY, (runs, slices))
    return [(sliced(own, n), sliced(other, n)) for own, other in zip(candidates, champions, strict=True)]


def slice_gates(bench: Bench) -> Section:
    """T9: the three ways to judge slices, on a candidate that is equal and on one that lost 10 points on one slice."""
    runs = bench.runs(400)
    ways = {name: gate(slices=FIELDS | {"evidence": name}) for name in ("point", "noRegression", "nonInferior")}
    rows, worst_block, worst_pass, silent = [], 0.0, 0.0, 0.0
    for slices, n in CELLS:
        equal = slice_draws(bench, 1, slices, n, [ACCURACY] * slices, runs)
        worse = slice_draws(bench, 2, slices, n, [ACCURACY - LOSS, *[ACCURACY] * (slices - 1)], runs)
        for name, rules in ways.items():
            same, lost = verdicts(rules, equal), verdicts(rules, worse)
            cells = [share(same, word) for word in ("Fail", "InsufficientData", "Pass")]
            cells += [share(lost, word) for word in ("Fail", "InsufficientData", "Pass")]
            rows.append((f"{slices} × {n}", f"`{name}`", *(show(item) for item in cells)))
            if name != "point":
                worst_block = max(worst_block, cells[0])
                silent = max(silent, cells[5] if n <= 200 else 0.0)
            if name == "nonInferior":
                worst_pass = max(worst_pass, cells[5])
    headings = (
        "slices × n",
        "evidence",
        "equal: Fail",
        "insufficient",
        "Pass",
        "one −10 pp: Fail",
        "insufficient",
        "Pass",
    )
    title = f"Slices (T9): accuracy {ACCURACY:g}, maxDrop {MARGIN:g}, {runs} runs a cell"
    bars = (
        bar(1, "noise blocks an equal candidate (noRegression, nonInferior)", worst_block, 0.05),
        bar(2, "a slice that lost 10 points passes on 200 samples a slice or fewer", silent, 0, "never"),
        bar(3, "a slice that lost 10 points passes nonInferior", worst_pass, 0.05),
    )
    return Section(title, render(headings, rows), bars)


def slice_margins(bench: Bench) -> Section:
    """The two errors where they are largest: just at the margin."""
    runs = bench.runs(1000)
    at_margin = ACCURACY - MARGIN
    rows, block, passed = [], 0.0, 0.0
    for slices, n in ((1, 1000), (5, 1000), (20, 1000)):
        draws = slice_draws(bench, 3, slices, n, [at_margin] * slices, runs)
        found = verdicts(gate(slices=FIELDS | {"evidence": "noRegression"}), draws)
        rows.append((f"all of {slices} at the margin, n = {n}", "`noRegression` says Fail", show(share(found, "Fail"))))
        block = max(block, share(found, "Fail"))
    for slices, n in ((1, 5000), (5, 20_000)):
        draws = slice_draws(bench, 4, slices, n, [at_margin, *[ACCURACY] * (slices - 1)], runs)
        found = verdicts(gate(slices=FIELDS | {"evidence": "nonInferior"}), draws)
        rows.append((f"one of {slices} at the margin, n = {n}", "`nonInferior` says Pass", show(share(found, "Pass"))))
        passed = max(passed, share(found, "Pass"))
    for p, n, margin in ((0.97, 10, 0.05), (0.85, 50, 0.05), (0.85, 500, 0.05)):
        ours, wald = non_inferiority_errors(p, n, margin)
        words = f"exact: p = {p:g}, n = {n}, margin {margin:g}, candidate at the margin"
        rows.append((words, "Newcombe (ours) / Wald pass", f"{show(ours)} / {show(wald)}"))
        passed = max(passed, ours)
    asked = "≤ 5 % and noise"
    bars = (
        bar(4, "noRegression blocks a candidate just at the margin, over all slices", block, noisy(runs), asked),
        bar(5, "nonInferior passes a slice just at the margin", passed, noisy(runs), asked),
    )
    return Section(f"Slices at the margin, {runs} runs a cell", render(("case", "what", "share"), rows), bars)


def non_inferiority_errors(p: float, n: int, margin: float) -> tuple[float, float]:
    """Exactly how often non-inferiority is claimed at the margin: by our interval and by the textbook's."""
    counts = np.arange(n + 1)
    champion, candidate = stats.binom.pmf(counts, n, p), stats.binom.pmf(counts, n, p - margin)
    z = float(stats.norm.ppf(0.95))
    ours = wald = 0.0
    for own in counts[candidate > 1e-8]:
        for other in counts[champion > 1e-8]:
            weight, a, b = float(candidate[own] * champion[other]), own / n, other / n
            ours += weight * (newcombe(Share(a, n), Share(b, n), 0.05)[0] > -margin)
            wald += weight * (a - b - z * np.sqrt((a * (1 - a) + b * (1 - b)) / n) > -margin)
    return ours, wald


def won(rate: float, n: int, **more: float) -> ModelVersion:
    """A version that won this share of n comparisons."""
    return version([("win_rate", rate), ("win_rate/n", n), *more.items()])


def exact_pass(rules: Gate, p: float, n: int) -> float:
    """How likely n independent judgments pass, by enumeration. A verdict only gets better with more wins."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        passed = evaluate([rules], won(middle / n, n), None, CONTEXT)[0].verdict == "Pass"
        low, high = (low, middle) if passed else (middle + 1, high)
    return float(stats.binom.sf(low - 1, n, p))


def win_rates(bench: Bench) -> Section:
    """T8: one look at n judgments."""
    methods = {name: gate(winRate=RATE | {"method": name}) for name in ("clopperPearson", "wilson")}
    rows, worst = [], dict.fromkeys(methods, 0.0)
    for n in (10, 25, 50, 100, 200, 400, 1000):
        row: list[str] = [str(n)]
        for name, rules in methods.items():
            false_pass = exact_pass(rules, 0.5, n)
            worst[name] = max(worst[name], false_pass)
            row += [show(false_pass), show(exact_pass(rules, 0.55, n)), show(exact_pass(rules, 0.6, n))]
        rows.append(row)
    for n in range(10, 201):
        for name, rules in methods.items():
            worst[name] = max(worst[name], exact_pass(rules, 0.5, n))
    rows.append(["worst of 10 to 200", show(worst["clopperPearson"]), "", "", show(worst["wilson"]), "", ""])
    headings = ("judgments", "CP: true 0.50", "0.55", "0.60", "Wilson: true 0.50", "0.55", "0.60")
    false_pass = worst["clopperPearson"]
    bars = (bar(6, "winRate passes a true 0.5 (Clopper-Pearson, every n to 200)", false_pass, 0.05),)
    return Section("Win rates (T8): probability to pass, min 0.5, exact", render(headings, rows), bars)


def win_rate_traps(bench: Bench) -> Section:
    """What a win rate must not be: looked at again and again, many judgments of few prompts, many locales."""
    runs = bench.runs(2000)
    rng = bench.rng(8, 1)
    plain = gate(winRate=RATE)
    rows: list[tuple[str, str]] = []
    peeked = {"wilson": wilson, "clopperPearson": clopper_pearson}
    ends = np.arange(10, 1001, 10)
    wins = np.cumsum(rng.random((runs, 1000)) < 0.5, axis=1)[:, ends - 1]
    for name, limits in peeked.items():
        needed = np.array([_fewest_wins(int(n), limits) for n in ends])
        rows.append(
            (
                f"true 0.5, looked at every 10 of 1,000 judgments, {name}",
                show(float((wins >= needed).any(axis=1).mean())),
            )
        )
    prompts, each, n = 50, 8, 400
    chance = rng.beta(0.5, 0.5, (runs, prompts))  # correlation 0.5 within a prompt
    by_prompt = rng.binomial(each, chance)
    rates = by_prompt.sum(axis=1) / n
    errors = (by_prompt / each).std(axis=1, ddof=1) / np.sqrt(prompts)
    ways: dict[str, Callable[[int], ModelVersion]] = {
        "nothing said of prompts": lambda at: won(rates[at], n),
        "`clusters: prompts`": lambda at: won(rates[at], n, prompts=prompts),
        "`standardError: se`, of the prompts' means": lambda at: won(rates[at], n, se=float(errors[at])),
    }
    gates = (plain, gate(winRate=RATE | {"clusters": "prompts"}), gate(winRate=RATE | {"standardError": "se"}))
    clustered = 0.0
    for (name, make), rules in zip(ways.items(), gates, strict=True):
        passed = share(verdicts(rules, ((make(at), None) for at in range(runs))), "Pass")
        rows.append((f"true 0.5, 50 prompts with 8 judgments each, {name}", show(passed)))
        clustered = max(clustered, 0.0 if rules is plain else passed)
    locales = gate(winRate=RATE | {"slices": "locale/*"})
    truths = np.array([0.5, 0.65, 0.65, 0.65, 0.65])
    drawn = rng.binomial(300, truths, (runs, truths.size)) / 300
    found = verdicts(locales, ((_by_locale(row, 300), None) for row in drawn))
    rows.append(("five locales, one of them at a true 0.5, 300 judgments each", show(share(found, "Pass"))))
    good = verdicts(locales, ((_by_locale(row, 300), None) for row in rng.binomial(300, 0.65, (runs, 5)) / 300))
    rows.append(("five locales at a true 0.65, 300 judgments each", show(share(good, "Pass"))))
    weak, asked = share(found, "Pass"), "≤ 5 % and noise"
    bars = (
        bar(7, "winRate passes a true 0.5, judgments of a prompt alike and that logged", clustered, noisy(runs), asked),
        bar(8, "winRate by locale passes although one is at a true 0.5", weak, noisy(runs), asked),
    )
    return Section(f"Win rates: traps, {runs} runs a row", render(("case", "Pass"), rows), bars)


def _fewest_wins(n: int, limits: Callable[[Share, float], tuple[float, float]]) -> int:
    return next((k for k in range(n // 2, n + 1) if limits(Share(k / n, n), 0.05)[0] > 0.5), n + 1)


def _by_locale(rates: Sequence[float], n: int) -> ModelVersion:
    metrics = [(f"locale/l{at}/win_rate", float(rate)) for at, rate in enumerate(rates)]
    return version(metrics + [(f"locale/l{at}/win_rate/n", n) for at in range(len(metrics))])


def speed(bench: Bench) -> Section:
    """What one evaluation costs; gates are evaluated in every pass."""
    few = slice_draws(bench, 6, 20, 200, [ACCURACY] * 20, 30)
    rows, slowest = [], 0.0
    for name, rules, draws in (
        ("20 slices, `noRegression`, samples missing", gate(slices=FIELDS), few),
        ("20 slices, `nonInferior`, samples missing", gate(slices=FIELDS | {"evidence": "nonInferior"}), few),
        ("a win rate of 1,000 judgments", gate(winRate=RATE), [(won(0.53, 1000), None)] * 30),
    ):
        began = time.perf_counter()
        verdicts(rules, draws)
        each = (time.perf_counter() - began) / len(draws) * 1000
        slowest = max(slowest, each)
        rows.append((name, f"{each:.1f} ms"))
    bars = (Bar(9, "one evaluation of a gate", "≤ 25 ms", f"{slowest:.1f} ms", slowest <= 25),)
    return Section("What it costs", render(("gate", "time"), rows), bars)


SECTIONS = (slice_gates, slice_margins, win_rates, win_rate_traps, speed)


def main() -> int:
    """Run all, print, write; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs, to try it out")
    parser.add_argument("--seed", type=int, default=20, help="default %(default)s")
    parser.add_argument("--no-write", action="store_true", help="leave docs/gates.md alone")
    options = parser.parse_args()
    bench = Bench(options.seed, 0.1 if options.quick else 1.0)
    sections = []
    for number, section in enumerate(SECTIONS, 1):
        print(f"[{number}/{len(SECTIONS)}] {section.__name__}", file=sys.stderr, flush=True)
        sections.append(section(bench))
    bars = [bar for section in sections for bar in section.bars]
    rows = [(bar.number, bar.what, bar.asked, bar.measured, "yes" if bar.kept else "**no**") for bar in bars]
    text = f"Seed {bench.seed}.\n\n### The bars\n\n{render(('bar', 'what', 'asked', 'measured', 'kept'), rows)}"
    text += "".join(f"\n### {section.title}\n\n{section.table.rstrip()}\n" for section in sections)
    print(text)
    if not options.no_write:
        before, after = DOCUMENT.read_text().split(MARKERS[0])[0], DOCUMENT.read_text().split(MARKERS[1])[1]
        DOCUMENT.write_text(f"{before}{MARKERS[0]}\n\n{text}\n{MARKERS[1]}{after}")
    return 0 if all(bar.kept for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
