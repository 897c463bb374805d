"""How much faster than life the simulator plays rollouts: `python -m bench.simulator` prints a table.

One process, examples/http.yaml, seed by seed; `--runs` and `--seed` change them. Ends with status 1 below 1,000 times.
"""

import argparse
import sys
import time
from pathlib import Path

from bench.evidence_tables import render
from modelrelease.cli.documents import read
from modelrelease.cli.experiment import Asked, experiment, play_one

EXAMPLE = Path(__file__).parent.parent / "examples" / "http.yaml"
BAR = 1000.0
WORLDS = {
    "healthy, 20 requests/s": Asked(20.0, (("", 0.01),), (("", 0.01),)),
    "near its margin, 20 requests/s": Asked(20.0, (("", 0.01),), (("", 0.025),)),
    "five times the errors, 200 requests/s": Asked(200.0, (("", 0.01),), (("", 0.05),)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10, help="a world; default %(default)s")
    parser.add_argument("--seed", type=int, default=20, help="default %(default)s")
    options = parser.parse_args()
    rows, slowest = [], float("inf")
    for name, asked in WORLDS.items():
        what = experiment(read([str(EXAMPLE)]), asked, None)
        began = time.process_time()
        runs = [play_one(what, options.seed, number) for number in range(options.runs)]
        spent_s = time.process_time() - began
        ratio = sum(run.ended_s for run in runs) / spent_s
        polls, passes = sum(run.polls for run in runs), sum(run.passes for run in runs)
        slowest = min(slowest, ratio)
        rows.append((name, f"{ratio:,.0f}", f"{spent_s / polls * 1e6:,.0f}", f"{polls / passes:,.1f}"))
    print(render(("world", "times faster than life", "µs a poll", "polls a decision"), rows))
    return 0 if slowest >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
