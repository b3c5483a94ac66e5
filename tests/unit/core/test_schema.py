"""The encoding that training and serving share."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bundles import schema_of
from plumbline.core.schema import ModelSchema, Output, SchemaField, View

FIELDS = (
    SchemaField(name="distance", type="number", description="How far", example=1.5, unit="mi"),
    SchemaField(name="hour", type="integer", description="When", example=7, required=False, minimum=0, maximum=23),
    SchemaField(name="carrier", type="category", description="Who", example="AA", vocabulary=("AA", "DL", "UA")),
    SchemaField(name="origin", type="category", description="From", example="JFK", required=False, vocabulary=("JFK",)),
)
OUTPUT = Output(task="binary", name="late", description="Late?", labels=("no", "yes"))
SCHEMA = ModelSchema(model="m", fields=FIELDS, output=OUTPUT)
NUMBERS = ModelSchema(model="m", fields=FIELDS[:2], output=OUTPUT)

rows = st.lists(
    st.fixed_dictionaries(
        {"distance": st.floats(-1e30, 1e30), "carrier": st.sampled_from(["AA", "DL", "UA", "??"])},
        optional={"hour": st.none() | st.integers(0, 23), "origin": st.none() | st.sampled_from(["JFK", "x"])},
    ),
    min_size=1,
    max_size=5,
)


@given(rows, st.sampled_from([SCHEMA, NUMBERS]))
def test_rows_encode_as_their_columns_do(batch, schema):
    columns = [field.encode([row.get(field.name) for row in batch]) for field in schema.fields]
    np.testing.assert_array_equal(schema.encode(batch), np.stack(columns, axis=1))


def test_missing_and_unknown_become_nan_and_known_values_their_codes():
    matrix = SCHEMA.encode([{"distance": 2, "carrier": "UA"}, {"distance": 1.5, "carrier": "ZZ", "origin": "JFK"}])
    assert matrix.dtype == np.float32
    assert matrix.shape == (2, 4)
    assert matrix[0, 0] == 2
    assert matrix[0, 2] == 2
    assert math.isnan(matrix[0, 1])
    assert math.isnan(matrix[0, 3])
    assert math.isnan(matrix[1, 2])
    assert matrix[1, 3] == 0


def test_no_rows_are_a_matrix_without_rows():
    assert SCHEMA.encode([]).shape == (0, 4)
    assert NUMBERS.encode([]).shape == (0, 2)


def test_text_round_trips_and_equal_schemas_have_equal_digests():
    again = ModelSchema.model_validate_json(SCHEMA.to_json())
    assert again == SCHEMA
    assert again.digest() == SCHEMA.digest()
    assert again.encode([SCHEMA.example()]).tolist() == SCHEMA.encode([SCHEMA.example()]).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": (FIELDS[0], FIELDS[0])}, "a name stands twice"),
        (
            {"views": (View(name="v", entity=("tail",), fields=("hour",), max_age_seconds=1),)},
            r"unknown fields \['tail'\]",
        ),
        (
            {"views": (View(name="v", entity=("hour",), fields=("carrier",), max_age_seconds=1),)},
            "only fill optional",
        ),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        ModelSchema(**{"model": "m", "fields": FIELDS, "output": OUTPUT} | change)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "number", "example": "AA"}, "is not a number"),
        ({"type": "number", "example": 1, "vocabulary": ("a",)}, "only a category has a vocabulary"),
        ({"type": "category", "example": "a", "vocabulary": ("a", "a")}, "twice in the vocabulary"),
        ({"type": "number", "example": 1, "minimum": 2, "maximum": 1}, "above the maximum"),
    ],
)
def test_a_field_that_contradicts_itself_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        SchemaField(name="x", description="x", **values)


@pytest.mark.parametrize(("task", "labels"), [("binary", ("a",)), ("multiclass", ("a", "b")), ("regression", ("a",))])
def test_labels_fit_the_task(task, labels):
    with pytest.raises(ValidationError, match="labels"):
        Output(task=task, name="x", description="x", labels=labels)


def test_what_happens_without_a_view_is_one_of_three_and_older_schemas_keep_their_digests():
    schema = schema_of("binary", views=True)
    assert "when_missing" not in schema.to_json()
    (view,) = schema.views
    assert view.when_missing == "answer-and-say"
    refusing = ModelSchema.model_validate(
        schema.model_dump() | {"views": [view.model_dump() | {"when_missing": "refuse"}]}
    )
    assert '"when_missing": "refuse"' in refusing.to_json()
    assert ModelSchema.model_validate_json(refusing.to_json()) == refusing
    for fault in ({"when_missing": "drop"}, {"if_missing": "refuse"}):
        with pytest.raises(ValidationError):
            ModelSchema.model_validate(schema.model_dump() | {"views": [view.model_dump() | fault]})
