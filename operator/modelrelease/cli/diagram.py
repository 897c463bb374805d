"""`python -m modelrelease.cli.diagram`: write docs/state-machine.md from the table of transitions, or check it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from modelrelease.core.diagram import page


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; with --check write nothing and return 1 where the file says anything else."""
    parser = argparse.ArgumentParser(prog="python -m modelrelease.cli.diagram", description="Write the state diagram.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is not as generated")
    parser.add_argument("file", type=Path, nargs="?", default=Path("docs/state-machine.md"), metavar="FILE")
    args = parser.parse_args(argv)
    if not args.check:
        args.file.write_text(page(), encoding="utf-8")
        return 0
    if args.file.exists() and args.file.read_text(encoding="utf-8") == page():
        return 0
    print(f"{args.file} is not what the table says; run: python -m modelrelease.cli.diagram", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
