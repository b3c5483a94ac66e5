"""A view is filled in wholly or not at all, and the model says what each route answers where it is missing."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import httpx
import pytest
import redis

from bundles import FIELDS, OUTPUTS, make_bundle
from plumbline.core.schema import ModelSchema, SchemaField, Value, View
from plumbline.features.online import Entry, write
from plumbline.serving.http.app import create_app
from plumbline.serving.logs import LogBuffer
from plumbline.serving.metrics import Metrics
from plumbline.serving.redis_link import State
from plumbline.serving.server import Server
from plumbline.serving.settings import Settings

ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA"}
INFER = "/v2/models/delays/infer"
GIVEN: dict[str, Value] = {"origin": "JFK", "wind": 1.0}


def schema(**more):
    view = View(name="here", entity=("hour",), fields=("origin", "wind"), max_age_seconds=3600, **more)
    return ModelSchema(model="delays", fields=FIELDS, output=OUTPUTS["binary"], views=(view,))


@pytest.fixture
def made(tmp_path, keys, redis_url):
    """Serve a schema in this process, over a store that knows hour 17; the client, the server and what was logged."""

    @asynccontextmanager
    async def open_(of, moment=None, *, store=True):
        bundle = make_bundle(tmp_path / "bundle", keys, schema=of)
        with redis.Redis.from_url(redis_url) as client:
            moment = moment or time.time()
            write(client, of, of.views[0], [Entry({"hour": 17}, GIVEN, moment - 10)], now=moment)
        settings = Settings(
            release=bundle.release(tmp_path / "release.yaml"),
            public_key=bundle.keys.public,
            cache_dir=tmp_path / "cache",
            access_log=False,
            **({"redis_url": redis_url} if store else {}),
        )
        server = Server(settings, Metrics(), LogBuffer())
        if server.link is not None:
            server.link._timeout = 5.0  # a busy machine is not what is tried
        app = create_app(server, None)
        server.start()
        while server.engine is None or (server.link is not None and server.link.state is not State.CLOSED):
            await asyncio.sleep(0.01)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, server
        await server.stop()

    return open_


def logged(redis_url):
    with redis.Redis.from_url(redis_url) as store:
        events = [json.loads(fields[b"event"]) for _, fields in store.xrange("predictions")]
    return list({event["id"]: event for event in events}.values())


async def one(client, **row):
    answer = await client.post("/v1/predict", json={"features": ROW | row})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_the_caller_gives_of_a_view_is_all_of_it(made, redis_url):
    async def main():
        async with made(schema()) as (client, _):
            empty, full = await one(client, origin=None, wind=None), await one(client, **GIVEN)
            assert (await one(client))["prediction"] == full["prediction"] != empty["prediction"]
            # An explicit null stays one, and nothing is put beside what the caller gave.
            assert await one(client, wind=None) | {"prediction_id": ""} == empty | {"prediction_id": ""}
            for given in ({"wind": None}, {"wind": 2.0}, {"origin": None}):
                assert "missing_views" not in await one(client, **given)
            rows = [ROW, ROW | {"wind": None}, ROW | {"wind": 2.0}]
            many = (await client.post("/v1/predict/batch", json={"rows": rows})).json()
            assert many["predictions"][:2] == [full["prediction"], empty["prediction"]]
            # A matrix without the view's columns leaves it out; one with the column gives it, null or not.
            short = {"columns": list(ROW), "data": [list(ROW.values())]}
            assert (await client.post("/v1/predict/batch", json=short)).json()["predictions"] == [full["prediction"]]
            nulls = {"columns": [*ROW, "wind"], "data": [[*ROW.values(), None]]}
            assert (await client.post("/v1/predict/batch", json=nulls)).json()["predictions"] == [empty["prediction"]]

    asyncio.run(main())
    rows = {json.dumps(row) for event in logged(redis_url) for row in event["data"]}
    assert rows == {json.dumps([1400.0, 17, "UA", *beside]) for beside in
                    (["JFK", 1.0], [None, None], [None, 2.0])}  # fmt: skip


async def on_each_route(client, hours):
    """The answers of /v1/predict for the first row, of the batch and of /v2 for all."""
    rows = [ROW | {"hour": hour} for hour in hours]
    kinds = {"distance": "FP64", "hour": "INT64", "carrier": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name, kind in kinds.items()
    ]
    return [
        await client.post("/v1/predict", json={"features": rows[0]}),
        await client.post("/v1/predict/batch", json={"rows": rows}),
        await client.post(INFER, json={"inputs": inputs}),
    ]


@pytest.mark.parametrize("policy", ["answer", "answer-and-say"])
def test_a_missing_view_is_said_in_the_answer_where_the_model_says_so_and_in_the_log_always(made, redis_url, policy):
    async def main():
        async with made(schema(when_missing=policy)) as (client, _):
            answers = [answer.json() for answer in await on_each_route(client, [3, 17, 4])]
            paper = (await client.get("/openapi.json")).json()["components"]["schemas"]
            return answers, ["missing_views" in paper[name]["properties"] for name in ("Predicted", "PredictedBatch")]

    (single, batch, infer), described = asyncio.run(main())
    said = (single.get("missing_views"), batch.get("missing_views"), infer["parameters"].get("missing_views"))
    assert said == ((None,) * 3 if policy == "answer" else (["here"], {"here": [0, 2]}, '{"here":[0,2]}'))
    assert described == [policy == "answer-and-say"] * 2
    assert [event["missing_views"] for event in logged(redis_url)] == [{"here": [0]}, *[{"here": [0, 2]}] * 2]


@pytest.mark.parametrize("store", [True, False])
def test_a_row_without_a_view_is_refused_alike_on_each_route(made, redis_url, store):
    async def main():
        async with made(schema(when_missing="refuse"), store=store) as (client, server):
            assert (await client.post("/v1/predict", json={"features": ROW | GIVEN})).status_code == 200
            refused = await on_each_route(client, [3, 17])
            assert "424" in (await client.get("/openapi.json")).json()["paths"]["/v1/predict"]["post"]["responses"]
            return refused, server.metrics.registry.get_sample_value(
                "serving_predictions_total",
                {"model": "delays", "version": "v1.0.0", "role": "stable", "route": "/v1/predict",
                 "outcome": "refused"},
            )  # fmt: skip

    answers, refused = asyncio.run(main())
    for answer in answers:
        assert answer.status_code == 424, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        first = answer.json()["errors"][0]
        assert first["field"] == "here"
        assert first["message"] == "has no fresh values for row 0: hour 3"
        assert first["expected"].startswith("the caller's own origin, wind")
    assert refused == 1.0
    assert len(logged(redis_url)) == (1 if store else 0)


def test_the_moment_of_the_look_up_is_the_rows_own(made):
    """Of a row that is dated, what was known then: neither what came later nor what was too old by then."""
    asked = SchemaField(name="asked", type="timestamp", description="When", example="2024-05-01T08:30:00Z", moment=True)
    dated = ModelSchema(model="delays", fields=(*FIELDS, asked), output=OUTPUTS["binary"], views=schema().views)
    known = 1_714_552_200.0  # 2024-05-01T08:30:00Z

    async def main():
        # Long ago for the clock: only the row's own moment can make these values fresh.
        async with made(dated, known + 10) as (client, _):
            return [
                "missing_views" in await one(client, asked=moment)
                for moment in (
                    "2024-05-01T08:29:59Z", "2024-05-01T08:30:00Z", "2024-05-01T11:30:00+02:00", "2024-05-01T09:30:01Z"
                )
            ]  # fmt: skip

    assert asyncio.run(main()) == [True, False, False, True]


def test_the_age_of_a_view_is_told_without_a_request(made):
    labels = {"model": "delays", "version": "v1.0.0", "role": "stable", "view": "here"}

    async def main():
        moment = time.time()
        async with made(schema(), moment) as (_, server):
            sample = server.metrics.registry.get_sample_value
            while (newest := sample("serving_view_newest_timestamp_seconds", labels)) is None:
                await asyncio.sleep(0.01)
            return newest - moment, sample("serving_view_max_age_seconds", labels)

    assert asyncio.run(main()) == (pytest.approx(-10, abs=0.01), 3600)
