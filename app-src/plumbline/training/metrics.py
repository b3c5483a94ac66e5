"""Metrics with bootstrap intervals.

Each takes weights, so that a resample is a count per row and nothing is sorted twice.

Outputs are what the ONNX contract says: probabilities, shape (rows, classes), or values, shape (rows, 1).
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from plumbline.core.schema import Output
from plumbline.training.model import Floats
from plumbline.training.report import Interval

Metric = Callable[[Floats], float]
"""A metric as a function of the rows' weights, shape (rows,)."""
RESAMPLES = 200
BINS = 10


def build(output: Output, truth: Floats, outputs: Floats, threshold: float | None) -> dict[str, Metric]:
    """All metrics of a task by name, for fixed truth, shape (rows,), and outputs."""
    if output.task == "regression":
        return _regression(truth, outputs[:, 0])
    labels = truth.astype(int)
    if output.task == "multiclass":
        return {
            "accuracy": _mean(outputs.argmax(axis=1) == labels),
            "log_loss": _log_loss(labels, outputs),
            **_by_class(output.labels, labels, outputs.argmax(axis=1)),
        }
    score = outputs[:, 1]
    positive = score >= (0.5 if threshold is None else threshold)
    curve = _Curve(truth, score)
    return {
        "roc_auc": curve.roc_auc,
        "pr_auc": curve.average_precision,
        "log_loss": _log_loss(labels, outputs),
        "brier": _mean((score - truth) ** 2),
        "ece": _calibration_error(truth, score),
        "accuracy": _mean(positive == truth),
        "precision": _share(positive & (labels == 1), positive),
        "recall": _share(positive & (labels == 1), labels == 1),
        "f1": lambda w: float(2 * (w @ (positive & (labels == 1))) / max(w @ positive + w @ labels, 1e-300)),
    }


def intervals(
    metrics: Mapping[str, Metric], rows: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Each metric with its 95 % percentile bootstrap interval over rows (Efron and Tibshirani 1993, chapter 13).

    What these rows do not define is left out, as the recall of a label that none of them has.
    """
    generator = np.random.default_rng(seed)
    even = np.ones(rows)
    drawn: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(resamples):
        weights = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)
        for name, metric in metrics.items():
            drawn[name].append(metric(weights))
    values = {name: metric(even) for name, metric in metrics.items()}
    return {name: _interval(value, drawn[name]) for name, value in values.items() if not np.isnan(value)}


def _interval(value: float, drawn: list[float]) -> Interval:
    # A resample of a small slice may hold one class only, where a metric is not defined: left out.
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def _mean(values: object) -> Metric:
    numbers = np.asarray(values, dtype=np.float64)
    return lambda weights: float(weights @ numbers / weights.sum())


def _share(part: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_]) -> Metric:
    # Nothing called positive: no call was wrong, but none was right; 0 as scikit-learn has it.
    return lambda weights: float(weights @ part) / max(float(weights @ whole), 1e-300)


def _log_loss(labels: npt.NDArray[np.int_], outputs: Floats) -> Metric:
    tiny = float(np.finfo(np.float32).eps)
    return _mean(-np.log(np.clip(outputs[np.arange(len(labels)), labels], tiny, 1 - tiny)))


def _by_class(names: tuple[str, ...], labels: npt.NDArray[np.int_], called: npt.NDArray[np.int_]) -> dict[str, Metric]:
    """How each label fares, `<label>_recall` and `<label>_precision`, and the mean of their F1.

    NaN where no row has the label, or none is called so; a label's name has what MLflow takes in a metric's.
    """
    classes = range(len(names))

    def ratio(part: npt.NDArray[np.bool_], *wholes: npt.NDArray[np.bool_]) -> Metric:
        shares, whole = len(wholes) * part.astype(np.float64), np.sum(wholes, axis=0, dtype=np.float64)
        return lambda weights: _divided(float(weights @ shares), float(weights @ whole))

    hits = [(labels == place) & (called == place) for place in classes]
    f1 = [ratio(hits[place], labels == place, called == place) for place in classes]

    def macro_f1(weights: Floats) -> float:
        scores = np.array([score(weights) for score in f1])
        return float(scores[~np.isnan(scores)].mean())

    each: dict[str, Metric] = {"macro_f1": macro_f1}
    for place, name in enumerate(names):
        plain = re.sub(r"[^/\w.\- :]", "_", name)
        each[f"{plain}_recall"] = ratio(hits[place], labels == place)
        each[f"{plain}_precision"] = ratio(hits[place], called == place)
    return each


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


class _Curve:
    """What depends on the order of the scores alone: sorted once, rows of equal score taken together."""

    def __init__(self, truth: Floats, score: Floats) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._positive = truth[self._order]
        self._starts = np.flatnonzero(np.concatenate(([True], np.diff(score[self._order]) != 0)))

    def _steps(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of positive and of negative rows per distinct score, from the highest down."""
        ordered = weights[self._order]
        positive = ordered * self._positive
        return np.add.reduceat(positive, self._starts), np.add.reduceat(ordered - positive, self._starts)

    def roc_auc(self, weights: Floats) -> float:
        """Area under the ROC curve; NaN where one class has no weight."""
        up, down = self._steps(weights)
        pairs = up.sum() * down.sum()
        above = np.cumsum(up) - up / 2
        return float(down @ above / pairs) if pairs else float("nan")

    def average_precision(self, weights: Floats) -> float:
        """Mean precision over the steps of recall, as sklearn.metrics.average_precision_score."""
        up, down = self._steps(weights)
        hits = np.cumsum(up)
        called = hits + np.cumsum(down)
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        return float(up @ precision / hits[-1]) if hits[-1] else float("nan")


def best_threshold(truth: Floats, score: Floats) -> float:
    """The probability from which on "positive" gives the best F1.

    It is a number of half precision, which float32 and float64 read alike: whoever compares calls the same rows.
    """
    candidates = np.unique(np.quantile(score, np.linspace(0.01, 0.99, 197)).astype(np.float16).astype(np.float64))
    positive = truth == 1
    f1 = [
        2 * (called & positive).sum() / (called.sum() + positive.sum()) for called in (score >= c for c in candidates)
    ]
    return float(candidates[int(np.argmax(f1))])
