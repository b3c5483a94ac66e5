"""`python -m bench`: measure every server, write docs/benchmarks.*, name what is slower than what is committed."""

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import compare, report, run
from bench.environments import ROOT

COMMITTED = "docs/benchmarks.json"


def main() -> int:
    """0, or 1 where a ratio lost more than a tenth."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="windows for each server and case")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="the folder of benchmarks.md")
    parser.add_argument("--only", nargs="*", help="servers whose names hold one of these, and no studies")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        found = run.run(stack, Path(folder), arguments.rounds, arguments.only)
    report.write(found, arguments.output)
    committed = subprocess.run(["git", "show", f"HEAD:{COMMITTED}"], cwd=ROOT, capture_output=True, text=True)
    try:
        losses = compare.losses(committed.stdout, found) if committed.returncode == 0 else []
    except compare.OtherProcessorError as error:
        print(f"not compared: {error}", file=sys.stderr)
        return 0
    for line in losses:
        print(f"slower: {line}", file=sys.stderr)
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
