"""Writes each dashboard beside its source: `python kustomize/monitoring/dashboards/render.py` after a change."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import canary  # noqa: E402
import model_server  # noqa: E402
import platform_health  # noqa: E402
import quality  # noqa: E402


def rendered() -> dict[str, str]:
    """{file name: its content}."""
    modules = (canary, model_server, platform_health, quality)
    return {f"{module.DASHBOARD['uid']}.json": json.dumps(module.DASHBOARD, indent=1) + "\n" for module in modules}


if __name__ == "__main__":
    for name, text in rendered().items():
        (HERE / name).write_text(text, encoding="utf-8")
