"""The routes in this process: what is answered, and every refusal with its field."""

import gzip
import json
import math
import re
import time
import zlib
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest

from plumbline.core.ids import PREDICTION_PATTERN, prediction_id

ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA"}
TENSORS = [
    {"name": name, "shape": [1], "datatype": kind, "data": [ROW[name]]}
    for name, kind in (("distance", "FP64"), ("hour", "INT64"), ("carrier", "BYTES"))
]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/predict": {"features": ROW},
    "/v1/predict/batch": {"rows": [ROW]},
    "/v2/models/delays/infer": {"inputs": TENSORS},
}


def post(path, content, **headers):
    async def use(client, _):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await client.post(path, content=body, headers={"content-type": "application/json"} | headers)

    return use


def series(server):
    return generate_latest(server.metrics.registry).decode()


def get(path):
    async def use(client, _):
        return await client.get(path)

    return use


def test_a_binary_answer_follows_the_releases_threshold(serve, bundles):
    bundle = bundles["binary"]
    answer = serve(bundle, post("/v1/predict", {"features": ROW})).json()
    assert answer["model"] == "delays"
    assert answer["version"] == "v1.0.0"
    assert re.fullmatch(PREDICTION_PATTERN, answer["prediction_id"])
    probabilities = answer["prediction"]["probabilities"]
    assert math.isclose(sum(probabilities.values()), 1, abs_tol=1e-6)
    late = probabilities["late"]
    for threshold, label in ((late - 0.01, "late"), (late + 0.01, "on-time")):
        shifted = serve(bundle.with_threshold(threshold), post("/v1/predict", {"features": ROW})).json()["prediction"]
        assert shifted["label"] == label
        assert shifted["probability"] == probabilities[label]


def test_a_multiclass_answer_is_the_most_probable_label(serve, bundles):
    prediction = serve(bundles["multiclass"], post("/v1/predict", {"features": ROW})).json()["prediction"]
    assert list(prediction["probabilities"]) == ["none", "some", "much"]
    assert prediction["probability"] == max(prediction["probabilities"].values())
    assert prediction["probabilities"][prediction["label"]] == prediction["probability"]


def test_a_regression_answers_a_value(serve, bundles):
    prediction = serve(bundles["regression"], post("/v1/predict", {"features": ROW})).json()["prediction"]
    assert prediction.keys() == {"value"}
    assert math.isfinite(prediction["value"])


# Rows of "mixing" touch each other: together they would have other answers.
@pytest.mark.parametrize("kind", ["binary", "mixing"])
def test_rows_and_matrix_in_any_column_order_answer_as_single_rows_do(serve, bundles, kind):
    rows = [ROW, {"distance": 10, "hour": 3, "carrier": "??", "origin": "EWR", "wind": 3.25}, ROW | {"wind": None}]
    if kind == "mixing":  # it has no answer for what is missing
        rows = [ROW | {"origin": "EWR", "wind": wind} for wind in (1.5, 3.25, 9.0)]
    names = ["wind", "carrier", "hour", "distance", "origin"]
    matrix = {"data": [[row.get(name) for name in names] for row in rows], "columns": names}
    canonical: dict[str, Any] = {"columns": sorted(names, key=["distance", "hour", "carrier", "origin", "wind"].index)}
    canonical["data"] = [[row.get(name) for name in canonical["columns"]] for row in rows]

    async def use(client, _):
        single = [(await client.post("/v1/predict", json={"features": row})).json()["prediction"] for row in rows]
        batches = [
            (await client.post("/v1/predict/batch", json=body)).json()["predictions"]
            for body in ({"rows": rows}, matrix, canonical)
        ]
        return single, batches

    single, batches = serve(bundles[kind], use)
    assert all(batch == single for batch in batches)


@pytest.mark.parametrize(
    ("path", "content", "status", "field", "expected"),
    [
        (
            "/v1/predict",
            b'{"features": {"distance": NaN}}',
            422,
            "features.distance",
            "finite",
        ),
        (
            "/v1/predict",
            b'{"features": {"distance": 1e999}}',
            422,
            "features.distance",
            "finite",
        ),
        (
            "/v1/predict",
            b'{"features": {"distance": -Infinity}}',
            422,
            "features.distance",
            "finite",
        ),
        ("/v1/predict", {"features": ROW | {"distance": "9"}}, 422, "features.distance", "a number"),
        ("/v1/predict", {"features": ROW | {"distance": True}}, 422, "features.distance", "a number"),
        ("/v1/predict", {"features": ROW | {"distance": 6001}}, 422, "features.distance", "at most 6000"),
        ("/v1/predict", {"features": ROW | {"wind": 1e39}}, 422, "features.wind", "at most 3.4"),
        ("/v1/predict", {"features": ROW | {"hour": 1.5}}, 422, "features.hour", "an integer"),
        ("/v1/predict", {"features": ROW | {"hour": -1}}, 422, "features.hour", "at least 0"),
        ("/v1/predict", {"features": ROW | {"carrier": 5}}, 422, "features.carrier", "a string"),
        ("/v1/predict", {"features": ROW | {"carrier": ""}}, 422, "features.carrier", "at least 1"),
        ("/v1/predict", {"features": ROW | {"carrier": "x" * 300}}, 422, "features.carrier", "at most 256"),
        ("/v1/predict", {"features": ROW | {"carrier": None}}, 422, "features.carrier", "a string"),
        ("/v1/predict", {"features": ROW | {"tail": 1}}, 422, "features.tail", "only the fields of the model"),
        ("/v1/predict", {"features": {"hour": 1, "carrier": "UA"}}, 422, "features.distance", "a value"),
        ("/v1/predict", {"features": ROW, "more": 1}, 422, "more", "only the fields"),
        ("/v1/predict", {"features": [1]}, 422, "features", "an object"),
        ("/v1/predict", b"[]", 422, "body", "an object"),
        ("/v1/predict", b"{", 400, "body", "a JSON document"),
        ("/v1/predict", b"\xff\xfe", 400, "body", "a JSON document"),
        ("/v1/predict", b'{"features": "\\ud800"}', 400, "body", "a JSON document"),
        ("/v1/predict", b"", 400, "body", "a JSON document"),
        ("/v1/predict/batch", {"rows": []}, 422, "rows", "at least 1"),
        ("/v1/predict/batch", {"rows": [ROW] * 4}, 422, "rows", "at most 3"),
        ("/v1/predict/batch", {"rows": [ROW, ROW | {"hour": 99}]}, 422, "rows.1.hour", "at most 23"),
        ("/v1/predict/batch", {"rows": 1}, 422, "rows", "an array"),
        ("/v1/predict/batch", b"7", 422, "body", "an object"),
        ("/v1/predict/batch", b"{", 400, "body", "a JSON document"),
        ("/v1/predict/batch", {}, 422, "rows", "a value"),
        ("/v1/predict/batch", {"columns": ["distance"], "data": [[1]]}, 422, "columns.carrier", "the model's fields"),
        ("/v1/predict/batch", {"columns": [*ROW, "tail"], "data": [[1]]}, 422, "columns.tail", "the model's fields"),
        ("/v1/predict/batch", {"columns": [*ROW, "hour"], "data": [[1]]}, 422, "columns", "the model's fields"),
        ("/v1/predict/batch", {"columns": "hour", "data": [[1]]}, 422, "columns", "the model's fields"),
        ("/v1/predict/batch", {"columns": list(ROW), "data": []}, 422, "data", "at least 1"),
        ("/v1/predict/batch", {"columns": list(ROW), "data": [[1, 2, "UA"]] * 4}, 422, "data", "at most 3"),
        ("/v1/predict/batch", {"columns": list(ROW), "data": [[1, 2]]}, 422, "data.0.2", "a value"),
        ("/v1/predict/batch", {"columns": list(ROW), "data": [[1, 2, "UA", 4]]}, 422, "data.0", "at most 3"),
        ("/v1/predict/batch", {"columns": list(ROW), "data": [[1, 99, "UA"]]}, 422, "data.0.1", "at most 23"),
        ("/v1/predict/batch", {"columns": list(ROW)}, 422, "data", "a value"),
        ("/v1/feedback", {"prediction_id": "x", "truth": "late"}, 422, "prediction_id", "-7[0-9a-f]{3}-"),
        ("/v1/feedback", {"prediction_id": "018bcfe5-6800-7000-8000-000000000000", "truth": "?"}, 422, "truth", "late"),
        ("/v1/feedback", {"prediction_id": "018bcfe5-6800-7000-8000-000000000000"}, 422, "truth", "a value"),
        (
            "/v1/feedback",
            {"prediction_id": "018bcfe5-6800-7000-8000-000000000000", "truth": "late", "value": 1e200},
            422,
            "value",
            "1000000000000000",
        ),
        (
            "/v1/feedback",
            {"prediction_id": "018bcfe5-6800-7000-8000-000000000000", "truth": "late", "value": -1e16},
            422,
            "value",
            "1000000000000000",
        ),
    ],
)
def test_a_refusal_names_the_field_and_what_was_expected(serve, bundles, path, content, status, field, expected):
    response = serve(bundles["binary"], post(path, content), max_batch_rows=3)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    found = {item["field"]: item["expected"] for item in problem["errors"]}
    assert field in found
    assert expected in found[field]


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "application/json-patch+json"])
def test_another_content_type_is_415(serve, bundles, kind):
    response = serve(bundles["binary"], post("/v1/predict", {"features": ROW}, **{"content-type": kind}))
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/x-www-form-urlencoded"])
def test_a_charset_is_fine_and_what_curl_says_by_itself(serve, bundles, path, kind):
    answer = serve(bundles["binary"], post(path, BODIES[path], **{"content-type": kind}))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("GZIP", None),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    ],
)
def test_a_compressed_body_is_unpacked(serve, bundles, path, encoding, pack):
    packed = (pack or gzip.compress)(json.dumps(BODIES[path]).encode())
    answer = serve(bundles["binary"], post(path, packed, **{"content-encoding": encoding}))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        # A time in it would give the test another name at each start.
        ("gzip", gzip.compress(b" " * 10_000_000, mtime=0), 413),
        ("deflate", zlib.compress(b" " * 2049), 413),
        ("gzip", b"x", 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1], 400),
        ("gzip", gzip.compress(b" " * 3_000_000, mtime=0) * 2, 413),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"x", 400),
        ("br", b"x", 415),
        ("gzip, gzip", b"x", 415),
    ],
)
def test_what_can_not_be_unpacked_or_is_too_large_then_is_refused(serve, bundles, encoding, body, status):
    sent = post("/v1/predict", body, **{"content-encoding": encoding})
    answer = serve(bundles["binary"], sent, max_body_bytes=2048 if status == 413 and len(body) < 2048 else 20_000)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"]


def test_what_is_unpacked_counts_among_the_bytes_that_the_server_holds(serve, bundles):
    packed = gzip.compress(b'{"rows":[]}'.ljust(19_990))
    send = post("/v1/predict/batch", packed, **{"content-encoding": "gzip"})
    small, large = (serve(bundles["binary"], send, max_body_bytes=20_000, max_bytes_in_flight=most).status_code for
                    most in (20_000, 40_000))  # fmt: skip
    assert (small, large) == (503, 422)


def test_a_stream_of_many_members_costs_no_more_than_its_size(serve, bundles):
    async def use(client, _):
        start = time.process_time()
        send = post("/v1/predict/batch", gzip.compress(b"") * 100_000, **{"content-encoding": "gzip"})
        return await send(client, _), time.process_time() - start

    answer, seconds = serve(bundles["binary"], use)
    assert answer.status_code == 400, answer.text
    assert seconds < 1, "each member copied the rest of the body: 30 s of it"


def test_a_body_beyond_the_limit_is_413_declared_or_not(serve, bundles):
    async def chunks():
        for _ in range(4):
            yield b" " * 1000

    async def use(client, _):
        declared = await client.post("/v1/predict", content=b" " * 3000, headers={"content-type": "application/json"})
        chunked = await client.post("/v1/predict", content=chunks(), headers={"content-type": "application/json"})
        return declared, chunked

    for response in serve(bundles["binary"], use, max_body_bytes=2048):
        assert response.status_code == 413
        assert "2048" in response.json()["detail"]


def test_unknown_paths_and_methods_are_problems(serve, bundles):
    async def use(client, _):
        return [
            await client.get("/nowhere"),
            await client.get("/v1/predict"),
            await client.delete("/v1/models"),
            await client.get("/v2/models/other"),
            await client.get("/v2/models/delays/versions/v9.9.9"),
        ]

    answers = serve(bundles["binary"], use)
    assert [answer.status_code for answer in answers] == [404, 405, 405, 404, 404]
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)
    assert answers[1].headers["allow"] == "POST"


def test_unknown_categories_are_answered_as_training_did_and_counted(serve, bundles):
    async def use(client, server):
        unknown = await client.post("/v1/predict", json={"features": ROW | {"origin": "nowhere"}})
        missing = await client.post("/v1/predict", json={"features": ROW})
        return unknown.json()["prediction"], missing.json()["prediction"], series(server)

    unknown, missing, metrics = serve(bundles["binary"], use)
    assert unknown == missing
    rest = 'model="delays",role="stable",version="v1.0.0"'
    assert f'serving_unknown_categories_total{{field="origin",{rest}}} 1.0' in metrics
    assert f'serving_unknown_categories_total{{field="carrier",{rest}}} 0.0' in metrics


def test_request_ids_are_kept_if_sane_and_made_otherwise(serve, bundles):
    async def use(client, _):
        return [
            (await client.get("/health", headers={"x-request-id": given})).headers["x-request-id"]
            for given in ("abc-1", "bad id", "x" * 200, 'a"b')
        ]

    kept, *made = serve(bundles["binary"], use)
    assert kept == "abc-1"
    assert all(len(one) == 24 for one in made)
    assert len(set(made)) == 3


def test_a_prediction_id_is_new_even_where_the_answer_is_cached(serve, bundles):
    async def use(client, server):
        answers = [(await client.post("/v1/predict", json={"features": ROW})).json() for _ in range(3)]
        return answers, server.engine.cache.decision, series(server)

    answers, decision, metrics = serve(bundles["slow"], use)
    assert decision.local
    assert len({answer["prediction_id"] for answer in answers}) == 3
    assert len({answer["prediction"]["value"] for answer in answers}) == 1
    assert 'layer="local",model="delays-slow",result="hit",role="stable",version="v1.0.0"} 2.0' in metrics


def test_models_and_health_say_what_is_served(serve, bundles):
    async def use(client, _):
        return {
            path: await client.get(path)
            for path in ("/v1/models", "/health", "/health/live", "/health/ready", "/docs", "/v2/health/ready", "/v2")
        }

    answers = serve(bundles["binary"], use)
    assert {answer.status_code for answer in answers.values()} == {200}
    (model,) = answers["/v1/models"].json()["models"]
    assert model["digest"] == bundles["binary"].digest
    assert model["threshold"] == 0.4
    assert model["schema"] == bundles["binary"].schema.model_dump(mode="json")
    assert model["runtime"]["batching"] == "inline"


def test_metrics_carry_model_version_and_role(serve, bundles):
    async def use(client, server):
        await client.post("/v1/predict", json={"features": ROW})
        await client.post("/v1/predict", json={"features": {}})
        return series(server)

    text = serve(bundles["binary"], use, role="canary")
    labels = 'model="delays",role="canary"'
    assert f'serving_requests_total{{{labels},route="/v1/predict",status="200",version="v1.0.0"}} 1.0' in text
    assert f'serving_requests_total{{{labels},route="/v1/predict",status="422",version="v1.0.0"}} 1.0' in text
    assert f'serving_prediction_score_count{{{labels},version="v1.0.0"}} 1.0' in text
    assert f'serving_ready{{{labels},version="v1.0.0"}} 1.0' in text
    assert 'serving_start_seconds{step="total"}' in text
    assert 'le="0.05"' in text


def test_feedback_without_a_store_is_503(serve, bundles):
    body = {"prediction_id": "018bcfe5-6800-7000-8000-000000000000:4", "truth": "late", "value": 1.5}
    response = serve(bundles["binary"], post("/v1/feedback", body))
    assert response.status_code == 503
    assert "SERVING_REDIS_URL" in response.json()["detail"]


def test_a_failure_of_the_server_itself_is_a_problem_without_its_inside(serve, bundles, monkeypatch):
    async def use(client, server):
        monkeypatch.setattr(server.engine.answers, "render", lambda _: 1 / 0)
        return await client.post("/v1/predict", json={"features": ROW})

    response = serve(bundles["binary"], use)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "ZeroDivision" not in response.text


def test_an_infinite_answer_is_refused_not_sent(serve, bundles):
    async def use(client, server):
        server.engine.predict_one = lambda _: _infinite()
        return await client.post("/v1/predict", json={"features": ROW})

    async def _infinite():
        return [math.inf, 0.0]

    assert serve(bundles["binary"], use).status_code == 422


def test_draining_is_unready_and_still_answers(serve, bundles):
    async def use(client: httpx.AsyncClient, server):
        server.drain()
        return (
            await client.get("/health/ready"),
            await client.get("/health/live"),
            await client.post("/v1/predict", json={"features": ROW}),
        )

    ready, live, predicted = serve(bundles["binary"], use)
    assert (ready.status_code, live.status_code, predicted.status_code) == (503, 200, 200)
    assert "draining" in ready.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/models", "/v2/models/delays", "/health/ready"])
def test_a_failure_of_any_route_is_a_problem_and_one_log_line(serve, bundles, monkeypatch, caplog, path):
    async def use(client, server):
        monkeypatch.setattr(server, "serving", lambda: 1 / 0)
        return await client.get(path)

    response = serve(bundles["binary"], use)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    (line,) = [record for record in caplog.records if record.exc_info]
    assert line.request_id == response.headers["x-request-id"]


def test_what_fails_after_the_answer_is_logged_once(serve, bundles, monkeypatch, caplog):
    async def use(client, server):
        monkeypatch.setattr(server, "record", lambda *_: 1 / 0)
        return await client.post("/v1/predict", json={"features": ROW})

    assert serve(bundles["binary"], use).status_code == 200
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_the_documents_page_runs_nothing_and_asks_nobody_else(serve, bundles):
    response = serve(bundles["binary"], get("/docs"))
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "POST /v1/predict</code>" in response.text
    assert "<script" not in response.text
    assert "//" not in response.text.replace("https://json-schema.org", "")
    assert [part for part in response.text.split('"') if part.startswith("http")] == []


def test_metrics_are_not_on_the_callers_port(serve, bundles):
    assert serve(bundles["binary"], get("/metrics")).status_code == 404


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/batch", "/v2/models/delays/infer"])
def test_load_beyond_the_server_is_excused_and_a_failure_is_not(serve, bundles, monkeypatch, path):
    async def use(client, server):
        def counted(excuse):
            labels = {**server.metrics.labels, "route": _route(path), "excuse": excuse}
            return server.metrics.registry.get_sample_value("serving_requests_excused_total", labels)

        async def ask():
            return (await client.post(path, content=b"{}", headers={"content-type": "application/json"})).status_code

        found = [await ask(), counted("load")]
        monkeypatch.setattr(server.bodies, "size", server.bodies.most)
        found += [await ask(), counted("load")]
        monkeypatch.setattr(server.bodies, "size", 0)
        monkeypatch.setattr(server, "engine", None)
        return [*found, await ask(), counted("load"), counted("store")]

    assert serve(bundles["binary"], use) == [422, 0, 503, 1, 503, 1, 0]


def test_a_store_that_is_away_is_excused(serve, bundles):
    async def use(client, server):
        body = {"prediction_id": prediction_id(), "truth": "late"}
        answer = await client.post("/v1/feedback", json=body)
        labels = {**server.metrics.labels, "route": "/v1/feedback", "excuse": "store"}
        return answer.status_code, server.metrics.registry.get_sample_value("serving_requests_excused_total", labels)

    assert serve(bundles["binary"], use, redis_url="redis://127.0.0.1:1/0") == (503, 1)
    assert serve(bundles["binary"], use) == (503, 0), "that none is set is the configuration's fault"


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/batch", "/v2/models/delays/infer"])
def test_a_prediction_is_counted_by_its_outcome_and_nothing_else_is(serve, bundles, monkeypatch, path):
    async def use(client, server):
        def counted():
            return {
                outcome: server.metrics.registry.get_sample_value(
                    "serving_predictions_total", {**server.metrics.labels, "route": _route(path), "outcome": outcome}
                )
                for outcome in ("answered", "refused", "failed", "excused")
            }

        def timed():
            labels = {**server.metrics.labels, "route": _route(path)}
            return server.metrics.registry.get_sample_value("serving_request_seconds_count", labels)

        async def ask(content, to=path):
            await client.post(to, json=content)

        await ask(BODIES[path])
        assert counted() == {"answered": 1, "refused": 0, "failed": 0, "excused": 0}, "a series begins with nothing"
        await ask({"features": {"carrier": 7}})
        monkeypatch.setattr(server.bodies, "size", server.bodies.most)
        await ask(BODIES[path])
        monkeypatch.setattr(server.bodies, "size", 0)
        await ask({"prediction_id": prediction_id(), "truth": "late"}, "/v1/feedback")
        await ask(BODIES[path], "/v2/models/another/infer")
        assert counted() == {"answered": 1, "refused": 1, "failed": 0, "excused": 1}
        for name in ("predict_one", "predict_matrix"):
            monkeypatch.setattr(type(server.engine), name, None)
        await ask(BODIES[path])
        return counted(), timed()

    assert serve(bundles["binary"], use) == ({"answered": 1, "refused": 1, "failed": 1, "excused": 1}, 3)


def _route(path):
    return path.replace("delays", "{model}")


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/batch", "/v1/feedback", "/v2/models/delays/infer"])
def test_a_byte_order_mark_is_named(serve, bundles, path):
    answer = serve(bundles["binary"], post(path, b"\xef\xbb\xbf{}"))
    assert (answer.status_code, answer.json()["detail"]) == (400, "the body is not JSON: begins with a byte order mark")
