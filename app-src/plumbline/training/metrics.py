"""Bootstrap intervals of metrics."""

from collections.abc import Mapping

import numpy as np

from plumbline.core.metrics.clusters import Clusters, expanded
from plumbline.core.metrics.figures import Metric
from plumbline.training.report import Interval

RESAMPLES = 200


def intervals(
    metrics: Mapping[str, Metric], clusters: Clusters, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Each metric with its 95 % bootstrap interval over clusters of rows: expanded percentiles.

    What these rows do not define is left out, as the recall of a label that none of them has.
    """
    even = np.ones(len(clusters.places))
    values = {name: value for name, metric in metrics.items() if not np.isnan(value := metric(even))}
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for weights in clusters.weights(resamples, seed):
        for name, kept in drawn.items():
            kept.append(metrics[name](weights))
    ends = [expanded(share, clusters.count) for share in (0.025, 0.975)]
    return {name: _interval(value, drawn[name], ends) for name, value in values.items()}


def _interval(value: float, drawn: list[float], ends: list[float]) -> Interval:
    # A resample of a small slice may hold one class only, where a metric is not defined: left out.
    low, high = np.nanquantile(drawn, ends)
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
