"""What each version did in each role and arm: counts, quality, scores and business value, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from tabulate import tabulate

from plumbline.core.documents import require
from plumbline.monitoring import live
from plumbline.monitoring.live import Figure, Key
from plumbline.monitoring.log.queries import ROWS
from plumbline.monitoring.policy import Quality
from plumbline.monitoring.stats import Mean, from_moments

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CONFIDENCE = 0.95

_COUNTS: LiteralString = """
    SELECT version, role, arm, count(*), count(truth), sum(value),
           percentile_cont(%(quantiles)s::float8[]) WITHIN GROUP (ORDER BY score)
    FROM rows GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
_LABELS: LiteralString = """
    SELECT version, role, arm, label, count(*)::float8 / sum(count(*)) OVER (PARTITION BY version, role, arm)
    FROM rows WHERE label IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 5 DESC"""
# Sums over callers, so that no row leaves the database.
_MOMENTS: LiteralString = """
    , callers AS (
        SELECT version, role, arm, metric, caller, count(y)::float8 AS n, sum(y) AS y
        FROM rows, LATERAL (VALUES ('accuracy', accuracy), ('error', error), ('absolute_error', abs(error)),
                                   ('value', value), ('ms', ms)) AS measured (metric, y)
        WHERE y IS NOT NULL GROUP BY 1, 2, 3, 4, 5
    )
    SELECT version, role, arm, metric, count(*), sum(n), sum(y), sum(n * n), sum(y * y), sum(n * y)
    FROM callers GROUP BY 1, 2, 3, 4"""
_UNMATCHED: LiteralString = """
    SELECT count(*) FROM monitoring.feedback f
    WHERE f.model = %(model)s AND f.id >= %(low)s AND f.id < %(high)s AND NOT EXISTS (
        SELECT FROM monitoring.predictions p
        WHERE p.id = f.id AND p.row = greatest(f.row, 0) AND (f.row >= 0 OR p.rows = 1))"""


@dataclass(slots=True)
class Line:
    """One version in one role and arm."""

    version: str
    role: str
    arm: str
    rows: int
    labelled: int
    value_total: float | None
    """Sum of the business values that came with feedback."""
    quantiles: tuple[float, ...] | None
    """Of the scores, at QUANTILES."""
    quality: Figure | None = None
    """The policy's metric."""
    metrics: dict[str, Mean] = field(default_factory=dict)
    labels: dict[str, float] = field(default_factory=dict)
    """Share of each answered label."""

    def interval(self, metric: str) -> tuple[float, float]:
        """The 95 % interval of a metric: Wilson's for accuracy, the normal one for the others."""
        mean = self.metrics[metric]
        return mean.share_interval(_CONFIDENCE) if metric == "accuracy" else mean.interval(_CONFIDENCE)


@dataclass(frozen=True, slots=True)
class Readout:
    """All lines of a model in a window, and how much feedback found no prediction."""

    lines: tuple[Line, ...]
    unmatched: int


def read(
    connection: psycopg.Connection[Any], parameters: Mapping[str, Any], quality: Quality | None = None, source: str = ""
) -> Readout:
    """Read a model's log within `queries.window(…)`, and the metric of a policy where it names one.

    Raises DocumentError that names the source where no labelled answer has that metric.
    """
    values = {**parameters, "quantiles": list(QUANTILES)}
    lines: dict[Key, Line] = {}
    for version, role, arm, rows, labelled, total, scores in connection.execute(ROWS + _COUNTS, values):
        lines[version, role, arm] = Line(version, role, arm, rows, labelled, total, tuple(scores) if scores else None)
    for version, role, arm, label, share in connection.execute(ROWS + _LABELS, values):
        lines[version, role, arm].labels[label] = share
    for version, role, arm, metric, *moments in connection.execute(ROWS + _MOMENTS, values):
        lines[version, role, arm].metrics[metric] = from_moments(*moments)
    if quality is not None:
        live_answers, faults = live.read(connection, parameters, quality)
        if not live_answers:
            require(((f"quality.{field}", reason) for field, reason in faults), source)
        for key, answers in live_answers.items():
            lines[key].quality = answers.figure(quality.metric)
    unmatched = connection.execute(_UNMATCHED, values).fetchone()
    return Readout(tuple(lines.values()), unmatched[0] if unmatched else 0)


def as_json(readout: Readout) -> dict[str, Any]:
    """The read-out as plain values; what is not known is null, never NaN."""
    return {"unmatched_feedback": readout.unmatched, "lines": [_line(line) for line in readout.lines]}


def _line(line: Line) -> dict[str, Any]:
    metrics = {}
    for name, mean in sorted(line.metrics.items()):
        low, high = (finite(end) for end in line.interval(name))
        metrics[name] = {
            "mean": finite(mean.value),
            "low": low,
            "high": high,
            "rows": mean.rows,
            "callers": mean.clusters,
        }
    if (quality := line.quality) is not None:
        metrics[quality.metric] = {
            "mean": finite(quality.value), "low": finite(quality.low), "high": finite(quality.high),
            "rows": quality.rows, "callers": quality.callers,
        }  # fmt: skip
    return {
        "version": line.version, "role": line.role, "arm": line.arm, "rows": line.rows, "labelled": line.labelled,
        "value_total": line.value_total, "metrics": metrics, "labels": line.labels,
        "scores": dict(zip((f"p{q * 100:g}" for q in QUANTILES), line.quantiles or (), strict=False)),
    }  # fmt: skip


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinities, which JSON does not have."""
    return value if abs(value) < float("inf") else None


def as_table(readout: Readout) -> str:
    """The read-out for people: one line per version, role and arm."""
    head = ("version", "role", "arm", "rows", "labelled", "quality", "value per row", "scores p5/p50/p95")
    lines = []
    for line in readout.lines:
        scores = "/".join(f"{line.quantiles[i]:.3g}" for i in (0, 2, 4)) if line.quantiles else "-"
        figures = _quality(line), _cell(line, "value"), scores
        lines.append((line.version, line.role, line.arm or "-", line.rows, line.labelled, *figures))
    table = "the log has no such answers; `plumbline monitor consume` stores what servers gave"
    if lines:
        table = tabulate(lines, head, tablefmt="plain", disable_numparse=[0, 1, 2])
    return f"{table}\nfeedback for unknown predictions: {readout.unmatched}"


def _quality(line: Line) -> str:
    if (figure := line.quality) is not None:
        if finite(figure.value) is None:
            return f"{figure.metric} -"
        return f"{figure.metric} {_between(figure.value, figure.low, figure.high)}"
    usual = next((name for name in ("accuracy", "absolute_error") if name in line.metrics), "")
    return _cell(line, usual, usual)


def _cell(line: Line, metric: str, name: str = "") -> str:
    if metric not in line.metrics:
        return "-"
    low, high = line.interval(metric)
    return f"{name} {_between(line.metrics[metric].value, low, high)}".strip()


def _between(value: float, low: float, high: float) -> str:
    """A figure with its interval; rows of one caller alone have none."""
    known = finite(low) is not None and finite(high) is not None
    return f"{value:.4g} ({f'{low:.4g} … {high:.4g}' if known else 'one caller: no interval'})"
