"""docs/benchmarks.md and its plot, from the JSON of a run."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.compare import best_peer
from bench.ours import NAME
from bench.plot import draw


def write(found: dict[str, Any], folder: Path) -> None:
    """Write benchmarks.json, benchmarks.md and benchmarks.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, folder / "benchmarks.png")
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(  # noqa: S701 - Markdown, and no text of strangers
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["thousands"] = lambda value: f"{value:,.0f}"
    text = environment.get_template("report.md.j2").render(found, name=NAME, targets=targets(found))
    (folder / "benchmarks.md").write_text(text)


def targets(found: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """What was aimed at, what was measured, and whether that is enough."""
    cases, start = found["cases"], found["studies"].get("start")
    one, steady = cases["1 row, 16 callers"], cases["1 row, 1000 requests/s"]

    def over(case: str, server: str = NAME) -> tuple[float, str]:
        peer = best_peer(found, case)
        assert peer is not None
        return cases[case][server]["ratio"] / cases[case][peer]["ratio"], peer

    rows = []
    ratio, peer = over("1 row, 16 callers")
    rows.append(("1 row, 16 callers: ≥ 2x the best peer", f"{ratio:.2f}x {peer}", ratio >= 2))
    ratio = one[NAME]["ratio"]
    rows.append(("… and ≥ 1.4x the minimal FastAPI handler, which has no features", f"{ratio:.2f}x", ratio >= 1.4))
    mine = steady[NAME]["p95_ms"]
    peers = min(steady[name]["p95_ms"] for name in found["peers"])
    rows.append(("1 row, 1,000 requests/s: p95 < 50 ms", f"{mine:.2f} ms", mine < 50))
    rows.append(("… and below every peer's", f"{mine:.2f} ms, the best peer {peers:.2f} ms", mine < peers))
    for server in (NAME, f"{NAME}, rows by name"):
        form = "as a matrix" if server == NAME else "by name"
        ratio, peer = over("100 rows, 16 callers", server)
        rows.append((f"100 rows {form}, 16 callers: ≥ 1.5x the best peer", f"{ratio:.2f}x {peer}", ratio >= 1.5))
        p95 = cases["100 rows, 1 callers"][server]["p95_ms"]
        rows.append((f"100 rows {form}, 1 caller: p95 < 20 ms", f"{p95:.2f} ms", p95 < 20))
    for case, quantile in (("1 row, 64 callers", "p99"), ("100 rows, 64 callers", "p95")):
        mine, best = (min(cases[case][name][f"{quantile}_ms"] for name in names) for names in ([NAME], found["peers"]))
        rows.append((f"{case}: {quantile} ≤ every peer's", f"{mine:.1f} ms, the best peer {best:.1f} ms", mine <= best))
    if tensors := found["studies"].get("binary"):
        aim = "100 rows as binary tensors, 16 callers: ≥ 2x the best peer"
        rows.append((aim, f"{tensors[NAME]['ratio']:.2f}x", tensors[NAME]["ratio"] >= 2))
    ready = start["ready_s"] if start else found["servers"][NAME]["ready_s"]
    rows.append(("ready < 1.5 s from the start of the process", f"{ready:.2f} s", ready < 1.5))
    memory = found["servers"][NAME]["memory_mb"]
    rows.append(("≤ 150 MB", f"{memory:.0f} MB after the run", memory <= 150))
    return rows
