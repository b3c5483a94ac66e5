"""Does a canary differ from stable as the gate saw it differ on the holdout? Of the same logged rows, by slice.

The gate writes agreement, distance and mean score by slice into evidence.yaml. A version that answers as it was signed
may still be wrong for what callers send: values in another unit than training's, views that are not there. On such
rows it lies further from the version before than it did on the holdout.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from plumbline.core.evidence import Expected, Shift
from plumbline.core.metrics.curve import Floats
from plumbline.core.metrics.figures import answered
from plumbline.core.metrics.rows import Places
from plumbline.core.schema import Output
from plumbline.monitoring.canary.replay import Logged
from plumbline.promotion.gate.answers import Answers, Chosen

LEAST_ROWS = 30
_ERRORS = 3.0
"""Standard errors of the lower bound."""
_APART, _DISAGREE = 0.02, 0.05
"""What counts at all: of a probability, or of the standard deviation of values; of the rows with another label."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What both signed models answer to the same logged rows."""

    output: Output
    rows: Sequence[Logged]
    new: Answers
    old: Answers


def unexpected(pair: Pair, expected: Expected) -> list[str]:
    """Where the two lie further apart than twice what the gate saw, in words; slices of few rows say nothing."""
    names, callers = np.unique([row.caller for row in pair.rows], return_inverse=True)
    places = []
    for shift in expected.shifts:
        chosen = np.array([_of_slice(row, shift) for row in pair.rows], dtype=bool)
        if chosen.sum() < LEAST_ROWS:
            continue
        where = f"{shift.column}={shift.value}" if shift.column else "all rows"
        for name, values, seen, room in _figures(pair, shift, chosen):
            mean, error = float(values.mean()), _error(values, callers[chosen], len(names))
            if abs(mean - seen) - _ERRORS * error > room and (name == "mean score" or mean > seen):
                places.append(f"{where}: {name} {mean:.3g} ± {error:.2g}, expected {seen:.3g}")
    return places


def _of_slice(row: Logged, shift: Shift) -> bool:
    return not shift.column or str(row.features.get(shift.column)) == shift.value


def _figures(pair: Pair, shift: Shift, chosen: Chosen) -> Iterator[tuple[str, Floats, float, float]]:
    """(name, its value in each row, what the gate saw, how much further apart they may be)."""
    new, old = pair.new.outputs[chosen], pair.old.outputs[chosen]
    of_values = pair.output.task == "regression"
    least = _APART * (float(pair.old.outputs.std()) if of_values else 1.0)
    apart = (1.0 if of_values else 0.5) * np.abs(new - old).sum(axis=1)
    yield "distance", apart, shift.distance, shift.distance + least
    if shift.agreement is not None:
        now, before = (answered(pair.output, one.outputs[chosen], one.threshold) for one in (pair.new, pair.old))
        differ = (now != before).astype(np.float64)
        yield "share with another label", differ, 1 - shift.agreement, 1 - shift.agreement + _DISAGREE
    label = pair.output.labels[-1] if pair.output.labels else "value"
    moved = shift.mean[label] - shift.mean_before[label]
    yield "mean score", new[:, -1] - old[:, -1], moved, shift.distance / 2 + least


def _error(values: Floats, callers: Places, count: int) -> float:
    """The standard error of the mean, of rows or of callers, whichever is larger: those of a caller are alike."""
    residuals = values - values.mean()
    sums = np.bincount(callers, weights=residuals, minlength=count)
    return float(np.sqrt(max(np.square(residuals).sum(), np.square(sums).sum())) / len(values))
