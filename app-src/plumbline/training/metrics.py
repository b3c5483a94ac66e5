"""Bootstrap intervals of metrics."""

from collections.abc import Mapping

import numpy as np

from plumbline.core.metrics.figures import Metric
from plumbline.training.report import Interval

RESAMPLES = 200


def intervals(
    metrics: Mapping[str, Metric], rows: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Each metric with its 95 % percentile bootstrap interval over rows (Efron and Tibshirani 1993, chapter 13).

    What these rows do not define is left out, as the recall of a label that none of them has.
    """
    generator = np.random.default_rng(seed)
    even = np.ones(rows)
    values = {name: value for name, metric in metrics.items() if not np.isnan(value := metric(even))}
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(resamples):
        weights = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)
        for name, kept in drawn.items():
            kept.append(metrics[name](weights))
    return {name: _interval(value, drawn[name]) for name, value in values.items()}


def _interval(value: float, drawn: list[float]) -> Interval:
    # A resample of a small slice may hold one class only, where a metric is not defined: left out.
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
