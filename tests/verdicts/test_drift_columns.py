"""Drift by columns, blocks and labels: what moved is found, what did not is not, and the page shows what was judged."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plumbline.monitoring.drift.blocks import Window, blocks
from plumbline.monitoring.drift.compare import Baseline, ColumnResult, Comparison, compare
from plumbline.monitoring.drift.data import from_holdout
from plumbline.monitoring.drift.outcome import Answers, Outcome
from plumbline.monitoring.drift.report import Check
from plumbline.monitoring.drift.report import write as write_pages
from plumbline.monitoring.policy import LABEL, SCORE, Drift, ReferenceFault

POLICY = Drift(model="flights", sample=1000)
COLUMNS = 6


def frame(seed: int, rows: int = 6000, *, shift: float = 0.0, column: str = "x3") -> pd.DataFrame:
    """Six numbers of different shapes, an integer, categories of 3 and of 80 values, holes, and a score."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({f"x{n}": rng.normal(n, n + 1, rows) for n in range(COLUMNS)})
    table["skewed"] = rng.lognormal(0, 1, rows)
    table["hour"] = rng.integers(5, 24, rows)
    table["carrier"] = rng.choice(["UA", "B6", "EV"], rows, p=[0.5, 0.3, 0.2])
    table["dest"] = rng.choice([f"d{n}" for n in range(80)], rows, p=np.arange(1, 81) / 3240)
    table["wind"] = np.where(rng.random(rows) < 0.3, np.nan, rng.exponential(10, rows))
    table[SCORE] = rng.beta(2, 8, rows)
    table[column] += shift * table[column].std()
    return table


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return Baseline.of(frame(0), POLICY)


@pytest.fixture(scope="module")
def narrow() -> Baseline:
    return Baseline.of(frame(0)[["x2", "x3", "carrier"]], POLICY)


def drifted(found: Comparison) -> list[str]:
    assert not found.reason
    return [item.column for item in found.columns if item.drifted]


@pytest.mark.parametrize("seed", range(1, 4))
def test_no_shift_is_not_found(baseline: Baseline, seed: int) -> None:
    found = compare(baseline, frame(seed))
    assert drifted(found) == []
    assert (found.verdict(prediction=False), found.verdict(prediction=True)) == ("none", "none")


@pytest.mark.parametrize("seed", range(1, 3))
@pytest.mark.parametrize("column", ["x3", "skewed", SCORE])
def test_one_column_of_many_moved_by_one_deviation_is_found(baseline: Baseline, seed: int, column: str) -> None:
    found = compare(baseline, frame(seed, shift=1.0, column=column))
    assert drifted(found) == [column]
    assert found.verdict(prediction=column == SCORE) == "drift"
    assert found.verdict(prediction=column != SCORE) == "none"


def test_the_page_has_the_effects_that_were_judged() -> None:
    columns = {"skewed": {"method": "psi"}, "hour": {"method": "jensenshannon"}}
    policy = Drift.model_validate({"model": "flights", "sample": 1000, "columns": columns})
    names = ["x3", "skewed", "hour", "carrier", "dest", "wind"]
    found = compare(Baseline.of(frame(0)[names], policy), frame(1))
    assert found.page is not None
    shown = {item["config"]["column"]: float(item["value"]) for item in found.page().dict()["metrics"]}
    assert shown == {item.column: pytest.approx(item.value) for item in found.columns}


def test_identical_data_never_drifts(baseline: Baseline) -> None:
    found = compare(baseline, frame(0))
    assert [item.value for item in found.columns] == [0.0] * len(baseline.limits.methods)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, []), (0.05, []), (1.0, ["x3"])])
def test_the_verdict_does_not_depend_on_the_sample_size(narrow: Baseline, shift: float, expected: list[str]) -> None:
    for rows in (1000, 10_000, 100_000):
        assert drifted(compare(narrow, frame(9, rows, shift=shift))) == expected


def test_the_same_data_give_the_same_numbers(narrow: Baseline) -> None:
    one, other = (compare(narrow, frame(4)).columns for _ in range(2))
    assert one == other


def test_too_few_rows_are_inconclusive_on_either_side() -> None:
    for reference, current, side in [(1000, 999, "log"), (999, 6000, "reference")]:
        found = compare(Baseline.of(frame(0, reference)[["x1"]], POLICY), frame(1, current))
        assert found.reason == f"the {side} has 999 rows, the policy compares 1000"
        assert (found.verdict(prediction=False), found.verdict(prediction=True)) == ("inconclusive", "inconclusive")


def test_categories_that_change_places_are_found(baseline: Baseline) -> None:
    current = frame(1)
    current["carrier"] = current["carrier"].map({"UA": "EV", "EV": "UA", "B6": "B6"})
    assert drifted(compare(baseline, current)) == ["carrier"]


def test_values_that_went_missing_are_found(baseline: Baseline) -> None:
    current = frame(1)
    current.loc[current.sample(frac=0.5, random_state=1).index, "x5"] = np.nan
    assert drifted(compare(baseline, current)) == ["x5"]
    gone = compare(baseline, frame(1).drop(columns="carrier"))
    assert drifted(gone) == ["carrier"]
    assert next(item for item in gone.columns if item.column == "carrier").value is None


def test_the_policy_of_a_column() -> None:
    rules: dict[str, Any] = {
        "x3": {"ignore": True}, "x4": {"threshold": 2.0}, SCORE: {"method": "psi"}, "hour": {"method": "jensenshannon"},
    }  # fmt: skip
    policy = Drift.model_validate({"model": "flights", "sample": 1000, "columns": rules})
    current = frame(1, shift=1.0)
    current["x4"] += current["x4"].std()
    found = compare(Baseline.of(frame(0)[[*rules]], policy), current)
    assert found.verdict(prediction=False) == "none"
    by_name = {item.column: item for item in found.columns}
    assert by_name["x3"].drifted
    assert not by_name["x3"].judged
    assert by_name["x4"].threshold == 2.0
    assert (by_name[SCORE].method, by_name["hour"].method) == ("psi", "jensenshannon")
    assert not by_name[SCORE].drifted


def test_a_reference_smaller_than_two_samples_is_calibrated_too() -> None:
    small = Baseline.of(frame(90, 89)[["x3", "x4", "wind", SCORE]], Drift(model="diabetes", sample=80))
    false_alarms = sum(bool(drifted(compare(small, frame(seed, 200)))) for seed in range(1, 5))
    assert false_alarms == 0
    assert drifted(compare(small, frame(5, 200, shift=1.5))) == ["x3"]


def answers(seed: int, rows: int, *, wrong: float = 0.0, late: float = 0.0) -> Answers:
    """Calibrated scores and what came true: of a share `wrong` something else, and a share `late` more of all."""
    rng = np.random.default_rng(seed)
    score = np.clip(rng.beta(1, 3, rows) + late, 0, 0.99)
    true = np.where(rng.random(rows) < wrong, rng.permutation(score), score)
    positive = (rng.random(rows) < true).astype(np.float64)
    return Answers(score, 2 * (score - positive) ** 2, positive)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    policy, reference = Drift(model="flights", sample=1000), answers(0, 20_000)
    return Outcome.of(reference, np.arange(20_000), blocks(None, 20_000, None, 1000, 0), policy, tests=1)


def test_concept_drift_is_what_labels_say_beyond_what_scores_let_expect(outcome: Outcome) -> None:
    assert [outcome.concept(answers(seed, 1000)).verdict for seed in range(1, 9)] == ["none"] * 8
    assert [outcome.concept(answers(seed, 1000, wrong=0.6)).verdict for seed in range(1, 9)] == ["drift"] * 8
    # A day on which everything is later is harder, but its scores mean what they meant.
    assert [outcome.concept(answers(seed, 1000, late=0.3)).verdict for seed in range(1, 9)] == ["none"] * 8


def test_labels_that_are_few_or_older_than_their_answers_are_inconclusive(outcome: Outcome) -> None:
    assert outcome.concept(answers(1, 99)).verdict == "inconclusive"
    assert outcome.concept(answers(1, 0)).verdict == "inconclusive"
    found = outcome.concept(answers(1, 1000), early=3)
    assert (found.verdict, found.early) == ("inconclusive", 3)
    assert "3 labels are older than their answers" in found.reason


def test_the_loss_is_estimated_without_labels(outcome: Outcome) -> None:
    now = answers(7, 20_000, late=0.2)
    found = outcome.performance(now.score)
    assert found.loss.current == pytest.approx(float(now.loss.mean()), rel=0.02)
    assert found.loss.reference == pytest.approx(float(outcome.answers.loss.mean()), rel=1e-6)
    from sklearn.metrics import roc_auc_score

    assert found.roc_auc == pytest.approx(roc_auc_score(now.positive, now.score), abs=0.02)
    assert (found.verdict, outcome.performance(answers(8, 1000).score).verdict) == ("drift", "none")
    assert outcome.performance(now.score[:999]).verdict == "inconclusive"


def moments(days: int, a_day: int = 200) -> "pd.Series[pd.Timestamp]":
    first = pd.Timestamp("2026-03-02", tz="UTC")
    return pd.Series(first + pd.to_timedelta(np.arange(days * a_day) / a_day, unit="D"))


def test_blocks_are_as_long_as_the_window_and_held_against_their_own_hours_of_the_week() -> None:
    at = moments(28)
    window = Window(datetime(2026, 6, 3, 5, tzinfo=UTC), timedelta(days=1))
    found = blocks(at, len(at), window, 100, 0)
    assert (len(found.pairs), found.apart) == (28, 28)
    for block, rest in found.pairs:
        first, last = at.iloc[block].min(), at.iloc[block].max()
        assert first.hour == 5 or first == at.min(), "whole days to the hour at which the window ends"
        assert last - first < pd.Timedelta(days=1)
        assert set((at.iloc[rest] - pd.Timedelta(hours=5)).dt.dayofweek) == {(first - pd.Timedelta(hours=5)).dayofweek}
        assert not set(block) & set(rest)
    week = blocks(at, len(at), Window(window.until, timedelta(days=7)), 100, 0)
    assert week.apart == 4
    assert not week.enough


def by_day(seed: int, days: int) -> pd.DataFrame:
    """Days that differ: all rows of one share its weather, and two columns always go together."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"a": rng.normal(size=days * 200), "weather": np.repeat(rng.normal(size=days), 200)})
    table["b"] = table["a"] + rng.normal(size=len(table)) / 2
    table[SCORE] = rng.beta(2, 8, len(table)) + 0.02 * table["weather"]
    return table


def test_days_that_differ_as_days_do_are_no_drift_and_columns_that_part_are() -> None:
    policy, at = Drift(model="flights", sample=150), moments(60)
    window = Window(datetime(2026, 6, 3, tzinfo=UTC), timedelta(days=1))
    baseline = Baseline.of(by_day(0, 60), policy, at, window)
    assert baseline.limits.together == ("a", "b")
    assert baseline.limits.columns["weather"] > 1 > baseline.limits.columns["a"]
    false, found = 0, 0
    for seed in range(1, 11):
        now = by_day(seed, 1)
        alone = compare(baseline, now)
        assert alone.verdict(prediction=False) == "none"
        false += alone.joint.verdict == "drift"
        parted = compare(baseline, now.assign(b=np.random.default_rng(seed).permutation(now["b"])))
        assert parted.verdict(prediction=False) == "none"
        found += parted.joint.verdict == "drift"
    # By chance one window in a hundred is beyond the limit.
    assert false <= 1
    assert found == 10


def test_a_reference_that_holds_too_few_windows_says_so() -> None:
    window = Window(datetime(2026, 6, 3, tzinfo=UTC), timedelta(days=7))
    found = compare(Baseline.of(by_day(0, 28), Drift(model="flights", sample=150), moments(28), window), by_day(1, 7))
    assert found.reason == "the reference holds 4 windows as long as this one, limits need 5"
    assert found.verdict(prediction=False) == "inconclusive"


def test_shifts_are_ranked_by_what_they_do_to_the_score() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"matters": rng.normal(size=6000), "idle": rng.normal(size=6000)})
    table[SCORE] = 1 / (1 + np.exp(-table["matters"]))
    found = compare(Baseline.of(table, POLICY), table + 1)
    by_name = {item.column: item.influence or 0 for item in found.columns if item.column != SCORE}
    assert by_name["matters"] > 0.1 > 0.01 > abs(by_name["idle"])


def write(path: Any, **columns: Any) -> Any:
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_a_binary_holdout(tmp_path: Any) -> None:
    side = from_holdout(write(
        tmp_path / "h.parquet", x=[1.0, 2.0], slice_x=["a", "b"], truth=["late", "on time"],
        **{"native_on time": [0.4, 0.9], "native_late": [0.6, 0.1]},
    ))  # fmt: skip
    assert list(side.frame.columns) == ["x", SCORE]
    assert list(side.frame[SCORE]) == [0.6, 0.1]
    assert side.answers.loss.mean() == pytest.approx((2 * 0.4**2 + 2 * 0.1**2) / 2)


def test_a_holdout_of_three_labels_and_of_values(tmp_path: Any) -> None:
    natives = {"native_a": [0.5, 0.1], "native_b": [0.3, 0.2], "native_c": [0.2, 0.7]}
    side = from_holdout(write(tmp_path / "h.parquet", x=[1, 2], truth=["a", "c"], **natives))
    assert (list(side.frame[SCORE]), list(side.frame[LABEL])) == ([0.5, 0.7], ["a", "c"])
    side = from_holdout(write(tmp_path / "v.parquet", x=[1, 2], truth=[1.0, 5.0], native_value=[2.0, 2.0]))
    assert (list(side.frame[SCORE]), side.answers.loss.mean()) == ([2.0, 2.0], 2.0)


def test_a_reference_that_is_none_says_so(tmp_path: Any) -> None:
    with pytest.raises(ReferenceFault, match="cannot be read as parquet"):
        from_holdout(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(ReferenceFault, match="cannot be read as parquet"):
        from_holdout(tmp_path / "text.parquet")
    with pytest.raises(ReferenceFault, match="expected the columns truth and native_<label>"):
        from_holdout(write(tmp_path / "h.parquet", x=[1]))


def test_what_a_caller_sends_cannot_break_out_of_the_pages(narrow: Baseline, outcome: Outcome, tmp_path: Path) -> None:
    way_out = "</script><script>alert(1)</script>"
    now = frame(1)[["x2", "x3", "carrier"]]
    now["carrier"] = np.where(np.arange(len(now)) % 2, way_out, "UA")
    found = compare(narrow, now)
    assert drifted(found) == ["carrier"]
    column = ColumnResult(f"c{way_out}", "psi", 0.5, 0.1, 0.0, 0.0, 0.1, True)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    scores = answers(0, 50).score
    comparison = Comparison((*found.columns, column), f"because {way_out}", found.page)
    write_pages(Check(
        f"flights{way_out}", f"v1.0.0{way_out}", at, at, 1, 1, comparison, outcome.performance(scores),
        outcome.concept(answers(0, 50)),
    ), tmp_path)  # fmt: skip
    index = (tmp_path / "index.html").read_text()
    assert "<script" not in index
    assert index.count("&lt;/script&gt;&lt;script&gt;alert(1)") == 5
    assert '<meta name="viewport" content="width=device-width' in index, "a phone shows it at its own width"
    evidently = (tmp_path / "evidently.html").read_text()
    assert "alert(1)" in evidently
    assert "<script>alert(1)" not in evidently
