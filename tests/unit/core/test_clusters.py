"""Resampling by cluster against what is known: Student's t, scikit-learn's AUC, and Holm's own procedure."""

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import roc_auc_score

from plumbline.core.metrics.clusters import Clusters, differences, expanded, holm
from plumbline.core.metrics.curve import Curve, Floats
from plumbline.core.metrics.figures import Metric


def mean(values: Floats) -> Metric:
    return lambda weights: float(weights @ values / weights.sum())


def days(count: int, each: int, effect: float, seed: int) -> tuple[Floats, Clusters]:
    """Losses that share an effect of their day, and the days."""
    generator = np.random.default_rng(seed)
    place = np.repeat(np.arange(count), each)
    return generator.normal(0, effect, count)[place] + generator.normal(0, 1, len(place)), Clusters(place, count, "day")


def test_a_cluster_is_drawn_as_a_whole() -> None:
    clusters = Clusters.of(["b", "a", "b", "c"], "caller")
    assert (clusters.count, list(clusters.places)) == (3, [1, 0, 1, 2])
    drawn = list(clusters.weights(50, seed=1))
    assert all(weights[0] == weights[2] for weights in drawn)
    assert all(weights[[0, 1, 3]].sum() == 3 for weights in drawn)
    assert [list(each) for each in drawn] == [list(each) for each in clusters.weights(50, seed=1)]


def test_the_error_of_a_mean_is_that_between_clusters() -> None:
    values, clusters = days(60, 50, 0.5, seed=0)
    (found,) = differences("mae", [(mean(values), mean(values * 0), clusters)], clusters, resamples=2000, seed=1)
    by_day = values.reshape(60, 50).mean(axis=1)
    error = by_day.std(ddof=1) / np.sqrt(60)
    assert found.worse_by == pytest.approx(values.mean())
    assert found.error == pytest.approx(error, rel=0.05)
    assert found.error > 2 * values.std() / np.sqrt(len(values)), "rows taken as independent"
    assert found.upper(0.05) == pytest.approx(values.mean() + t.isf(0.05, 59) * found.error)
    assert found.p_worse(found.worse_by) == pytest.approx(0.5)
    assert found.p_worse(found.upper(0.05)) == pytest.approx(0.95)


def test_the_sign_follows_the_metric() -> None:
    generator = np.random.default_rng(2)
    truth = (generator.random(400) < 0.4).astype(float)
    good, bad = truth + generator.normal(0, 0.5, 400), truth + generator.normal(0, 3, 400)
    clusters = Clusters.of_rows(400)
    pair = (Curve(truth, bad).roc_auc, Curve(truth, good).roc_auc, clusters)
    (found,) = differences("roc_auc", [pair], clusters, resamples=200, seed=1)
    assert found.candidate == pytest.approx(roc_auc_score(truth, bad))
    assert found.worse_by == pytest.approx(roc_auc_score(truth, good) - roc_auc_score(truth, bad))
    assert found.upper(0.05) > found.worse_by > found.interval(0.05)[0] > 0


def test_equal_models_differ_by_nothing() -> None:
    clusters = Clusters.of_rows(30)
    values = np.arange(30.0)
    (same,) = differences("mae", [(mean(values), mean(values), clusters)], clusters, resamples=200, seed=1)
    assert (same.worse_by, same.error, same.upper(0.05), same.p_worse(0)) == (0, 0, 0, 1)


def test_a_metric_that_most_resamples_do_not_define_has_no_error() -> None:
    truth = np.zeros(40)
    truth[0] = 1
    metric, clusters = Curve(truth, np.arange(40.0)).roc_auc, Clusters.of_rows(40)
    nowhere = Curve(np.zeros(40), np.arange(40.0)).roc_auc
    one, none = differences(
        "roc_auc", [(metric, metric, clusters), (nowhere, nowhere, clusters)], clusters, resamples=300, seed=0
    )
    assert one.error == 0
    assert np.isnan([none.worse_by, none.error, none.upper(0.05), none.p_worse(0)]).all()


def test_an_expanded_quantile_is_as_far_out_as_t() -> None:
    # Of normal means a percentile interval is ± z·s·√((n - 1)/n); expanded it must be ± t.
    from scipy.stats import norm

    for clusters in (20, 61, 1000):
        width = -norm.ppf(expanded(0.025, clusters)) * np.sqrt((clusters - 1) / clusters)
        assert width == pytest.approx(t.isf(0.025, clusters - 1))


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        # Wright, Biometrics 48 (1992), table 1: Holm's column.
        ([0.0001, 0.0004, 0.0019, 0.0095], [0.0004, 0.0012, 0.0038, 0.0095]),
        ([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(adjusted)


def test_what_is_not_known_stays_so_and_counts() -> None:
    found = holm([0.01, float("nan")])
    assert found[0] == pytest.approx(0.02)
    assert np.isnan(found[1])


def test_too_few_clusters_are_refused_with_their_count() -> None:
    assert Clusters.of(list(range(20)), "patient").fault == ""
    assert Clusters.of(list(range(19)), "patient").fault.startswith(
        "19 clusters by patient to judge on, an interval takes 20;"
    )
    assert Clusters.of_rows(3).fault.startswith("3 rows to judge on")
