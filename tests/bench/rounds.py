"""Interleaved rounds: each server is measured once in each, so that what else the machine does meets them all."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load import Requests, Window
from bench.servers import Running

Measure = Callable[[Requests, Path], Window]


@dataclass
class Series:
    """The windows of one server in one case, one for each round."""

    windows: list[Window] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Microseconds of CPU for each answer."""

    def add(self, window: Window, cpu: float) -> None:
        self.windows.append(window)
        self.cpu.append(cpu / (window.rate * window.seconds) * 1e6)

    def over(self, other: "Series") -> float:
        """The median of this server's throughput over another's in the same round."""
        pairs = zip(self.windows, other.windows, strict=True)
        return statistics.median(mine.rate / theirs.rate for mine, theirs in pairs)

    def summary(self, base: "Series") -> dict[str, Any]:
        """Medians, and the spread of the throughput."""
        rates = [window.rate for window in self.windows]
        latencies = {
            f"{name}_ms": round(statistics.median(getattr(window, name) for window in self.windows) * 1000, 3)
            for name in ("p50", "p95", "p99")
        }
        return {
            "rate": round(statistics.median(rates), 1),
            "low": round(min(rates), 1),
            "high": round(max(rates), 1),
            "ratio": round(self.over(base), 3),
            "cpu_us": round(statistics.median(self.cpu), 1),
            **latencies,
        }


def measure(servers: Sequence[Running], case: str, how: Measure, rounds: int, folder: Path) -> dict[str, Series]:
    """One case for all servers, by name."""
    found = {server.kind.name: Series() for server in servers}
    for number in range(rounds):
        # Each round begins with another one, so that no server always follows the same neighbour.
        for server in [*servers[number % len(servers) :], *servers[: number % len(servers)]]:
            before = server.cpu()
            window = how(server.requests[case], folder)
            found[server.kind.name].add(window, server.cpu() - before)
    return found
