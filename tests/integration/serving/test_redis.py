"""F5: Redis lost, slow or back again. No prediction fails, and once the breaker is open nothing is added."""

import asyncio
import hashlib
import json
import os
import socket
import statistics
import threading
import time
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import numpy as np
import pytest
import redis
import services

from bundles import logged_rows
from plumbline.core.schema import Value
from plumbline.features.online import Entry, entity_key, newest_key, read, write
from plumbline.serving.events import Event, PredictionLog, append_feedback
from plumbline.serving.http.app import create_app
from plumbline.serving.http.keys import ApiKey
from plumbline.serving.http.limits import Limiter
from plumbline.serving.inference.cache import ResponseCache
from plumbline.serving.logs import LogBuffer
from plumbline.serving.metrics import Metrics
from plumbline.serving.redis_link import Bypass, RedisLink, State
from plumbline.serving.server import Server
from plumbline.serving.settings import Settings

ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA", "origin": "JFK"}
ADDED = 0.05
"""Seconds that a slow Redis may add to an answer."""


class Proxy:
    """Passes bytes to Redis; can be made slow."""

    def __init__(self, url):
        self.target = int(url.rsplit(":", 1)[1].split("/")[0])
        self.delay = 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self.target))
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source, sink):
        try:
            while data := source.recv(65536):
                time.sleep(self.delay)
                sink.sendall(data)
        except OSError:
            pass
        source.close()
        sink.close()


@pytest.fixture
def proxy(redis_url):
    made = Proxy(redis_url)
    yield made
    made.listener.close()


def closed(server):
    return lambda: server.metric("serving_redis_breaker_state") == 0


def test_a_slow_redis_adds_at_most_50_ms_before_the_breaker_opens_and_after(serve, bundle_of, proxy, tmp_path):
    """Everything that asks Redis is on: keys with limits, a shared cache, a view, the prediction log."""
    keys = tmp_path / "keys.yaml"
    key = {"name": "web", "sha256": hashlib.sha256(b"k").hexdigest(), "rate": 5, "burst": 100000}
    keys.write_text(json.dumps({"keys": [key]}))
    settings = {"SERVING_REDIS_URL": proxy.url, "SERVING_API_KEYS_FILE": keys}
    opening, opened = [], []
    for turn in (0, 1000, 2000):  # a server each: one that has seen a slow Redis asks it less
        with serve(bundle_of("slow", views=True), **settings) as server:
            server.client.headers["x-api-key"] = "k"
            server.until(closed(server))
            before = statistics.median(once(server, turn + number) for number in range(20))
            proxy.delay = 2.0
            opening.append(max(once(server, turn + 100 + number) for number in range(10)) - before)
            server.until(lambda server=server: server.metric("serving_redis_breaker_state") in (1, 2))
            opened.append(max(once(server, turn + 200 + number) for number in range(20)) - before)
            assert server.metric("serving_redis_failures_total") > 0
            proxy.delay = 0.0
            server.until(closed(server))
            server.until(lambda server=server: server.metric("serving_prediction_log_written_total") == 50)
            assert server.metric("serving_prediction_log_dropped_total") == 0
    # The slowest answer of a turn, and the best of the turns: what Redis adds is in all, other noise is not.
    assert (min(opening) <= ADDED, min(opened) <= ADDED) == (True, True), (opening, opened)


def once(server, number):
    """The seconds of an answer to a row that none had before."""
    start = time.perf_counter()
    response = server.client.post("/v1/predict", json={"features": ROW | {"distance": float(number)}})
    assert response.status_code == 200, response.text
    return time.perf_counter() - start


def test_a_lost_redis_fails_no_prediction_and_refuses_feedback(serve, bundle_of, tmp_path):
    """Nothing that was predicted meanwhile is missing from the stream afterwards."""
    port = services.free_port()
    truth = {"prediction_id": "018bcfe5-6800-7000-8000-000000000000", "truth": "late"}
    with serve(bundle_of("binary"), SERVING_REDIS_URL=f"redis://127.0.0.1:{port}/0", SERVING_LOG_QUEUE=40) as server:
        ids = [server.predict(**ROW)["prediction_id"] for _ in range(30)]
        feedback = server.client.post("/v1/feedback", json=truth)
        assert feedback.status_code == 503
        assert feedback.headers["retry-after"]
        with services.redis(tmp_path / "redis", port=port) as url:
            server.until(closed(server))
            server.until(lambda: server.metric("serving_prediction_log_written_total") == 30)
            assert server.client.post("/v1/feedback", json=truth).status_code == 202
            with redis.Redis.from_url(url) as store:
                logged = [json.loads(fields[b"event"])["id"] for _, fields in store.xrange("predictions")]
        assert logged == ids
        for _ in range(50):
            server.predict(**ROW)
        server.until(lambda: server.metric("serving_prediction_log_dropped_total") == 10)
        assert server.metric("serving_requests_total", status="500") == 0
        with services.redis(tmp_path / "redis", port=port):
            server.until(lambda: server.metric("serving_prediction_log_written_total") == 70)


def test_the_view_fills_in_what_a_caller_leaves_out(serve, bundle_of, redis_url):
    bundle = bundle_of("binary", views=True)
    (view,) = bundle.schema.views
    known: dict[str, Value] = {"origin": "JFK", "hour": 17}
    with redis.Redis.from_url(redis_url) as store, serve(bundle, SERVING_REDIS_URL=redis_url) as server:
        server.until(closed(server))
        assert write(store, bundle.schema, view, [Entry(known, {"wind": 1.0}, time.time())]) == 1
        given = server.predict(**ROW, wind=1.0)["prediction"]
        missing = server.predict(**ROW | {"origin": "EWR"})["prediction"]
        filled = server.predict(**ROW)["prediction"]
        body = {"rows": [ROW, ROW | {"wind": 1.0}]}
        batch = server.client.post("/v1/predict/batch", json=body).json()["predictions"]
        assert filled == given == batch[0] == batch[1]
        assert missing != given
        assert server.metric("serving_online_features_total", result="hit") == 2
        assert server.metric("serving_online_features_total", result="miss") == 1
        server.until(lambda: server.metric("serving_prediction_log_written_total") == 4)
        rows = [row for _, fields in store.xrange("predictions") for row in logged_rows(json.loads(fields[b"event"]))]
    assert rows[2]["wind"] == 1.0, "the log holds what the model saw"


def test_online_values_are_the_newest_and_not_older_than_allowed(bundle_of, redis_url):
    schema = bundle_of("binary", views=True).schema
    (view,) = schema.views
    fields, now = {field.name: field for field in schema.fields}, 1_700_000_000.0
    entries = [
        Entry({"origin": "JFK", "hour": 1}, {"wind": 1.0}, now - 30),
        Entry({"origin": "JFK", "hour": 1}, {"wind": 2.0}, now - 10),
        Entry({"origin": "JFK", "hour": 1}, {"wind": 3.0}, now + 10),
        Entry({"origin": "JFK", "hour": 2}, {"wind": 4.0}, now - 3601),
        Entry({"origin": "a|b", "hour": 3.0}, {"wind": float("nan")}, now),
    ]
    with redis.Redis.from_url(redis_url) as store:
        assert write(store, schema, view, entries, now=now) == 2
        found = {}
        for origin, hour in (("JFK", 1), ("JFK", 2), ("a|b", 3)):
            key = entity_key(schema.model, view, {"origin": origin, "hour": hour})
            known = read(fields, view, store.get(key))
            found[origin, hour] = known.values if known and known.holds(view, now) else None
            assert store.ttl(key) <= view.max_age_seconds
        assert (float(store.get(newest_key(schema.model, view))), store.ttl(newest_key(schema.model, view))) == (
            now,
            -1,
        )
    assert found == {("JFK", 1): (2.0,), ("JFK", 2): None, ("a|b", 3): (None,)}


def test_two_pods_share_one_limit(redis_url):
    key = ApiKey(name="web", sha256="0" * 64, rate=200, burst=50)

    async def main():
        metrics = Metrics()
        links = [RedisLink(redis_url, 1000, metrics) for _ in range(2)]  # its time limit is not what is tested
        tasks = [asyncio.create_task(link.keep()) for link in links]
        while any(link.state is not State.CLOSED for link in links):
            await asyncio.sleep(0.01)
        pods = [Limiter(key, link) for link in links]
        start, taken, waits = time.monotonic(), 0, []
        while time.monotonic() - start < 1.5:
            for pod in pods:
                if wait := await pod.take():
                    waits.append(wait)
                else:
                    taken += 1
            await asyncio.sleep(0.001)
        seconds = time.monotonic() - start
        for task in tasks:
            task.cancel()
        for link in links:
            await link.close()
        return taken, seconds, waits

    taken, seconds, waits = asyncio.run(main())
    allowed = 50 + 200 * seconds
    assert 0.6 * allowed < taken <= allowed + 1, f"{taken} of {allowed:.0f}"
    assert waits
    assert 0 < max(waits) < 1


def test_a_burst_at_once_gets_what_its_key_has_and_so_does_a_process_that_stood_still(redis_url):
    async def main():
        link = RedisLink(redis_url, 1000, Metrics())
        keeping = asyncio.create_task(link.keep())
        while link.state is not State.CLOSED:
            await asyncio.sleep(0.01)
        burst = Limiter(ApiKey(name="burst", sha256="0" * 64, rate=1, burst=8), link)  # leases two at a time
        at_once = await asyncio.gather(*(burst.take() for _ in range(12)))
        still = Limiter(ApiKey(name="still", sha256="1" * 64, rate=1000, burst=1000), link)
        asked = still._ask

        async def stands_still() -> float | None:
            wait = await asked()
            still._ask, still._until = asked, 0.0  # type: ignore[method-assign]  # more than a second later, as the lease sees it
            return wait

        still._ask = stands_still  # type: ignore[method-assign]
        later = await still.take()
        keeping.cancel()
        await link.close()
        return at_once, later

    at_once, later = asyncio.run(main())
    assert [wait == 0 for wait in sorted(at_once)] == [True] * 8 + [False] * 4
    assert later == 0


def test_the_breaker_opens_probes_and_closes(proxy):
    async def main():
        states = []
        link = RedisLink(proxy.url, 15, Metrics())
        with pytest.raises(Bypass):
            await link.call("test", lambda client: client.ping())
        task = asyncio.create_task(link.keep())
        while link.state is not State.CLOSED:
            await asyncio.sleep(0.01)
        assert link.round_trip is not None
        assert link.round_trip < 0.015
        proxy.delay = 2.0
        for _ in range(3):
            states.append(link.state)
            with pytest.raises(Bypass):
                await link.call("test", lambda client: client.ping())
        assert link.state is not State.CLOSED
        start = time.perf_counter()
        with pytest.raises(Bypass):
            await link.call("test", lambda client: client.ping())
        refused = time.perf_counter() - start
        proxy.delay = 0.0
        while link.state is not State.CLOSED:
            await asyncio.sleep(0.01)
        await link.call("test", lambda client: client.ping())
        task.cancel()
        await link.close()
        return states, refused

    states, refused = asyncio.run(asyncio.wait_for(main(), 60))
    assert states == [State.CLOSED] * 3
    assert refused < 0.005


def test_what_can_wait_waits_until_it_is_known_whether_redis_answers(redis_url):
    """A server is ready before its first probe has ended; feedback that comes between is not refused."""

    async def main(url):
        link = RedisLink(url, 1000, Metrics())
        task = asyncio.create_task(link.keep())
        try:
            await link.call("test", lambda client: client.ping(), patient=True)
        finally:
            task.cancel()
            await link.close()

    asyncio.run(main(redis_url))
    with pytest.raises(Bypass):
        asyncio.run(main(f"redis://127.0.0.1:{services.free_port()}"))


@asynccontextmanager
async def connected(url, metrics):
    link = RedisLink(url, 1000, metrics)
    task = asyncio.create_task(link.keep())
    while link.state is not State.CLOSED:
        await asyncio.sleep(0.01)
    yield link
    task.cancel()
    await link.close()


def test_a_shared_answer_is_another_pods_and_is_the_models_bit_by_bit(redis_url):
    row, key = [0.1, 0.30000001192092896], b"input"

    async def main():
        metrics = Metrics()
        async with connected(redis_url, metrics) as link:
            pods = [ResponseCache("sha256:" + digest * 64, 20.0, key, 10, 60) for digest in "aab"]
            for pod in pods:
                pod.bind(metrics)
                pod.use_redis(link)
                assert pod.decision.name == "local+redis"
            missed = await pods[0].find_shared(key)
            pods[0].keep(key, row)
            await asyncio.gather(*pods[0]._writes)
            found = await pods[1].find_shared(key), pods[1].find(key), await pods[2].find_shared(key)
            await link.call("test", lambda client: client.set(pods[2]._shared_key(key), b"odd"))
            return missed, found, await pods[2].find_shared(key)

    missed, (shared, local, other), odd = asyncio.run(main())
    assert missed is other is odd is None
    assert shared == local == [np.float32(value).item() for value in row]


def test_redis_is_asked_little_while_it_saves_less_than_it_takes(monkeypatch):
    """Inputs that never repeat, then some that another pod answered, then none again; 1 ms for 20 ms of the model."""
    now = 0.0
    stored: dict[bytes, bytes] = {}

    class Client:
        async def get(self, key):
            nonlocal now
            now += 0.001
            return stored.get(key)

    class Link:
        round_trip = 0.001

        async def call(self, _, command):
            return await command(Client())

    monkeypatch.setattr("plumbline.serving.inference.cache.time.perf_counter", lambda: now)
    cache = ResponseCache("sha256:" + "a" * 64, 0.0201, b"k", 10, 60)
    cache.bind(Metrics())
    cache.use_redis(cast(RedisLink, Link()))

    async def asked(keys):
        before = now
        for key in keys:
            if cache.asks_redis(key):
                await cache.find_shared(key)
        return round((now - before) * 1000)

    async def main():
        keys = [str(number).encode() for number in range(4000)]
        untrusted = await asked(keys[:1000])
        sampled, share = await asked(keys[1000:2000]), cache.share_asked
        stored.update((cache._shared_key(key), bytes(8)) for key in keys[2000:3000])
        earned, restored = await asked(keys[2000:3000]), cache.share_asked
        return untrusted, sampled, share, earned, restored, await asked(keys[3000:])

    untrusted, sampled, share, earned, restored, again = asyncio.run(main())
    assert share == 1 / 16
    assert 30 < sampled < 100
    assert 50 <= untrusted < 51 + 100
    assert earned > 900
    assert restored == 1
    assert again < 51 + 100, "what was saved once does not pay for ever"


def test_a_model_faster_than_the_round_trip_is_not_shared(redis_url):
    async def main():
        metrics = Metrics()
        async with connected(redis_url, metrics) as link:
            fast, off = (ResponseCache("sha256:" + "a" * 64, 1e-5, b"k", 10, seconds) for seconds in (60, 0))
            for pod in (fast, off):
                pod.bind(metrics)
                pod.use_redis(link)
            off.keep(b"k", [1.0])
            return fast.decision.shared, off.decision.name, off.find(b"k"), link.round_trip

    shared, name, found, trip = asyncio.run(main())
    assert not shared
    assert name == "off"
    assert found is None
    assert trip > 0


def test_the_log_is_written_in_order_in_pieces_and_drained(redis_url):
    events = [Event(str(n), n, "r", "", "", [(n,)] * 30, b'{"value":1.0}', 0.001) for n in range(25)]

    async def main():
        metrics = Metrics()
        metrics.bind("m", "v1.0.0", "stable")
        async with connected(redis_url, metrics) as link:
            log = PredictionLog(link, ["n"], capacity=600, maxlen=1000, metrics=metrics)
            for event in events:
                log.put(event)
            await log.drain(5)
            await append_feedback(link, b"{}", 10)
            link.state = State.OPEN
            await log.drain(1)  # nothing is left, so that Redis does not matter
            log.put(events[0])
            await log.drain(1)
        labels = {"model": "m", "version": "v1.0.0", "role": "stable"}
        return metrics.registry.get_sample_value("serving_prediction_log_dropped_total", labels)

    dropped = asyncio.run(main())
    with redis.Redis.from_url(redis_url) as store:
        logged = [json.loads(fields[b"event"]) for _, fields in store.xrange("predictions")]
        assert store.xlen("feedback") == 1
    assert [event["id"] for event in logged] == [str(n) for n in range(20)]
    assert (logged[3]["columns"], logged[3]["data"]) == (["n"], [[3]] * 30)
    assert logged[3]["at"] == "1970-01-01T00:00:03.000Z"
    assert dropped == 5 + 1


def test_a_queue_that_fills_up_is_written_before_its_time(redis_url, monkeypatch):
    monkeypatch.setattr("plumbline.serving.events._IDLE_SECONDS", 60)
    monkeypatch.setattr("plumbline.serving.events._MOST_BYTES", 4096)  # less than all that passes through

    async def main():
        metrics = Metrics()
        async with connected(redis_url, metrics) as link:
            log = PredictionLog(link, ["n"], capacity=40, maxlen=1000, metrics=metrics)
            writing = asyncio.create_task(log.run())
            for number in range(40):
                log.put(Event(str(number), number, "r", "", "", [(number,)] * 5, b'{"value":1.0}', 0.001))
                while log._rows >= 10:
                    await asyncio.sleep(0.001)
            writing.cancel()
            await log.drain(5)

    asyncio.run(asyncio.wait_for(main(), 20))
    with redis.Redis.from_url(redis_url) as store:
        assert store.xlen("predictions") == 40


def test_an_application_fills_in_logs_and_stores_feedback(bundle_of, redis_url, tmp_path):
    """The same as in a process of its own, seen from inside."""
    bundle = bundle_of("binary", views=True)
    (view,) = bundle.schema.views
    with redis.Redis.from_url(redis_url) as store:
        write(store, bundle.schema, view, [Entry({"origin": "JFK", "hour": 17}, {"wind": 1.0}, time.time())])
    settings = Settings(
        release=bundle.release(tmp_path / "release.yaml"),
        public_key=bundle.keys.public,
        cache_dir=tmp_path / "cache",
        redis_url=redis_url,
        access_log=False,
    )

    async def main():
        server = Server(settings, Metrics(), LogBuffer())
        app = create_app(server, None)
        server.start()
        assert server.link is not None
        while server.engine is None or server.link.state is not State.CLOSED:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            answers = [(await client.post("/v1/predict", json={"features": ROW})).json() for _ in range(2)]
            truth = {"prediction_id": answers[0]["prediction_id"], "truth": "late"}
            status = (await client.post("/v1/feedback", json=truth)).status_code
            server.link.state = State.OPEN
            bypassed = (await client.post("/v1/predict", json={"features": ROW | {"distance": 7.0}})).status_code
            refused = (await client.post("/v1/feedback", json=truth)).status_code
            server.link.state = State.CLOSED
            mirrored = {"host": "delays.models.internal-shadow"}
            await client.post("/v1/predict", json={"features": ROW | {"distance": 8.0}}, headers=mirrored)
        await server.stop()
        return status, bypassed, refused

    assert asyncio.run(main()) == (202, 200, 503)
    with redis.Redis.from_url(redis_url) as store:
        events = [json.loads(fields[b"event"]) for _, fields in store.xrange("predictions")]
    # A write that Redis answers too late is written once more; whoever stores the log tells by the id.
    rows = [row for event in {event["id"]: event for event in events}.values() for row in logged_rows(event)]
    assert [row.get("wind") for row in rows] == [1.0, 1.0, None]


def test_a_promoted_pod_logs_its_new_role(serve, bundle_of, redis_url, tmp_path):
    """Its label changes while it runs, which the file follows; one that says nothing changes nothing."""
    role = tmp_path / "role"
    role.write_text("")
    settings = {"SERVING_ROLE_FILE": role, "SERVING_RELOAD_SECONDS": 0.05, "SERVING_ROLE": "set"}
    with (
        redis.Redis.from_url(redis_url) as store,
        serve(bundle_of("binary"), SERVING_REDIS_URL=redis_url, **settings) as server,
    ):

        def logged():
            seen = store.xlen("predictions")
            server.predict(**ROW)
            server.until(lambda: store.xlen("predictions") > seen)
            return json.loads(store.xrevrange("predictions", count=1)[0][1][b"event"])["role"]

        assert logged() == "set"
        for name in ("canary", "stable"):
            role.write_text(name)
            server.until(lambda name=name: logged() == name)
        role.unlink()
        os.mkfifo(role)
        server.until(lambda: server.metric("serving_file_in_effect", file="SERVING_ROLE_FILE") == 0)
        assert logged() == "stable"


def test_a_writer_that_is_stopped_in_the_middle_of_a_call_stops(redis_url):
    """The client may swallow a cancellation; the server would then never end."""

    async def main():
        metrics, unstopped = Metrics(), 0
        async with connected(redis_url, metrics) as link:
            for attempt in range(20):
                log = PredictionLog(link, ["n"], capacity=100_000, maxlen=1000, metrics=metrics)
                for number in range(2000):
                    log.put(Event(str(number), number, "r", "", "", [(number,)], b'{"value":1.0}', 0.001))
                task = asyncio.create_task(log.run())
                await asyncio.sleep(0.052 + attempt / 2000)
                task.cancel()
                _, pending = await asyncio.wait([task], timeout=2)
                unstopped += len(pending)
        return unstopped

    assert asyncio.run(main()) == 0


def test_only_declared_arms_are_logged_and_with_a_key_only_from_the_gateway(serve, bundle_of, redis_url):
    """An arm is a series of metrics, a subject a caller of the experiment, and a copy is not logged at all."""
    key = "a-key-of-the-gateway"
    told = {"x-arm": "canary", "x-subject": "user-7"}
    sent = [
        told,
        told | {"x-arm": "r" * 300},
        told | {"host": "x-shadow"},
        told | {"host": "x-shadow", "x-plumbline-gateway": "another-key-of-it"},
        told | {"host": "x-shadow", "x-plumbline-gateway": key},
        told | {"x-plumbline-gateway": key},
    ]

    def logged(**settings: Any) -> list[tuple[str, str]]:
        with redis.Redis.from_url(redis_url) as store:
            store.flushall()
            with serve(bundle_of("binary"), SERVING_REDIS_URL=redis_url, **settings) as server:
                server.until(lambda: server.metric("serving_redis_breaker_state") == 0)
                for headers in sent:
                    server.client.post("/v1/predict", json={"features": ROW}, headers=headers)
                assert server.stop() == 0
            events = [json.loads(fields[b"event"]) for _, fields in store.xrange("predictions")]
        return [(event["arm"], event["subject"]) for event in events]

    trusting = [("canary", "user-7"), ("other", "user-7"), ("canary", "user-7")]
    assert logged() == trusting
    assert logged(SERVING_GATEWAY_KEY=key) == [("", "")] * 4 + [("canary", "user-7")]
