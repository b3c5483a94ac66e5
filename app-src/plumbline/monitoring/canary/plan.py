"""How many answers, and how long, a canary's analysis needs: by its environment's numbers and the traffic there is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
from psycopg import Connection

from plumbline.core.documents import DocumentError
from plumbline.core.durations import duration
from plumbline.core.errors import Misuse
from plumbline.core.ids import floor

PASS, ABORT = 1.645, 3.0
"""Standard errors of the bounds in kustomize/model-server/analysis/shares.yaml; a test holds the two together."""
FEWEST = 5
"""Failures more than stable's share, of which an abort is made."""
_LOOKS = 3
"""Good ones in a row, by which a step passes."""
_MOST = 10_000_000
_REQUESTS: LiteralString = """
    SELECT count(DISTINCT id) FROM monitoring.predictions WHERE model = %(model)s AND id >= %(low)s"""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an environment has its canaries judged by."""

    weights: tuple[int, ...]
    """Percent of the requests, by step."""
    delay: float
    interval: float
    looks: int
    memory: float
    """Seconds, as all times are."""
    undecided: str
    patience: float
    margin: float
    minimum: int

    @classmethod
    def of(cls, objects: Sequence[Mapping[str, Any]], model: str) -> "Rules":
        """Of the rendered objects of a model; raises DocumentError where they have no such analysis."""
        specs = {(item["kind"], item["metadata"]["name"]): item["spec"] for item in objects if "spec" in item}
        try:
            steps = specs["Rollout", f"{model}-server"]["strategy"]["canary"]["steps"]
            arguments = specs["AnalysisTemplate", f"{model}-verdict"]["args"]
            values = {item["name"]: str(item["value"]) for item in arguments if "value" in item}
            return cls(
                weights=tuple(step["setWeight"] for step in steps if "setWeight" in step),
                delay=duration(values["delay"]).total_seconds(),
                interval=duration(values["interval"]).total_seconds(),
                looks=int(values["looks"]),
                memory=duration(values["memory"]).total_seconds(),
                undecided=values["undecided"],
                patience=float(values["patience"]),
                margin=float(values["margin"]),
                minimum=int(values["minimum-requests"]),
            )
        except KeyError as error:
            raise DocumentError(
                f"the rendered {model} has no {error}; expected the Rollout {model}-server with canary steps and the"
                f" AnalysisTemplate {model}-verdict with its values"
            ) from error
        except Misuse as error:
            raise DocumentError(f"the rendered AnalysisTemplate {model}-verdict: {error}") from error


@dataclass(frozen=True, slots=True)
class Step:
    """One weight of the ladder."""

    weight: int
    answers: int
    """Of the canary, that it needs from its beginning."""
    seconds: float
    """From the step's beginning until it passes."""
    decided: bool
    """Whether the looks last so long."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to expect."""

    dead: int
    """Answers after which a canary is taken back that answers 5xx to everything."""
    dead_seconds: float
    failing: dict[float, int]
    """By a share that fails: after how many answers it is taken back, as a rule."""
    steps: list[Step]


def measured(connection: Connection[Any], model: str, since: Any, seconds: float) -> float:
    """Predictions a second in the log since then."""
    row = connection.execute(_REQUESTS, {"model": model, "low": floor(since)}).fetchone()
    return float(row[0]) / seconds if row else 0.0


def plan(rules: Rules, per_second: float, failing: float) -> Plan:
    """What these rules need at so many predictions a second, of which a share fails whoever answers."""
    first = per_second * rules.weights[0] / 100
    dead = _fewest(lambda n: lower(n, n, failing * n, n) > rules.margin, FEWEST)
    steps, seen, needed = [], 0.0, _needed(rules, failing)
    for weight in rules.weights:
        rate = per_second * weight / 100
        wait = max(rules.delay, (needed - seen) / rate)
        seconds = rules.interval * (np.ceil((wait - rules.delay) / rules.interval) + _LOOKS - 1) + rules.delay
        steps.append(Step(weight, needed, float(seconds), _in_time(rules, float(seconds))))
        seen += seconds * rate
    answers = {
        share: _answers_to_find(rules, failing, share)
        for share in (failing + rules.margin + m for m in (0.03, 0.1, 0.3))
    }
    return Plan(dead, max(rules.delay, dead / first) + rules.interval, answers, steps)


def upper(failed: float, answers: float, of_stable: float, asked: float, z: float = PASS) -> float:
    """The upper bound of the canary's share less stable's (Newcombe 1998, method 10, of Wilson's bounds)."""
    canary, stable = failed / answers, of_stable / asked
    most, least = _wilson(failed, answers, z)[1], _wilson(of_stable, asked, z)[0]
    return float(canary - stable + np.hypot(most - canary, stable - least))


def lower(failed: float, answers: float, of_stable: float, asked: float, z: float = ABORT) -> float:
    """The lower bound of it."""
    canary, stable = failed / answers, of_stable / asked
    least, most = _wilson(failed, answers, z)[0], _wilson(of_stable, asked, z)[1]
    return float(canary - stable - np.hypot(canary - least, most - stable))


def as_text(model: str, environment: str, per_second: float, rules: Rules, plan: Plan) -> str:
    """The plan for people."""
    ends = "a person is paged" if rules.undecided == "wait" else "callers go back to stable"
    lines = [
        f"{model} in {environment}: {per_second:g} predictions a second",
        f"  taken back: 5xx to everything after {plan.dead} answers, {_told(plan.dead_seconds)} after its first pod",
    ]
    lines += [f"    {share:.0%} failing after {answers} answers, as a rule" for share, answers in plan.failing.items()]
    for step in plan.steps:
        late = "" if step.decided else f": NOT IN TIME, {ends}; more weight, looks and memory, or a wider margin"
        lines.append(f"  {step.weight} %: passes with {step.answers} answers, in {_told(step.seconds)}{late}")
    total = sum(step.seconds for step in plan.steps)
    lines.append(f"  in all {_told(total)}; what tells of fields (agreement) may need more where they say little")
    return "\n".join(lines)


def _answers_to_find(rules: Rules, failing: float, share: float) -> int:
    """After how many answers a canary is taken back of which this share fails."""

    def enough(n: int) -> bool:
        more = (share - failing) * n
        return more >= FEWEST and lower(share * n, n, failing * n, n) > rules.margin

    return _fewest(enough, FEWEST)


def _needed(rules: Rules, failing: float) -> int:
    enough = _fewest(lambda n: upper(failing * n, n, failing * n, n) < rules.margin, 1)
    return max(enough, rules.minimum)


def _in_time(rules: Rules, seconds: float) -> bool:
    looked = rules.delay + (rules.looks - 1) * rules.interval
    limit = min(looked, rules.memory) if rules.undecided == "wait" else min(looked, rules.memory, rules.patience)
    return seconds <= limit


def _fewest(enough: Callable[[int], bool], least: int) -> int:
    """The smallest number that is enough, where every larger one is too."""
    low, high = least, least
    while not enough(high) and high < _MOST:
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _wilson(successes: float, trials: float, z: float) -> tuple[float, float]:
    middle = successes + z * z / 2
    half = z * np.sqrt(successes * (1 - successes / trials) + z * z / 4)
    return float((middle - half) / (trials + z * z)), float((middle + half) / (trials + z * z))


def _told(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
