"""The verdict of an experiment: promote, rollback, continue or inconclusive.

The looks are set in the policy, as numbers of labelled rows. At every call each look that was reached is judged on
exactly the first so many labelled rows, in the order in which their labels came. So the verdict is the same however
often it is asked for, and nobody can look in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from plumbline.core.metrics.names import higher_is_better
from plumbline.monitoring.experiment.sequential import bounds
from plumbline.monitoring.policy import Experiment, Metric
from plumbline.monitoring.stats import Floats, Integers, Mean, mean, sample_ratio_p

Verdict = Literal["promote", "rollback", "continue", "inconclusive"]
SAMPLE_RATIO_P = 0.001


@dataclass(frozen=True, slots=True)
class ExperimentRows:
    """Labelled rows of both arms in the order in which their labels came; arrays of shape (rows,)."""

    treatment: np.ndarray[tuple[int], np.dtype[np.bool_]]
    caller: Integers
    metrics: Mapping[str, Floats]
    """NaN where a row has no such value."""
    callers_treatment: int
    """Of all predictions, labelled or not: for the check of the split."""
    callers_control: int

    @property
    def rows(self) -> int:
        """How many rows have come."""
        return len(self.treatment)

    @property
    def answers_labels(self) -> bool:
        """Whether the answers are labels, not values."""
        return not np.isnan(self.metrics["accuracy"]).all()


@dataclass(frozen=True, slots=True)
class Test:
    """One rule at one look; `z` beyond `bound` is evidence for it, NaN where it can't be told."""

    rule: str
    control: Mean
    treatment: Mean
    gain: float
    z: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the evidence is enough; never for NaN."""
        return self.z > self.bound


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one look; `passed_over` says why it was not judged."""

    rows: int
    promote: tuple[Test, ...] = ()
    rollback: tuple[Test, ...] = ()
    passed_over: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict with its reason and the looks that led to it."""

    verdict: Verdict
    reason: str
    rows: int
    sample_ratio_p: float
    looks: tuple[Look, ...] = ()


def judge(policy: Experiment, data: ExperimentRows) -> Result:
    """Judge what has come so far."""
    split = sample_ratio_p(data.callers_treatment, data.callers_control, policy.share)
    reached = [rows for rows in policy.looks if rows <= data.rows]
    result = Result("continue", f"{data.rows} labelled rows, the first look is at {policy.looks[0]}", data.rows, split)
    if not data.rows or data.treatment.all() or not data.treatment.any():
        return replace(result, verdict="inconclusive", reason="no labelled rows in one of the arms")
    if not split >= SAMPLE_RATIO_P:
        seen = data.callers_treatment / (data.callers_treatment + data.callers_control)
        reason = f"the split is not the planned one: {seen:.1%} of callers in treatment, planned {policy.share:.1%}"
        return replace(result, verdict="inconclusive", reason=f"{reason} (p = {split:.2g})")
    if not reached:
        return result
    looks: list[Look] = []
    for number, rows in enumerate(reached):
        looks.append(_look(policy, data, number, rows))
        if fired := [test.rule for test in looks[-1].rollback if test.holds]:
            return replace(result, verdict="rollback", reason="; ".join(fired), looks=tuple(looks))
        if _all_held(looks):
            rules = "; ".join(test.rule for test in looks[-1].promote)
            return replace(result, verdict="promote", reason=rules, looks=tuple(looks))
    verdict, reason = _open_end(policy, looks)
    return replace(result, verdict=verdict, reason=reason, looks=tuple(looks))


def _all_held(looks: Sequence[Look]) -> bool:
    """Whether this look was judged and every rule for promotion has held at it or at an earlier one."""
    judged = [look for look in looks if not look.passed_over]
    if looks[-1].passed_over:
        return False
    return all(any(look.promote[i].holds for look in judged) for i in range(len(looks[-1].promote)))


def _open_end(policy: Experiment, looks: Sequence[Look]) -> tuple[Verdict, str]:
    """The verdict and its reason where no bound was crossed."""
    last = looks[-1]
    if not last.passed_over and all(np.isnan(test.z) for test in (*last.promote, *last.rollback)):
        return "inconclusive", "no rule has values that can be compared"
    if len(looks) == len(policy.looks):
        return "inconclusive", last.passed_over or "the last look shows neither gain nor harm"
    reason = last.passed_over or "no bound was crossed"
    return "continue", f"{reason}; the next look is at {policy.looks[len(looks)]} rows"


def _look(policy: Experiment, data: ExperimentRows, number: int, rows: int) -> Look:
    treated = int(data.treatment[:rows].sum())
    if min(treated, rows - treated) < policy.minimumPerArm:
        return Look(rows, passed_over=f"{min(treated, rows - treated)} rows in an arm, expected {policy.minimumPerArm}")
    fractions = tuple(look / policy.looks[-1] for look in policy.looks)
    promote_bound = bounds(policy.alpha, fractions)[number]
    rollback_bound = bounds(policy.alpha / len(policy.rollback), fractions)[number]
    return Look(
        rows,
        tuple(_test(data, rows, rule.metric, rule.above, 1, promote_bound) for rule in policy.promote),
        tuple(_test(data, rows, rule.metric, rule.below, -1, rollback_bound) for rule in policy.rollback),
    )


def _test(data: ExperimentRows, rows: int, metric: Metric, limit: float, side: Literal[1, -1], bound: float) -> Test:
    values, treated, caller = data.metrics[metric][:rows], data.treatment[:rows], data.caller[:rows]
    control, treatment = mean(values[~treated], caller[~treated]), mean(values[treated], caller[treated])
    gain = (treatment.value - control.value) * (1 if higher_is_better(metric) else -1)
    # One arm may be all right or all wrong; without any spread at all there is nothing to compare with.
    spread = float(np.sqrt(treatment.variance + control.variance))
    z = side * (gain - limit) / spread if spread > 0 else float("nan")
    return Test(f"gain in {metric} {'above' if side > 0 else 'below'} {limit:g}", control, treatment, gain, z, bound)
