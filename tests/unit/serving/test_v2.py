"""The Open Inference Protocol in this process: tensors in JSON and binary, and what is refused."""

import json
import struct

import numpy as np
import pytest

from bundles import make_bundle, schema_of
from plumbline.core.schema import ModelSchema, SchemaField
from plumbline.serving.events import Event, PredictionLog

ROWS = [
    {"distance": 1400.0, "hour": 17, "carrier": "UA", "origin": "JFK", "wind": 12.5},
    {"distance": 5.5, "hour": 0, "carrier": "??", "origin": "EWR", "wind": 0.0},
]
KINDS = {"distance": "FP64", "hour": "INT64", "carrier": "BYTES", "origin": "BYTES", "wind": "FP32"}


def columns(rows=ROWS, **changes):
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name, kind in KINDS.items()
    ]
    return {"inputs": inputs} | changes


def matrix(data, shape, **changes):
    return {"inputs": [{"name": "features", "datatype": "FP32", "shape": shape, "data": data} | changes]}


def infer(body, headers=None, path="/v2/models/delays/infer"):
    async def use(client, _):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(path, content=content, headers={"content-type": "application/json"} | (headers or {}))

    return use


@pytest.fixture
def expected(serve, bundles):
    async def use(client, _):
        answer = (await client.post("/v1/predict/batch", json={"rows": ROWS})).json()
        numbers = [list(item["probabilities"].values()) for item in answer["predictions"]]
        return numbers, [item["label"] for item in answer["predictions"]]

    return serve(bundles["binary"], use)


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {item["name"]: item for item in answer.json()["outputs"]}


def test_columns_answer_as_v1_does(serve, bundles, expected):
    answer = serve(bundles["binary"], infer(columns(id="mine")))
    assert answer.json()["id"] == "mine"
    assert "prediction_id" in answer.json()["parameters"]
    found, (numbers, labels) = outputs(answer), expected
    assert found["probabilities"]["shape"] == [2, 2]
    assert np.array_equal(np.array(found["probabilities"]["data"]).reshape(2, 2), numbers)
    assert (found["label"]["datatype"], found["label"]["data"]) == ("BYTES", labels)


@pytest.mark.parametrize("data", [[1400.0, 17, 2, 1, 12.5], [[1400.0, 17, 2, 1, 12.5]]])
def test_the_encoded_matrix_answers_as_v1_does(serve, bundles, expected, data):
    path = "/v2/models/delays/versions/v1.0.0/infer"
    found = outputs(serve(bundles["binary"], infer(matrix(data, [1, 5]), path=path)))
    assert found["probabilities"]["data"] == expected[0][0]


@pytest.mark.parametrize(
    ("shape", "data", "field"),
    [
        ([2, 5], [[1400, 17, 2, 1, 12.5, 5.5], [0, 2, 1, 12.5]], "features.data.0"),
        ([2, 5], [[1400, 17, 2, 1, 12.5], [5.5, 0, 2, 1]], "features.data.1"),
        ([1, 5], [[1400], [17], [2], [1], [12.5]], "features.data.0"),
        ([1, 5], [1400, [17, 2, 1, 12.5]], "features.data.0"),
    ],
)
def test_nested_rows_of_another_size_than_the_shapes_are_not_cut_anew(serve, bundles, shape, data, field):
    answer = serve(bundles["binary"], infer(matrix(data, shape)))
    assert answer.status_code == 422, answer.text
    assert [item["field"] for item in answer.json()["errors"]] == [field]
    assert f"an array of {shape[1]} values" in answer.json()["detail"]


def test_texts_in_base64_are_the_texts(serve, bundles, expected):
    def packed(*values):
        body = columns()
        body["inputs"][2] |= {"data": values, "parameters": {"content_type": "base64"}}
        return body

    found = outputs(serve(bundles["binary"], infer(packed("VUE=", "Pz8="))))
    assert np.array_equal(np.array(found["probabilities"]["data"]).reshape(2, 2), expected[0])
    for wrong in ("VUE", "V U E =", "/w==", "é"):
        answer = serve(bundles["binary"], infer(packed("VUE=", wrong)))
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "carrier.data.1"), answer.text


def test_binary_tensors_carry_missing_values_both_ways(serve, bundles, expected):
    first = np.array([[1400, 17, 2, 1, 12.5], [5.5, 0, np.nan, 0, 0]], "<f4")
    head = {
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [2, 5], "parameters": {"binary_data_size": 40}}],
        "outputs": [
            {"name": "probabilities", "parameters": {"binary_data": True}},
            {"name": "label", "parameters": {"binary_data": True}},
        ],
    }
    text = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    answer = serve(bundles["binary"], infer(text + first.tobytes(), headers))
    assert answer.status_code == 200, answer.text
    split = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.content[:split])["outputs"]
    assert described[0]["parameters"]["binary_data_size"] == 16
    assert np.array_equal(np.frombuffer(answer.content[split : split + 16], "<f4").reshape(2, 2), expected[0])
    texts = b"".join(struct.pack("<I", len(label)) + label.encode() for label in expected[1])
    assert answer.content[split + 16 :] == texts


def test_floats_stand_for_integers_and_nan_for_missing_in_named_columns(serve, bundles):
    def tensor(name, kind, raw):
        return {"name": name, "datatype": kind, "shape": [1, 1], "parameters": {"binary_data_size": len(raw)}}, raw

    parts = [
        tensor("distance", "FP32", struct.pack("<f", 1400)),
        tensor("hour", "FP32", struct.pack("<f", 17)),
        tensor("carrier", "BYTES", struct.pack("<I", 2) + b"UA"),
        tensor("wind", "FP64", struct.pack("<d", float("nan"))),
    ]
    text = json.dumps({"inputs": [item for item, _ in parts], "parameters": {"binary_data_output": True}}).encode()
    body = text + b"".join(raw for _, raw in parts)

    async def use(client, _):
        headers = {"inference-header-content-length": str(len(text))}
        binary = await client.post("/v2/models/delays/infer", content=body, headers=headers)
        row = {"distance": 1400.0, "hour": 17, "carrier": "UA"}
        return binary, (await client.post("/v1/predict", json={"features": row})).json()["prediction"]

    answer, single = serve(bundles["binary"], use)
    assert answer.status_code == 200, answer.content
    split = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(answer.content[-8:], "<f4").tolist() == list(single["probabilities"].values())
    assert json.loads(answer.content[:split])["outputs"][0]["name"] == "label"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (columns(inputs=[]), "body"),
        (columns(outputs=[{"name": "other"}]), "outputs"),
        ({"inputs": columns()["inputs"] + columns()["inputs"][:1]}, "inputs"),
        ({"inputs": [*columns()["inputs"][:4], columns(ROWS[:1])["inputs"][4]]}, "inputs"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}, "x"),
        ({"inputs": [{"name": "hour", "datatype": "FP8", "shape": [1], "data": [1]}]}, "hour"),
        ({"inputs": [{"name": "hour", "datatype": "INT64", "shape": [2], "data": [1]}]}, "hour"),
        ({"inputs": [{"name": "hour", "datatype": "INT64", "shape": [], "data": [1]}]}, "hour"),
        ({"inputs": [{"name": "hour", "datatype": "INT64", "shape": [-1, -1], "data": [1]}]}, "hour"),
        ({"inputs": [{"name": "hour", "datatype": "INT64", "shape": [1]}]}, "hour"),
        ({"inputs": [{"name": "hour", "datatype": "INT64", "shape": [1], "data": ["1"]}]}, "hour.data.0"),
        ({"inputs": [{"name": "hour", "datatype": "FP32", "shape": [1], "data": [True]}]}, "hour.data.0"),
        ({"inputs": [{"name": "carrier", "datatype": "BYTES", "shape": [1], "data": [1]}]}, "carrier.data.0"),
        ({"inputs": [{"name": "hour", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}]}, "hour"),
        (matrix([1, 2], [1, 2]), "features"),
        (matrix([], [0, 5]), "features"),
        (matrix([1, 1, 1, 1, 1] * 4, [4, 5]), "features"),
        (matrix(["1", "1", "1", "1", "1"], [1, 5], datatype="BYTES"), "features"),
        (matrix([7000, 1, 1, 1, 1], [1, 5]), "features.distance"),
        (matrix([1, 1.5, 1, 1, 1], [1, 5]), "features.hour"),
        (matrix([1, 1, 4, 1, 1], [1, 5]), "features.carrier"),
        (matrix([1, 1, 1, 1, 1e39], [1, 5], datatype="FP64"), "features.wind"),
        (b'{"inputs": [{"name": "hour", "datatype": "FP32", "shape": [1], "data": [NaN]}]}', "hour.data.0"),
        (columns([ROWS[0] | {"hour": 99}]), "0.hour"),
        (columns(ROWS[:1] * 4), "body"),
        ({"inputs": 1}, "inputs"),
    ],
)
def test_a_refusal_names_the_tensor(serve, bundles, body, field):
    answer = serve(bundles["binary"], infer(body), max_batch_rows=3)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["error"] == problem["detail"]
    assert field in [item["field"] for item in problem["errors"]]


@pytest.mark.parametrize(
    ("raw", "size", "header", "kind"),
    [
        (b"\0" * 7, 7, None, "FP32"),
        (b"\0" * 4, 8, None, "FP32"),
        (b"\0" * 8, 4, None, "FP32"),
        (b"\0" * 4, "4", None, "FP32"),
        (b"\0" * 4, -4, None, "FP32"),
        (b"\xff\0\0\0", 4, None, "BYTES"),
        (b"\0\0", 2, None, "BYTES"),
        (b"\1\0\0\0\xff", 5, None, "BYTES"),
    ],
)
def test_binary_data_that_does_not_fit_is_refused(serve, bundles, raw, size, header, kind):
    tensor = {"name": "distance", "datatype": kind, "shape": [1], "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": header or str(len(text))}
    assert serve(bundles["binary"], infer(text + raw, headers)).status_code == 422


@pytest.mark.parametrize("header", ["x", "99999", "9" * 5000, "-1", ""])
def test_a_length_of_the_json_part_that_is_none_is_400(serve, bundles, header):
    answer = serve(bundles["binary"], infer(b'{"inputs": []}', {"inference-header-content-length": header}))
    assert answer.status_code == 400
    assert "inference-header-content-length" in answer.json()["detail"]


def test_a_long_path_is_cut_where_it_is_repeated(serve, bundles):
    async def use(client, _):
        return [
            await client.get(f"/v2/models/{'m' * 60_000}"),
            await client.get(f"/v2/models/delays/versions/{'v' * 60_000}"),
        ]

    for answer in serve(bundles["binary"], use):
        assert answer.status_code == 404
        assert len(answer.content) < 1000


def test_deep_nesting_is_refused_not_followed(serve, bundles):
    deep = b"[" * 5000 + b"1" + b"]" * 5000
    body = b'{"inputs": [{"name": "hour", "datatype": "INT64", "shape": [1], "data": ' + deep + b"}]}"
    assert serve(bundles["binary"], infer(body)).status_code == 400


def test_metadata_names_the_fields_and_outputs(serve, bundles):
    async def use(client, _):
        return [
            (await client.get(path)).json()
            for path in (
                "/v2/models/delays-regression",
                "/v2/models/delays-regression/versions/v1.0.0",
                "/v2/models/delays-regression/ready",
                "/v2/models/delays-regression/versions/v1.0.0/ready",
            )
        ]

    first, second, ready, ready_version = serve(bundles["regression"], use)
    assert first == second
    assert [item["name"] for item in first["inputs"]] == list(KINDS)
    assert first["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [-1, 1]}]
    assert ready == ready_version == {"name": "delays-regression", "ready": True}


@pytest.mark.parametrize("datatype", ["UINT32", "INT32", "FP32"])
def test_numbers_in_base64_are_refused_in_json_and_in_binary(serve, bundles, datatype):
    raw = b"MTIz" * 5  # base64 of "123", and the bytes of a number
    coded = {"content_type": "base64"}
    head = matrix(None, [1, 5], datatype=datatype, parameters=coded | {"binary_data_size": len(raw)})
    text = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    for answer in (
        serve(bundles["binary"], infer(text + raw, headers)),
        serve(bundles["binary"], infer(matrix([1, 2, 3, 4, 5], [1, 5], datatype=datatype, parameters=coded))),
    ):
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["expected"] == "BYTES"


def test_a_matrix_of_numbers_is_logged_bit_by_bit_with_null_for_what_is_missing(serve, keys, tmp_path):
    fields = [
        SchemaField(name=f"n{i}", type="number", description="A number", example=0.5, required=False) for i in range(5)
    ]
    schema = ModelSchema(model="delays", fields=tuple(fields), output=schema_of("binary").output)
    sent = np.array([[0.1, 17, 2, 1 / 3, 12.5], [5.5, 3e38, np.nan, 1e-40, -0.0]], "<f4")
    logged: list[Event] = []

    async def use(client, server):
        server.log = PredictionLog(server.link, server.engine.contract.columns, 100, 100, server.metrics, "stable")
        server.log.put = logged.append
        head = matrix(None, [2, 5], parameters={"binary_data_size": sent.nbytes})
        text = json.dumps(head).encode()
        headers = {"inference-header-content-length": str(len(text))}
        answer = await client.post("/v2/models/delays/infer", content=text + sent.tobytes(), headers=headers)
        assert answer.status_code == 200, answer.text
        return json.loads(server.log.encode(logged[0]))

    event = serve(make_bundle(tmp_path / "numbers", keys, schema=schema), use)
    assert event["columns"] == [field.name for field in fields]
    assert event["data"][1][2] is None
    read = np.array([[np.nan if value is None else value for value in row] for row in event["data"]], np.float32)
    assert read.tobytes() == sent.tobytes()
