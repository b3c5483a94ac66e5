"""Means of clustered rows, their intervals and differences, and the check of the split itself.

One caller sends many requests, and a caller's rows resemble each other: what varies independently is the caller.
A mean over rows is therefore a ratio of two sums over callers, with the variance of a ratio (delta method: Deng,
Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import norm

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_PRIOR = 100
"""Callers that the prior of the split is worth: deviations of a few percent are found soonest."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `rows` that belong to `clusters` callers; `variance` is that of the mean. NaN where there is none."""

    value: float
    variance: float
    rows: int
    clusters: int

    @property
    def comparable(self) -> bool:
        """Whether it can be compared: finite, with a spread that was seen."""
        return bool(np.isfinite(self.value) and np.isfinite(self.variance) and self.variance > 0)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The normal interval; NaN at both ends where the variance is unknown."""
        half = norm.isf((1 - confidence) / 2) * np.sqrt(self.variance)
        return float(self.value - half), float(self.value + half)

    def share_interval(self, confidence: float) -> tuple[float, float]:
        """Wilson's interval for a mean of zeros and ones, at the effective number of independent rows.

        Wilson, JASA 22 (1927); effective size as of Korn and Graubard, Survey Methodology 24 (1998). Stays within
        0 and 1 and keeps a width at both ends, where the normal interval has none.
        """
        if not self.clusters:
            return float("nan"), float("nan")
        p, z = self.value, float(norm.isf((1 - confidence) / 2))
        n = p * (1 - p) / self.variance if self.comparable else self.clusters
        middle, spread = (p + z * z / (2 * n)) / (1 + z * z / n), np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        half = float(z / (1 + z * z / n) * spread)
        return max(0.0, middle - half), min(1.0, middle + half)


def ratio(rows: Floats | Integers, sums: Floats | Integers) -> tuple[Floats, Floats]:
    """Mean over rows and its variance, from each caller's number of rows and sum; the last axis is the callers.

    NaN for the variance of fewer than two callers, and for both where there is no row at all.
    """
    clusters = (rows > 0).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = sums.sum(axis=-1) / rows.sum(axis=-1)
        residual = ((sums - value[..., None] * rows) ** 2).sum(axis=-1)
        return value, residual / rows.sum(axis=-1) ** 2 * np.where(clusters > 1, clusters / (clusters - 1), np.nan)


def mean(values: Floats, clusters: Integers) -> Mean:
    """The mean of rows that are not NaN; `clusters` numbers the caller of each."""
    seen = ~np.isnan(values)
    _, number = np.unique(clusters[seen], return_inverse=True)
    rows = np.bincount(number).astype(np.int64)
    value, variance = ratio(rows, np.bincount(number, weights=values[seen]))
    return Mean(float(value), float(variance), int(seen.sum()), len(rows))


def from_moments(clusters: int, n: float, y: float, nn: float, yy: float, ny: float) -> Mean:
    """The same from sums over callers: of rows n, of values y, and of their squares and products.

    What a database adds up without sending its rows.
    """
    if not clusters:
        return Mean(float("nan"), float("nan"), 0, 0)
    value = y / n
    residual = max(0.0, yy - 2 * value * ny + value * value * nn)
    variance = residual / (n * n) * clusters / (clusters - 1) if clusters > 1 else float("nan")
    return Mean(value, variance, int(n), clusters)


def split_p(treatment: int, control: int, share: float) -> float:
    """How unlikely this split is, or a less likely one before, when a share of `share` goes to treatment.

    It may be read after every caller: whenever it is read, it is below p in at most a share p of sound experiments
    (Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022: one over the Bayes factor
    against a Dirichlet prior around the planned split). A small value says that arms were not assigned as planned, and
    no comparison of them means anything: Fabijan et al., KDD 2019. NaN without any caller.
    """
    seen, planned = np.array([treatment, control], dtype=np.float64), np.array([share, 1 - share])
    if not seen.sum():
        return float("nan")
    prior = _PRIOR * planned
    odds = gammaln(_PRIOR) - gammaln(_PRIOR + seen.sum())
    odds += (gammaln(prior + seen) - gammaln(prior) - seen * np.log(planned)).sum()
    return float(min(1.0, np.exp(-odds)))
