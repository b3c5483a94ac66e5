"""Bootstrap intervals of metrics, and the slices that are large enough for one: the same for training and the gate."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from plumbline.core.metrics.clusters import Clusters, Floats, expanded
from plumbline.core.metrics.figures import Metric
from plumbline.core.schema import Output
from plumbline.training.report import Interval

RESAMPLES = 200
SLICE_ROWS = 30
"""A slice of fewer rows, of too few clusters, or with fewer than ten of either class says nothing and is left out."""
SLICE_OF_CLASS = 10


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


def slices(
    columns: Mapping[str, npt.NDArray[np.str_]], output: Output, truth: Floats, clusters: Clusters
) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """(column, value, which rows) of every slice that is large enough, of {column: the value of each row}."""
    for column, values in columns.items():
        for value in np.unique(values):
            chosen = values == value
            if not clusters[chosen].fault and _enough(output, truth[chosen]):
                yield column, str(value), chosen


def _enough(output: Output, truth: Floats) -> bool:
    if len(truth) < SLICE_ROWS:
        return False
    if output.task != "binary":
        return True
    return bool(min((truth == 0).sum(), (truth == 1).sum()) >= SLICE_OF_CLASS)
