"""How long an experiment has to be: the weeks after which its planned gain is found, at the traffic that there is."""

from dataclasses import dataclass, replace
from typing import Any, LiteralString

import numpy as np
from psycopg import Connection
from scipy.stats import norm, t

from plumbline.monitoring.experiment.policy import Experiment, Plan, Promote
from plumbline.monitoring.experiment.sequential import bounds
from plumbline.monitoring.log.queries import ROWS, window

_LONGEST = 104
_TRAFFIC: LiteralString = """
    , callers AS (SELECT subject, count(truth)::float8 AS n FROM rows WHERE subject <> '' GROUP BY 1)
    SELECT (SELECT round(sum(n) ^ 2 / nullif(sum(n * n), 0)) FROM callers), count(truth),
           count(DISTINCT (at AT TIME ZONE 'UTC')::date)
    FROM rows"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a model is asked."""

    callers: int
    """So many of one size are the different ones worth (Kish's effective number)."""
    rows_per_day: float
    """Labelled ones."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one rule for promotion needs."""

    metric: str
    weeks: int | None
    """None where no time would be enough."""
    power: float
    """At the end of the policy's weeks."""
    callers: int | None
    """That would be enough in the policy's weeks, with as many rows each; None where no number is."""


def measured(connection: Connection[Any], model: str, since: Any) -> Traffic:
    """The traffic in the log since then; zero where there was none."""
    callers, labelled, days = connection.execute(ROWS + _TRAFFIC, window(model, since)).fetchone() or (0, 0, 0)
    return Traffic(int(callers or 0), labelled / max(1, days))


def planned(plan: Plan) -> Traffic:
    """The traffic that a policy counts on."""
    return Traffic(plan.callers, plan.rowsPerDay)


def needs(policy: Experiment, traffic: Traffic) -> list[Need]:
    """What each rule for promotion needs at this traffic."""
    return [_need(policy, rule, traffic) for rule in policy.promote]


def power(policy: Experiment, rule: Promote, traffic: Traffic, weeks: int) -> float:
    """How likely the planned gain is found at the end, in so many weeks; earlier looks add next to nothing.

    The variance of the gain is that of rows, callers and days: of each arm the first two, and the days once, since what
    a day does to both versions falls out of their difference.
    """
    plan, days = policy.plan, 7 * weeks
    fractions = tuple(each / policy.weeks[-1] for each in policy.weeks)
    rows, callers = traffic.rows_per_day * days, float(traffic.callers)
    if min(rows, callers) < 2:
        return 0.0
    arms = 1.0 if policy.replayed(rule.metric) else 1 / policy.share + 1 / (1 - policy.share)
    smaller = callers * (1.0 if policy.replayed(rule.metric) else min(policy.share, 1 - policy.share))
    if smaller < policy.minimumCallers:
        return 0.0
    own = 1 - plan.callerShare - plan.dayShare
    error = rule.deviation * np.sqrt(arms * (own / rows + plan.callerShare / callers) + plan.dayShare / days)
    reached = t(max(1.0, min(smaller, days) - 1))
    bound = reached.isf(norm.sf(bounds(policy.alpha, fractions)[-1]))
    return float(reached.sf(bound - (rule.gain - rule.above) / error))


def _need(policy: Experiment, rule: Promote, traffic: Traffic) -> Need:
    wanted, end = policy.plan.power, policy.weeks[-1]
    weeks = next((w for w in range(1, _LONGEST + 1) if power(policy, rule, traffic, w) >= wanted), None)
    each = traffic.rows_per_day / max(1, traffic.callers)

    def enough(callers: int) -> bool:
        more = replace(traffic, callers=callers, rows_per_day=each * callers)
        return power(policy, rule, more, end) >= wanted

    sizes = np.unique(np.geomspace(policy.minimumCallers, 10_000_000, 400).astype(int))
    callers = next((int(size) for size in sizes if enough(int(size))), None) if each else None
    return Need(rule.metric, weeks, power(policy, rule, traffic, end), callers)


def as_text(policy: Experiment, traffic: Traffic, needs: list[Need]) -> str:
    """The plan for people: what there is, and what each rule needs."""
    how = "both versions answer the same rows" if policy.replays else f"{policy.share:.0%} of callers in treatment"
    lines = [
        f"{policy.model}: {how}; {traffic.callers} callers and {traffic.rows_per_day:.0f} labelled rows a day",
        f"  looks after {', '.join(map(str, policy.weeks))} weeks, {policy.labelDays} days later for the labels",
    ]
    for need in needs:
        rows = (
            "" if need.weeks is None else f", {need.weeks * 7} days, {need.weeks * 7 * traffic.rows_per_day:.0f} rows"
        )
        weeks = f"never found in {_LONGEST} weeks" if need.weeks is None else f"found in {need.weeks} weeks{rows}"
        callers = "no number of callers" if need.callers is None else f"{need.callers} callers"
        lines.append(
            f"  {need.metric}: {weeks}; in {policy.weeks[-1]} weeks with a power of {need.power:.0%}"
            f" (planned {policy.plan.power:.0%}), which {callers} would reach"
        )
    return "\n".join(lines)
