"""The contract of values: what a field takes, for one value and for a column, whoever reads it.

The server's types (`serving.inference.contract`, `reader`) are built from the bounds; its matrices, batch scoring,
training and the gate judge columns; the online store judges single values. A property test holds them together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
    """The lowest and the highest number that a field takes; of a category, its codes."""
    if field.type == "category":
        return 0, len(field.vocabulary) - 1
    limit = EXACT_INTEGER if field.type == "integer" else FLOAT32_MAX
    return (
        -limit if field.minimum is None else field.minimum,
        limit if field.maximum is None else field.maximum,
    )


def expected(field: SchemaField) -> str:
    """What a field takes, in words."""
    if field.type == "category":
        return f"a text of 1 to {MAX_TEXT} characters without NUL"
    low, high = bounds(field)
    return f"{'an integer' if field.type == 'integer' else 'a number'} from {low:g} to {high:g}"


def fits(field: SchemaField, value: Any) -> bool:
    """Whether a caller may send this value; missing (None) is no value."""
    if field.type == "category":
        return isinstance(value, str) and 1 <= len(value) <= MAX_TEXT and "\0" not in value
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    low, high = bounds(field)
    return bool(low <= value <= high) and (field.type == "number" or value == int(value))


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
    matrix = np.full((rows, schema.width), np.nan, dtype=np.float32)
    start = 0
    for field in schema.fields:
        end = start + len(field.columns)
        if field.name in names:
            matrix[:, start:end] = encode(field, column_of(field.name)).reshape(rows, end - start)
        start = end
    return matrix


def encode(field: SchemaField, values: Column) -> npt.NDArray[np.float32]:
    """A column of values as the model's input, shape (rows,); None and NaN are missing. Raises RowsError."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and field.type != "category":
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
            return _known(field, given)
    row, more = broken[0], f" (and {len(broken) - 1} rows more)" if len(broken) > 1 else ""
    value = given[row]
    shown = "nothing" if value is None or _is_nan(value) else f"{value!r:.60}"
    raise RowsError(
        f"column {field.name}, row {row}: found {shown}, expected {expected(field)}{more}{_advice(field, values)}"
    )


def _known(field: SchemaField, given: list[Any]) -> npt.NDArray[np.float32]:
    """Encoded values; raises RowsError where different categories are all unknown, as where "1" was written "1.0"."""
    encoded = field.encode(given)
    if field.vocabulary and np.isnan(encoded).all() and len(others := sorted({v for v in given if v is not None})) > 1:
        raise RowsError(
            f"column {field.name}: the model knows none of its {len(others)} values {_few(others)}; "
            f"it knows {_few(field.vocabulary)}"
        )
    return encoded


def _few(values: Sequence[str]) -> str:
    return ", ".join(f"{value!r:.40}" for value in values[:3]) + (" …" if len(values) > 3 else "")


def _advice(field: SchemaField, values: Column) -> str:
    """Whole numbers as categories are what a CSV without types turns them into."""
    if field.type == "category" and isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        return f"; the column holds {values.dtype}: read it as text, or turn it by .astype(str)"
    return ""


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(value != value)
