"""API keys, and rates in this process; the leases of Redis are tested against a real one."""

import asyncio
import hashlib
import time

import pytest

from plumbline.core.documents import DocumentError
from plumbline.serving.http.app import create_app
from plumbline.serving.http.keys import ApiKey, Keyring, read_keys
from plumbline.serving.http.limits import Bucket, Limiter

ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA"}


def entry(name="web", key="secret", **more):
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "rate": 5} | more


def keyring(*entries):
    return Keyring(tuple(ApiKey(**item) for item in entries))


def test_only_a_known_key_finds_its_caller():
    ring = keyring(entry(), entry("batch", "other"))
    assert ring.find(b"secret").caller.name == "web"
    assert ring.find(b"other").caller.name == "batch"
    assert ring.find(b"") is None
    assert ring.find(b"Secret") is None


def capacity(path):
    key = read_keys(path).find(b"secret")
    assert key is not None
    return key.caller.capacity


def test_the_file_is_read_from_yaml_or_json(tmp_path):
    import json

    path = tmp_path / "keys.yaml"
    path.write_text(json.dumps({"keys": [entry()]}))
    assert capacity(path) == 5
    path.write_text(f"keys:\n  - {{name: web, sha256: {entry()['sha256']}, rate: 0.5, burst: 3}}\n")
    assert capacity(path) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys: []", "keys: "),
        ("keys: [{name: web, sha256: abc, rate: 1}]", r"keys\.0\.sha256"),
        (f"keys: [{{name: web, sha256: {'a' * 64}, rate: 0}}]", r"keys\.0\.rate"),
        (f"keys: [{{name: web, sha256: {'a' * 64}, rate: 1.0e-14}}]", r"keys\.0\.rate"),
        (f"keys: [{{name: web, sha256: {'a' * 64}, rate: 1, burst: .inf}}]", r"keys\.0\.burst"),
        (f"keys: [{{name: web, sha256: {'a' * 64}, rate: 1, burst: 1.0e+17}}]", r"keys\.0\.burst"),
        (f"keys: [{{name: web, key: x, sha256: {'a' * 64}, rate: 1}}]", r"keys\.0\.key"),
        (f"keys: [{{name: w, sha256: {'a' * 64}, rate: 1}}, {{name: w, sha256: {'b' * 64}, rate: 1}}]", "same name"),
        (f"keys: [{{name: v, sha256: {'a' * 64}, rate: 1}}, {{name: w, sha256: {'a' * 64}, rate: 1}}]", "same sha256"),
        ("keys: []\nkeys: []", "twice"),
        ("{", "not readable as YAML"),
    ],
)
def test_a_wrong_file_names_itself_and_the_field(tmp_path, text, message):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError, match=f"SERVING_API_KEYS_FILE: .*{message}"):
        read_keys(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DocumentError, match=r"none\.yaml"):
        read_keys(tmp_path / "none.yaml")


def test_a_bucket_gives_its_burst_then_its_rate(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bucket = Bucket(rate=2, capacity=3)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    now += 0.5
    assert bucket.take() == 0
    assert bucket.take() == pytest.approx(0.5)
    now += 3600
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_without_redis_each_pod_applies_the_rate_itself():
    async def main():
        limiter = Limiter(ApiKey(**entry(rate=1, burst=2)), None)
        assert not limiter.take_now()
        return [await limiter.take() for _ in range(3)]

    first, second, third = asyncio.run(main())
    assert (first, second) == (0, 0)
    assert 0 < third <= 1


def test_routes_ask_for_a_key_and_hold_its_rate(serve, bundles):
    ring = keyring(entry(rate=1, burst=2))

    async def use(client, server):
        body = {"features": ROW}
        answers = [
            await client.post("/v1/predict", json=body),
            await client.post("/v1/predict", json=body, headers={"x-api-key": "wrong"}),
            await client.get("/v2/models/delays"),
            await client.get("/v1/nowhere"),
            await client.get("/health"),
            await client.get("/v2/health/live"),
            await client.post("/v1/predict", json=body, headers={"x-api-key": "secret"}),
            await client.get("/v1/models", headers={"authorization": "Bearer secret"}),
            await client.post("/v1/predict", json=body, headers={"x-api-key": "secret"}),
        ]
        labels = {**server.metrics.labels, "route": "/v1/predict"}
        value = server.metrics.registry.get_sample_value
        counted = [
            value("serving_predictions_total", labels | {"outcome": outcome}) for outcome in ("answered", "refused")
        ]
        return answers, counted, value("serving_request_seconds_count", labels)

    answers, counted, timed = serve(bundles["binary"], use, keyring=ring)
    assert (counted, timed) == ([1, 0], 1), "who is turned away at the door says nothing of a release"
    assert [answer.status_code for answer in answers] == [401, 401, 401, 401, 200, 200, 200, 200, 429]
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert "is missing" in answers[0].json()["detail"]
    assert "is not known" in answers[1].json()["detail"]
    assert answers[-1].headers["retry-after"] == "1"
    assert "1 requests a second" in answers[-1].json()["detail"]


def test_the_document_says_that_keys_are_asked_for(serve, bundles):
    async def use(_, server):
        return create_app(server, keyring(entry())).document()

    document = serve(bundles["binary"], use)
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "x-api-key"
    operation = document["paths"]["/v1/predict"]["post"]
    assert operation["security"] == [{"ApiKey": []}]
    assert {"401", "429", "422", "413", "415", "400", "503"} <= operation["responses"].keys()
    assert "security" not in document["paths"]["/health"]["get"]
