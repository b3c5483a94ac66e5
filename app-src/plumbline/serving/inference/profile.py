"""What the model answers to which inputs: counters by which two versions are compared that saw different rows.

The distribution of the scores alone would not show answers that went to the wrong rows: it stays as it is. So the mean
score is also kept for each cell of the input (carrier UA, departures from 512 to 1024): a version whose answers belong
to other rows has the same mean everywhere. Cells are made from values, never from a version's own codes or ranges, so
that those of two versions mean the same. A batch is one observation, whatever its number of rows: they resemble each
other, and the gateway draws lots for requests, not for rows.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from plumbline.core.schema import ModelSchema, SchemaField
from plumbline.serving.inference.model import Matrix
from plumbline.serving.metrics import MODEL, Metrics

_FOLD_ROWS = 1024
"""Rows that wait until they are counted together: 0.13 µs a row, where a metric's own `observe` costs 1 µs."""
_MAX_FIELDS = 16
_MAX_NAMES = 16
_POWERS = 16
"""Numbers from 2^-16 to 2^16 have cells of their own. With the two limits above: some hundred series of a pod."""
_MANTISSA, _BIAS, _CODES = 23, 127, 512
"""Above its mantissa a float32 is one of 512 codes, sign and exponent, of which each lies in one cell."""
_PROBABILITIES = tuple(i / 20 for i in range(1, 20))
_POSITIVE = tuple(digit * 10.0**power for power in range(-1, 6) for digit in (1, 2, 5))
_VALUES = (*(-value for value in reversed(_POSITIVE)), 0.0, *_POSITIVE)
_SQUASH = 20.0
"""asinh of 2e8: what models predict lies within. The logarithm keeps one large value from hiding all others."""

_NAMED = ("category", "boolean")
"""Types whose codes are places of named cells."""

Floats = npt.NDArray[np.float64]


class Profile(Collector):
    """Counts scores by value and by cell. Called from the event loop alone, scrapes included."""

    def __init__(self, schema: ModelSchema, metrics: Metrics) -> None:
        labels = len(schema.output.labels)
        self._binary = labels == 2
        self._places = np.linspace(0, 1, labels)
        self._edges = np.array(_PROBABILITIES if labels else _VALUES)
        self._buckets = np.zeros(len(self._edges) + 1)
        self._sum = self._answered = self._level = self._squares = 0.0
        chosen = _profiled(schema)[:_MAX_FIELDS]
        fields = [schema.columns[place] for place in chosen]
        # A view where it can be one: copying columns costs more than counting them.
        self._chosen: slice | list[int] = slice(len(chosen)) if chosen == list(range(len(chosen))) else chosen
        cells = [_cells_of(field) for field in fields]
        self._cells = [(field.name, name) for field, names in zip(fields, cells, strict=True) for name in names]
        self._rows, self._levels = np.zeros(len(self._cells)), np.zeros(len(self._cells))
        self._together = self._apart = 0.0
        self._end = np.cumsum([len(names) for names in cells])
        self._begin = self._end - [len(names) for names in cells]
        self._cell_of = (self._begin[:, None] + _number_cells()).ravel()
        self._codes = _CODES * np.arange(len(fields), dtype=np.uint32)
        self._categories = np.array([index for index, field in enumerate(fields) if field.type in _NAMED], np.intp)
        self._labels = [metrics.labels[name] for name in MODEL]
        self._matrices: list[Matrix] = []
        self._outputs: list[Matrix] = []
        self._sizes: list[int] = []
        self._waiting = 0
        metrics.registry.register(self)

    def add(self, matrix: Matrix, outputs: Matrix) -> None:
        """Keep a request's answered rows; they are counted with the next thousand, or when Prometheus asks."""
        if not len(outputs):
            return
        self._matrices.append(matrix)
        self._outputs.append(outputs)
        self._sizes.append(len(outputs))
        self._waiting += len(outputs)
        if self._waiting >= _FOLD_ROWS:
            self._fold()

    def collect(self) -> Iterator[Metric]:
        """The series, for the registry."""
        self._fold()
        scores = HistogramMetricFamily("serving_prediction_score", "What was predicted", labels=MODEL)
        counts = np.cumsum(self._buckets).tolist()
        bounds = [*(f"{edge:g}" for edge in self._edges), "+Inf"]
        scores.add_metric(self._labels, list(zip(bounds, counts, strict=True)), self._sum)
        yield scores
        variance = GaugeMetricFamily("serving_level_variance", "Of the levels of all answered rows", labels=MODEL)
        if self._answered:
            variance.add_metric(self._labels, self._squares / self._answered - (self._level / self._answered) ** 2)
        yield variance
        overlap = GaugeMetricFamily("serving_cell_overlap", "Variance of all fields' effects over theirs", labels=MODEL)
        if self._apart:
            overlap.add_metric(self._labels, self._together / self._apart)
        yield overlap
        names = (*MODEL, "field", "cell")
        rows = CounterMetricFamily(
            "serving_cell_rows", "Answered rows by a field's cell, those of a batch as one", labels=names
        )
        levels = CounterMetricFamily("serving_cell_levels", "Sum of their levels", labels=names)
        for index in np.flatnonzero(self._rows).tolist():  # those that never occurred are no series
            labels = [*self._labels, *self._cells[index]]
            rows.add_metric(labels, float(self._rows[index]))
            levels.add_metric(labels, float(self._levels[index]))
        yield rows
        yield levels

    def _fold(self) -> None:
        if not self._outputs:
            return
        matrix, outputs = np.concatenate(self._matrices), np.concatenate(self._outputs).astype(np.float64)
        sizes = np.array(self._sizes)
        weights = np.repeat(1 / sizes, sizes)
        self._matrices, self._outputs, self._sizes, self._waiting = [], [], [], 0
        if not (finite := np.isfinite(outputs)).all():  # what is not was refused
            kept = finite.all(axis=1)
            matrix, outputs, weights = matrix[kept], outputs[kept], weights[kept]
        scores = outputs[:, 1] if self._binary else outputs.max(axis=1)
        self._buckets += np.bincount(np.searchsorted(self._edges, scores), weights, minlength=len(self._buckets))
        self._sum += float(scores @ weights)
        levels = self._levels_of(outputs)
        self._answered += float(weights.sum())
        self._level += float(levels @ weights)
        self._squares += float(levels**2 @ weights)
        cells = self._cells_in(matrix[:, self._chosen])
        fields = cells.shape[1]
        self._rows += np.bincount(cells.ravel(), np.repeat(weights, fields), minlength=len(self._cells))
        self._levels += np.bincount(cells.ravel(), np.repeat(levels * weights, fields), minlength=len(self._cells))
        self._add_overlap(cells[::4], weights[::4])  # of a quarter: 1 % of a request of 100 rows otherwise

    def _add_overlap(self, cells: npt.NDArray[np.int64], weights: Floats) -> None:
        """How much fields say the same: 1 where each speaks of something else, their number where all are one.

        A row's chance moves all of its cells at once, so that a sum over fields is by this less certain than its terms.
        """
        means = np.divide(self._levels, self._rows, out=np.zeros_like(self._rows), where=self._rows > 0)
        effects = means[cells] - (self._level / self._answered if self._answered else 0)
        self._together += float(effects.sum(axis=1) ** 2 @ weights)
        self._apart += float((effects**2).sum(axis=1) @ weights)

    def _cells_in(self, matrix: Matrix) -> npt.NDArray[np.int64]:
        """The index of every value's cell; shape (rows, fields)."""
        cells: npt.NDArray[np.int64] = self._cell_of[(matrix.view(np.uint32) >> _MANTISSA) + self._codes]
        if len(self._categories):
            values, begin, end = (item[..., self._categories] for item in (matrix, self._begin, self._end))
            missing = end - begin - 1
            cells[:, self._categories] = begin + np.where(np.isnan(values), missing, np.minimum(values, missing - 1))
        return cells

    def _levels_of(self, outputs: Floats) -> Floats:
        """One number in [0, 1] for each row: where the answer stands, whatever the task.

        Of a classifier the mean place among its labels, which two labels that were swapped change as well.
        """
        if len(self._places):
            return outputs @ self._places
        return np.clip(np.arcsinh(outputs[:, 0]) / _SQUASH, -1, 1) / 2 + 0.5


def _profiled(schema: ModelSchema) -> list[int]:
    """The places of the columns that are told apart: a text's, which are hashes, only where there are no others."""
    texts = {column.name for field in schema.fields if field.type == "text" for column in field.columns}
    others = [place for place, column in enumerate(schema.columns) if column.name not in texts]
    return others or list(range(schema.width))


def _cells_of(field: SchemaField) -> list[str]:
    """A category's values or a number's powers of two, and last what is missing."""
    if field.type == "boolean":
        return ["false", "true", "missing"]
    if field.type == "category":
        return [*field.vocabulary[:_MAX_NAMES], "other", "missing"]
    powers = [f"{2.0**power:g}..{2.0 ** (power + 1):g}" for power in range(-_POWERS, _POWERS + 1)]
    return [*(f"-({name})" for name in reversed(powers)), "0", *powers, "missing"]


def _number_cells() -> npt.NDArray[np.int64]:
    """For each code the place of its cell among those of a number; below 2^-126 a number counts as 0."""
    zero = 2 * _POWERS + 1
    sizes = np.clip(np.arange(_CODES // 2) - _BIAS, -_POWERS, _POWERS) + _POWERS + 1
    sizes[0] = 0
    cells = np.concatenate((zero + sizes, zero - sizes))
    cells[[_CODES // 2 - 1, _CODES - 1]] = 2 * zero + 1  # NaN
    return cells
