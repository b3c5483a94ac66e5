"""Every query of every dashboard, so that a test can ask Prometheus each of them."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "kustomize/monitoring/dashboards"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of one panel, ready to be asked."""

    dashboard: str
    panel: str
    promql: str


def queries(model: str = ".*") -> list[Query]:
    """Every query, for the models that match; Grafana would put the choice of its reader for `$model`."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                found.append(Query(path.stem, panel["title"], target["expr"].replace("$model", model)))
    return found
