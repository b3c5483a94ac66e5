"""Experiments: how often a verdict is right where rows, callers and days hang together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import POLICY, data, policy, verdicts
from monte_carlo import is_at_least, is_at_most

from plumbline.core.metrics.rows import per_row
from plumbline.core.schema import Output
from plumbline.monitoring.experiment.evidence import collect, of_pairs
from plumbline.monitoring.experiment.plan import needs, planned
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.experiment.verdict import judge
from plumbline.monitoring.policy import read_policy
from plumbline.monitoring.stats import split_p

IN_GIT = sorted((Path(__file__).parents[2] / "policies/experiments").glob("*.yaml"))
Trials = Callable[[int, int], int]
Measured = Callable[[str, str], None]


@pytest.mark.parametrize("path", IN_GIT, ids=lambda path: path.stem)
def test_a_policy_in_git_without_a_gain(path: Path, trials: Trials, measured: Measured) -> None:
    """Where treatment is worse by exactly the margin, at most half of alpha is promoted, by the policy's numbers."""
    rules, count = read_policy(path, Experiment, path.stem), trials(60, 1000)
    found = verdicts(rules, count, gain={rule.metric: rule.above for rule in rules.promote})
    measured(f"{path.stem}, no gain: promoted", f"{found.count('promote') / count:.1%}")
    assert is_at_most(found.count("promote"), count, rules.alpha / 2)


@pytest.mark.parametrize("path", IN_GIT, ids=lambda path: path.stem)
def test_a_policy_in_git_with_its_planned_gain(path: Path, trials: Trials, measured: Measured) -> None:
    rules, count = read_policy(path, Experiment, path.stem), trials(40, 1000)
    found = verdicts(rules, count, seed=1, gain={rule.metric: rule.gain for rule in rules.promote})
    measured(f"{path.stem}, planned gain: promoted", f"{found.count('promote') / count:.1%}")
    assert is_at_least(found.count("promote"), count, rules.plan.power)
    assert all((need.weeks or 999) <= rules.weeks[-1] for need in needs(rules, planned(rules.plan)))


@pytest.mark.parametrize("path", IN_GIT, ids=lambda path: path.stem)
def test_a_policy_in_git_with_what_it_may_not_roll_back(path: Path, trials: Trials, measured: Measured) -> None:
    """Where treatment is exactly at the limits of the rollbacks."""
    rules, count = read_policy(path, Experiment, path.stem), trials(40, 1000)
    found = verdicts(rules, count, seed=2, gain={rule.metric: rule.below for rule in rules.rollback})
    measured(f"{path.stem}, at the limit: rolled back", f"{found.count('rollback') / count:.1%}")
    assert is_at_most(found.count("rollback"), count, rules.alpha / 2)


@pytest.mark.parametrize("callers", [10, 20, 30])
def test_few_callers_promote_no_more(callers: int, trials: Trials, measured: Measured) -> None:
    """Of very different sizes: the largest makes a third of the rows."""
    plan = POLICY["plan"] | {"callers": callers, "callerShare": 0.1}
    rules, count = policy(minimumCallers=10, plan=plan, share=0.5), trials(50, 1000)
    found = verdicts(rules, count, seed=3, skew=1.3)
    measured(f"{callers} callers of one size's worth, no gain: promoted", f"{found.count('promote') / count:.1%}")
    assert is_at_most(found.count("promote"), count, rules.alpha / 2)


@pytest.mark.parametrize("share", [0.03, 0.1])
def test_days_that_differ_promote_no_more(share: float, trials: Trials, measured: Measured) -> None:
    """On some days treatment is better, on others worse: at 2,000 rows a day a design effect of 60 and 200."""
    plan = POLICY["plan"] | {"rowsPerDay": 2000, "dayShare": share}
    rules, count = policy(plan=plan), trials(50, 1000)
    found = verdicts(rules, count, seed=4)
    measured(f"days explain {share:.0%}, no gain: promoted", f"{found.count('promote') / count:.1%}")
    assert is_at_most(found.count("promote"), count, rules.alpha / 2)
    assert is_at_most(found.count("rollback"), count, rules.alpha / 2)


def test_an_hour_of_any_traffic_decides_nothing() -> None:
    rules = policy(plan=POLICY["plan"] | {"rowsPerDay": 1_000_000})
    found = judge(rules, data(rules, 1, gain={"accuracy": 0.5}, days=1))
    assert found.verdict == "continue"


def _answers(seed: int, constant: bool, better: float) -> dict[str, Any]:
    """Per-row gains of a treatment over a sound control; a quarter of all rows is late, as of all flights."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.4, 1.0, 12000)
    truth = (rng.random(12000) < 1 / (1 + np.exp(-logit))).astype(float)
    output = Output(task="binary", name="late", description="", labels=("on time", "late"))

    def of(p: np.ndarray[Any, Any], threshold: float) -> dict[str, Any]:
        called = (p >= threshold).astype(np.intp)
        return per_row(
            output, truth, np.stack([1 - p, p], axis=1), called, {"late": {"on time": 5}, "on time": {"late": 1}}
        )

    # The threshold of a model whose missed delays cost five times a false alarm.
    noise = rng.normal(0, 0.8, 12000)
    control = of(1 / (1 + np.exp(-(logit + noise))), 1 / 6)
    never = np.full(12000, truth.mean())
    treatment = of(never, 1.0) if constant else of(1 / (1 + np.exp(-(logit + (1 - better) * noise))), 1 / 6)
    sign = {"accuracy": 1}
    gains = {name: sign.get(name, -1) * (treatment[name] - control[name]) for name in control}
    return {"cells": collect(rng.integers(0, 300, 12000), np.arange(12000) % 28, np.ones(12000, dtype=bool), gains)}


def test_never_late_is_not_promoted_and_a_better_model_is_not_rolled_back(trials: Trials, measured: Measured) -> None:
    """By log loss and by cost; accuracy alone prefers the constant answer."""
    count = trials(20, 100)
    for metric in ("log_loss", "cost"):
        promoted = sum(of_pairs(_answers(s, True, 0)["cells"], metric).z(0, 1) > 2.0 for s in range(count))
        rolled_back = sum(of_pairs(_answers(s, False, 0.9)["cells"], metric).z(0, -1) > 2.0 for s in range(count))
        measured(f"never late by {metric}: promoted", f"{promoted} of {count}")
        measured(f"a better model by {metric}: rolled back", f"{rolled_back} of {count}")
        assert promoted == rolled_back == 0
    by_accuracy = sum(of_pairs(_answers(s, True, 0)["cells"], "accuracy").z(0, 1) > 2.0 for s in range(count))
    assert by_accuracy == count, "the fault that the other metrics mend"


def test_the_split_is_read_every_day_and_stops_no_sound_experiment(trials: Trials, measured: Measured) -> None:
    count, rng = trials(300, 3000), np.random.default_rng(5)
    alarms = 0
    for _ in range(count):
        treated = (rng.random((40, 50)) < 0.2).sum(axis=1).cumsum()
        alarms += any(split_p(int(k), 50 * (n + 1) - int(k), 0.2) < 0.01 for n, k in enumerate(treated))
    found = sum(split_p(int(k), 2000 - int(k), 0.2) < 0.001 for k in rng.binomial(2000, 0.27, count))
    measured("sound splits read on 40 days, at p = 0.01: called wrong", f"{alarms / count:.2%}")
    measured("27 % instead of 20 % of 2,000 callers: found", f"{found / count:.0%}")
    assert is_at_most(alarms, count, 0.01)
    assert is_at_least(found, count, 0.95)


def test_a_wrong_split_stops_no_rollback(trials: Trials, measured: Measured) -> None:
    count = trials(20, 200)
    found = verdicts(policy(), count, seed=6, gain={"accuracy": -0.12}, split=0.5)
    measured("harm with a split that was not planned: rolled back", f"{found.count('rollback')} of {count}")
    assert is_at_least(found.count("rollback"), count, 0.95)


def test_the_same_rows_need_far_fewer_labels(trials: Trials, measured: Measured) -> None:
    """Two versions that answer alike in most rows: the error of the gain from arms and from pairs."""
    rng = np.random.default_rng(7)
    p = 1 / (1 + np.exp(-rng.normal(-1.4, 1.0, 40000)))
    truth = (rng.random(40000) < p).astype(float)
    output = Output(task="binary", name="late", description="", labels=("on time", "late"))
    other = np.clip(p + rng.normal(0, 0.03, 40000), 0.001, 0.999)
    first, second = (
        per_row(output, truth, np.stack([1 - q, q], axis=1), np.asarray(q > 0.5, dtype=np.intp))["log_loss"]
        for q in (p, other)
    )
    fewer = 2 * (first.var() + second.var()) / (second - first).var()
    measured("labels of arms of half the rows each, for one of pairs", f"{fewer:.0f}")
    assert fewer > 9
