"""Rows that belong together, and resampling that keeps them together.

Rows of one day, patient or caller resemble each other, so what varies independently is the cluster: a resample draws
whole clusters (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8; Cameron, Gelbach and
Miller, "Bootstrap-Based Improvements for Inference with Clustered Errors", Review of Economics and Statistics, 2008).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtr, stdtrit  # scipy.stats takes five times as long to import

from plumbline.core.metrics.figures import Metric
from plumbline.core.metrics.names import higher_is_better
from plumbline.core.metrics.rows import Places

Floats = npt.NDArray[np.float64]
LEAST = 20
"""Fewer clusters say too little of how clusters vary for any interval (Cameron and Miller, "A Practitioner's Guide to
Cluster-Robust Inference", Journal of Human Resources, 2015, section VI: few is 20 to 50)."""


@dataclass(frozen=True)
class Clusters:
    """To which cluster each row belongs."""

    places: Places
    """Of the rows' clusters, from 0, shape (rows,)."""
    count: int
    by: str = ""
    """What the rows of a cluster share, in words; empty where each row is its own cluster."""

    @classmethod
    def of(cls, values: npt.NDArray[np.generic] | list[object], by: str) -> "Clusters":
        """One cluster for each distinct value, shape (rows,)."""
        names, places = np.unique(np.asarray(values), return_inverse=True)
        return cls(places.astype(np.intp), len(names), by)

    @classmethod
    def of_rows(cls, rows: int) -> "Clusters":
        """Each row by itself."""
        return cls(np.arange(rows), rows)

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> "Clusters":
        """Those of some of the rows."""
        names, places = np.unique(self.places[chosen], return_inverse=True)
        return Clusters(places.astype(np.intp), len(names), self.by)

    @property
    def unit(self) -> str:
        """What is counted, for people."""
        return f"clusters by {self.by}" if self.by else "rows"

    @property
    def fault(self) -> str:
        """Why no interval can be given; empty where there are enough."""
        if self.count >= LEAST:
            return ""
        return (
            f"{self.count} {self.unit} to judge on, an interval takes {LEAST}; "
            f"judge on more {'of them' if self.by else 'rows'}, or declare a finer cluster where rows do not depend"
        )

    def weights(self, resamples: int, seed: int) -> Iterator[Floats]:
        """How often each row is drawn, shape (rows,), once for each resample: as often as its cluster."""
        generator = np.random.default_rng(seed)
        for _ in range(resamples):
            drawn = np.bincount(generator.integers(0, self.count, self.count), minlength=self.count)
            yield drawn.astype(np.float64)[self.places]


def expanded(share: float, clusters: int) -> float:
    """The quantile to take of resampled figures, so that the percentile interval is as wide as one by Student's t.

    Percentiles are too narrow for few clusters, by √((n - 1)/n) and by z in place of t: Hesterberg, "What Teachers
    Should Know About the Bootstrap", The American Statistician 69 (2015), the expanded percentile
    interval.
    """
    return float(ndtr(np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, share))) if clusters > 1 else share


@dataclass(frozen=True, slots=True)
class Difference:
    """How much worse one model is than another on the same rows: positive is worse, in the metric's own unit."""

    candidate: float
    other: float
    worse_by: float
    error: float
    """Standard error of `worse_by` between clusters; NaN where it is not known."""
    clusters: int

    def upper(self, level: float) -> float:
        """One-sided upper bound of `worse_by`, wrong with a probability of `level`; of t with clusters - 1 degrees."""
        return self.worse_by - float(stdtrit(self.clusters - 1, level)) * self.error

    def interval(self, level: float) -> tuple[float, float]:
        """Both bounds, wrong with a probability of `level` together."""
        half = -float(stdtrit(self.clusters - 1, level / 2)) * self.error
        return self.worse_by - half, self.worse_by + half

    def p_worse(self, margin: float) -> float:
        """How likely so large a difference is where the truth is worse by `margin` at most; NaN where not known."""
        if self.error == 0:
            return float(self.worse_by <= margin)
        return float(stdtr(self.clusters - 1, (margin - self.worse_by) / self.error))


def differences(
    name: str, pairs: list[tuple[Metric, Metric, Clusters]], whole: Clusters, *, resamples: int, seed: int
) -> list[Difference]:
    """The paired difference of a metric in each of several groups of rows, from the same resamples of all clusters.

    Each pair is of metrics that take the weights of all rows, with the clusters of its group. What both models find
    hard cancels, which is what makes the test sharper than comparing two intervals (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 16). The standard error is that of the resampled differences, with the
    factor √(n/(n - 1)) that a resample of n clusters lacks.
    """
    sign = -1.0 if higher_is_better(name) else 1.0
    drawn = np.empty((len(pairs), resamples))
    for place, weights in enumerate(whole.weights(resamples, seed)):
        drawn[:, place] = [sign * (one(weights) - other(weights)) for one, other, _ in pairs]
    even, differences = np.ones(len(whole.places)), []
    for values, (one, other, clusters) in zip(drawn, pairs, strict=True):
        defined = values[~np.isnan(values)]
        # A resample may lack a class, where a metric is not defined; where most do, so is the error.
        error = defined.std(ddof=1) if 2 * len(defined) > resamples and clusters.count > 1 else np.nan
        error *= np.sqrt(clusters.count / max(clusters.count - 1, 1))
        ours, theirs = one(even), other(even)
        differences.append(Difference(ours, theirs, sign * (ours - theirs), float(error), clusters.count))
    return differences


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values: at most `level` of families have one below it that is false (Holm, Scand. J. Stat. 6, 1979).

    NaN stays NaN, and counts as one of the family.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(np.nan_to_num(p[order], nan=1) * np.arange(len(p), 0, -1)))
    result = np.empty(len(p))
    result[order] = adjusted
    return [float(value) for value in np.where(np.isnan(p), np.nan, result)]
