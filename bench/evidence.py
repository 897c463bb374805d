"""The evidence core against its bars and against other rules, in one reproducible run.

`python -m bench.evidence` takes a few minutes on one core, prints its tables, writes them between the markers of
docs/statistics.md and ends with status 1 when a bar is missed; `--full` multiplies the runs, `--seed` moves them.
Simulations run `bench.traffic.Rollouts`, which bar 7 compares with `modelrelease.core.evidence` poll by poll; the exact
means (bar 1) and the times (bar 6) are those of the core itself.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from bench import evidence_like as like
from bench import evidence_power as power
from bench import evidence_promises as promises
from bench.evidence_tables import Bench, Section, render
from bench.evidence_tempering import tempering

DOCUMENT = Path(__file__).parent.parent / "docs" / "statistics.md"
MARKERS = "<!-- bench/evidence.py: begin -->", "<!-- bench/evidence.py: end -->"

SECTIONS = (
    promises.false_rollbacks,
    power.detection,
    power.late_onset,
    power.efficiency,
    power.passing,
    power.smallest,
    promises.robustness,
    like.hardware,
    tempering,
    power.latency,
    promises.exact_means,
    promises.replay,
    promises.speed,
)


def report(bench: Bench, sections: Iterable[Section]) -> tuple[str, bool]:
    """The text between the markers, and whether every bar is kept."""
    sections = tuple(sections)
    bars = sorted((bar for section in sections for bar in section.bars), key=lambda bar: bar.number)
    rows = [(bar.number, bar.what, bar.asked, bar.measured, "yes" if bar.kept else "**no**") for bar in bars]
    head = f"Seed {bench.seed}, {bench.scale:g} times the usual number of runs.\n\n### The bars\n\n"
    text = head + render(("bar", "what", "asked", "measured", "kept"), rows)
    text += "".join(f"\n### {section.title}\n\n{section.table.rstrip()}\n" for section in sections)
    return text.rstrip() + "\n", all(bar.kept for bar in bars)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="five times as many runs a cell")
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs, to try it out")
    parser.add_argument("--seed", type=int, default=20, help="default %(default)s")
    parser.add_argument("--no-write", action="store_true", help="leave docs/statistics.md alone")
    options = parser.parse_args()
    bench = Bench(options.seed, 5.0 if options.full else 0.1 if options.quick else 1.0)

    def announced() -> Iterable[Section]:
        for number, section in enumerate(SECTIONS, 1):
            print(f"[{number}/{len(SECTIONS)}] {section.__name__}", file=sys.stderr, flush=True)
            yield section(bench)

    text, kept = report(bench, announced())
    print(text)
    if not options.no_write:
        before, after = DOCUMENT.read_text().split(MARKERS[0])[0], DOCUMENT.read_text().split(MARKERS[1])[1]
        DOCUMENT.write_text(f"{before}{MARKERS[0]}\n\n{text}\n{MARKERS[1]}{after}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
