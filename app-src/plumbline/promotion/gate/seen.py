"""Which rows of a holdout an earlier model did not learn from: on the others it has an unfair advantage."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from plumbline.core.columns import NATIVE, OWN, TIME
from plumbline.core.errors import Inconclusive
from plumbline.core.holdout import identity
from plumbline.promotion.gate.holdout import Holdout
from plumbline.training.report import Report

Chosen = npt.NDArray[np.bool_]
FRESH = (
    "judge both on a fresh window: let the split in the model's folder begin its test after everything that both "
    "learnt from, and train again"
)


def unseen(mine: Report, held: Holdout, theirs: Report, theirs_held: Holdout) -> Chosen:
    """The rows of `held`, shape (rows,), that the model of `theirs` neither trained on nor was chosen by.

    With time, those from the day on which its own test window began. Without, those that its own holdout holds too.
    Raises Inconclusive where that can't be told.
    """
    every = np.ones(held.rows, dtype=bool)
    if identity(held.table) == identity(theirs_held.table):
        return every
    began = theirs.test.first
    if began is not None:
        if mine.test.first is not None and mine.test.first >= began:
            return every
        if TIME in held.table.column_names:
            # Reports name days of the split's own zone; a day later no zone is in doubt.
            first = pd.Timestamp(began, tz="UTC") + pd.Timedelta(days=1)
            at = pd.to_datetime(held.table.column(TIME).to_pandas(), utc=True)
            return np.asarray(at >= first, dtype=bool)
    elif shared := _shared(held, theirs_held):
        return np.asarray(_keys(held, shared).isin(_keys(theirs_held, shared)), dtype=bool)
    raise Inconclusive(f"what it learnt from can't be told from these rows; {FRESH}")


def _shared(one: Holdout, other: Holdout) -> list[str]:
    """The columns that tell rows apart in both."""
    names = sorted({*one.table.column_names} & {*other.table.column_names})
    return [name for name in names if not name.startswith((NATIVE, OWN))]


def _keys(held: Holdout, columns: list[str]) -> "pd.Series[int]":
    """A number for each row that equal rows share."""
    frame = held.table.select(columns).to_pandas()
    return pd.util.hash_pandas_object(frame, index=False)
