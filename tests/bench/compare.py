"""A run against the last committed one: by ratios, since another day changes every figure, on a like processor."""

import json
from collections.abc import Iterator
from typing import Any

from bench.ours import NAME

WORTH_SAYING = 0.10


class OtherProcessorError(Exception):
    """Two runs whose ratios say nothing of each other."""


def losses(committed: str, found: dict[str, Any]) -> list[str]:
    """A line for each ratio of this server that is more than a tenth below what `committed`, a JSON document, says.

    Raises OtherProcessorError where that is of another one: at 100 rows the ratio to the minimal handler was 1.9 on
    an AMD EPYC and 1.4 on an Intel Xeon, with no slower server.
    """
    document = json.loads(committed)
    there, here = (run["machine"]["processor"] for run in (document, found))
    if there != here:
        raise OtherProcessorError(f"what is committed was measured on {there}, this on {here}")
    before, after = dict(_ratios(document)), dict(_ratios(found))
    return [
        f"{name}: {after[name]:.2f}, {before[name]:.2f} committed"
        for name in before
        if name in after and after[name] < before[name] * (1 - WORTH_SAYING)
    ]


def _ratios(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for case, servers in document["cases"].items():
        for server, shown in servers.items():
            if server.startswith(NAME):
                yield f"{case}: {server} / minimal FastAPI + ORT", shown["ratio"]
        best = best_peer(document, case)
        if best is not None and NAME in servers:
            yield f"{case}: {NAME} / best peer", servers[NAME]["ratio"] / servers[best]["ratio"]


def best_peer(document: dict[str, Any], case: str) -> str | None:
    """The peer with the highest throughput in a case."""
    servers = document["cases"][case]
    peers = [name for name in document["peers"] if name in servers]
    return max(peers, key=lambda name: servers[name]["ratio"], default=None)
