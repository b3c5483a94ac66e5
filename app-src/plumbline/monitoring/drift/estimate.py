"""How good answers are before their labels come, and whether labels, once there, say otherwise.

A row's expected loss is the reference's mean loss of rows with its score: confidence-based performance estimation with
scores that are calibrated by bins (CBPE: NannyML's documentation, "Estimation of performance of the monitored model";
Białek et al., "Estimating Model Performance Under Covariate Shift Without Labels", arXiv:2401.08348). It holds as
long as what a score means has not changed: that is concept drift, for which labels are needed.
"""

from dataclasses import dataclass

import numpy as np

from plumbline.core.metrics.curve import Curve
from plumbline.monitoring.drift.blocks import Floats

_BINS = 50
_FEWEST_IN_BIN = 40


@dataclass(frozen=True, slots=True)
class Expectation:
    """The mean loss, and of two labels the share of the positive one, by bins of the score."""

    edges: Floats
    loss: Floats
    share: Floats
    """NaN where the answers are not of two labels."""

    @classmethod
    def of(cls, score: Floats, loss: Floats, positive: Floats) -> "Expectation":
        """Of labelled rows of the reference, each of shape (rows,)."""
        bins = max(1, min(_BINS, len(score) // _FEWEST_IN_BIN))
        edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1])) if len(score) else np.empty(0)
        place = np.searchsorted(edges, score, side="right")
        return cls(edges, *(_means(place, values, len(edges) + 1) for values in (loss, positive)))

    def losses(self, score: Floats) -> Floats:
        """What each row is expected to lose, shape (rows,)."""
        return np.asarray(self.loss[np.searchsorted(self.edges, score, side="right")])

    def shares(self, score: Floats) -> Floats:
        """The calibrated probability of the positive label, shape (rows,)."""
        return np.asarray(self.share[np.searchsorted(self.edges, score, side="right")])

    def roc_auc(self, score: Floats) -> float:
        """What the AUC is expected to be: each row is its share of a positive one and the rest of a negative one."""
        share = self.shares(score)
        if np.isnan(share).any() or not 0 < share.mean() < 1:
            return float("nan")
        truth, weights = np.repeat([1.0, 0.0], len(score)), np.concatenate([share, 1 - share])
        return Curve(truth, np.tile(score, 2)).roc_auc(weights)

    def surprise(self, score: Floats, loss: Floats, positive: Floats) -> tuple[float, float]:
        """How labelled rows differ from what was expected: mean excess loss, and how far the AUC falls short.

        The second does not move with the number of positive ones alone: a day on which everything is one is no less in
        order. NaN where answers are not of two labels, or only one of them came true.
        """
        excess = float(np.mean(loss - self.losses(score)))
        labelled = np.isfinite(positive)
        score, positive = score[labelled], positive[labelled]
        if not len(score) or not 0 < positive.mean() < 1:
            return excess, float("nan")
        return excess, self.roc_auc(score) - Curve(positive, score).roc_auc(np.ones(len(score)))


def _means(place: "np.ndarray[tuple[int], np.dtype[np.intp]]", values: Floats, bins: int) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(place, values, bins) / np.bincount(place, minlength=bins))
