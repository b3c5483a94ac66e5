"""A model with fields of every type, asked over both protocols in this process."""

import json
import struct

import numpy as np
import orjson
import pytest

import parcels
from plumbline.monitoring.log.events import Prediction
from plumbline.serving.http.v2 import datatype
from plumbline.serving.inference.profile import Profile
from plumbline.serving.metrics import Metrics

ROWS = parcels.ROWS
SCHEMA = parcels.schema()
INFER = "/v2/models/parcels/infer"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, keys):
    return parcels.make_bundle(tmp_path_factory.mktemp("bundles") / "parcels", keys)


def tensors(rows):
    """As a client of the protocol writes them: a list is JSON text, what is missing is null."""
    return [
        {
            "name": field.name, "datatype": datatype(field), "shape": [len(rows)],
            "data": [_written(row.get(field.name)) for row in rows],
        }
        for field in SCHEMA.fields
    ]  # fmt: skip


def _written(value):
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def test_all_ways_of_asking_have_one_answer(serve, bundle):
    async def use(client, server):
        alone = [(await client.post("/v1/predict", json={"features": row})).json()["prediction"] for row in ROWS]
        together = (await client.post("/v1/predict/batch", json={"rows": ROWS})).json()["predictions"]
        names = [field.name for field in SCHEMA.fields]
        matrix = {"columns": names, "data": [[row.get(name) for name in names] for row in ROWS]}
        ordered = (await client.post("/v1/predict/batch", json=matrix)).json()["predictions"]
        names.reverse()
        turned = {"columns": names, "data": [[row.get(name) for name in names] for row in ROWS]}
        turned = (await client.post("/v1/predict/batch", json=turned)).json()["predictions"]
        infer = (await client.post(INFER, json={"inputs": tensors(ROWS)})).json()
        numbers = server.engine.model.run(SCHEMA.encode(ROWS)).tolist()
        return alone, together, ordered, turned, infer, numbers, server.metrics

    alone, together, ordered, turned, infer, numbers, metrics = serve(bundle, use)
    assert alone == together == ordered == turned
    np.testing.assert_array_equal([list(item["probabilities"].values()) for item in alone], numbers)
    found = {item["name"]: item["data"] for item in infer["outputs"]}
    assert found["label"] == [item["label"] for item in alone]
    np.testing.assert_array_equal(np.reshape(found["probabilities"], (3, 2)), numbers)
    value = metrics.registry.get_sample_value("serving_unknown_categories_total", _labels(metrics, "marks"))
    assert value == 5, "one unknown member in each of the five"


def _labels(metrics, field):
    (series,) = [
        sample.labels
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "serving_unknown_categories_total" and sample.labels.get("field") == field
    ]
    return series


def test_booleans_and_texts_may_come_in_binary(serve, bundle):
    def raw(field, values):
        if field.type == "boolean":
            return bytes(values)
        if datatype(field) == "BYTES":
            return b"".join(struct.pack("<I", len(text := _written(value).encode())) + text for value in values)
        return struct.pack(f"<{len(values)}d", *values)

    rows = [ROWS[0], ROWS[2]]
    parts = [raw(field, [row[field.name] for row in rows]) for field in SCHEMA.fields]
    inputs = [
        {"name": field.name, "datatype": datatype(field), "shape": [2], "parameters": {"binary_data_size": len(part)}}
        for field, part in zip(SCHEMA.fields, parts, strict=True)
    ]
    head = json.dumps({"inputs": inputs}).encode()

    async def use(client, _):
        headers = {"inference-header-content-length": str(len(head))}
        binary = await client.post(INFER, content=head + b"".join(parts), headers=headers)
        return binary, await client.post(INFER, json={"inputs": tensors(rows)})

    binary, plain = serve(bundle, use)
    assert binary.status_code == 200, binary.text
    assert binary.json()["outputs"] == plain.json()["outputs"]


@pytest.mark.parametrize(
    ("field", "value", "message", "expected"),
    [
        ("express", 1, "is 1", "true or false"),
        ("express", "true", "is 'true'", "true or false"),
        ("asked", "2024-07-01T08:30:00", "is '2024-07-01T08:30:00'", "a moment with its offset from UTC (RFC 3339), "),
        ("asked", "2024-02-30T08:30:00Z", "is '2024-02-30T08:30:00Z'", "such as 2024-05-01T08:30:00+02:00"),
        ("asked", 1719815400, "is 1719815400", "a string"),
        ("packed", "yesterday", "is 'yesterday'", "a moment with its offset"),
        ("note", "x" * 201, "is too long", "at most 200 characters"),
        ("note", ["a"], "is an array of 1", "a string"),
        ("marks", "glass", "is 'glass'", "an array"),
        ("marks", ["a"] * 6, "is too long", "at most 5 items"),
        ("marks", ["a", 1], "is 1", "a string"),
        ("marks", [""], "is too short", "at least 1 characters"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(serve, bundle, field, value, message, expected):
    async def use(client, _):
        one = await client.post("/v1/predict", json={"features": ROWS[0] | {field: value}})
        return one, await client.post("/v1/predict/batch", json={"rows": [ROWS[0], ROWS[0] | {field: value}]})

    one, many = serve(bundle, use)
    for answer, place in ((one, "features"), (many, "rows.1")):
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"].startswith(f"{place}.{field}")
        assert error["message"] == message
        assert expected in error["expected"]


@pytest.mark.parametrize(
    ("field", "change", "said"),
    [
        ("express", {"datatype": "INT64", "data": [1]}, "express: has the datatype INT64, expected BOOL"),
        ("express", {"datatype": "BYTES", "data": ["true"]}, "express: has the datatype BYTES, expected BOOL"),
        ("marks", {"data": ["glass"]}, "marks.data.0: is 'glass', expected a JSON array of texts, such as"),
        ("marks", {"data": ['{"a": 1}']}, "marks.data.0: is '{\"a\": 1}', expected a JSON array"),
        ("marks", {"data": ["[1]"]}, "0.marks.0: is 1, expected a string"),
        ("asked", {"data": ["now"]}, "0.asked: is 'now', expected a moment with its offset"),
        ("asked", {"datatype": "INT64", "data": [5]}, "0.asked: is 5, expected a string"),
    ],
)
def test_a_wrong_tensor_is_named(serve, bundle, field, change, said):
    inputs = [item | change if item["name"] == field else item for item in tensors(ROWS[:1])]

    async def use(client, _):
        return await client.post(INFER, json={"inputs": inputs})

    answer = serve(bundle, use)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_one_matrix_cannot_hold_what_is_several_columns(serve, bundle):
    async def use(client, _):
        tensor = {"name": "features", "datatype": "FP32", "shape": [1, 8], "data": [0] * 8}
        return await client.post(INFER, json={"inputs": [tensor]})

    answer = serve(bundle, use)
    assert answer.status_code == 422
    assert "cannot hold asked, packed, note, code, marks, expected one tensor for each field" in answer.text


def test_the_document_shows_each_type_with_its_example(serve, bundle):
    async def use(client, _):
        return (await client.get("/openapi.json")).json(), (await client.get("/v2/models/parcels")).json()

    document, metadata = serve(bundle, use)
    schemas = document["components"]["schemas"]
    fields = schemas["Features"]["properties"]

    def shown(name):
        return fields[name].get("anyOf", [fields[name]])[0]

    assert shown("express")["type"] == "boolean"
    assert (shown("asked")["type"], shown("asked")["format"]) == ("string", "date-time")
    assert shown("asked")["examples"] == ["2024-07-01T08:30:00+02:00"]
    assert (shown("note")["type"], shown("note")["maxLength"]) == ("string", 200)
    assert (shown("marks")["type"], shown("marks")["maxItems"]) == ("array", 5)
    assert {"boolean", "array"} <= set(schemas["MatrixRequest"]["properties"]["data"]["items"]["items"]["type"])
    kinds = {item["name"]: item["datatype"] for item in metadata["inputs"]}
    assert kinds == {
        "weight": "FP64", "depot": "BYTES", "express": "BOOL", "asked": "BYTES", "packed": "BYTES", "note": "BYTES",
        "code": "BYTES", "marks": "BYTES",
    }  # fmt: skip


def test_the_examples_of_the_document_are_answered(serve, bundle):
    async def use(client, _):
        paths = (await client.get("/openapi.json")).json()["paths"]
        answers = []
        for path, item in paths.items():
            if path.startswith("/v1/predict") or path.endswith("/infer"):
                content = item["post"]["requestBody"]["content"]["application/json"]
                answers += [await client.post(path, json=one["value"]) for one in content["examples"].values()]
        return answers

    answers = serve(bundle, use)
    assert len(answers) == 5
    assert [answer.status_code for answer in answers] == [200] * 5, [answer.text for answer in answers]


def test_a_body_as_long_as_its_texts_may_be_is_read(serve, bundle):
    row = ROWS[0] | {"note": "\U0001f600" * 200, "code": "\U0001f600" * 1000, "marks": ["\U0001f600" * 256] * 5}

    async def use(client, _):
        return await client.post(
            "/v1/predict", content=json.dumps({"features": row}), headers={"content-type": "application/json"}
        )

    assert serve(bundle, use).status_code == 200


def test_a_model_of_one_text_is_counted_too():
    text = SCHEMA.fields[-2]
    profile = Profile(SCHEMA.model_copy(update={"fields": (text,)}), Metrics())
    matrix = text.encode(["AB-12", "x"])
    for row in matrix:
        profile.add(row[np.newaxis], np.array([[0.25, 0.75]], dtype=np.float32))
    rows = next(family for family in profile.collect() if family.name == "serving_cell_rows")
    assert sum(sample.value for sample in rows.samples if sample.name.endswith("_total")) == matrix.size


def test_cells_leave_hashes_out_where_there_is_something_else():
    profile = Profile(SCHEMA, Metrics())
    for row in SCHEMA.encode(ROWS):
        profile.add(row[np.newaxis], np.full((1, 2), 0.5, dtype=np.float32))
    rows = next(family for family in profile.collect() if family.name == "serving_cell_rows")
    cells = {(s.labels["field"], s.labels["cell"]): s.value for s in rows.samples if s.name.endswith("_total")}
    assert {name for name, _ in cells} == {
        "weight", "depot", "express", "asked.hour", "asked.weekday", "asked.month", "asked.day_of_year",
        "packed.age_hours", "marks=glass", "marks=heavy", "marks=odd", "marks.unknown",
    }  # fmt: skip
    assert {cell: count for (name, cell), count in cells.items() if name == "express"} == {
        "true": 1, "false": 1, "missing": 1
    }  # fmt: skip


def test_the_log_holds_booleans_lists_and_moments_as_they_were_sent():
    names = [field.name for field in SCHEMA.fields]
    event = {
        "id": "018bcfe5-6800-7000-8000-000000000000", "at": "2023-11-14T22:13:20+00:00", "model": "parcels",
        "version": "v1.0.0", "columns": names, "data": [[row.get(name) for name in names] for row in ROWS],
        "outputs": [{"label": "no", "probability": 1.0}] * 3, "ms": 1.0,
    }  # fmt: skip
    stored = Prediction.model_validate_json(orjson.dumps(event)).rows
    expected = [{name: value for name, value in row.items() if value is not None} for row in ROWS]
    assert orjson.loads(orjson.dumps(stored)) == expected
    assert stored[0]["express"] is True
