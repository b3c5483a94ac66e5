"""Paired tests of a candidate and what the rules say to them; rows that another learnt from; what is expected."""

import math
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.holdout import identity
from plumbline.core.metrics.clusters import Clusters, Difference
from plumbline.core.metrics.names import higher_is_better
from plumbline.core.schema import Output
from plumbline.promotion.gate.answers import POOLED, Answers, Rows, groups_of
from plumbline.promotion.gate.comparison import Against, Comparisons, SliceDifference, judge
from plumbline.promotion.gate.expected import shifts
from plumbline.promotion.gate.holdout import Holdout
from plumbline.promotion.gate.seen import unseen
from plumbline.promotion.gate.verdict import Verdict
from plumbline.promotion.policy import Rules
from plumbline.training.report import Clustered, Period, Report

BINARY = Output(task="binary", name="late", description="Late?", labels=("on_time", "late"))
NUMBER = Output(task="regression", name="value", description="Value")
RULES = Rules.model_validate(
    {
        "images": ["ghcr.io/plumbline/model-server"],
        "metrics": [{"metric": "log_loss", "max": 0.6}],
        "beats_baseline": {"metric": "log_loss", "by": 0.01},
        "champion": {"metric": "log_loss", "margin": 0.01, "recent": 3},
        "slices_against_champion": {"metric": "roc_auc", "margin": 0.02},
        "latency_p95_ms": 5,
        "size_mb": 5,
        "parity": {"max_abs_difference": 1e-5},
        "card": ["owner"],
    }
)


def by(worse_by: float, error: float = 0.001, clusters: int = 60) -> Difference:
    return Difference(0.5 + worse_by, 0.5, worse_by, error, clusters)


def against(worse_by: float, error: float = 0.001, version: str = "v1.0.0", **more: Any) -> Against:
    return Against(version, by(worse_by, error), rows=1000, **more)


def part(column: str, value: str, worse_by: float, error: float = 0.01) -> SliceDifference:
    return SliceDifference(column, value, 500, by(worse_by, error))


COMPARED = Comparisons("day", 60, "", 1, by(-0.1), by(-0.15), against(0.0))


def said(**changes: Any) -> dict[str, Verdict]:
    return {verdict.rule: verdict for verdict in judge(RULES, replace(COMPARED, **changes))}


@pytest.mark.parametrize(
    ("changes", "rule", "outcome"),
    [
        ({}, "beats baseline (log_loss)", "pass"),
        ({"baseline": by(-0.005)}, "beats baseline (log_loss)", "refused"),
        ({"baseline": by(-0.1, error=0.08)}, "beats baseline (log_loss)", "refused"),
        ({"baseline": by(-0.1, error=math.nan)}, "beats baseline (log_loss)", "inconclusive"),
        ({"baseline": Inconclusive("none kept")}, "beats baseline (log_loss)", "inconclusive"),
        ({"constant": by(-0.0001)}, "beats a constant (proper score)", "refused"),
        ({"constant": by(-0.01)}, "beats a constant (proper score)", "pass"),
        ({"champion": against(0.005)}, "not worse than champion (log_loss)", "pass"),
        ({"champion": against(0.005, error=0.004)}, "not worse than champion (log_loss)", "refused"),
        ({"champion": against(0.005), "tries": 10_000_000}, "not worse than champion (log_loss)", "refused"),
        ({"champion": against(0.0, error=math.nan)}, "not worse than champion (log_loss)", "inconclusive"),
        ({"champion": Refused("tampered")}, "not worse than champion (log_loss)", "inconclusive"),
        ({"champion": None}, "not worse than champion (log_loss)", "pass"),
        ({"fault": "19 clusters by day"}, "resampled", "refused"),
        ({"fault": Inconclusive("not said")}, "resampled", "inconclusive"),
        ({"recent": (against(0.008, version="v0.9.0"),)}, "not worse than the best of 3 before (log_loss)", "pass"),
        (
            {"recent": (against(0.0, version="v0.9.0"), against(0.03, version="v0.8.0"))},
            "not worse than the best of 3 before (log_loss)",
            "refused",
        ),
        ({"recent": (("v0.9.0", Refused("gone")),)}, "not worse than the best of 3 before (log_loss)", "pass"),
    ],
)
def test_verdicts(changes: dict[str, Any], rule: str, outcome: str) -> None:
    found = said(**changes)[rule]
    assert found.outcome == outcome
    assert bool(found.fix) == (outcome != "pass"), "says what to do"


def test_what_was_left_out_or_not_compared_is_said() -> None:
    found = said(
        champion=against(0.0, left_out=300),
        recent=(against(0.03, version="v0.8.0"), ("v0.7.0", Refused("gone"))),
        tries=7,
    )
    assert "without 300 rows that v1.0.0 learnt from, on 1,000" in found["not worse than champion (log_loss)"].value
    creep = found["not worse than the best of 3 before (log_loss)"]
    assert "worse than v0.8.0" in creep.value
    assert "not compared: v0.7.0 (gone)" in creep.value
    tries = found["tries on this holdout"]
    # The expected maximum of 7 standard normals is 1.352 (Harter, Biometrika 48, 1961, table 1).
    assert "7 runs; the best of so many equal ones looks 1.4 standard errors better" in tries.value
    assert tries.limit == f"bounds hold with {1 - 0.05 / 7:.4g}"
    uncounted = {
        item.rule: item for item in judge(RULES.model_copy(update={"count_tries": False}), replace(COMPARED, tries=7))
    }
    assert uncounted["tries on this holdout"].value.endswith("not counted: so the policy says")
    assert uncounted["tries on this holdout"].limit == "bounds hold with 0.95"
    alone = said(by="")["resampled"].value
    assert "each its own cluster: so the model's folder says" in alone


def test_how_sure_a_gain_over_the_baseline_must_be_is_its_own() -> None:
    rule, less = (
        "beats baseline (log_loss)",
        {"beats_baseline": RULES.beats_baseline.model_copy(update={"confidence": 0.8})},
    )
    near = replace(COMPARED, baseline=by(-0.02, error=0.015))
    found = [{item.rule: item for item in judge(rules, near)}[rule] for rules in (RULES, RULES.model_copy(update=less))]
    assert [item.outcome for item in found] == ["refused", "pass"]


def test_a_slice_that_pays_for_the_average_is_refused_and_the_number_of_slices_counts() -> None:
    rule = "no slice worse than champion's (roc_auc)"
    good = tuple(part("carrier", name, 0.0) for name in "abcdefghij")
    assert said(champion=against(0.0, slices=good))[rule].outcome == "pass"
    bad = said(champion=against(0.0, slices=(*good, part("origin", "LGA", 0.127))))[rule]
    assert bad.outcome == "refused"
    assert "origin LGA" in bad.value
    # Worse by 2.2 errors beyond the margin: found alone, and not as one of eleven.
    near = part("origin", "LGA", 0.042)
    assert said(champion=against(0.0, slices=(near,)))[rule].outcome == "refused"
    assert said(champion=against(0.0, slices=(*good, near)))[rule].outcome == "pass"
    assert said(champion=against(0.0, slices=(part("origin", "LGA", 0.0, math.nan),)))[rule].outcome == "inconclusive"
    table = replace(COMPARED, champion=against(0.0, slices=(near,))).slice_table(0.02, 0.05)
    assert "| origin = LGA | 500 " in table
    assert table.splitlines()[0].endswith("| p (Holm)   |")


@pytest.mark.parametrize(
    ("name", "up"),
    [(name, True) for name in ("roc_auc", "pr_auc", "accuracy", "r2", "f1", "precision", "recall")]
    + [(name, False) for name in ("log_loss", "brier", "ece", "rmse", "mae")],
)
def test_directions(name: str, up: bool) -> None:
    assert higher_is_better(name) is up


def rows(count: int = 600, days: int = 30, **changes: Any) -> Rows:
    generator = np.random.default_rng(0)
    origin = np.array(["LGA", "JFK", "tiny"])[generator.choice(3, count, p=[0.5, 0.49, 0.01])]
    truth = (generator.random(count) < 0.3).astype(float)
    clusters = Clusters.of(list(np.arange(count) % days), "day")
    return replace(Rows(BINARY, truth, clusters, slices={"origin": origin}), **changes)


def two(score: np.ndarray) -> Answers:
    return Answers(np.column_stack([1 - score, score]), 0.5)


def test_small_slices_are_judged_together() -> None:
    held = rows()
    names = np.array([f"carrier {number % 10}" if number % 30 > 4 else "big" for number in range(600)])
    held = replace(held, slices={"origin": held.slices["origin"], "carrier": names})
    groups, left = groups_of(held, ["origin", "carrier"], 20)
    assert set(groups) == {("origin", "LGA"), ("origin", "JFK"), ("carrier", POOLED)}
    assert groups["carrier", POOLED].sum() == 600, "each alone has 3 or 5 days, together they have 30"
    assert left == ["origin"], "six rows of the third have too few days"


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_constant_is_the_best_there_is(task: str) -> None:
    if task == "regression":
        held = Rows(NUMBER, np.arange(100.0), Clusters.of_rows(100))
        assert held.metric("rmse", held.constant("rmse"), np.ones(100, bool))(np.ones(100)) == pytest.approx(
            np.arange(100).std()
        )
        assert held.constant("mae").outputs[0, 0] == pytest.approx(49.5)
        return
    output = (
        BINARY if task == "binary" else Output(task="multiclass", name="k", description="K", labels=("a", "b", "c"))
    )
    labels = len(output.labels)
    truth = np.repeat(np.arange(labels), [70, 30, 20][:labels]).astype(float)
    held = Rows(output, truth, Clusters.of_rows(len(truth)), costs={output.labels[1]: {output.labels[0]: 10}})
    every, even = np.ones(len(truth), dtype=bool), np.ones(len(truth))
    shares = np.bincount(truth.astype(int)) / len(truth)
    entropy = -(shares * np.log(shares)).sum()
    assert held.metric("log_loss", held.constant("log_loss"), every)(even) == pytest.approx(entropy)
    assert held.constant("cost").outputs[0].argmax() == 1, "a miss costs ten"
    assert held.metric("cost", held.constant("cost"), every)(even) == 0


def test_a_paired_test_on_too_few_clusters_is_refused_with_their_number() -> None:
    held = rows(days=12)
    with pytest.raises(Inconclusive, match="12 clusters by day to judge on, an interval takes 20"):
        held.compared("log_loss", held.constant("log_loss"), held.constant("log_loss"), resamples=200, seed=0)


def report(first: date | None, clustered: Clustered | None = None) -> Report:
    period = Period(first=first, last=first, rows=1)
    return Report(
        model="m", metrics={}, baseline={}, slices=(), threshold=None, train=period, test=period, clusters=clustered
    )


def held(days: range, number: int = 0, **columns: Any) -> Holdout:
    at = pa.array([np.datetime64("2013-11-01T12:00", "ns") + np.timedelta64(day, "D") for day in days])
    moments = at.cast(pa.timestamp("ns", tz="UTC"))
    return Holdout(
        pa.table({"at": moments, "truth": ["yes"] * len(days), "x": [number + day for day in days], **columns})
    )


def test_rows_that_another_learnt_from_are_told_by_time() -> None:
    mine, november, december = report(date(2013, 11, 1)), date(2013, 11, 1), date(2013, 12, 1)
    fresh = unseen(mine, held(range(60)), report(november), held(range(50)))
    assert fresh.all(), "its own window began as early"
    fresh = unseen(mine, held(range(60)), report(december), held(range(30, 60)))
    assert fresh.tolist() == [False] * 31 + [True] * 29


def test_rows_that_another_learnt_from_are_told_by_its_own_holdout() -> None:
    def plain(numbers: range) -> Holdout:
        return Holdout(
            pa.table({"truth": [float(n) for n in numbers], "x": list(numbers), "native_value": [0.0] * len(numbers)})
        )

    nowhere = report(None)
    assert unseen(nowhere, plain(range(40)), nowhere, plain(range(40))).all()
    assert unseen(nowhere, plain(range(40)), nowhere, plain(range(30, 99))).sum() == 10
    with pytest.raises(Inconclusive, match="judge both on a fresh window"):
        unseen(nowhere, Holdout(plain(range(40)).table.drop(["x"])), report(date(2013, 1, 1)), held(range(5)))


def test_a_holdout_is_the_same_whatever_is_predicted_from() -> None:
    one = held(range(30))
    assert identity(one.table) == identity(held(range(30), number=7, extra=["a"] * 30).table)
    assert identity(one.table) != identity(held(range(31)).table)
    assert identity(one.table) != identity(one.table.set_column(1, "truth", pa.array(["no"] * 30)))


def test_clusters_of_a_holdout() -> None:
    day, alone = Clustered(by="day", count=3), Clustered(by="", count=3)
    with_days = held(range(3), _cluster=["a", "b", "a"])
    assert (with_days.clusters(report(None, day)).count, with_days.clusters(report(None, day)).by) == (2, "day")
    assert with_days.clusters(report(None, alone)).count == 3
    with pytest.raises(Inconclusive, match="does not say which rows depend on each other; declare `cluster`"):
        with_days.clusters(report(None))
    with pytest.raises(Refused, match=r"holdout.parquet: the column '_cluster' is missing"):
        held(range(3)).clusters(report(None, day))
    with pytest.raises(Refused, match=r"column '_cluster' \(day\): 1 of 3 rows have none"):
        held(range(3), _cluster=["a", None, "a"]).clusters(report(None, day))


def test_the_difference_that_a_canary_should_show() -> None:
    judged, score = rows(), np.linspace(0.1, 0.7, 600)
    moved = np.where(judged.slices["origin"] == "LGA", score + 0.2, score)
    every, jfk, lga = shifts(judged, two(moved), two(score))
    assert (jfk.column, jfk.value, jfk.agreement, jfk.distance) == ("origin", "JFK", 1.0, 0.0)
    assert lga.distance == pytest.approx(0.2)
    assert lga.mean["late"] - lga.mean_before["late"] == pytest.approx(0.2)
    chosen = judged.slices["origin"] == "LGA"
    assert lga.agreement == pytest.approx(1 - ((moved >= 0.5) != (score >= 0.5))[chosen].mean(), abs=1e-6)
    assert every.rows == 600
    assert every.distance == pytest.approx(0.2 * chosen.mean(), rel=1e-5)
