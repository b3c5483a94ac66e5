"""Point-in-time joins: what the online store would have answered at each row's moment."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plumbline.core.columns import TIME
from plumbline.core.schema import Matrix, ModelSchema, View
from plumbline.core.values import encode_columns


def join_view(rows: pd.DataFrame, view: View, history: pd.DataFrame) -> pd.DataFrame:
    """Rows with the view's fields added: for each row the newest values of its entity as of its own moment.

    Values that became known after the row's `at`, or more than max_age_seconds before it, are not used: the fields
    are then missing, as they would be online. Order and index of the rows are kept.
    """
    # merge_asof wants both sides sorted by time; "place" brings the rows back into their order.
    left = rows[[TIME, *view.entity]].reset_index(drop=True).rename_axis("place").reset_index()
    joined = pd.merge_asof(
        left.sort_values(TIME, kind="stable"),
        _history(view, history),
        on=TIME,
        by=list(view.entity),
        tolerance=pd.Timedelta(seconds=view.max_age_seconds),
        direction="backward",
    ).sort_values("place")
    return rows.assign(**{field: joined[field].to_numpy() for field in view.fields})


def latest(view: View, history: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """The newest values per entity as of a moment, with their `at`: what belongs into the online store then."""
    values = _history(view, history)
    values = values[values[TIME] <= as_of].drop_duplicates(list(view.entity), keep="last")
    return values[values[TIME] >= as_of - pd.Timedelta(seconds=view.max_age_seconds)].reset_index(drop=True)


def _history(view: View, history: pd.DataFrame) -> pd.DataFrame:
    return history[[TIME, *view.entity, *view.fields]].sort_values(TIME, kind="stable")


def encode_frame(schema: ModelSchema, rows: pd.DataFrame) -> Matrix:
    """Rows of a frame to the model's input; see `encode_columns`."""
    return encode_columns(schema, list(map(str, rows.columns)), lambda name: _plain(rows[name]), len(rows))


def _plain(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    """Without pandas' own types: numbers as numpy's, all else as objects, of which None is missing."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column.to_numpy()
    return column.astype(object).where(column.notna(), None).to_numpy()
