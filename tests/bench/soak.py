"""`python -m bench.soak`: is the server's memory flat over millions of requests?

A server with everything on is asked one row at a time by 64 callers, and batches of 100 rows by 16 in between. Each
window's callers open connections of their own, and every answer but 200 ends the run.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import services

from bench import ours, studies
from bench.load import LoadError, closed
from bench.servers import Running
from bench.subject import boosting
from bundles import make_keys

_WINDOW, _BATCHES = 20, 2
"""Seconds."""
_SETTLED = 1_000_000
"""Requests after which caches, queues and the allocator's arenas have the size that they keep."""
_GROWTH_MB = 10


def main() -> int:
    """0, or 1 where the memory grew by more than 10 MB after the first million of requests."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--requests", type=float, default=10e6, help="after which it ends (10 million)")
    parser.add_argument("--minutes", type=float, default=60, help="after which it ends, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, ExitStack() as stack:
        folder = Path(name)
        subject = boosting(folder / "model", make_keys(folder / "keys"))
        url = stack.enter_context(services.redis(folder / "redis"))
        (server,) = studies.start(stack, [ours.kind(url)], subject, folder)
        try:
            sizes = _drive(server, folder, arguments.requests, arguments.minutes * 60)
        except LoadError:
            for log in folder.glob("*/log"):
                bad = [line for line in log.read_text().splitlines() if '"status":200' not in line]
                print("\n".join(bad[-20:]), file=sys.stderr)
            raise
    settled = [size for asked, size in sizes if asked >= _SETTLED]
    if not settled:
        print("no million of requests was answered: nothing can be said of the memory", file=sys.stderr)
        return 1
    grown = settled[-1] - settled[0]
    print(f"{grown:+.1f} MB since the first million")
    return int(grown > _GROWTH_MB)


def _drive(server: Running, folder: Path, most: float, seconds: float) -> list[tuple[int, float]]:
    """(requests answered, MB then) at the start, about each million, and at the end."""
    began = time.monotonic()
    asked, rows, sizes = 0, 0, [(0, server.memory())]
    _say(sizes[0], rows, 0)
    while asked < most and time.monotonic() - began < seconds:
        for case, callers, lasts, size in (("one", 64, _WINDOW, 1), ("many", 16, _BATCHES, 100)):
            window = closed(callers, lasts, server.requests[case], folder)
            answered = round(window.rate * window.seconds)
            asked, rows = asked + answered, rows + answered * size
        if asked // 10**6 > sizes[-1][0] // 10**6 or asked >= most or time.monotonic() - began >= seconds:
            sizes.append((asked, server.memory()))
            _say(sizes[-1], rows, time.monotonic() - began)
    return sizes


def _say(size: tuple[int, float], rows: int, seconds: float) -> None:
    print(f"{size[0]:>12,} requests, {rows:>13,} rows, {seconds:>6.0f} s: {size[1]:6.1f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
