"""A metric of training on live answers: of the rows whose label has come, as they were answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, LiteralString

import numpy as np
import psycopg

from plumbline.core.documents import Fault
from plumbline.core.metrics import names
from plumbline.core.metrics.curve import Floats
from plumbline.core.metrics.figures import Metric, build, of_answers
from plumbline.core.metrics.rows import Places
from plumbline.core.schema import Output
from plumbline.monitoring.log.queries import ROWS
from plumbline.monitoring.policy import Quality

Key = tuple[str, str, str]
"""Version, role, arm."""
MOST = 20_000
"""Labelled rows of a version, role and arm that leave the database, drawn by a hash of their ids."""
_RESAMPLES = 200
_ANSWERS: LiteralString = """
    , labelled AS (
        SELECT version, role, arm, label, score, output -> 'probabilities' AS probabilities, truth #>> '{}' AS truth,
               caller, row_number() OVER (PARTITION BY version, role, arm ORDER BY md5(id::text || ':' || row)) AS place
        FROM rows WHERE accuracy IS NOT NULL OR error IS NOT NULL
    )
    SELECT version, role, arm, label, score, probabilities, truth, caller FROM labelled
    WHERE place <= %(most)s ORDER BY version, role, arm, place"""
_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric with its 95 % bootstrap interval over callers; NaN at the ends where there is one caller alone."""

    metric: str
    value: float
    low: float
    high: float
    rows: int
    callers: int


@dataclass(frozen=True, slots=True)
class Live:
    """A metric of the labelled rows of one version, role and arm."""

    of: Metric
    caller: Places
    """The number of each row's caller, shape (rows,)."""

    @property
    def value(self) -> float:
        """Of all rows alike."""
        return self.of(np.ones(len(self.caller)))

    def figure(self, metric: str) -> Figure:
        """With its interval; callers are drawn, as the rows of one resemble each other."""
        generator, callers = np.random.default_rng(0), int(self.caller.max()) + 1
        drawn = [float("nan")]
        if callers > 1:
            counts = (
                np.bincount(generator.integers(0, callers, callers), minlength=callers) for _ in range(_RESAMPLES)
            )
            drawn = [self.of(count[self.caller].astype(np.float64)) for count in counts]
        low, high = np.nanquantile(drawn, [0.025, 0.975]) if not np.isnan(drawn).all() else (np.nan, np.nan)
        return Figure(metric, self.value, float(low), float(high), len(self.caller), callers)


def read(
    connection: psycopg.Connection[Any], parameters: Mapping[str, Any], quality: Quality
) -> tuple[dict[Key, Live], list[Fault]]:
    """The policy's metric where the answers have it, within `queries.window(…)`, and why those have none that don't."""
    rows = connection.execute(ROWS + _ANSWERS, {**parameters, "most": MOST}).fetchall()
    by_key, faults = dict[Key, Live](), list[Fault]()
    for key, group in groupby(rows, key=lambda row: (row[0], row[1], row[2])):
        answers = _answers(list(group), quality)
        if answers is None:
            continue
        if wrong := list(quality.faults(answers.output)):
            faults = wrong
        else:
            _, caller = np.unique(np.array([row[7] for row in answers.rows], dtype=np.str_), return_inverse=True)
            by_key[key] = Live(answers.metrics[quality.metric], caller)
    return by_key, faults


@dataclass(frozen=True, slots=True)
class _Answers:
    output: Output
    metrics: Mapping[str, Metric]
    rows: Sequence[_Row]


def _answers(rows: Sequence[_Row], quality: Quality) -> _Answers | None:
    """The metrics of answers, and the rows that they are of; None where no answer has its label's probability."""
    if rows[0][3] is None:
        output = Output(task="regression", name="value", description="")
        numbers = np.array([(float(row[6]), row[4]) for row in rows], dtype=np.float64)
        return _Answers(output, build(output, numbers[:, 0], numbers[:, 1:], None), rows)
    labels = _in_order(rows)
    places = {label: place for place, label in enumerate(labels)}
    kept = [row for row in rows if row[5] and set(row[5]) == set(labels) and row[3] in places and row[6] in places]
    if len(labels) < 2 or not kept:
        return None
    task: Any = "binary" if len(labels) == 2 else "multiclass"
    output = Output(task=task, name="label", description="", labels=labels)
    outputs: Floats = np.array([[row[5][label] for label in labels] for row in kept], dtype=np.float64)
    truth = np.array([places[row[6]] for row in kept], dtype=np.float64)
    called = np.array([places[row[3]] for row in kept], dtype=np.intp)
    declared = [quality.metric] if names.at(quality.metric, output) else []
    return _Answers(output, of_answers(output, truth, outputs, called, costs=quality.costs, declared=declared), kept)


def _in_order(rows: Sequence[_Row]) -> tuple[str, ...]:
    """The labels; of two the positive one comes second: the log has its probability as the score."""
    labels = tuple(next((row[5] for row in rows if row[5]), ()))
    if len(labels) != 2:
        return labels
    firsts = sum(row[5].get(labels[0]) == row[4] for row in rows if row[5])
    seconds = sum(row[5].get(labels[1]) == row[4] for row in rows if row[5])
    return labels if seconds >= firsts else labels[::-1]
