"""Does a version answer as its signed model does? Logged rows are asked again, and any difference is a fault.

Errors, times and distributions need many answers to tell; one answer that went to another row, or was made from other
values than the logged ones, is told here by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
from psycopg import Connection

from plumbline.core.ids import floor
from plumbline.core.metrics.curve import Floats
from plumbline.monitoring.experiment.replay import asked_again
from plumbline.scoring.scorer import Scorer

_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
"""What float32 and another order of sums may do."""
_ROWS: LiteralString = """
    SELECT features, output FROM monitoring.predictions
    WHERE model = %(model)s AND version = %(version)s AND id >= %(low)s
    ORDER BY md5(id::text || ':' || row) LIMIT %(most)s"""
Logged = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A row's features and its answer."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What was found."""

    rows: int
    different: int
    furthest: float
    """How far the worst answer lies from the signed model's."""
    example: Mapping[str, Any] | None
    """The features of the worst."""


def read(connection: Connection[Any], model: str, version: str, since: Any, most: int) -> list[Logged]:
    """So many of a version's logged rows, drawn by a hash of their ids."""
    values = {"model": model, "version": version, "low": floor(since), "most": most}
    return [(features, output) for features, output in connection.execute(_ROWS, values).fetchall()]


def compare(scorer: Scorer, rows: Sequence[Logged]) -> Replay:
    """Ask the signed model again; raises RowsError where it has no finite answer."""
    answers = asked_again(scorer, [features for features, _ in rows])
    labels = scorer.schema.output.labels
    columns = [f"probability_{label}" for label in labels] if labels else ["value"]
    signed = answers[columns].to_numpy(dtype=np.float64)
    logged = np.array([_numbers(output, labels) for _, output in rows], dtype=np.float64).reshape(signed.shape)
    apart = np.abs(signed - logged).max(axis=1, initial=0)
    wrong = ~np.isclose(logged, signed, rtol=_RELATIVE, atol=_ABSOLUTE).all(axis=1)
    if not wrong.any():
        return Replay(len(rows), 0, float(apart.max(initial=0)), None)
    worst = int(np.nanargmax(np.where(wrong, np.nan_to_num(apart, nan=np.inf), -1)))
    return Replay(len(rows), int(wrong.sum()), float(apart[worst]), rows[worst][0])


def _numbers(output: Mapping[str, Any], labels: Sequence[str]) -> Floats:
    """An answer's numbers; NaN for what it does not say, which is a difference."""
    if not labels:
        return np.array([output.get("value", np.nan)], dtype=np.float64)
    return np.array([output.get("probabilities", {}).get(label, np.nan) for label in labels], dtype=np.float64)
