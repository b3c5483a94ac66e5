"""`python -m argo.render`: write each graph's YAML beside it; with `--check` only say which differ."""

import importlib
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent
SHARED = {"__init__", "pods", "render"}


def rendered() -> dict[Path, str]:
    """{file: its text} of every graph in this folder."""
    texts = {}
    for source in sorted(HERE.glob("*.py")):
        if source.stem not in SHARED:
            graph = importlib.import_module(f"argo.{source.stem}")
            built = [item.to_dict() for item in (graph.WORKFLOW, getattr(graph, "SCHEDULE", None)) if item is not None]
            text = yaml.safe_dump_all(built, sort_keys=False, width=120, allow_unicode=True)
            target = source.with_name(source.stem.replace("_", "-") + ".yaml")
            texts[target] = f"# Rendered from {source.name} by `make workflows`: edit that, not this.\n{text}"
    return texts


def main() -> int:
    """Write, or compare; returns the exit code."""
    differing = [path for path, text in rendered().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in differing:
            print(f"{path.name} is not what {path.stem.replace('-', '_')}.py renders: run `make workflows`")
        return bool(differing)
    for path in differing:
        path.write_text(rendered()[path])
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
