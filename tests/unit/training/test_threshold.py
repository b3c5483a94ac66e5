"""The threshold of a binary model: best by its rule, within a limit, and the same number for whoever compares."""

import numpy as np
import pytest
from sklearn import metrics as reference

from plumbline.core.schema import Output
from plumbline.training.threshold import choose, fault

BINARY = Output(task="binary", name="positive", description="Positive?", labels=("no", "yes"))
COSTS = {"yes": {"no": 20.0}, "no": {"yes": 1.0}}


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores with ties, as trees give them."""
    generator = np.random.default_rng(seed)
    score = np.round(generator.uniform(0.01, 0.99, rows), 2)
    return (generator.uniform(size=rows) < score).astype(float), score


def cost(truth: np.ndarray, called: np.ndarray) -> float:
    """Twenty for a miss, one for a false alarm."""
    return float(20 * (truth * ~called).sum() + ((1 - truth) * called).sum())


@pytest.mark.parametrize(
    ("rule", "score_of"),
    [
        ("f1", reference.f1_score),
        ("accuracy", reference.accuracy_score),
        ("balanced_accuracy", reference.balanced_accuracy_score),
        ("cost", lambda truth, called: -cost(truth, called) / 10_000),
    ],
)
def test_the_threshold_is_the_best_by_its_rule(rule, score_of):
    truth, score = drawn(2000)
    threshold = choose(rule, BINARY, COSTS, truth, score).value
    best = max(score_of(truth, score >= candidate) for candidate in np.unique(score))
    assert score_of(truth, score >= threshold) == pytest.approx(best, abs=0.005)


def test_a_costly_miss_lowers_the_threshold():
    truth, score = drawn(5000)
    assert choose("cost", BINARY, COSTS, truth, score).value == pytest.approx(1 / 21, abs=0.03)
    dear_alarms = {"yes": {"no": 1.0}, "no": {"yes": 20.0}}
    assert choose("cost", BINARY, dear_alarms, truth, score).value == pytest.approx(20 / 21, abs=0.03)


@pytest.mark.parametrize("limit", [0.55, 0.7, 0.9])
def test_a_limit_is_kept_and_the_other_figure_is_the_best_within_it(limit):
    truth, score = drawn(3000)
    chosen = choose(f"recall_at_precision_{limit}", BINARY, None, truth, score)
    assert not chosen.short
    called = score >= chosen.value
    precision, recall, _ = reference.precision_recall_curve(truth, score)
    assert reference.precision_score(truth, called) >= limit
    assert reference.recall_score(truth, called) == pytest.approx(recall[precision >= limit].max(), abs=0.02)
    called = score >= choose(f"precision_at_recall_{limit}", BINARY, None, truth, score).value
    assert reference.recall_score(truth, called) >= limit
    assert reference.precision_score(truth, called) == pytest.approx(precision[recall >= limit].max(), abs=0.02)


def test_the_few_rows_of_a_rare_label_are_found_beyond_the_last_percent():
    """A label in a thousand: the threshold that calls them well is above 99.9 % of all scores."""
    generator = np.random.default_rng(0)
    truth = (np.arange(50_000) < 50).astype(float)
    score = np.where(truth == 1, generator.uniform(0.8, 0.99, 50_000), generator.uniform(0, 0.79, 50_000))
    for rule in ("f1", "recall_at_precision_0.9"):
        called = score >= choose(rule, BINARY, None, truth, score).value
        assert reference.f1_score(truth, called) > 0.95


def test_a_limit_that_nothing_keeps_is_said_with_the_best_there_is():
    truth, score = drawn(2000)
    chosen = choose("recall_at_precision_0.9", BINARY, None, truth, 0.2 + score * 0)
    assert chosen.short == f"precision 0.9, the best is {truth.mean():.3g}"


def test_a_threshold_is_read_alike_as_float32_and_as_float64():
    generator = np.random.default_rng(0)
    truth = (generator.uniform(size=2000) < 0.02).astype(np.float64)
    for scale in (1, 1e-3):
        score = (scale * generator.beta(1 + truth, 20)).astype(np.float32)
        for rule in ("f1", "cost", "precision_at_recall_0.5"):
            threshold = choose(rule, BINARY, COSTS, truth, score.astype(np.float64)).value
            assert 0 < threshold == float(np.float32(threshold))
            calls = score >= np.float32(threshold), score.astype(np.float64) >= threshold
            assert (calls[0] == calls[1]).all()
            assert calls[0].any()


@pytest.mark.parametrize(
    "rule",
    ["roc_auc", "recall", "recall_at_precision_1.5", "recall_at_precision_0.9\u0665", "no_recall_at_precision_0.9", ""],
)
def test_what_is_no_rule_is_refused_with_those_that_are(rule):
    assert "expected one of f1, accuracy, balanced_accuracy, cost, recall_at_precision_" in fault(rule, BINARY, None)


def test_a_threshold_by_cost_needs_costs():
    assert "needs costs" in fault("cost", BINARY, None)
    assert fault("cost", BINARY, COSTS) == ""


@pytest.mark.parametrize(("low", "high"), [(0.9991, 0.9994), (1e-9, 3e-9), (0.5, 0.5 + 1e-6), (0.0, 1.0)])
@pytest.mark.parametrize("rule", ["f1", "accuracy", "balanced_accuracy", "cost", "recall_at_precision_0.9"])
def test_scores_close_to_each_other_or_to_an_end_are_told_apart(rule, low, high):
    truth = np.repeat([0.0, 1.0], 100)
    chosen = choose(rule, BINARY, COSTS, truth, np.repeat([low, high], 100))
    assert (low < chosen.value <= high, chosen.short) == (True, "")
    assert float(np.float32(chosen.value)) == chosen.value
