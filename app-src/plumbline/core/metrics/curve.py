"""Metrics of the order of scores: one label against the rest, over every threshold that the scores allow."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Curve:
    """Rows sorted by score once, those of equal score taken together; truth is 1 for the label, shape (rows,)."""

    def __init__(self, truth: Floats, score: Floats) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._positive = truth[self._order]
        self._starts = np.flatnonzero(np.concatenate(([True], np.diff(score[self._order]) != 0)))

    def _steps(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of positive and of negative rows per distinct score, from the highest down."""
        ordered = weights[self._order]
        positive = ordered * self._positive
        return np.add.reduceat(positive, self._starts), np.add.reduceat(ordered - positive, self._starts)

    def _precision_and_recall(self, weights: Floats) -> tuple[Floats, Floats] | None:
        """Both from the highest threshold down; None where the label has no weight."""
        up, down = self._steps(weights)
        hits = np.cumsum(up)
        called = hits + np.cumsum(down)
        if not hits[-1]:
            return None
        return np.divide(hits, called, out=np.zeros_like(hits), where=called > 0), hits / hits[-1]

    def roc_auc(self, weights: Floats) -> float:
        """Area under the ROC curve; NaN where one class has no weight."""
        up, down = self._steps(weights)
        pairs = up.sum() * down.sum()
        above = np.cumsum(up) - up / 2
        return float(down @ above / pairs) if pairs else float("nan")

    def average_precision(self, weights: Floats) -> float:
        """Mean precision over the steps of recall, as sklearn.metrics.average_precision_score."""
        if (both := self._precision_and_recall(weights)) is None:
            return float("nan")
        precision, recall = both
        return float(precision @ np.diff(recall, prepend=0))

    def recall_at_precision(self, limit: float, weights: Floats) -> float:
        """The highest recall of a threshold whose precision is at least `limit`; 0 where none has it."""
        if (both := self._precision_and_recall(weights)) is None:
            return float("nan")
        precision, recall = both
        return float(recall[precision >= limit].max(initial=0))

    def precision_at_recall(self, limit: float, weights: Floats) -> float:
        """The highest precision of a threshold whose recall is at least `limit`."""
        if (both := self._precision_and_recall(weights)) is None:
            return float("nan")
        precision, recall = both
        return float(precision[recall >= limit].max())
