"""Does a version answer as its signed model does? Logged rows are asked again, and any difference is a fault.

Errors, times and distributions need many answers to tell; one answer that went to another row, or was made from other
values than the logged ones, is told here by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

import numpy as np
from psycopg import Connection

from plumbline.core.ids import floor
from plumbline.core.metrics.curve import Floats
from plumbline.monitoring.experiment.replay import asked_again
from plumbline.scoring.scorer import Scorer

_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
"""What float32 and another order of sums may do."""
# No caller has more than a tenth of the rows while others have any left. What is wide is read of the drawn ones alone.
_ROWS: LiteralString = """
    WITH answered AS (
        SELECT id, row, md5(id::text || ':' || row) AS place,
               coalesce(nullif(keyholder, ''), nullif(subject, ''), id::text) AS caller
        FROM monitoring.predictions
        WHERE model = %(model)s AND version = %(version)s AND id >= %(low)s
              AND (%(role)s::text IS NULL OR role = %(role)s)
    ), ranked AS (
        SELECT *, row_number() OVER (PARTITION BY caller ORDER BY place) > %(most)s / 10 AS beyond FROM answered
    ), drawn AS (
        SELECT * FROM ranked ORDER BY beyond, place LIMIT %(most)s
    )
    SELECT features, output, caller FROM drawn JOIN monitoring.predictions USING (id, row) ORDER BY place"""


class Logged(NamedTuple):
    """A row as it was answered."""

    features: Mapping[str, Any]
    output: Mapping[str, Any]
    caller: str = ""
    """By key, else by subject; a request without either is a caller of its own."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What was found."""

    rows: int
    different: int
    furthest: float
    """How far the worst answer lies from the signed model's."""
    example: Mapping[str, Any] | None
    """The features of the worst."""
    one_caller: bool = False
    """Whether all that differ are one caller's, while others were answered too."""


def read(
    connection: Connection[Any], model: str, version: str, since: Any, most: int, role: str | None = None
) -> list[Logged]:
    """So many of a version's logged rows, of one role or of all, drawn by a hash of their ids."""
    values = {"model": model, "version": version, "low": floor(since), "most": most, "role": role}
    return [Logged(*row) for row in connection.execute(_ROWS, values).fetchall()]


def compare(scorer: Scorer, rows: Sequence[Logged]) -> Replay:
    """Ask the signed model again; raises RowsError where it has no finite answer."""
    labels = scorer.schema.output.labels
    signed = outputs_of(scorer, rows)
    logged = np.array([_numbers(row.output, labels) for row in rows], dtype=np.float64).reshape(signed.shape)
    apart = np.abs(signed - logged).max(axis=1, initial=0)
    wrong = np.asarray(~np.isclose(logged, signed, rtol=_RELATIVE, atol=_ABSOLUTE).all(axis=1))
    if not wrong.any():
        return Replay(len(rows), 0, float(apart.max(initial=0)), None)
    worst = int(np.nanargmax(np.where(wrong, np.nan_to_num(apart, nan=np.inf), -1)))
    theirs = {row.caller for row, differs in zip(rows, wrong, strict=True) if differs}
    alone = len(theirs) == 1 and any(row.caller not in theirs for row in rows)
    return Replay(len(rows), int(wrong.sum()), float(apart[worst]), rows[worst].features, alone)


def outputs_of(scorer: Scorer, rows: Sequence[Logged]) -> Floats:
    """What the signed model answers to logged rows, shape (rows, k)."""
    answers, labels = asked_again(scorer, [row.features for row in rows]), scorer.schema.output.labels
    columns = [f"probability_{label}" for label in labels] if labels else ["value"]
    return np.asarray(answers[columns].to_numpy(dtype=np.float64))


def _numbers(output: Mapping[str, Any], labels: Sequence[str]) -> Floats:
    """An answer's numbers; NaN for what it does not say, which is a difference."""
    if not labels:
        return np.array([output.get("value", np.nan)], dtype=np.float64)
    return np.array([output.get("probabilities", {}).get(label, np.nan) for label in labels], dtype=np.float64)
