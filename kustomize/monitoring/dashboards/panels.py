"""Dashboards as Grafana reads them, from a few words: rows of panels, each with a title, a unit and its queries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_COLUMNS = 24
_HEIGHT = 8
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture; `queries` maps a legend, with labels as {{label}}, to PromQL."""

    title: str
    unit: str
    queries: Mapping[str, str]
    kind: str = "timeseries"
    description: str = ""
    limit: float | None = None
    """A line to stay below, as the alerts have it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels beside each other under one heading."""

    title: str
    panels: Sequence[Panel]


def dashboard(uid: str, title: str, rows: Sequence[Row], *, of_models: bool = False) -> dict[str, Any]:
    """A dashboard; with `of_models` one chooses the model at the top, and queries say model=~"$model"."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["plumbline"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_MODEL] if of_models else []},
        "panels": list(_placed(rows)),
    }


_MODEL = {
    "name": "model",
    "label": "Model",
    "type": "query",
    "datasource": DATASOURCE,
    "query": {"query": "label_values(serving_model_info, model)", "refId": "model"},
    "refresh": 2,
    "multi": True,
    "includeAll": True,
    "current": {"text": "All", "value": "$__all"},
}


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "gridPos": _place(0, top, _COLUMNS, 1), "panels": []}
        width = _COLUMNS // len(row.panels)
        for index, panel in enumerate(row.panels):
            number += 1
            yield {"id": number, "gridPos": _place(index * width, top + 1, width, _HEIGHT), **_panel(panel)}
        top += 1 + _HEIGHT


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(panel: Panel) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(i, *item, instant=instant) for i, item in enumerate(panel.queries.items())],
        "fieldConfig": {"defaults": {"unit": panel.unit, **_limit(panel.limit)}, "overrides": []},
        **({"transformations": [{"id": "merge", "options": {}}]} if panel.kind == "table" else {}),
    }


def _target(number: int, legend: str, query: str, *, instant: bool) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": " ".join(query.split()),
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
        "format": "table" if instant else "time_series",
    }


def _limit(limit: float | None) -> dict[str, Any]:
    if limit is None:
        return {}
    steps = [{"color": "green", "value": None}, {"color": "red", "value": limit}]
    return {
        "thresholds": {"mode": "absolute", "steps": steps},
        "custom": {"thresholdsStyle": {"mode": "dashed"}},
    }
