"""Keys and documents of the online store, without the store; integration tests hold them against Redis."""

import json
from typing import Any, cast

import pytest
from redis import Redis

from bundles import WEATHER, schema_of
from plumbline.features.online import Entry, OnlineReader, entity_key, write

SCHEMA = schema_of("binary", views=True)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"origin": "JFK", "hour": 5}, "features:delays:weather:JFK|5"),
        ({"origin": "JFK", "hour": 5.0}, "features:delays:weather:JFK|5"),
        ({"origin": "a|b%", "hour": 5}, "features:delays:weather:a%7Cb%25|5"),
        ({"origin": None, "hour": 5}, None),
        ({"hour": 5}, None),
    ],
)
def test_keys_name_one_entity_each(row, key):
    assert entity_key("delays", WEATHER, row) == key


def test_only_what_is_lacking_is_asked_for():
    rows: list[dict[str, Any]] = [{"origin": "JFK", "hour": 5}, {"origin": "JFK", "hour": 5, "wind": 0.0}, {"hour": 5}]
    assert [index for index, _, _ in OnlineReader(SCHEMA).wanted(rows)] == [0]


@pytest.mark.parametrize(
    ("document", "values"),
    [
        (None, {}),
        (b"{", {}),
        (b"[]", {}),
        ({"at": 995, "values": {"wind": 3}}, {"wind": 3}),
        ({"at": 995, "values": {"wind": None}}, {}),
        ({"at": 995, "values": {"wind": "3"}}, {}),
        ({"at": 995, "values": {"wind": True}}, {}),
        ({"at": 995, "values": {"other": 3}}, {}),
        ({"at": 995, "values": 3}, {}),
        ({"at": 1001, "values": {"wind": 3}}, {}),
        ({"at": 1000 - 3601, "values": {"wind": 3}}, {}),
        ({"values": {"wind": 3}}, {}),
    ],
)
def test_a_document_is_used_only_if_it_is_fresh_and_fits(document, values):
    raw = json.dumps(document).encode() if isinstance(document, dict) else document
    assert OnlineReader(SCHEMA).values(WEATHER, raw, 1000.0) == values


def test_values_outside_a_fields_bounds_or_type_are_left_out():
    from plumbline.core.schema import SchemaField, View

    fields = (
        SchemaField(name="id", type="category", description="d", example="a"),
        SchemaField(name="n", type="integer", description="d", example=1, required=False, minimum=0, maximum=5),
        SchemaField(name="c", type="category", description="d", example="a", required=False),
    )
    view = View(name="v", entity=("id",), fields=("n", "c"), max_age_seconds=10)
    reader = OnlineReader(SCHEMA.model_copy(update={"fields": fields, "views": (view,)}))

    def read(**values):
        return reader.values(view, json.dumps({"at": 1, "values": values}), 1.0)

    assert read(n=5, c="x") == {"n": 5, "c": "x"}
    assert read(n=6, c=1) == {}
    assert read(n=1.5) == {}
    assert read(n=2.0) == {"n": 2.0}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry({"origin": "JFK"}, {"wind": 1.0}, 0.0), "lacks one of"),
        (Entry({"origin": "JFK", "hour": 1}, {"rain": 1.0}, 0.0), "not fields of the view"),
    ],
)
def test_entries_that_are_not_of_the_view_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        write(cast(Redis, None), SCHEMA, WEATHER, [entry])
