"""Booleans, moments, texts and lists of categories: one encoding, one contract of values, wherever they come from."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from pydantic import ValidationError

import parcels
from bundles import schema_of
from plumbline.core import encoding
from plumbline.core.encoding import PARTS
from plumbline.core.onnx import open_model
from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.core.values import RowsError, encode, fits
from plumbline.features.offline import encode_frame
from plumbline.serving.errors import Problem
from plumbline.serving.inference.contract import Contract

SCHEMA = parcels.schema()
FIELDS = {field.name: field for field in SCHEMA.fields}
CONTRACT = Contract(SCHEMA, max_rows=100)
ROW = parcels.ROWS[0]

zones = st.integers(-1439, 1439).map(
    lambda minutes: f"{'+-'[minutes < 0]}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
)
moments = st.builds(
    lambda moment, zone: f"{moment.isoformat(timespec='auto')}{zone}",
    st.datetimes(datetime(1601, 1, 1), datetime(2999, 12, 30)),
    st.just("Z") | zones,
)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
members = st.sampled_from(["glass", "heavy", "odd", "never", "日本"])
rows = st.fixed_dictionaries(
    {
        "weight": st.floats(0, 50, width=32), "asked": moments, "code": texts,
        "marks": st.lists(members, max_size=5),
    },
    optional={
        "depot": st.sampled_from(["north", "south", "x"]) | st.none(), "express": st.booleans() | st.none(),
        "packed": moments | st.none(), "note": texts | st.none(),
    },
)  # fmt: skip


@given(st.lists(rows, min_size=1, max_size=4))
def test_a_request_a_row_and_a_column_are_encoded_alike(batch: list[dict[str, Any]]) -> None:
    expected = SCHEMA.encode(batch)
    body = json.dumps({"rows": batch}).encode()
    quick, judged = CONTRACT.reader.batch(body), CONTRACT.judged_batch(body)
    assert quick is not None
    np.testing.assert_array_equal(SCHEMA.encode_values(quick.rows), expected)
    np.testing.assert_array_equal(SCHEMA.encode_values(judged), expected)
    frame = pd.DataFrame([{name: row.get(name) for name in FIELDS} for row in batch])
    if fails(lambda: encode_frame(SCHEMA, frame), "the model knows none of"):
        return  # a column that knows nothing is refused as a whole
    found = encode_frame(SCHEMA, frame)
    np.testing.assert_array_equal(found, expected)
    assert expected.shape == (len(batch), SCHEMA.width)


VALUES = [
    True, 1, 0.0, "true", "", "north", "x" * 201, "x" * 1001, "a\0", [], ["a"] * 5, ["a"] * 6, [""], [1], ["a", None],
    {"a": 1}, "2024-05-01T08:30:00.1234567Z",
    "2024-05-01T08:30:00Z", "2024-05-01T08:30:00", "2024-05-01", "2024-02-30T08:30:00Z",
    "2024-05-01 08:30:00Z", "2024-05-01T24:00:00Z", "2024-05-01T08:30:60Z", "1599-12-31T00:00:00Z",
    "2024-05-01T08:30:00+24:00", "\uff12024-05-01T08:30:00Z", "2024-05-01T08:30:00Z\n", "x" * 257, ["x" * 257],
]  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_is_judged_alike_wherever_it_comes_from(name: str, value: Any) -> None:
    body = json.dumps({"features": ROW | {name: value}}).encode()
    problem = refusal(body)
    judged = problem is None
    if problem is not None:
        assert problem.status == 422
        assert problem.errors[0].field.startswith(f"features.{name}")
        assert "openapi" not in problem.errors[0].expected, "said in words"
    quick = CONTRACT.reader.one(body) is not None
    assert quick <= judged, "the quick reader takes nothing that the contract refuses"
    assert fits(FIELDS[name], value) == judged
    frame = pd.DataFrame([ROW | {name: value}])
    assert fails(lambda: encode_frame(SCHEMA, frame), "expected") != judged


def refusal(body: bytes) -> Problem | None:
    try:
        CONTRACT.judged_one(body)
    except Problem as problem:
        return problem
    return None


def fails(call: Any, said: str) -> bool:
    try:
        call()
    except RowsError as error:
        return said in str(error)
    return False


def field_of(kind: str, **more: Any) -> SchemaField:
    examples = {"boolean": True, "timestamp": "2024-07-01T08:30:00+02:00", "text": "a", "categories": ("a",)}
    return SchemaField(**{"name": "f", "type": kind, "description": "F", "example": examples[kind]} | more)


def test_a_moment_is_told_in_the_fields_zone_whatever_its_offset() -> None:
    parts = ("hour", "weekday", "month", "day_of_year", "epoch_days")
    there = field_of("timestamp", parts=parts, zone="Asia/Kolkata")
    same: list[Any] = ["2024-02-29T20:00:00Z", "2024-02-29T21:00:00+01:00", pd.Timestamp("2024-02-29T20:00", tz="UTC"),
            datetime(2024, 2, 29, 20, tzinfo=UTC)]  # fmt: skip
    days = np.float32(pd.Timestamp("2024-02-29T20:00", tz="UTC").timestamp() / 86400)
    for moment in same:
        assert there.encode([moment]).tolist() == [[1, 4, 3, 61, days]], "1 March, a Friday, at half past one"
    assert np.isnan(there.encode([None])).all()
    # The hour that daylight saving repeats is the same hour twice, and two moments.
    berlin = field_of("timestamp", parts=("hour", "epoch_days"), zone="Europe/Berlin")
    summer, winter = berlin.encode(["2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"])
    assert summer[0] == winter[0] == 2
    assert summer[1] < winter[1]


def test_a_machine_without_time_zones_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "available_timezones", set)
    assert "Nowhere/X': this machine has no table of time zones; install the" in encoding.zone_fault("Nowhere/X")


def test_booleans_beside_numbers_are_a_column_each() -> None:
    number = SchemaField(name="n", type="number", description="N", example=1)
    optional = field_of("boolean", required=False)
    plain = ModelSchema(model="m", fields=(number, optional), output=SCHEMA.output)
    found = plain.encode([{"n": 1.5, "f": True}, {"n": 2, "f": False}])
    assert found.tolist() == [[1.5, 1], [2, 0]]
    np.testing.assert_array_equal(plain.encode([{"n": 1.5}, {"n": 2, "f": True}]), [[1.5, np.nan], [2, 1]])
    frame = pd.DataFrame({"n": [1.5, 2], "f": pd.array([None, True], dtype="boolean")})
    np.testing.assert_array_equal(encode_frame(plain, frame), [[1.5, np.nan], [2, 1]])


def test_an_age_is_counted_to_the_rows_moment() -> None:
    column = SCHEMA.columns.index(next(column for column in SCHEMA.columns if column.name == "packed.age_hours"))
    found = SCHEMA.encode([ROW, ROW | {"packed": None}, ROW | {"asked": "2024-06-30T22:14:00Z"}])[:, column]
    assert found[0] == np.float32(8.25)
    assert math.isnan(found[1])
    assert found[2] == np.float32(-1 / 60), "later than the row: told as it is"
    without = encode_frame(SCHEMA, pd.DataFrame([ROW]).assign(packed=pd.to_datetime([ROW["packed"]])))
    assert without[0, column] == np.float32(8.25)


def test_words_and_characters_are_counted_by_their_hash() -> None:
    words = field_of("text", by="words", buckets=32)
    # Case-folding writes ß as ss, as capitals do.
    expected = [0.0] * 32
    for word in ("strasse", "nr", "strasse"):
        expected[crc32(word.encode()) % 32] += 1
    assert words.encode(["Straße, Nr. STRASSE!"]).tolist() == [expected]
    assert words.encode([""]).tolist() == [[0.0] * 32]
    pairs = field_of("text", by="words", grams=2, buckets=32).encode(["a b c", "a"])
    assert pairs.sum(axis=1).tolist() == [2, 1], "a shorter text is one as a whole"
    triples = field_of("text", by="characters", grams=3, buckets=16).encode(["ab  cd"])
    assert triples.sum() == 3, "ab␣, b␣c, ␣cd"


def test_a_graph_of_ones_own_is_given_the_characters_themselves() -> None:
    field = field_of("text", by="codepoints", buckets=4)
    assert field.encode(["a😀", "abcdef", ""]).tolist() == [[97, 0x1F600, 0, 0], [97, 98, 99, 100], [0, 0, 0, 0]]


def test_such_a_graph_is_opened_and_answers(tmp_path: Path) -> None:
    """How many of the letters are an `a`: a transformer of one's own, in the model's one file."""
    field = field_of("text", by="codepoints", buckets=8)
    schema = ModelSchema(
        model="m", fields=(field,), output=Output(task="regression", name="letters", description="How many")
    )
    letter = helper.make_tensor("letter", TensorProto.INT64, [], [ord("a")])
    nodes = [
        helper.make_node("Cast", ["features"], ["codes"], to=TensorProto.INT64),
        helper.make_node("Equal", ["codes", "letter"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ones", "axes"], ["value"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes, "letters",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 8])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [letter, helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_model(model.SerializeToString(), schema)
    answered = session.run(["value"], {"features": schema.encode([{"f": "banana"}, {"f": "x"}])})[0]
    assert answered.tolist() == [[3], [0]]


def test_a_list_has_a_column_for_each_member_and_one_that_counts_the_unknown() -> None:
    field = field_of("categories", vocabulary=("a", "b"))
    given: list[Any] = [["b", "b"], ["x", "a", "y"], (), None, np.array(["a"], dtype=object)]
    found = field.encode(given)
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 2], [0, 0, 0], [np.nan] * 3, [1, 0, 0]])
    assert [column.name for column in field.columns] == ["f=a", "f=b", "f.unknown"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("express", "yes", "column express, row 0: found 'yes', expected true or false"),
        ("asked", "2024-05-01T08:30:00",
         "found '2024-05-01T08:30:00', expected a moment with its offset from UTC (RFC 3339), such as 2024-05-01T"),
        ("asked", datetime(2024, 5, 1), "it says no time zone: give it one by .dt.tz_localize(…)"),
        ("note", "x" * 201, "expected a text of up to 200 characters without NUL"),
        ("marks", "glass", "found 'glass', expected a list of up to 5 texts of 1 to 256 characters without NUL"),
    ],
)  # fmt: skip
def test_a_column_is_refused_in_words(name: str, value: Any, said: str) -> None:
    with pytest.raises(RowsError) as refused:
        encode(FIELDS[name], [value])
    assert said in str(refused.value)


def test_a_column_of_numbers_is_no_column_of_booleans() -> None:
    with pytest.raises(RowsError, match="the column holds int64: turn what it means into booleans, as by == 1"):
        encode(FIELDS["express"], np.array([0, 1]))
    np.testing.assert_array_equal(encode(FIELDS["express"], np.array([False, True])), [0, 1])
    with pytest.raises(RowsError, match="the model knows none of its 2 values 'p', 'q'; it knows 'glass', 'heavy'"):
        encode(FIELDS["marks"], [["p"], ["q"], []])


def test_a_schema_of_todays_types_is_written_as_it_always_was() -> None:
    keys = ["name", "type", "description", "example", "unit", "required", "minimum", "maximum", "vocabulary"]
    for field in json.loads(schema_of("binary").to_json())["fields"]:
        assert list(field) == keys
    assert schema_of("binary").columns == schema_of("binary").fields
    again = ModelSchema.model_validate_json(SCHEMA.to_json())
    assert again == SCHEMA
    assert again.digest() == SCHEMA.digest()


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("boolean", {"example": 1}, "the example 1 is not a boolean"),
        ("boolean", {"zone": "UTC"}, "zone means nothing to a boolean"),
        ("timestamp", {}, r"a timestamp needs parts=\(…\)"),
        ("timestamp", {"parts": ("hour",)}, 'hour needs zone="Europe/Berlin", say'),
        ("timestamp", {"parts": ("hour",), "zone": "Berlin"}, "zone 'Berlin': expected a name of the IANA time zones"),
        ("timestamp", {"parts": ("hour",), "zone": "../etc"}, "expected a name of the IANA time zones"),
        ("timestamp", {"parts": ("month", "month"), "zone": "UTC"}, "a part stands twice"),
        ("timestamp", {"parts": ("age_days",), "example": "2024-05-01"}, "is no moment with its offset, such as"),
        ("text", {}, 'a text needs by="words"'),
        ("text", {"by": "words", "buckets": 8, "longest": 2, "example": "abc"}, "the example is longer than 2"),
        ("text", {"by": "words", "buckets": 8, "parts": ("hour",)}, "parts means nothing to a text"),
        ("categories", {"example": "a"}, "the example 'a' is not a categories"),
        ("categories", {"buckets": 3}, "buckets means nothing to a categories"),
    ],
)
def test_a_field_that_contradicts_itself_is_refused(kind: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        field_of(kind, **more)


def test_a_schema_has_one_moment_and_views_hold_single_values() -> None:
    output = Output(task="regression", name="y", description="Y")
    aged = field_of("timestamp", parts=("age_days",))
    moment = field_of("timestamp", moment=True)
    number = SchemaField(name="n", type="number", description="N", example=1)
    for fields, said in [
        ((aged,), "the age of f is counted to the row's moment: give one timestamp moment=True"),
        ((moment, moment.model_copy(update={"name": "g"})), "f and g say moment=True; a row has one moment"),
        ((moment,), "none of them is a column"),
    ]:
        with pytest.raises(ValidationError, match=said):
            ModelSchema(model="m", fields=fields, output=output)
    optional = field_of("categories", required=False)
    view = View(name="v", entity=("n",), fields=("f",), max_age_seconds=1)
    with pytest.raises(ValidationError, match="can hold number, integer, category, boolean alone, not \\['f'\\]"):
        ModelSchema(model="m", fields=(number, optional), output=output, views=(view,))


def test_a_copy_with_other_fields_is_encoded_by_them() -> None:
    assert SCHEMA.encode([ROW]).shape == (1, SCHEMA.width)
    fewer = SCHEMA.model_copy(update={"fields": SCHEMA.fields[:2]})
    assert fewer.encode([ROW]).tolist() == [[1.5, 0]]


def test_every_part_has_a_number() -> None:
    field = field_of("timestamp", parts=PARTS, zone="UTC")
    encoded = field.encode(["2024-05-01T08:30:00Z"], [datetime(2024, 5, 2, 8, 30, tzinfo=UTC).timestamp()])
    assert encoded.tolist() == [[8, 2, 5, 122, np.float32(1714552200 / 86400), 86400, 1440, 24, 1]]
