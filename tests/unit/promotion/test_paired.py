"""The paired test against a difference that is known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from plumbline.core.metrics.names import higher_is_better
from plumbline.promotion.gate.paired import paired


def mean(values: np.ndarray) -> Callable[[NDArray[np.float64]], float]:
    return lambda weights: float(weights @ values / weights.sum())


def test_the_bound_covers_the_mean_as_the_t_interval_does() -> None:
    generator = np.random.default_rng(0)
    hard = generator.gamma(2, 1, 4000)  # what both models find hard cancels
    other, one = hard, hard + generator.normal(0.02, 0.1, 4000)
    found = paired("log_loss", mean(one), mean(other), rows=4000, resamples=2000, confidence=0.95, seed=1)
    difference = one - other
    error = difference.std(ddof=1) / np.sqrt(4000)
    assert found.worse_by == pytest.approx(difference.mean())
    assert found.upper == pytest.approx(difference.mean() + 1.645 * error, abs=0.1 * error)


def test_the_sign_follows_the_metric() -> None:
    better, worse = np.full(100, 0.9), np.full(100, 0.8)
    up = paired("roc_auc", mean(better), mean(worse), rows=100, resamples=200, confidence=0.95, seed=1)
    down = paired("log_loss", mean(better), mean(worse), rows=100, resamples=200, confidence=0.95, seed=1)
    assert up.worse_by == pytest.approx(-0.1)
    assert down.worse_by == pytest.approx(0.1)


def test_the_same_seed_is_the_same_verdict() -> None:
    values = np.random.default_rng(3).random((2, 500))
    runs = [
        paired("mae", mean(values[0]), mean(values[1]), rows=500, resamples=200, confidence=0.9, seed=5) for _ in "ab"
    ]
    assert runs[0] == runs[1]


def test_equal_models_are_rarely_refused_and_worse_ones_rarely_pass() -> None:
    """Simulation: a true difference of the margin passes in 5 % of trials, none at all in most."""
    margin, trials = 0.02, 200
    passed = {0.0: 0, margin: 0}
    for truth in passed:
        for seed in range(trials):
            generator = np.random.default_rng(seed)
            hard = generator.random(400)
            one = hard + generator.normal(truth, 0.1, 400)
            test = paired("mae", mean(one), mean(hard), rows=400, resamples=200, confidence=0.95, seed=seed)
            passed[truth] += test.upper <= margin
    assert passed[margin] / trials < 0.10
    assert passed[0.0] / trials > 0.95


@pytest.mark.parametrize(
    ("name", "up"),
    [(name, True) for name in ("roc_auc", "pr_auc", "accuracy", "r2", "f1", "precision", "recall")]
    + [(name, False) for name in ("log_loss", "brier", "ece", "rmse", "mae")],
)
def test_directions(name: str, up: bool) -> None:
    assert higher_is_better(name) is up
