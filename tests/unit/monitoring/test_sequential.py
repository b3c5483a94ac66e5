"""The bounds against published values, and against what they are for: looking often must not cost validity."""

import numpy as np
import pytest
from scipy.stats import norm

from plumbline.monitoring.experiment.sequential import Floats, bounds, spent
from plumbline.monitoring.stats import ratio

ALPHA = 0.05


@pytest.mark.parametrize(
    ("looks", "published"),
    [
        (1, [1.960]),
        (4, [4.333, 2.963, 2.359, 2.014]),
        # As the R package ldbounds gives them.
        (5, [4.877, 3.357, 2.680, 2.290, 2.031]),
    ],
)
def test_published_bounds(looks: int, published: list[float]) -> None:
    fractions = tuple(k / looks for k in range(1, looks + 1))
    assert bounds(ALPHA, fractions) == pytest.approx(published, abs=5e-4)


def test_all_of_alpha_is_spent_at_the_end_and_next_to_nothing_early() -> None:
    early, late = spent(ALPHA, np.array([0.1, 1.0]))
    assert early < 1e-9
    assert late == pytest.approx(ALPHA)


def test_bounds_of_uneven_looks_use_up_exactly_alpha() -> None:
    fractions = (0.17, 0.3, 0.31, 0.8, 1.0)
    z = walk(np.random.default_rng(1), 400_000, fractions)
    crossed = (z > bounds(ALPHA, fractions)).any(axis=1).mean()
    assert crossed == pytest.approx(ALPHA / 2, abs=4 * np.sqrt(0.025 / 400_000))


@pytest.mark.parametrize("fractions", [(), (0.0, 1.0), (0.5, 0.5, 1.0), (0.5, 0.9), (0.8, 0.4, 1.0)])
def test_fractions_that_do_not_rise_to_one_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must rise strictly"):
        bounds(ALPHA, fractions)


def walk(rng: np.random.Generator, runs: int, fractions: tuple[float, ...]) -> Floats:
    """z-values of experiments without a difference, shape (runs, looks)."""
    times = np.array(fractions)
    steps = rng.standard_normal((runs, len(times))) * np.sqrt(np.diff(times, prepend=0))
    return np.asarray(steps.cumsum(axis=1) / np.sqrt(times))


def experiments(rng: np.random.Generator, runs: int, looks: int, gain: float) -> Floats:
    """z-values of simulated experiments, shape (runs, looks).

    300 callers in control and 100 in treatment come back again and again, each with an accuracy of its own around
    0.8; the rows of a caller are not independent, and callers are seen at several looks.
    """
    means, variances = [], []
    for callers, accuracy in ((300, 0.8), (100, 0.8 + gain)):
        own = rng.beta(accuracy * 20, (1 - accuracy) * 20, (runs, 1, callers))
        rows = rng.poisson(6 / looks, (runs, looks, callers))
        right = rng.binomial(rows, own)
        value, variance = ratio(rows.cumsum(axis=1), right.cumsum(axis=1))
        means.append(value)
        variances.append(variance)
    return np.asarray((means[1] - means[0]) / np.sqrt(variances[0] + variances[1]))


@pytest.fixture(scope="module")
def without_gain() -> Floats:
    return experiments(np.random.default_rng(2), 3000, 10, gain=0)


def test_ten_looks_promote_no_more_often_than_alpha_where_there_is_no_gain(without_gain: Floats) -> None:
    fractions = tuple(k / 10 for k in range(1, 11))
    z = without_gain
    promoted = (z > bounds(ALPHA, fractions)).any(axis=1).mean()
    rolled_back = (z < -np.array(bounds(ALPHA, fractions))).any(axis=1).mean()
    assert promoted <= ALPHA / 2 + 3 * np.sqrt(ALPHA / 2 / 3000)
    assert promoted + rolled_back <= ALPHA + 3 * np.sqrt(ALPHA / 3000)


def test_the_naive_test_fails_the_same_simulation(without_gain: Floats) -> None:
    z = without_gain
    assert (z > norm.isf(ALPHA / 2)).any(axis=1).mean() > 2 * ALPHA / 2
    assert (np.abs(z) > norm.isf(ALPHA / 2)).any(axis=1).mean() > 3 * ALPHA


def test_a_real_gain_is_found_and_usually_before_the_end() -> None:
    fractions = tuple(k / 10 for k in range(1, 11))
    z = experiments(np.random.default_rng(3), 500, 10, gain=0.08)
    crossed = z > bounds(ALPHA, fractions)
    assert crossed.any(axis=1).mean() > 0.95
    assert np.median(crossed.argmax(axis=1)) < 7
