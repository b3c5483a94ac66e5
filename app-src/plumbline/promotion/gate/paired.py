"""The paired test of two models on the same rows."""

from dataclasses import dataclass

import numpy as np

from plumbline.core.metrics.figures import Metric
from plumbline.core.metrics.names import higher_is_better


@dataclass(frozen=True, slots=True)
class Paired:
    """How much worse the candidate is than the champion: positive is worse, in the metric's own unit."""

    candidate: float
    champion: float
    worse_by: float
    upper: float
    """One-sided upper bound of `worse_by`."""


def paired(
    name: str, candidate: Metric, champion: Metric, *, rows: int, resamples: int, confidence: float, seed: int
) -> Paired:
    """Bootstrap the paired difference: each resample draws rows once and weighs both models with them.

    Rows that both models get wrong cancel, which is what makes the test sharper than comparing two intervals
    (Efron and Tibshirani, An Introduction to the Bootstrap, ch. 16; percentile bound).
    """
    sign = -1.0 if higher_is_better(name) else 1.0
    generator = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)
        differences[index] = sign * (candidate(weights) - champion(weights))
    even = np.ones(rows)
    one, other = candidate(even), champion(even)
    return Paired(one, other, sign * (one - other), float(np.quantile(differences, confidence)))
