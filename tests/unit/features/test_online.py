"""Keys and documents of the online store, without the store; integration tests hold them against Redis."""

import json
from typing import cast

import pytest
from redis import Redis

from bundles import WEATHER, schema_of
from plumbline.features.online import Entry, Stored, entity_key, read, write

SCHEMA = schema_of("binary", views=True)
BY_NAME = {field.name: field for field in SCHEMA.fields}


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


@pytest.mark.parametrize(
    ("document", "values"),
    [
        (None, None),
        (b"{", None),
        (b"[]", None),
        ({"at": 995, "values": {"wind": 3}}, (3,)),
        ({"at": 995, "values": {"wind": None}}, (None,)),
        ({"at": 995, "values": {"wind": "3"}}, None),
        ({"at": 995, "values": {"wind": True}}, None),
        ({"at": 995, "values": {"other": 3}}, None),
        ({"at": 995, "values": 3}, None),
        ({"values": {"wind": 3}}, None),
    ],
)
def test_a_document_is_read_only_if_it_is_of_the_schema(document, values):
    raw = json.dumps(document).encode() if isinstance(document, dict) else document
    known = read(BY_NAME, WEATHER, raw)
    assert (known and known.values) == values


@pytest.mark.parametrize(("moment", "holds"), [(994.9, False), (995, True), (995 + 3600, True), (995 + 3601, False)])
def test_values_hold_from_when_they_were_known_until_they_are_too_old(moment, holds):
    assert Stored(995, (3.0,)).holds(WEATHER, moment) is holds


def test_a_view_is_read_wholly_or_not_at_all():
    from plumbline.core.schema import SchemaField, View

    fields = (
        SchemaField(name="id", type="category", description="d", example="a"),
        SchemaField(name="n", type="integer", description="d", example=1, required=False, minimum=0, maximum=5),
        SchemaField(name="c", type="category", description="d", example="a", required=False),
    )
    view = View(name="v", entity=("id",), fields=("n", "c"), max_age_seconds=10)

    def found(**values):
        known = read({field.name: field for field in fields}, view, json.dumps({"at": 1, "values": values}))
        return known and known.values

    assert found(n=5, c="x") == (5, "x")
    assert found(n=None, c="x") == (None, "x")
    assert found(n=2.0, c="x") == (2.0, "x")
    assert found(n=6, c="x") is None
    assert found(n=1.5, c="x") is None
    assert found(n=2) is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry({"origin": "JFK"}, {"wind": 1.0}, 0.0), "lacks one of"),
        (Entry({"origin": "JFK", "hour": 1}, {"wind": 1.0, "rain": 1.0}, 0.0), "expected"),
        (Entry({"origin": "JFK", "hour": 1}, {}, 0.0), "expected"),
    ],
)
def test_entries_that_are_not_of_the_view_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        write(cast(Redis, None), SCHEMA, WEATHER, [entry])
