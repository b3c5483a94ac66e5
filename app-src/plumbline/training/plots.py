"""The pictures of a run: what it looks at, where it is wrong, and whether its probabilities can be believed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay, precision_recall_curve, roc_curve

from plumbline.core.metrics.figures import build
from plumbline.core.schema import Output
from plumbline.training import learn
from plumbline.training.model import Floats, Inputs
from plumbline.training.report import OBJECTIVE, Interval, Slice
from plumbline.training.work import written

_IMPORTANCE_ROWS = 3000
_POINTS = 5000
_SLICES = 40


@dataclass(frozen=True)
class Judged:
    """What the plots show: inputs (rows, fields), truth (rows,), outputs (rows, k)."""

    output: Output
    names: list[str]
    inputs: Inputs
    truth: Floats
    outputs: Floats
    threshold: float | None


def draw(folder: Path, estimator: Any, judged: Judged, seed: int) -> None:
    """Write the plots of the task as PNG files into `folder`."""
    _importance(folder, estimator, judged, seed)
    if judged.output.task == "regression":
        _regression(folder, judged)
    else:
        _confusion(folder, judged)
        _curves(folder, judged)


def draw_slices(folder: Path, slices: Sequence[Slice], overall: Interval, name: str) -> None:
    """Write slices.png: the metric `name` of each slice with its interval, the weakest at the top, beside all rows.

    Where there are many, these are the 40 with the highest metric, which is a loss.
    """
    shown = sorted(slices, key=lambda item: item.metrics[name].value)[-_SLICES:]
    if not shown:
        return
    height = 1.5 + 0.28 * len(shown)
    with _picture(folder / "slices.png", f"{name} by slice, with 95 % intervals", name, "", height) as axes:
        axes.axvspan(overall.low, overall.high, color="lightgrey", label="all rows")
        for place, item in enumerate(shown):
            interval = item.metrics[name]
            axes.plot([interval.low, interval.high], [place, place], color="C0")
            axes.plot(interval.value, place, marker="o", color="C0")
        axes.set_yticks(range(len(shown)), [f"{item.column} {item.value}" for item in shown])


@contextmanager
def _picture(path: Path, title: str, x: str, y: str, height: float = 4.8) -> Iterator[Axes]:
    # Figure by itself, not pyplot: no global state, no window, nothing to close.
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    yield axes
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    with written(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})


def _importance(folder: Path, estimator: Any, judged: Judged, seed: int) -> None:
    """How much worse the answers get when one field's values are shuffled (Breiman 2001), on held-out rows.

    Unlike a tree's gain it means the same for every kind of model, and is measured where it matters.
    """
    chosen = np.random.default_rng(seed).permutation(len(judged.truth))[:_IMPORTANCE_ROWS]
    name = OBJECTIVE[judged.output.task]

    # scikit-learn's own scorers ask for an estimator of its kind, and for every label among the rows.
    def score(fitted: Any, inputs: Inputs, truth: Floats) -> float:
        outputs = learn.outputs_of(fitted, inputs, judged.output)
        return -build(judged.output, truth, outputs, None)[name](np.ones(len(truth)))

    importance = permutation_importance(
        estimator, judged.inputs[chosen], judged.truth[chosen], scoring=score, n_repeats=3, random_state=seed
    )
    order = np.argsort(importance.importances_mean)
    with _picture(folder / "feature_importance.png", "Feature importance", f"loss in {name}", "") as axes:
        axes.barh([judged.names[place] for place in order], importance.importances_mean[order])


def _confusion(folder: Path, judged: Judged) -> None:
    if judged.threshold is None:
        called = judged.outputs.argmax(axis=1)
    else:
        called = (judged.outputs[:, 1] >= judged.threshold).astype(int)
    with _picture(folder / "confusion_matrix.png", "Confusion matrix", "predicted", "true") as axes:
        labels = list(judged.output.labels)
        ConfusionMatrixDisplay.from_predictions(
            judged.truth.astype(int), called, labels=range(len(labels)), display_labels=labels, ax=axes, colorbar=False
        )


def _curves(folder: Path, judged: Judged) -> None:
    """ROC, precision and recall, and calibration: of the positive label, or of each label against the rest."""
    labels = judged.output.labels
    shown = [1] if judged.output.task == "binary" else range(len(labels))
    cases = [(labels[place], judged.truth == place, judged.outputs[:, place]) for place in shown]
    with _picture(folder / "roc.png", "ROC", "false positive rate", "true positive rate") as axes:
        for label, truth, score in cases:
            wrong, right, _ = roc_curve(truth, score)
            axes.plot(wrong, right, label=label)
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    with _picture(folder / "precision_recall.png", "Precision and recall", "recall", "precision") as axes:
        for label, truth, score in cases:
            precision, recall, _ = precision_recall_curve(truth, score)
            axes.plot(recall, precision, label=label)
    with _picture(folder / "calibration.png", "Calibration", "predicted probability", "share that was so") as axes:
        for label, truth, score in cases:
            true, predicted = calibration_curve(truth, score, n_bins=10)
            axes.plot(predicted, true, marker="o", label=label)
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")


def _regression(folder: Path, judged: Judged) -> None:
    truth, value = judged.truth[:_POINTS], judged.outputs[:_POINTS, 0]
    name = f"{judged.output.name} {judged.output.unit}".strip()
    with _picture(folder / "predicted_vs_actual.png", "Predicted and actual", f"actual {name}", "predicted") as axes:
        axes.scatter(truth, value, s=8, alpha=0.5)
        axes.plot([truth.min(), truth.max()], [truth.min(), truth.max()], linestyle=":", color="grey")
    with _picture(folder / "residuals.png", "Residuals", f"predicted {name}", "actual - predicted") as axes:
        axes.scatter(value, truth - value, s=8, alpha=0.5)
        axes.axhline(0, linestyle=":", color="grey")
