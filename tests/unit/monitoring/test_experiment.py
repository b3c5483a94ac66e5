from typing import Any

import numpy as np
import pytest

from plumbline.monitoring.experiment.verdict import ExperimentRows, judge
from plumbline.monitoring.policy import Experiment

POLICY: dict[str, Any] = {
    "apiVersion": "plumbline.dev/v1", "kind": "Experiment", "model": "flights",
    "control": {"role": "stable"}, "treatment": {"role": "canary"}, "share": 0.3, "alpha": 0.05,
    "looks": [1000, 2000, 3000, 4000], "minimumPerArm": 100,
    "promote": [{"metric": "accuracy", "above": 0.0}],
    "rollback": [{"metric": "accuracy", "below": 0.0}, {"metric": "ms", "below": -5.0}],
}  # fmt: skip


def policy(**changes: Any) -> Experiment:
    return Experiment.model_validate(POLICY | changes)


def data(seed: int, rows: int, *, gain: float = 0.0, share: float = 0.3, slower: float = 0.0) -> ExperimentRows:
    """Rows of 100 to 400 callers, each in one arm with an accuracy of its own around 0.75."""
    rng = np.random.default_rng(seed)
    callers = 800
    arm, own = rng.random(callers) < share, rng.beta(15, 5, callers)
    caller = rng.integers(0, callers, rows)
    treated = arm[caller]
    right = (rng.random(rows) < own[caller] + gain * treated).astype(float)
    metrics = {
        "accuracy": right, "value": np.full(rows, np.nan), "absolute_error": np.full(rows, np.nan),
        "ms": rng.normal(20, 3, rows) + slower * treated,
    }  # fmt: skip
    return ExperimentRows(treated, caller, metrics, int(arm.sum()), int((~arm).sum()))


def verdicts(n: int, rows: int, **how: Any) -> list[str]:
    return [judge(policy(), data(seed, rows, **how)).verdict for seed in range(n)]


def test_without_a_gain_hardly_anything_is_promoted_however_often_one_looks() -> None:
    found = verdicts(200, 4000)
    assert found.count("promote") <= 0.05 * 200
    assert found.count("rollback") <= 0.05 * 200
    assert set(found) <= {"promote", "rollback", "inconclusive"}


def test_a_gain_is_promoted_and_harm_is_rolled_back() -> None:
    assert verdicts(40, 4000, gain=0.08).count("promote") >= 36
    assert verdicts(40, 4000, gain=-0.08).count("rollback") >= 36
    assert verdicts(10, 4000, gain=0.08, slower=10).count("rollback") == 10


def test_rows_after_the_look_change_nothing() -> None:
    whole = data(1, 4000, gain=0.02)
    for rows in (1000, 1999):
        some = ExperimentRows(
            whole.treatment[:rows], whole.caller[:rows], {name: v[:rows] for name, v in whole.metrics.items()},
            whole.callers_treatment, whole.callers_control,
        )  # fmt: skip
        assert judge(policy(), some).looks[0] == judge(policy(), whole).looks[0]


def test_before_the_first_look_it_continues() -> None:
    result = judge(policy(), data(1, 999, gain=0.2))
    assert (result.verdict, result.reason) == ("continue", "999 labelled rows, the first look is at 1000")
    result = judge(policy(), data(1, 1500))
    assert (result.verdict, result.reason) == ("continue", "no bound was crossed; the next look is at 2000 rows")


def test_nothing_or_one_arm_only_is_inconclusive() -> None:
    for rows, share in ((0, 0.3), (2000, 0.0), (2000, 1.0)):
        result = judge(policy(), data(1, rows, share=share))
        assert (result.verdict, result.reason) == ("inconclusive", "no labelled rows in one of the arms")


def test_values_that_are_not_there_are_inconclusive() -> None:
    rules = {"promote": [{"metric": "value", "above": 0}], "rollback": [{"metric": "value", "below": 0}]}
    result = judge(policy(**rules), data(1, 4000, gain=0.2))
    assert (result.verdict, result.reason) == ("inconclusive", "no rule has values that can be compared")


def test_one_rule_without_values_prevents_promotion() -> None:
    rules = {"promote": [{"metric": "accuracy", "above": 0}, {"metric": "value", "above": 0}]}
    assert judge(policy(**rules), data(1, 4000, gain=0.2)).verdict == "inconclusive"


def test_not_worse_by_more_than_a_margin() -> None:
    rules = {"promote": [{"metric": "accuracy", "above": -0.1}], "rollback": [{"metric": "accuracy", "below": -0.1}]}
    assert judge(policy(**rules), data(3, 4000)).verdict == "promote"
    assert judge(policy(**rules), data(3, 4000, gain=-0.25)).verdict == "rollback"


def test_a_split_that_was_not_planned_is_inconclusive_even_with_a_gain() -> None:
    result = judge(policy(), data(1, 4000, gain=0.2, share=0.5))
    assert result.verdict == "inconclusive"
    assert "of callers in treatment, planned 30.0%" in result.reason


def test_a_look_with_too_few_rows_in_an_arm_is_passed_over() -> None:
    strict = policy(minimumPerArm=1100)
    result = judge(strict, data(1, 3500, gain=0.2))
    assert result.verdict == "continue"
    assert [bool(look.passed_over) for look in result.looks] == [True] * 3
    assert "rows in an arm, expected 1100" in result.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"looks": [1000, 1000]}, "looks must rise strictly"),
        ({"looks": []}, "at least 1 item"),
        ({"treatment": {"role": "stable"}}, "are the same arm"),
        ({"treatment": {}}, "give a role, an arm or both"),
        ({"minimumPerArm": 1300}, "cannot reach minimumPerArm"),
        ({"alpha": 0.5}, "less than or equal to 0.2"),
        ({"share": 1.0}, "less than 1"),
        ({"promote": []}, "at least 1 item"),
        ({"promote": [{"metric": "mood", "above": 0}]}, "Input should be 'accuracy'"),
        ({"promote": [{"metric": "value", "above": float("nan")}]}, "finite number"),
        ({"peeking": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy(**change)
