"""The server process as it is deployed: start, answers, an unmodified client, drain."""

import asyncio
import hashlib
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import redis

from bundles import logged_rows

ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA"}
FULL = ROW | {"origin": "JFK", "wind": 12.5}


def test_its_environment_holds_nothing_that_unpickles_or_trains(serving_python):
    code = (
        "import importlib.util as u, sys, plumbline.serving.http.app\n"
        "heavy = ('mlflow', 'sklearn', 'pandas', 'joblib', 'cloudpickle', 'onnx', 'xgboost')\n"
        "print([n for n in heavy if u.find_spec(n)], [n for n in ('boto3', 'httpx', 'redis') if n in sys.modules])"
    )
    done = subprocess.run([serving_python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_it_answers_as_the_model_does(serve, bundle_of, kind):
    import onnxruntime as ort

    bundle = bundle_of(kind)
    session = ort.InferenceSession(bundle.folder / "model.onnx")
    expected = session.run(None, {"features": bundle.schema.encode([FULL, ROW])})[0]
    with serve(bundle) as server:
        answers = [server.predict(**FULL), server.predict(**ROW)]
        batch = server.client.post("/v1/predict/batch", json={"rows": [FULL, ROW]}).json()["predictions"]
        document = server.client.get("/openapi.json").json()
        server.until(lambda: "every caller is let in" in server.log())
    for answer, row, numbers in zip(answers, batch, expected, strict=True):
        assert answer["prediction"] == row
        found = [row["value"]] if kind == "regression" else list(row["probabilities"].values())
        assert np.array_equal(np.array(found, np.float32), numbers)
    assert document["paths"]["/v1/predict"]["post"]["requestBody"]


@pytest.mark.parametrize("binary", [False, True])
def test_an_unmodified_oip_client_gets_the_numbers_of_v1(serve, bundle_of, binary):
    import tritonclient.http as triton

    bundle, rows = bundle_of("binary"), [FULL, FULL | {"carrier": "never seen", "wind": 3.0}]
    with serve(bundle) as server:
        client = triton.InferenceServerClient(server.url.removeprefix("http://"))
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("delays")
        assert client.is_model_ready("delays", "v1.0.0")
        metadata = client.get_model_metadata("delays")
        types = {"FP64": np.float64, "INT64": np.int64, "BYTES": np.object_}
        inputs = []
        for item in metadata["inputs"]:
            values: Any = np.array([row[item["name"]] for row in rows], types[item["datatype"]])
            tensor = triton.InferInput(item["name"], list(values.shape), item["datatype"])
            inputs.append(tensor.set_data_from_numpy(values, binary_data=binary))
        matrix = triton.InferInput("features", [2, 5], "FP32")
        matrix.set_data_from_numpy(bundle.schema.encode([FULL, FULL]), binary_data=binary)
        outputs = [triton.InferRequestedOutput(item["name"], binary_data=binary) for item in metadata["outputs"]]
        named = client.infer("delays", inputs, outputs=outputs)
        versioned = client.infer("delays", inputs, model_version="v1.0.0")
        encoded = client.infer("delays", [matrix])
        with pytest.raises(triton.InferenceServerException, match="not served here"):
            client.infer("other", inputs)
        with pytest.raises(triton.InferenceServerException, match="distance: is missing"):
            client.infer("delays", inputs[1:])
        client.close()
        single = [server.predict(**row)["prediction"] for row in rows]
    expected = np.array([list(one["probabilities"].values()) for one in single], np.float32)
    assert np.array_equal(named.as_numpy("probabilities"), expected)
    assert np.array_equal(versioned.as_numpy("probabilities"), expected)
    assert np.array_equal(encoded.as_numpy("probabilities"), expected[[0, 0]])
    labels = [value.decode() if isinstance(value, bytes) else value for value in named.as_numpy("label")]
    assert labels == [one["label"] for one in single]


def test_predictions_and_feedback_reach_their_streams(serve, bundle_of, redis_url, tmp_path):
    keys = tmp_path / "keys.yaml"
    keys.write_text(json.dumps({"keys": [{"name": "web", "rate": 100, "sha256": hashlib.sha256(b"k").hexdigest()}]}))
    settings = {"SERVING_REDIS_URL": redis_url, "SERVING_API_KEYS_FILE": keys}
    with redis.Redis.from_url(redis_url) as store, serve(bundle_of("binary"), **settings) as server:
        server.client.headers["x-api-key"] = "k"
        headers = {"x-arm": "canary", "x-subject": "user-7", "x-request-id": "req-1"}
        key = {"x-plumbline-caller": "key-01234567"}
        server.until(lambda: server.metric("serving_redis_breaker_state") == 0)
        answer = server.client.post("/v1/predict", json={"features": ROW}, headers=headers).json()
        batch = server.client.post("/v1/predict/batch", json={"rows": [ROW, FULL]}, headers=key).json()
        truth = {"prediction_id": f"{batch['prediction_id']}:1", "truth": "late", "value": 12.5}
        accepted = server.client.post("/v1/feedback", json=truth)
        assert accepted.status_code == 202
        assert server.stop() == 0
        events = [json.loads(fields[b"event"]) for _, fields in store.xrange("predictions")]
        feedback = [json.loads(fields[b"event"]) for _, fields in store.xrange("feedback")]
    first, second = events
    assert first.keys() == {
        *(
            "id",
            "at",
            "model",
            "version",
            "role",
            "arm",
            "subject",
            "keyholder",
            "request_id",
            "columns",
            "data",
            "outputs",
            "ms",
        ),
    }
    assert (first["id"], first["arm"], first["subject"], first["request_id"]) == (
        answer["prediction_id"], "canary", "user-7", "req-1",
    )  # fmt: skip
    assert logged_rows(first) == [ROW]
    assert first["outputs"] == [answer["prediction"]]
    assert (first["model"], first["version"], first["role"]) == ("delays", "v1.0.0", "stable")
    assert uuid.UUID(first["id"]).version == 7
    assert 0 < first["ms"] < 5000
    assert logged_rows(second) == [ROW, FULL]
    assert second["subject"] == "key-01234567", "whose bucket the gateway took"
    assert second["outputs"] == batch["predictions"]
    web = hashlib.sha256(b"web").hexdigest()[:12]
    assert feedback[0].items() >= (truth | {"model": "delays", "keyholder": web}).items()
    assert first["keyholder"] == second["keyholder"] == web


def test_sigterm_drains_unready_first_and_everything_in_flight_is_answered(serve, bundle_of, redis_url):
    """F1 in one process: requests go on until the sockets close, and none fails; the log is complete."""
    statuses: list[int] = []
    failures: list[tuple[float, Exception]] = []
    stop = threading.Event()
    with serve(bundle_of("slow"), SERVING_DRAIN_SECONDS=1, SERVING_REDIS_URL=redis_url) as server:

        def caller(number):
            while not stop.is_set():
                try:
                    row = FULL | {"wind": float(number) + len(statuses)}
                    statuses.append(server.client.post("/v1/predict", json={"features": row}).status_code)
                except Exception as error:
                    failures.append((time.monotonic(), error))
                    return

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.process.terminate()
        server.wait("/health/ready", 503, 3)
        assert server.client.get("/health/live").status_code == 200
        before = len(statuses)
        time.sleep(0.4)
        assert len(statuses) > before, "it must go on answering while it drains"
        assert not failures
        stop.set()
        for thread in threads:
            thread.join()
        assert server.process.wait(15) == 0
        log = server.log()
    assert set(statuses) == {200}
    assert not failures
    assert log.index("draining") < log.index("Shutting down")
    with redis.Redis.from_url(redis_url) as store:
        assert store.xlen("predictions") == len(statuses)


def test_a_start_is_told_in_steps_and_stays_small(serve, bundle_of):
    with serve(bundle_of("binary")) as server:
        names = ("import", "fetch", "verify", "load", "warm-up")
        steps = {name: server.metric("serving_start_seconds", step=name) for name in names}
        total = server.metric("serving_start_seconds", step="total")
        memory = server.metric("process_resident_memory_bytes") / 2**20
    assert all(value > 0 for value in steps.values())
    assert sum(steps.values()) <= total
    assert memory < 150


@pytest.mark.parametrize("setting", ["SERVING_PORT", "SERVING_METRICS_PORT"])
def test_a_port_that_is_taken_is_named(serve, bundle_of, setting):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serve(bundle_of("binary"), wait=False, **{setting: port}) as server:
            assert server.process.wait(30) == 2
            assert f"{setting} {port}: cannot be listened on" in server.log()
            assert "Traceback" not in server.log()


def test_an_ipv6_address_is_listened_on_and_said(serve, bundle_of):
    with serve(bundle_of("binary"), wait=False, SERVING_HOST="::1") as server:
        server.until(lambda: "listening on ('::1', " in server.log())
        places = [urlsplit(url).port for url in (server.url, server.metrics)]
        for place in places:
            with socket.create_connection(("::1", place), 10):
                pass


def test_many_new_callers_at_once_do_not_wait_for_each_others_next_requests(serve, bundle_of):
    callers, answers = 64, 0
    body = json.dumps({"rows": [FULL] * 500}).encode()
    request = b"POST /v1/predict/batch HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
    request += b"Content-Length: %d\r\n\r\n%s" % (len(body), body)

    async def ask(port: int, waiting: set[int], number: int) -> None:
        nonlocal answers
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
            waiting.discard(number)
            answers += 1
        writer.close()

    async def all_at_once(server: Any) -> None:
        waiting, port = set(range(callers)), int(server.url.rpartition(":")[2])
        asked = [asyncio.create_task(ask(port, waiting, number)) for number in range(callers)]
        await asyncio.sleep(0.5)  # every request has reached the kernel
        server.process.send_signal(signal.SIGCONT)
        await asyncio.gather(*asked)

    with serve(bundle_of("binary")) as server:
        server.process.send_signal(signal.SIGSTOP)
        asyncio.run(all_at_once(server))
    # Where a turn of the loop accepts a single connection and answers all that it has, these are about 2,000.
    assert answers < 8 * callers


def test_where_keys_are_asked_for_the_docs_are_beside_the_metrics_alone(serve, bundle_of, tmp_path):
    keys = tmp_path / "keys.yaml"
    keys.write_text(json.dumps({"keys": [{"name": "web", "sha256": "0" * 64, "rate": 1}]}))
    with serve(bundle_of("binary"), SERVING_API_KEYS_FILE=keys) as server:
        for path in ("/docs", "/openapi.json"):
            assert server.client.get(path).status_code == 404
        beside = server.metrics.removesuffix("/metrics")
        page = server.client.get(f"{beside}/docs")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "carrier" in page.text
        document = server.client.get(f"{beside}/openapi.json").json()
        assert "/v1/predict" in document["paths"]
        assert "x-api-key" in json.dumps(document)
        # What another reads of the series is what Prometheus reads; and nothing else is there.
        some = server.client.get(f"{server.metrics}?name[]=serving_ready")
        assert (some.status_code, "serving_requests_total" in some.text) == (200, True)
        for path in ("/", "/v1/models", "/metrics/x", "/%2e%2e/etc/passwd"):
            assert server.client.get(beside + path).status_code == 404
        assert "Traceback" not in server.log()


def test_keys_change_under_a_running_process(serve, bundle_of, tmp_path):
    """As main.py watches them: also where the file is a pipe for a while, which nobody writes to."""
    path = tmp_path / "keys.yaml"

    def put(key, **more):
        new = tmp_path / "new"
        digest = hashlib.sha256(key.encode()).hexdigest()
        new.write_text(json.dumps({"keys": [{"name": "web", "sha256": digest, "rate": 1000} | more]}))
        new.rename(path)

    put("first", expires="2099-01-01", next={"sha256": "0" * 64, "expires": "2099-01-03"})
    with serve(bundle_of("binary"), SERVING_API_KEYS_FILE=path, SERVING_RELOAD_SECONDS=0.05) as server:

        def status(key):
            return server.client.get("/v1/models", headers={"x-api-key": key}).status_code

        def ends():
            keyholder = hashlib.sha256(b"web").hexdigest()[:12]
            return server.metric("serving_key_ends_timestamp_seconds", keyholder=keyholder)

        assert (status("first"), status("second")) == (200, 401)
        assert ends() == datetime(2099, 1, 3, tzinfo=UTC).timestamp(), "of its last key"
        put("second")
        server.until(lambda: status("second") == 200)
        assert status("first") == 401
        assert ends() == 0, "a key for ever has no end"
        path.unlink()
        os.mkfifo(path)
        server.until(lambda: server.metric("serving_file_in_effect", file="SERVING_API_KEYS_FILE") == 0)
        assert status("second") == 200
        put("third")
        server.until(lambda: status("third") == 200)
        assert server.stop() == 0


def test_a_key_is_rotated_under_load_without_a_refused_request(serve, bundle_of, tmp_path):
    """First the new one beside the old one, then the caller takes it, then the old one goes."""
    path, stop, using = tmp_path / "keys.yaml", threading.Event(), ["old"]
    statuses: list[int] = []

    def sha256(key):
        return hashlib.sha256(key.encode()).hexdigest()

    def put(**entry):
        (tmp_path / "new").write_text(json.dumps({"keys": [{"name": "web", "rate": 100_000} | entry]}))
        (tmp_path / "new").rename(path)

    put(sha256=sha256("old"))
    with serve(bundle_of("binary"), SERVING_API_KEYS_FILE=path, SERVING_RELOAD_SECONDS=0.05) as server:

        def status(key):
            return server.client.get("/v1/models", headers={"x-api-key": key}).status_code

        def call():
            with httpx.Client(base_url=server.url, timeout=10, trust_env=False) as client:
                while not stop.is_set():
                    key = {"x-api-key": using[0]}
                    statuses.append(client.post("/v1/predict", json={"features": ROW}, headers=key).status_code)

        def some_more():
            asked = len(statuses)
            server.until(lambda: len(statuses) > asked + 50)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        try:
            some_more()
            put(sha256=sha256("old"), next={"sha256": sha256("new")})
            server.until(lambda: status("new") == 200)
            some_more()
            using[0] = "new"
            some_more()
            put(sha256=sha256("new"), former=[sha256("old")])
            server.until(lambda: status("old") == 401)
            some_more()
        finally:
            stop.set()
            for caller in callers:
                caller.join()
    assert set(statuses) == {200}


def test_a_process_may_open_as_many_files_as_it_may_have_connections(serve, bundle_of):
    """However few its shell allows it at first."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        with serve(bundle_of("binary"), SERVING_MAX_CONNECTIONS=1000) as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] > 1125
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
