"""The figures of metrics. Each takes weights, so that a resample is a count per row and nothing is sorted twice.

Outputs are what the ONNX contract says: probabilities, shape (rows, classes), or values, shape (rows, 1).
"""

from collections.abc import Callable, Collection
from functools import partial

import numpy as np
import numpy.typing as npt

from plumbline.core.metrics import names
from plumbline.core.metrics.curve import Curve, Floats
from plumbline.core.metrics.names import Costs
from plumbline.core.metrics.rows import Places, per_row
from plumbline.core.schema import Output

Metric = Callable[[Floats], float]
"""A metric as a function of the rows' weights, shape (rows,). NaN where the rows do not define it."""
BINS = 10


def answered(output: Output, outputs: Floats, threshold: float | None) -> Places:
    """The label that is answered: the most likely one, or the second of two from the threshold on."""
    if output.task == "binary":
        return np.asarray(outputs[:, 1] >= (0.5 if threshold is None else threshold), dtype=np.intp)
    return np.asarray(outputs.argmax(axis=1))


def build(
    output: Output,
    truth: Floats,
    outputs: Floats,
    threshold: float | None,
    *,
    costs: Costs | None = None,
    declared: Collection[str] = (),
) -> dict[str, Metric]:
    """All metrics of an output by name, for fixed truth, shape (rows,), and outputs; also `declared` ones."""
    if output.task == "regression":
        return _regression(truth, outputs[:, 0])
    return of_answers(output, truth, outputs, answered(output, outputs, threshold), costs=costs, declared=declared)


def of_answers(
    output: Output,
    truth: Floats,
    outputs: Floats,
    called: Places,
    *,
    costs: Costs | None = None,
    declared: Collection[str] = (),
) -> dict[str, Metric]:
    """The metrics of a classifier whose answers are known, whatever threshold gave them."""
    labels = truth.astype(np.intp)
    curves = [Curve(np.equal(labels, place).astype(np.float64), column) for place, column in enumerate(outputs.T)]
    each = _by_class(output, labels, called)
    metrics = _binary(truth, outputs, called, curves[1]) if output.task == "binary" else _classes(output, curves)
    metrics |= each | {name: _mean(rows) for name, rows in per_row(output, truth, outputs, called, costs).items()}
    for name in declared:
        if (at := names.at(name, output)) is not None:
            metrics[name] = partial(getattr(curves[at.place], at.kind), at.limit)
    order = [*names.of(output, costs=costs is not None), *declared]
    return {name: metrics[name] for name in order if name in metrics}


def _binary(truth: Floats, outputs: Floats, called: Places, curve: Curve) -> dict[str, Metric]:
    score, positive = outputs[:, 1], called == 1
    hit = positive & (truth == 1)
    return {
        "roc_auc": curve.roc_auc,
        "pr_auc": curve.average_precision,
        "average_precision": curve.average_precision,
        "ece": _calibration_error(truth, score),
        # Nothing called positive: no call was wrong, but none was right; 0 as scikit-learn has it.
        "precision": lambda weights: float(weights @ hit) / max(float(weights @ positive), 1e-300),
        # No such row: nobody knows; 0 would be an alarm on a day without any.
        "recall": lambda weights: _divided(float(weights @ hit), float(weights @ truth)),
        "f1": lambda weights: float(2 * (weights @ hit) / max(weights @ positive + weights @ truth, 1e-300)),
    }


def _classes(output: Output, curves: list[Curve]) -> dict[str, Metric]:
    each: list[Metric] = [curve.average_precision for curve in curves]
    named = {f"{label}_average_precision": each[place] for label, place in names.plain(output).items()}
    return {"average_precision": _mean_of(each), **named}


def _by_class(output: Output, labels: Places, called: Places) -> dict[str, Metric]:
    """How each label fares, and the means of their F1 and of their recall; NaN where a label has no row."""
    classes = range(len(output.labels))

    def ratio(part: npt.NDArray[np.bool_], *wholes: npt.NDArray[np.bool_]) -> Metric:
        shares, whole = len(wholes) * part.astype(np.float64), np.sum(wholes, axis=0, dtype=np.float64)
        return lambda weights: _divided(float(weights @ shares), float(weights @ whole))

    hits = [(labels == place) & (called == place) for place in classes]
    recall = [ratio(hits[place], labels == place) for place in classes]
    each: dict[str, Metric] = {
        "macro_f1": _mean_of([ratio(hits[place], labels == place, called == place) for place in classes]),
        "balanced_accuracy": _mean_of(recall),
    }
    for name, place in names.plain(output).items():
        each[f"{name}_recall"] = recall[place]
        each[f"{name}_precision"] = ratio(hits[place], called == place)
    return each


def _mean(values: object) -> Metric:
    numbers = np.asarray(values, dtype=np.float64)
    return lambda weights: float(weights @ numbers / weights.sum())


def _mean_of(metrics: list[Metric]) -> Metric:
    """The mean of those that are defined."""

    def mean(weights: Floats) -> float:
        values = np.array([metric(weights) for metric in metrics])
        return float(values[~np.isnan(values)].mean())

    return mean


def _divided(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _regression(truth: Floats, value: Floats) -> dict[str, Metric]:
    squared = (value - truth) ** 2

    def r2(weights: Floats) -> float:
        mean = float(weights @ truth) / float(weights.sum())
        spread = weights @ (truth - mean) ** 2
        return float(1 - weights @ squared / spread) if spread else float("nan")

    return {
        "rmse": lambda weights: float(np.sqrt(weights @ squared / weights.sum())),
        "mae": _mean(np.abs(value - truth)),
        "r2": r2,
    }


def _calibration_error(truth: Floats, score: Floats) -> Metric:
    """Expected calibration error over ten bins of equal width (Naeini et al., AAAI 2015)."""
    bins = np.minimum((score * BINS).astype(int), BINS - 1)

    def error(weights: Floats) -> float:
        gap = np.bincount(bins, weights * (score - truth), minlength=BINS)
        return float(np.abs(gap).sum() / weights.sum())

    return error
