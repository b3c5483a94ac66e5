from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from experiments import data, policy, verdicts

from plumbline.monitoring.experiment.evidence import collect, of_arms, of_pairs
from plumbline.monitoring.experiment.plan import Traffic, needs
from plumbline.monitoring.experiment.verdict import judge

REPLAYED: dict[str, Any] = {
    "answersChangeOutcomes": False,
    "rollback": [{"metric": "accuracy", "below": 0.0}],
}


def test_a_gain_is_promoted_and_harm_is_rolled_back() -> None:
    assert verdicts(policy(), 5, gain={"accuracy": 0.12}) == ["promote"] * 5
    assert verdicts(policy(), 5, gain={"accuracy": -0.12}) == ["rollback"] * 5
    assert verdicts(policy(), 5, gain={"accuracy": 0.12, "ms": -10}) == ["rollback"] * 5


def test_what_comes_after_a_look_changes_nothing() -> None:
    rules = policy()
    whole = data(rules, 1, gain={"accuracy": 0.03})
    for days in (8, 14.9):
        some = replace(whole, arms=whole.arms.until(int(days)), days=days)
        assert judge(rules, some).looks[0] == judge(rules, whole).looks[0]
        assert [look.weeks for look in judge(rules, some).looks] == [1]


def test_before_the_first_week_and_its_labels_it_continues_whatever_the_traffic() -> None:
    rules = policy(plan=policy().plan.model_dump() | {"rowsPerDay": 20000})
    result = judge(rules, replace(data(rules, 1, gain={"accuracy": 0.4}), days=7.9))
    assert (result.verdict, result.looks) == ("continue", ())
    assert result.reason == "day 7.9; the first look is at day 8, of the first 1 weeks"


def test_nothing_or_one_arm_only_is_inconclusive() -> None:
    for split in (0.0, 1.0):
        result = judge(policy(), data(policy(), 1, split=split))
        assert (result.verdict, result.reason) == ("inconclusive", "no labelled rows in one of the arms")
    nobody = replace(data(policy(), 1, split=0.0), nameless=7)
    assert judge(policy(), nobody).reason.endswith("arms; 7 rows have no caller (docs/monitoring.md)")


def test_values_that_are_not_there_are_inconclusive() -> None:
    rules = policy()
    found = data(rules, 1, gain={"accuracy": 0.2})
    empty = dict.fromkeys(found.arms.rows, np.zeros(len(found.arms.day)))
    result = judge(rules, replace(found, arms=replace(found.arms, rows=empty, sums=empty)))
    assert result.verdict == "inconclusive"


def test_a_fault_of_the_log_is_never_a_pass() -> None:
    faulty = replace(data(policy(), 1, gain={"accuracy": 0.2}), faults=("feedback: 3 labels came before",))
    result = judge(policy(), faulty)
    assert (result.verdict, result.reason) == ("inconclusive", "feedback: 3 labels came before")


def test_not_worse_by_more_than_a_margin() -> None:
    promote = [{"metric": "accuracy", "above": -0.1, "gain": 0, "deviation": 0.4}]
    rules = policy(promote=promote, rollback=[{"metric": "accuracy", "below": -0.1}])
    assert verdicts(rules, 3) == ["promote"] * 3
    assert verdicts(rules, 3, gain={"accuracy": -0.3}) == ["rollback"] * 3


def test_a_split_that_was_not_planned_promotes_nothing_and_stops_no_rollback() -> None:
    result = judge(policy(), data(policy(), 1, gain={"accuracy": 0.2}, split=0.5))
    assert result.verdict == "inconclusive"
    assert "of callers in treatment, planned 30.0%" in result.reason
    assert verdicts(policy(), 5, gain={"accuracy": -0.15}, split=0.5) == ["rollback"] * 5


def test_callers_who_were_in_both_arms_promote_nothing() -> None:
    found = replace(data(policy(), 1, gain={"accuracy": 0.2}), crossed=50)
    result = judge(policy(), found)
    assert (result.verdict, result.reason[:33]) == ("inconclusive", "50 callers were in both arms: the")


def test_a_look_with_too_few_callers_in_an_arm_is_passed_over() -> None:
    result = judge(policy(minimumCallers=500), data(policy(), 1, gain={"accuracy": 0.2}))
    assert result.verdict == "inconclusive"
    assert all(look.passed_over for look in result.looks)
    assert "callers in an arm, expected 500" in result.reason


def test_the_same_rows_need_no_arms_and_no_split() -> None:
    rules = policy(**REPLAYED)
    assert verdicts(rules, 3, gain={"accuracy": 0.08}, split=0.9) == ["promote"] * 3
    assert verdicts(rules, 3, gain={"accuracy": -0.08}, split=0.0) == ["rollback"] * 3


def test_nobody_asked_both_versions_is_no_comparison_of_arms() -> None:
    rules = policy(**REPLAYED)
    result = judge(rules, replace(data(rules, 1, gain={"accuracy": 0.3}), pairs=None))
    assert (result.verdict, result.reason[:25]) == ("inconclusive", "nobody asked both version")


def test_independent_rows_have_the_textbook_error() -> None:
    rng = np.random.default_rng(1)
    values, treated = rng.normal(3, 2, 4000), np.arange(4000) % 4 == 0
    day = rng.integers(0, 2000, 4000)
    cells = collect(np.arange(4000), day, treated, {"value": values})
    found = of_arms(cells, "value", higher_is_better=True)
    apart = values[treated], values[~treated]
    assert found.gain == pytest.approx(apart[0].mean() - apart[1].mean())
    assert found.error == pytest.approx(np.sqrt(sum(v.var(ddof=1) / len(v) for v in apart)), rel=0.03)
    assert found.sample is None


def test_rows_of_one_caller_and_of_one_day_narrow_nothing() -> None:
    rng = np.random.default_rng(2)
    gains = rng.normal(0, 1, 60)
    once = collect(np.arange(60), np.arange(60), np.ones(60, dtype=bool), {"x": gains})
    for caller, day in ((np.arange(60), np.arange(600)), (np.arange(600), np.arange(60))):
        many = np.resize(np.repeat(gains, 10), 600)
        spread = [np.repeat(axis, 10) if len(axis) == 60 else axis for axis in (caller, day)]
        found = of_pairs(collect(spread[0], spread[1], np.ones(600, dtype=bool), {"x": many}), "x")
        assert found.error == pytest.approx(of_pairs(once, "x").error, rel=0.02)


def test_one_large_caller_is_not_many() -> None:
    caller = np.concatenate([np.zeros(5000, dtype=np.int64), np.arange(1, 31)])
    day = np.arange(5030) % 28
    values = np.concatenate([np.full(5000, 0.3), np.random.default_rng(1).normal(0, 0.1, 30)])
    found = of_pairs(collect(caller, day, np.ones(5030, dtype=bool), {"x": values}), "x")
    assert found.callers == (31, 31)
    assert np.isnan(found.z(0, 1)), "a mean of one caller has no spread"


def test_the_plan_says_what_the_traffic_allows() -> None:
    (few,) = needs(policy(), Traffic(40, 4000))
    assert (few.weeks, few.power) == (None, 0.0)
    assert (few.callers or 0) > 40
    (many,) = needs(policy(), Traffic(4000, 4000))
    assert (many.weeks or 99) <= 4
    assert many.power > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weeks": [2, 2]}, "weeks must rise strictly"),
        ({"weeks": []}, "at least 1 item"),
        ({"weeks": [0, 1]}, "greater than or equal to 1"),
        ({"treatment": {"role": "stable"}}, "are the same arm"),
        ({"treatment": {}}, "give a role, an arm or both"),
        ({"minimumCallers": 3}, "greater than or equal to 10"),
        ({"alpha": 0.5}, "less than or equal to 0.2"),
        ({"share": 1.0}, "less than 1"),
        ({"share": 0.333}, "expected whole percent"),
        ({"promote": []}, "at least 1 item"),
        ({"promote": [{"metric": "mood", "above": 0, "gain": 1, "deviation": 1}]}, "Input should be 'accuracy'"),
        ({"promote": [{"metric": "value", "above": float("nan"), "gain": 1, "deviation": 1}]}, "finite number"),
        ({"promote": [{"metric": "value", "above": 1, "gain": 1, "deviation": 1}]}, "could never be promoted"),
        ({"rollback": [{"metric": "cost", "below": 1}]}, "the metric cost needs costs"),
        ({"peeking": True}, "Extra inputs are not permitted"),
        ({"looks": [1000]}, "Extra inputs are not permitted"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy(**change)


def test_the_salt_draws_other_callers_and_the_share_says_how_many() -> None:
    first, again, other = (set(policy(salt=salt).buckets) for salt in ("1", "1", "2"))
    assert first == again != other
    assert len(first) == len(other) == 30
