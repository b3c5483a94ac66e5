"""The contract of values: what a field takes, for one value and for a column, whoever reads it.

The server's types (`serving.inference.contract`, `reader`) are built from the bounds; its matrices, batch scoring,
training and the gate judge columns; the online store judges single values. A property test holds them together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from plumbline.core.encoding import MOMENT_EXAMPLE, moment_of, seconds_of
from plumbline.core.errors import Misuse
from plumbline.core.schema import Matrix, ModelSchema, SchemaField

Column = npt.NDArray[Any] | Sequence[Any]
FLOAT32_MAX = 3.4028234663852886e38
"""A larger number would become an infinity in the model's input."""
EXACT_INTEGER = 2**53
"""What JSON numbers carry without loss (RFC 8259, section 6)."""
MAX_TEXT = 256
TEXT_PATTERN = r"^[^\x00]*$"
"""PostgreSQL, which keeps the predictions, stores no NUL."""


class RowsError(Misuse):
    """Rows that the model's server would refuse; the message names column, row and what was expected."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The values of a column that its field does not take."""

    message: str
    """`is missing`, `is not an integer` …"""
    rows: npt.NDArray[np.intp]
    """Their numbers, from 0, rising."""


def bounds(field: SchemaField) -> tuple[float, float]:
    """The lowest and the highest number that a column takes; of a category, its codes."""
    if field.type == "boolean":
        return 0, 1
    if field.type == "category":
        return 0, len(field.vocabulary) - 1
    limit = EXACT_INTEGER if field.type == "integer" else FLOAT32_MAX
    return (
        -limit if field.minimum is None else field.minimum,
        limit if field.maximum is None else field.maximum,
    )


def expected(field: SchemaField) -> str:
    """What a field takes, in words."""
    words = {
        "category": f"a text of 1 to {MAX_TEXT} characters without NUL",
        "boolean": "true or false",
        "timestamp": f"a moment with its offset from UTC (RFC 3339), such as {MOMENT_EXAMPLE}",
        "text": f"a text of up to {field.most} characters without NUL",
        "categories": f"a list of up to {field.most} texts of 1 to {MAX_TEXT} characters without NUL",
    }
    if field.type in words:
        return words[field.type]
    low, high = bounds(field)
    return f"{'an integer' if field.type == 'integer' else 'a number'} from {low:g} to {high:g}"


def fits(field: SchemaField, value: Any) -> bool:
    """Whether a caller may send this value; missing (None) is no value."""
    if field.type == "category":
        return _is_category(value)
    if field.type == "boolean":
        return isinstance(value, bool | np.bool_)
    if field.type == "timestamp":
        return moment_of(value) is not None
    if field.type == "text":
        return isinstance(value, str) and len(value) <= field.most and "\0" not in value
    if field.type == "categories":
        # A list of a Parquet file comes as an array.
        several = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)
        return several and len(value) <= field.most and all(map(_is_category, value))
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    low, high = bounds(field)
    return bool(low <= value <= high) and (field.type == "number" or value == int(value))


def _is_category(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_TEXT and "\0" not in value


def fault_of(field: SchemaField, column: npt.NDArray[np.float64], *, required: bool) -> Fault | None:
    """What is wrong with a column of numbers (of a category: of codes), in which NaN is missing."""
    low, high = bounds(field)
    missing = np.isnan(column)
    for message, broken in (
        ("is missing", missing & required),
        ("is not an integer", ~missing & (column != np.floor(column)) & (field.type != "number")),
        ("is out of its bounds", (column < low) | (column > high)),
    ):
        if broken.any():
            return Fault(message, np.flatnonzero(broken))
    return None


def encode_columns(schema: ModelSchema, names: Sequence[str], column_of: Callable[[str], Column], rows: int) -> Matrix:
    """Columns to the model's input, shape (rows, width), each value judged and encoded as a request's.

    `names` are those that there are; those that are no fields are not looked at. Raises RowsError for rows that the
    model's server would refuse.
    """
    if lacking := [field.name for field in schema.fields if field.required and field.name not in names]:
        raise RowsError(f"the columns {', '.join(lacking)} are missing; found {', '.join(names)}")
    moments = [
        list(map(seconds_of, column_of(field.name))) for field in schema.fields if field.moment and field.name in names
    ]
    matrix = np.full((rows, schema.width), np.nan, dtype=np.float32)
    start = 0
    for field in schema.fields:
        end = start + len(field.columns)
        if field.name in names:
            matrix[:, start:end] = encode(field, column_of(field.name), *moments).reshape(rows, end - start)
        start = end
    return matrix


def encode(field: SchemaField, values: Column, moments: Sequence[float | None] = ()) -> npt.NDArray[np.float32]:
    """A column of values as the model's input, as `SchemaField.encode`; None and NaN are missing. Raises RowsError."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and field.type in ("number", "integer"):
        numbers = values.astype(np.float64)
        fault = fault_of(field, numbers, required=field.required)
        if fault is None:
            return numbers.astype(np.float32)
        given, broken = values.tolist(), fault.rows.tolist()
    else:
        given = values.tolist() if isinstance(values, np.ndarray) else list(values)
        given = [None if _is_nan(value) else value for value in given]
        broken = [i for i, v in enumerate(given) if (field.required if v is None else not fits(field, v))]
        if not broken:
            return _known(field, given, moments)
    row, more = broken[0], f" (and {len(broken) - 1} rows more)" if len(broken) > 1 else ""
    value = given[row]
    shown = "nothing" if value is None or _is_nan(value) else f"{value!r:.60}"
    raise RowsError(
        f"column {field.name}, row {row}: found {shown}, expected {expected(field)}{more}"
        f"{_advice(field, values, value)}"
    )


def _known(field: SchemaField, given: list[Any], moments: Sequence[float | None]) -> npt.NDArray[np.float32]:
    """Encoded values; raises RowsError where different categories are all unknown, as where "1" was written "1.0"."""
    encoded = field.encode(given, moments)
    several = field.type == "categories"
    some = np.nan_to_num(encoded[:, :-1]).any() if several else not np.isnan(encoded).all()
    if some or not field.vocabulary:
        return encoded
    present = [value for value in given if value is not None]
    if len(others := sorted(set(chain.from_iterable(present) if several else present))) > 1:
        raise RowsError(
            f"column {field.name}: the model knows none of its {len(others)} values {_few(others)}; "
            f"it knows {_few(field.vocabulary)}"
        )
    return encoded


def _few(values: Sequence[str]) -> str:
    return ", ".join(f"{value!r:.40}" for value in values[:3]) + (" …" if len(values) > 3 else "")


def _advice(field: SchemaField, values: Column, value: Any) -> str:
    """What a column of another type is to be turned into: whole numbers are what a CSV without types makes of text."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        if field.type == "category":
            return f"; the column holds {values.dtype}: read it as text, or turn it by .astype(str)"
        if field.type == "boolean":
            return f"; the column holds {values.dtype}: turn what it means into booleans, as by == 1"
    if isinstance(value, datetime):
        return "; it says no time zone: give it one by .dt.tz_localize(…)"
    return ""


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(value != value)
