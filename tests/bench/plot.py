"""One picture: throughput against the peers, and how a request's cost grows."""

from pathlib import Path
from typing import Any

from bench.ours import NAME


def draw(found: dict[str, Any], path: Path) -> None:
    """Write a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), width_ratios=(1, 1, 1))
    for axis, case in zip(axes, ("1 row, 16 callers", "100 rows, 16 callers"), strict=False):
        servers = [(name, shown["ratio"]) for name, shown in found["cases"][case].items() if "echo" not in name]
        servers.sort(key=lambda item: item[1])
        names, ratios = zip(*servers, strict=True)
        bars = axis.barh(names, ratios, color=["#1f77b4" if name.startswith(NAME) else "#999999" for name in names])
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
        axis.set_title(f"{case}: throughput, minimal FastAPI = 1", fontsize=9)
        axis.margins(x=0.15)
        axis.tick_params(labelsize=8)
    for name, points in found["studies"].get("curves", {}).items():
        at = [point["at"] for point in points]
        (line,) = axes[2].plot(at, [point["server"] for point in points], marker="o", markersize=3, label=name)
        axes[2].plot(at, [point["model"] for point in points], linestyle=":", color=line.get_color())
    axes[2].set(xscale="log", yscale="log")
    axes[2].set_title("CPU of a request in µs (dotted: the model alone)", fontsize=9)
    axes[2].set_xlabel("rows of a batch, features or trees of a model", fontsize=8)
    axes[2].tick_params(labelsize=8)
    if found["studies"]:
        axes[2].legend(fontsize=8)
    axes[2].grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
