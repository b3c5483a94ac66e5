import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from plumbline.monitoring.stats import from_moments, mean, split_p


def test_independent_rows_have_the_textbook_variance() -> None:
    values = np.random.default_rng(1).normal(3, 2, 500)
    found = mean(values, np.arange(500))
    assert found.value == pytest.approx(values.mean())
    assert found.variance == pytest.approx(values.var(ddof=1) / 500)
    assert found.interval(0.95)[1] - found.value == pytest.approx(1.95996 * values.std(ddof=1) / np.sqrt(500), rel=1e-4)


def test_rows_that_repeat_each_other_do_not_narrow_the_interval() -> None:
    once = np.random.default_rng(1).normal(3, 2, 200)
    callers = np.arange(200)
    alone, repeated = mean(once, callers), mean(np.tile(once, 50), np.tile(callers, 50))
    assert repeated.variance == pytest.approx(alone.variance)
    assert (repeated.rows, repeated.clusters) == (10_000, 200)


def test_the_interval_covers_what_it_says_for_callers_who_come_back() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        rows = rng.poisson(4, 150) + 1
        caller = np.repeat(np.arange(150), rows)
        found = mean(rng.normal(rng.normal(1, 1, 150)[caller], 1), caller)
        low, high = found.interval(0.95)
        covered += low <= 1 <= high
    assert 930 <= covered <= 965


def test_moments_say_the_same_as_rows() -> None:
    rng = np.random.default_rng(2)
    caller, values = rng.integers(0, 40, 300), rng.normal(-2, 3, 300)
    n, y = np.bincount(caller).astype(float), np.bincount(caller, weights=values)
    found = from_moments(len(n), n.sum(), y.sum(), (n * n).sum(), (y * y).sum(), (n * y).sum())
    expected = mean(values, caller)
    assert (found.rows, found.clusters) == (expected.rows, expected.clusters)
    assert (found.value, found.variance) == pytest.approx((expected.value, expected.variance))


def test_missing_values_are_left_out() -> None:
    found = mean(np.array([1.0, np.nan, 3.0]), np.array([1, 2, 3]))
    assert (found.value, found.rows, found.clusters) == (2.0, 2, 2)


def test_nothing_and_one_caller_are_unknown() -> None:
    for found in (mean(np.array([]), np.array([], dtype=np.int64)), from_moments(0, 0, 0, 0, 0, 0)):
        assert np.isnan(found.value)
        assert not found.comparable
        assert np.isnan(found.share_interval(0.95)).all()
    assert not mean(np.array([1.0, 2.0]), np.array([7, 7])).comparable
    assert np.isnan(from_moments(1, 2, 3, 4, 9, 6).variance)


@pytest.mark.parametrize(("right", "rows"), [(80, 100), (100, 100), (0, 30)])
def test_shares_have_wilson_intervals(right: int, rows: int) -> None:
    values = np.repeat([1.0, 0.0], [right, rows - right])
    expected = proportion_confint(right, rows, method="wilson")
    # The variance of the mean has rows - 1 below, Wilson's has rows.
    assert mean(values, np.arange(rows)).share_interval(0.95) == pytest.approx(expected, abs=1e-3)


def test_the_split() -> None:
    assert split_p(200, 800, 0.2) == 1
    assert split_p(300, 700, 0.2) < 1e-8
    assert split_p(0, 80, 0.2) < 0.01
    assert np.isnan(split_p(0, 0, 0.2))


def test_the_split_may_be_read_after_every_caller() -> None:
    rng = np.random.default_rng(1)
    treated = (rng.random((300, 500)) < 0.2).cumsum(axis=1)
    found = [min(split_p(int(k), n - int(k), 0.2) for n, k in enumerate(run, 1)) for run in treated]
    assert np.mean(np.array(found) < 0.05) <= 0.05
