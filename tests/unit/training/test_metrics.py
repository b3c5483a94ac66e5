"""Metrics against scikit-learn, weights against repeated rows, and intervals against what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from plumbline.core.metrics import names
from plumbline.core.metrics.clusters import Clusters
from plumbline.core.metrics.figures import build
from plumbline.core.schema import Output
from plumbline.training import metrics

BINARY = Output(task="binary", name="positive", description="Positive?", labels=("no", "yes"))
THREE = Output(task="multiclass", name="kind", description="Kind", labels=("a", "b", "c"))
NUMBER = Output(task="regression", name="value", description="Value")


def two_columns(score):
    return np.column_stack([1 - score, score])


def drawn(rows, seed=0):
    """Truth and scores with ties, as trees give them."""
    generator = np.random.default_rng(seed)
    score = np.round(generator.uniform(0.01, 0.99, rows), 2)
    return (generator.uniform(size=rows) < score).astype(float), score


def test_a_binary_model_is_judged_as_scikit_learn_does():
    truth, score = drawn(500)
    found = build(BINARY, truth, two_columns(score), 0.4)
    even, called = np.ones(500), score >= 0.4
    expected = {
        "roc_auc": reference.roc_auc_score(truth, score),
        "pr_auc": reference.average_precision_score(truth, score),
        "average_precision": reference.average_precision_score(truth, score),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, called),
        "macro_f1": reference.f1_score(truth, called, average="macro"),
        "no_recall": reference.recall_score(truth, called, pos_label=0),
        "yes_recall": reference.recall_score(truth, called),
        "no_precision": reference.precision_score(truth, called, pos_label=0),
        "yes_precision": reference.precision_score(truth, called),
        "log_loss": reference.log_loss(truth, score),
        "brier": reference.brier_score_loss(truth, score),
        "accuracy": reference.accuracy_score(truth, called),
        "precision": reference.precision_score(truth, called),
        "recall": reference.recall_score(truth, called),
        "f1": reference.f1_score(truth, called),
    }
    for name, value in expected.items():
        assert found[name](even) == pytest.approx(value), name
    assert found.keys() - expected.keys() == {"ece"}
    assert tuple(found) == names.of(BINARY, costs=False)


def test_calibration_error_is_the_mean_gap_of_the_bins():
    truth = np.array([0.0, 0, 1, 1])
    score = np.array([0.05, 0.05, 0.95, 0.55])
    # Gaps of the bins: 0.05 of two rows, 0.05 of one, 0.45 of one.
    found = build(BINARY, truth, two_columns(score), 0.5)["ece"](np.ones(4))
    assert found == pytest.approx((2 * 0.05 + 0.05 + 0.45) / 4)


def test_regression_and_several_classes_are_judged_as_scikit_learn_does():
    generator = np.random.default_rng(1)
    truth, value = generator.normal(size=80), generator.normal(size=(80, 1))
    found = build(NUMBER, truth, value, None)
    even = np.ones(80)
    assert found["rmse"](even) == pytest.approx(reference.root_mean_squared_error(truth, value))
    assert found["mae"](even) == pytest.approx(reference.mean_absolute_error(truth, value))
    assert found["r2"](even) == pytest.approx(reference.r2_score(truth, value))
    labels, outputs = generator.integers(0, 3, 80).astype(float), generator.dirichlet([1, 1, 1], 80)
    found = build(THREE, labels, outputs, None)
    assert found["accuracy"](even) == pytest.approx(reference.accuracy_score(labels, outputs.argmax(1)))
    assert found["log_loss"](even) == pytest.approx(reference.log_loss(labels, outputs))
    assert found["macro_f1"](even) == pytest.approx(reference.f1_score(labels, outputs.argmax(1), average="macro"))
    for kind, score in (("recall", reference.recall_score), ("precision", reference.precision_score)):
        expected = dict(zip(THREE.labels, score(labels, outputs.argmax(1), average=None), strict=True))
        assert {name: found[f"{name}_{kind}"](even) for name in THREE.labels} == pytest.approx(expected)
    hits = np.eye(3)[labels.astype(int)]
    each = reference.average_precision_score(hits, outputs, average=None)
    assert [found[f"{name}_average_precision"](even) for name in THREE.labels] == pytest.approx(list(each))
    assert found["average_precision"](even) == pytest.approx(each.mean())
    assert found["brier"](even) == pytest.approx(((outputs - hits) ** 2).sum(axis=1).mean())
    assert found["balanced_accuracy"](even) == pytest.approx(
        reference.balanced_accuracy_score(labels, outputs.argmax(1))
    )
    assert tuple(found) == names.of(THREE, costs=False)


@pytest.mark.parametrize("limit", [0.3, 0.55, 0.9, 0.999])
def test_a_metric_with_a_limit_is_the_best_point_of_scikit_learns_curve(limit):
    truth, score = drawn(400)
    precision, recall, _ = reference.precision_recall_curve(truth, score)
    declared = [f"recall_at_precision_{limit}", f"precision_at_recall_{limit}"]
    found = build(BINARY, truth, two_columns(score), 0.5, declared=declared)
    assert found[declared[0]](np.ones(400)) == pytest.approx(recall[precision >= limit].max())
    assert found[declared[1]](np.ones(400)) == pytest.approx(precision[recall >= limit].max())
    # Of one label against the rest where there are more, and of the other one of two.
    outputs = np.column_stack([score, two_columns(score)])
    three = build(THREE, 1 + truth, outputs, None, declared=[f"c_{declared[0]}"])
    assert three[f"c_{declared[0]}"](np.ones(400)) == found[declared[0]](np.ones(400))
    other = build(BINARY, 1 - truth, two_columns(1 - score), 0.5, declared=[f"no_{declared[0]}"])
    assert other[f"no_{declared[0]}"](np.ones(400)) == pytest.approx(found[declared[0]](np.ones(400)))


def test_costs_are_the_mean_of_what_each_answer_costs():
    labels = np.array([0.0, 0, 1, 2])
    outputs = np.eye(3)[[0, 1, 2, 2]]
    costs = {"a": {"b": 5.0}, "b": {"c": 2.0, "a": 100.0}}
    found = build(THREE, labels, outputs, None, costs=costs)["cost"]
    assert found(np.ones(4)) == pytest.approx((0 + 5 + 2 + 0) / 4)
    assert "cost" not in build(THREE, labels, outputs, None)


def test_labels_never_share_a_name_with_each_other_or_with_a_metric():
    output = Output(task="multiclass", name="kind", description="Kind", labels=("<50", ">50", "average", "ok"))
    assert len(set(names.of(output, costs=True))) == len(names.of(output, costs=True))
    assert len(names.plain(output.model_copy(update={"labels": ("$50_3", "<50", ">50", "$50_3_3")}))) == 4
    labels, outputs = np.arange(4.0), np.eye(4)[[0, 0, 2, 3]]
    found = build(output, labels, outputs, None)
    recalls = [found[f"{label}_recall"](np.ones(4)) for label in names.plain(output)]
    assert recalls == [1, 0, 1, 1]
    assert found["average_precision"](np.ones(4)) == pytest.approx((0.5 + 0.25 + 1 + 1) / 4)


def test_what_rows_do_not_define_is_left_out():
    labels, outputs = np.array([0.0, 0, 1, 1]), np.eye(3)[[0, 1, 1, 1]]
    found = metrics.intervals(build(THREE, labels, outputs, None), Clusters.of_rows(4), seed=0)
    assert found.keys() == {
        *("accuracy", "log_loss", "macro_f1"),
        *("balanced_accuracy", "average_precision", "brier"),
        *("a_recall", "b_recall", "a_precision", "b_precision", "a_average_precision", "b_average_precision"),
    }
    assert found["a_recall"].value == 0.5
    assert found["macro_f1"].value == pytest.approx(reference.f1_score(labels, outputs.argmax(1), average="macro"))


@settings(max_examples=40)
@given(st.integers(0, 1000))
def test_a_weight_is_so_many_equal_rows(seed):
    truth, score = drawn(60, seed)
    weights = np.random.default_rng(seed).integers(0, 4, 60)
    repeated = np.repeat(np.arange(60), weights)
    kinds, outputs = np.digitize(score, (0.3, 0.6)).astype(float), np.random.default_rng(seed).dirichlet([1] * 3, 60)
    costs, declared = {"a": {"b": 2.0}}, ["c_recall_at_precision_0.4", "a_precision_at_recall_0.4"]
    three = build(THREE, kinds, outputs, None, costs=costs, declared=declared)
    three_by_rows = build(THREE, kinds[repeated], outputs[repeated], None, costs=costs, declared=declared)
    for name, metric in three.items():
        expected = three_by_rows[name](np.ones(len(repeated)))
        assert metric(weights.astype(float)) == pytest.approx(expected, nan_ok=True), name
    by_weight = build(BINARY, truth, two_columns(score), 0.5)
    by_rows = build(BINARY, truth[repeated], two_columns(score[repeated]), 0.5)
    for name, metric in by_weight.items():
        assert metric(weights.astype(float)) == pytest.approx(by_rows[name](np.ones(len(repeated))), nan_ok=True), name


def test_the_interval_holds_the_true_value_about_as_often_as_it_says():
    held = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(loc=1, size=100)
        built = {"rmse": build(NUMBER, values * 0, values[:, None], None)["rmse"]}
        found = metrics.intervals(built, Clusters.of_rows(100), seed=seed)["rmse"]
        held += found.low <= np.sqrt(2) <= found.high
    assert 170 <= held <= 199


def test_the_interval_is_the_same_for_the_same_seed_only():
    truth, score = drawn(200)
    built = build(BINARY, truth, two_columns(score), 0.5)
    first, again, other = (metrics.intervals(built, Clusters.of_rows(200), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert all(found.low <= found.value <= found.high for found in first.values())


def test_a_recall_of_no_row_is_unknown():
    found = build(BINARY, np.zeros(20), two_columns(np.linspace(0.1, 0.9, 20)), 0.5)
    assert np.isnan(found["recall"](np.ones(20)))
    assert "recall" not in metrics.intervals(found, Clusters.of_rows(20), seed=0)


def test_nothing_called_positive_is_precision_zero_not_an_error():
    truth, score = drawn(50)
    found = build(BINARY, truth, two_columns(score * 0.1), 0.9)
    assert found["precision"](np.ones(50)) == 0
    assert found["f1"](np.ones(50)) == 0
