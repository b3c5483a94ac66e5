"""Experiments whose truth is known: rows of callers who come back, on days that differ, in the numbers of a plan."""

from typing import Any

import numpy as np

from plumbline.monitoring.experiment.evidence import Cells
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.experiment.verdict import Data, judge

POLICY: dict[str, Any] = {
    "apiVersion": "plumbline.dev/v1", "kind": "Experiment", "model": "flights", "answersChangeOutcomes": True,
    "control": {"role": "stable"}, "treatment": {"role": "canary"}, "share": 0.3, "salt": "1", "alpha": 0.05,
    "weeks": [1, 2, 3, 4], "labelDays": 1, "minimumCallers": 20,
    "promote": [{"metric": "accuracy", "above": 0.0, "gain": 0.05, "deviation": 0.4}],
    "rollback": [{"metric": "accuracy", "below": 0.0}, {"metric": "ms", "below": -5.0}],
    "plan": {"power": 0.8, "callers": 400, "rowsPerDay": 400, "callerShare": 0.05, "dayShare": 0.01},
}  # fmt: skip


def policy(**changes: Any) -> Experiment:
    """A policy of the tests' own."""
    return Experiment.model_validate(POLICY | changes)


def data(
    rules: Experiment, seed: int, *, gain: dict[str, float] | None = None, skew: float = 1.0, days: int | None = None,
    callers: int | None = None, day_share: float | None = None, split: float | None = None,
) -> Data:  # fmt: skip
    """Rows as the plan has them. gain: of each metric, else 0; skew: spread of the callers' sizes (log-normal).

    Callers differ, days differ for both versions alike (which is the larger part), and on each day one version fares
    better or worse than on others.
    """
    rng, plan = np.random.default_rng(seed), rules.plan
    days = days if days is not None else 7 * rules.weeks[-1] + rules.labelDays
    # So many of different sizes are worth as many of one size as are planned.
    count = round((callers or plan.callers) * np.exp(skew**2))
    size = rng.lognormal(0, skew, count)
    treated = rng.random(count) < (rules.share if split is None else split)
    rows = rng.poisson(plan.rowsPerDay * (size / size.sum())[:, None], (count, days))
    caller, day = np.nonzero(rows)
    n = rows[caller, day].astype(float)
    share = plan.dayShare if day_share is None else day_share
    own, common, ours = rng.normal(0, 1, count), rng.normal(0, 1, days), rng.normal(0, 1, days)
    arms, pairs = {}, {}
    deviations: dict[str, float] = {rule.metric: 1.0 for rule in rules.rollback}
    deviations |= {rule.metric: rule.deviation for rule in rules.promote}
    for metric, sd in deviations.items():
        sign = -1 if metric in ("ms", "log_loss", "absolute_error") else 1
        true = (gain or {}).get(metric, 0.0)
        noise = rng.normal(0, np.sqrt(n * (1 - plan.callerShare - share)))
        by_caller = np.sqrt(plan.callerShare) * own[caller]
        by_day = np.sqrt(share) * ours[day]
        pairs[metric] = n * (true + sd * (by_caller + by_day)) + sd * noise
        arm = treated[caller]
        values = true * arm + sd * (by_caller + arm * by_day + 0.3 * common[day])
        arms[metric] = sign * (n * values + sd * noise)
    named = dict.fromkeys(arms, n)
    return Data(
        Cells(caller, day, treated[caller], named, arms),
        None if rules.answersChangeOutcomes else Cells(caller, day, np.ones(len(n), dtype=bool), named, pairs),
        float(days), (int((~treated).sum()), int(treated.sum())),
    )  # fmt: skip


def verdicts(rules: Experiment, trials: int, seed: int = 0, **how: Any) -> list[str]:
    """Of so many experiments."""
    return [judge(rules, data(rules, 1000 * seed + number, **how)).verdict for number in range(trials)]
