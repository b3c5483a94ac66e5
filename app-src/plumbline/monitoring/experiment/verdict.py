"""The verdict of an experiment: promote, rollback, continue or inconclusive.

The looks are set in the policy, in whole weeks. A look is judged when its weeks are over and the labels of their rows
have been waited for; later rows and later labels change nothing of it. So the verdict is the same however often it is
asked for, nobody can look in between, and no weekday counts more than another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from plumbline.core.metrics.names import higher_is_better
from plumbline.monitoring.experiment.evidence import Cells, Evidence, of_arms, of_pairs
from plumbline.monitoring.experiment.policy import Experiment, Metric
from plumbline.monitoring.experiment.sequential import bounds
from plumbline.monitoring.stats import split_p

Verdict = Literal["promote", "rollback", "continue", "inconclusive"]
SPLIT_P = 0.001
CROSSED = 0.01
"""The share of callers seen in both arms from which on the route did not hold."""


@dataclass(frozen=True, slots=True)
class Data:
    """What has come so far."""

    arms: Cells
    """By the version that answered."""
    pairs: Cells | None
    """What both versions answer to the same rows, as gains of treatment; None where nobody asked them."""
    days: float
    """Since the experiment began."""
    callers: tuple[int, int]
    """Of control and treatment, of all predictions, labelled or not: for the check of the split."""
    crossed: int = 0
    """Callers that were seen in both arms; none of their rows is in either."""
    nameless: int = 0
    """Rows without a caller, whom no gateway has put into an arm."""
    faults: tuple[str, ...] = ()
    """Why nothing may be concluded from the rows."""


@dataclass(frozen=True, slots=True)
class Test:
    """One rule at one look; `z` beyond `bound` is evidence for it, NaN where it can't be told."""

    rule: str
    evidence: Evidence
    z: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the evidence is enough; never for NaN."""
        return self.z > self.bound


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one look; `passed_over` says why it was not judged."""

    weeks: int
    promote: tuple[Test, ...] = ()
    rollback: tuple[Test, ...] = ()
    passed_over: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict with its reason and the looks that led to it."""

    verdict: Verdict
    reason: str
    split_p: float
    looks: tuple[Look, ...] = ()


def judge(policy: Experiment, data: Data) -> Result:
    """Judge what has come so far."""
    control, treatment = data.callers
    split = split_p(treatment, control, policy.share)
    result = Result("continue", "", split)
    due = due_looks(policy, data.days)
    if reason := _nothing(policy, data, due):
        return replace(result, verdict="inconclusive", reason=reason)
    looks: list[Look] = []
    for weeks in due:
        looks.append(_look(policy, data, weeks))
        if fired := [test.rule for test in looks[-1].rollback if test.holds]:
            # Whatever is wrong with the split: a version that does harm is not kept for it.
            return replace(result, verdict="rollback", reason="; ".join(fired), looks=tuple(looks))
        if _all_held(looks) and not _wrong_split(policy, data, split):
            rules = "; ".join(test.rule for test in looks[-1].promote)
            return replace(result, verdict="promote", reason=rules, looks=tuple(looks))
    verdict, reason = _open_end(policy, data, looks, split)
    return replace(result, verdict=verdict, reason=reason, looks=tuple(looks))


def due_looks(policy: Experiment, days: float) -> list[int]:
    """The looks, in weeks, whose rows and labels are there so many days after the beginning."""
    return [weeks for weeks in policy.weeks if days >= 7 * weeks + policy.labelDays]


def _nothing(policy: Experiment, data: Data, due: Sequence[int]) -> str:
    """Why nothing at all can be said; empty where something can."""
    if data.faults:
        return "; ".join(data.faults)
    if not any(data.callers) and not data.nameless:
        return "no rows of treatment or control"
    if policy.replays and data.pairs is None:
        return "nobody asked both versions for their answers to the same rows" if due else ""
    if policy.replays and data.pairs is not None:
        return "" if len(data.pairs.caller) else "no labelled rows"
    if not data.arms.treatment.any() or data.arms.treatment.all():
        nameless = f"; {data.nameless} rows have no caller (docs/monitoring.md)" if data.nameless else ""
        return f"no labelled rows in one of the arms{nameless}"
    return ""


def _wrong_split(policy: Experiment, data: Data, split: float) -> str:
    """Why a comparison of arms may not promote; empty where it may, or where no arms are compared."""
    if all(policy.replayed(rule.metric) for rule in policy.promote):
        return ""
    control, treatment = data.callers
    if not split >= SPLIT_P:
        seen = treatment / max(1, treatment + control)
        return (
            f"the split is not the planned one: {seen:.1%} of callers in treatment, planned {policy.share:.1%}"
            f" (p = {split:.2g})"
        )
    if data.crossed > CROSSED * (treatment + control + data.crossed):
        return f"{data.crossed} callers were in both arms: the route does not keep them in one"
    return ""


def _all_held(looks: Sequence[Look]) -> bool:
    """Whether this look was judged and every rule for promotion has held at it or at an earlier one."""
    judged = [look for look in looks if not look.passed_over]
    if looks[-1].passed_over:
        return False
    return all(any(look.promote[i].holds for look in judged) for i in range(len(looks[-1].promote)))


def _open_end(policy: Experiment, data: Data, looks: Sequence[Look], split: float) -> tuple[Verdict, str]:
    """The verdict and its reason where no bound was crossed."""
    if wrong := _wrong_split(policy, data, split):
        return "inconclusive", wrong
    if not looks:
        return "continue", f"day {data.days:.1f}; {_next(policy, 0)}"
    last = looks[-1]
    if not last.passed_over and all(np.isnan(test.z) for test in (*last.promote, *last.rollback)):
        return "inconclusive", "no rule has values that can be compared"
    if len(looks) == len(policy.weeks):
        return "inconclusive", last.passed_over or "the last look shows neither gain nor harm"
    return "continue", f"{last.passed_over or 'no bound was crossed'}; {_next(policy, len(looks))}"


def _next(policy: Experiment, number: int) -> str:
    weeks = policy.weeks[number]
    day = 7 * weeks + policy.labelDays
    return f"the {'next' if number else 'first'} look is at day {day}, of the first {weeks} weeks"


def _look(policy: Experiment, data: Data, weeks: int) -> Look:
    fractions = tuple(each / policy.weeks[-1] for each in policy.weeks)
    number = policy.weeks.index(weeks)
    arms, pairs = data.arms.until(7 * weeks), data.pairs and data.pairs.until(7 * weeks)

    def seen(metric: Metric) -> Evidence:
        if pairs is not None and policy.replayed(metric):
            return of_pairs(pairs, metric)
        return of_arms(arms, metric, higher_is_better=higher_is_better(metric))

    def test(metric: Metric, limit: float, side: int, bound: float) -> Test:
        evidence = seen(metric)
        name = f"gain in {metric} {'above' if side > 0 else 'below'} {limit:g}"
        return Test(name, evidence, evidence.z(limit, side), bound)

    least = min(min(seen(rule.metric).callers) for rule in policy.promote)
    if least < policy.minimumCallers:
        where = "" if policy.replays else " in an arm"
        return Look(weeks, passed_over=f"{least} callers{where}, expected {policy.minimumCallers}")
    promote_bound = bounds(policy.alpha, fractions)[number]
    rollback_bound = bounds(policy.alpha / len(policy.rollback), fractions)[number]
    return Look(
        weeks,
        tuple(test(rule.metric, rule.above, 1, promote_bound) for rule in policy.promote),
        tuple(test(rule.metric, rule.below, -1, rollback_bound) for rule in policy.rollback),
    )
