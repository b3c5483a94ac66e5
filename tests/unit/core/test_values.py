"""One contract of values: the server's types, single values and columns take and refuse the same."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import FIELDS, OUTPUTS, schema_of
from plumbline.core.schema import ModelSchema, SchemaField
from plumbline.core.values import RowsError, encode, fits
from plumbline.features.offline import encode_frame
from plumbline.serving.errors import Problem
from plumbline.serving.inference.contract import Contract

INTEGERS = SchemaField(name="count", type="integer", description="Unbounded", example=1)
SCHEMA = ModelSchema(model="m", fields=(*FIELDS, INTEGERS), output=OUTPUTS["binary"])
CONTRACT = Contract(SCHEMA, max_rows=3)
ROW = SCHEMA.example()
EDGES = [0, -0.0, 23, 23.5, 24, 6000, 6000.5, 2**53, 2**53 + 2, -(2**53), 10**400, 3.5e38, 1e308, True, "", "UA", "??"]
values = st.sampled_from([*EDGES, "x" * 256, "x" * 257, "17", [1]]) | st.floats(allow_nan=False) | st.integers()


def served(name: str, value: Any) -> Any:
    """What the server reads from the row with this value; None where it refuses it."""
    try:
        (row,) = CONTRACT.rows([ROW | {name: value}])
    except Problem:
        return None
    return row[CONTRACT.columns.index(name)]


def column(field: SchemaField, given: Any) -> Any:
    try:
        return encode(field, given)
    except RowsError:
        return None


@given(st.sampled_from(SCHEMA.fields), values)
def test_a_value_and_a_column_are_judged_as_a_request_is(field: SchemaField, value: Any) -> None:
    read = served(field.name, value)
    assert fits(field, value) == (read is not None)
    alone = column(field, [value])
    assert (alone is not None) == (read is not None)
    if read is not None:
        np.testing.assert_array_equal(alone, field.encode([read]))


@given(st.sampled_from(SCHEMA.fields), st.floats(allow_nan=False) | st.integers(-(2**62), 2**62))
def test_a_column_of_numbers_is_judged_as_a_request_is(field: SchemaField, value: float) -> None:
    read, whole = served(field.name, value), column(field, np.array([value, value]))
    assert (whole is not None) == (read is not None)
    if read is not None:
        np.testing.assert_array_equal(whole, field.encode([read] * 2))


@pytest.mark.parametrize("field", SCHEMA.fields, ids=lambda field: field.name)
@pytest.mark.parametrize("missing", [None, math.nan])
def test_what_is_missing_is_refused_where_the_field_is_required(field: SchemaField, missing: Any) -> None:
    given = [field.example, missing]
    if field.required:
        with pytest.raises(RowsError, match=f"column {field.name}, row 1: found nothing"):
            encode(field, given)
    else:
        assert np.isnan(encode(field, given)[1])


def frame(**changes: Any) -> pd.DataFrame:
    rows: dict[str, Any] = {"distance": [1.5, 6000, 2], "hour": [0, 23, 5], "carrier": ["AA", "ZZ", "UA"]}
    return pd.DataFrame(rows | {"origin": ["JFK", None, "EWR"]} | changes)


@pytest.mark.parametrize(
    "rows",
    [
        frame(),
        frame(hour=[0.0, 23.0, 5.0]),
        frame(hour=pd.array([0, 23, 5], dtype="Int64")),
        frame(hour=np.array([0, 23, 5], dtype="uint8")),
        frame(carrier=pd.array(["AA", "ZZ", "UA"], dtype="string")),
        frame(carrier=pd.Categorical(["AA", "ZZ", "UA"]), origin=pd.Categorical(["JFK", None, "EWR"])),
        frame(origin=pd.array(["JFK", pd.NA, "EWR"], dtype="string"), wind=[None, None, None]),
        frame(more=[{}, [], ()]),
    ],
)
def test_a_frame_is_encoded_as_its_rows_are(rows: pd.DataFrame) -> None:
    schema = schema_of("binary")
    requests = json.loads(frame().to_json(orient="records"))
    np.testing.assert_array_equal(encode_frame(schema, rows), schema.encode(requests))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"hour": [0, 24, 25]},
            r"column hour, row 1: found 24, expected an integer from 0 to 23 \(and 1 rows more\)",
        ),
        ({"hour": [0, 1.5, 2]}, "column hour, row 1: found 1.5"),
        ({"hour": [True, False, True]}, "column hour, row 0: found True"),
        ({"hour": ["0", "1", "2"]}, "column hour, row 0: found '0', expected an integer"),
        ({"hour": pd.array([0, pd.NA, 5], dtype="Int64")}, "column hour, row 1: found nothing"),
        ({"hour": pd.to_datetime(["2013-01-01"] * 3)}, "column hour, row 0: found Timestamp"),
        ({"distance": [1.0, math.inf, 2]}, "column distance, row 1: found inf, expected a number from 0 to 6000"),
        ({"wind": [1.0, -math.inf, 2]}, "column wind, row 1: found -inf"),
        ({"carrier": [1, 2, 3]}, "column carrier, row 0: found 1, expected a text of 1 to 256 characters"),
        (
            {"carrier": [1, 2, 3]},
            r"text of 1 to 256 characters without NUL \(and 2 rows more\); the column holds int64: read it as text, or",
        ),
        ({"carrier": ["1.0", "2.0", "1.0"]}, "knows none of its 2 values '1.0', '2.0'; it knows 'AA', 'DL', 'UA'"),
        ({"carrier": ["AA", "", "UA"]}, "column carrier, row 1: found ''"),
        ({"carrier": ["AA", None, "UA"]}, "column carrier, row 1: found nothing"),
        ({"origin": ["JFK", "x" * 300, None]}, r"column origin, row 1: found 'x{59}, expected"),
        ({"origin": [np.array([1, 2]), None, None]}, r"column origin, row 0: found array\("),
    ],
)
def test_a_frame_that_the_server_would_refuse_is_named_by_column_and_row(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RowsError, match=said):
        encode_frame(schema_of("binary"), frame(**changes))


def test_a_frame_without_a_required_column_names_what_it_has() -> None:
    with pytest.raises(RowsError, match="columns hour are missing; found distance, carrier, origin"):
        encode_frame(schema_of("binary"), frame().drop(columns="hour"))


def test_one_unknown_category_alone_may_fill_a_column() -> None:
    rows = frame(carrier=["ZZ"] * 3)
    assert np.isnan(encode_frame(schema_of("binary"), rows)[:, list(CONTRACT.columns).index("carrier")]).all()
