"""Who asked, who may say more, and files of keys that change while the server runs."""

import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
import zlib
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from changing import Mounted, in_effect, until

from bundles import make_keys
from plumbline.core import ids
from plumbline.core.documents import DocumentError
from plumbline.serving.http import addresses
from plumbline.serving.http.addresses import Addresses, address_of
from plumbline.serving.http.app import create_app
from plumbline.serving.http.asgi import Bodies, Context
from plumbline.serving.http.docs import page
from plumbline.serving.http.keys import ApiKey, Keyring, read_gateway_keys, read_keys
from plumbline.serving.http.limits import Bucket
from plumbline.serving.metrics import CALLERS

ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA"}
GATEWAY = "a-key-of-the-gateway"
WEB, SPY, JUDGE = {"x-api-key": "secret"}, {"x-api-key": "spy"}, {"x-api-key": "judge"}


def entry(name="web", key="secret", **more):
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "rate": 1000} | more


def many(**web):
    judge = entry("judge", "judge", roles=("feedback", "vocabulary"))
    return Keyring(tuple(ApiKey(**item) for item in (entry() | web, entry("spy", "spy"), judge)))


async def predictions(client, headers):
    """The ids of an answer of each route that predicts."""
    body = {"inputs": [{"name": name, "shape": [1], "datatype": kind, "data": [ROW[name]]} for name, kind in KINDS]}
    answers = [
        await client.post("/v1/predict", json={"features": ROW}, headers=headers),
        await client.post("/v1/predict/batch", json={"rows": [ROW, ROW]}, headers=headers),
        await client.post("/v2/models/delays/infer", json=body, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    documents = [answer.json() for answer in answers]
    return [item.get("prediction_id") or item["parameters"]["prediction_id"] for item in documents]


KINDS = (("distance", "FP64"), ("hour", "INT64"), ("carrier", "BYTES"))


async def statuses(client, names, headers):
    given = [{"prediction_id": name, "truth": "late"} for name in names]
    return {(await client.post("/v1/feedback", json=body, headers=headers)).status_code for body in given}


def test_feedback_is_taken_from_the_key_that_asked_alone(serve, bundles):
    """503 here: it was let in, and there is no Redis that could keep it."""

    async def use(client, _):
        made = await predictions(client, WEB)
        rows = [*made, f"{made[1]}:1"]
        return [await statuses(client, rows, key) for key in (WEB, SPY, JUDGE)], made

    given, made = serve(bundles["binary"], use, keyring=many())
    assert given == [{503}, {403}, {503}]
    assert all(uuid.UUID(name).version == 7 for name in made)

    async def another_pod(client, _):
        return [await statuses(client, made, key) for key in (WEB, SPY)]

    assert serve(bundles["binary"], another_pod, keyring=many()) == [{503}, {403}]


def test_a_caller_with_a_new_key_still_says_what_its_old_answers_were(serve, bundles):
    async def ask(client, _):
        return await predictions(client, WEB)

    made = serve(bundles["binary"], ask, keyring=many())
    new = entry(key="new")

    async def use(client, _):
        refused = (await client.get("/v1/models", headers=WEB)).status_code
        return refused, await statuses(client, made, {"x-api-key": "new"})

    assert serve(bundles["binary"], use, keyring=many(**new)) == (401, {403})
    assert serve(bundles["binary"], use, keyring=many(**new | {"former": (entry()["sha256"],)})) == (401, {503})


def test_two_keys_of_one_caller_are_let_in_and_each_says_what_both_were_answered(serve, bundles):
    """As a rotation goes, and on pods that are a step behind it."""
    old, new = entry()["sha256"], entry(key="new")["sha256"]
    steps = [many(), many(next={"sha256": new}), many(**entry(key="new", former=(old,)))]
    heads = {"old": WEB, "new": {"x-api-key": "new"}}
    made = {}

    for step, who in ((0, "old"), (1, "old"), (1, "new"), (2, "new")):

        async def ask(client, _, who=who):
            return await predictions(client, heads[who])

        made[step, who] = serve(bundles["binary"], ask, keyring=steps[step])

    async def use(client, _):
        return [await statuses(client, made[step, who], heads[key]) for (step, who), key in asked]

    asked = [(of, key) for of in made for key in heads if of[0] == 1 or key == "old"]
    assert serve(bundles["binary"], use, keyring=steps[1]) == [{503}] * len(asked)
    asked = [(of, "new") for of in made]
    assert serve(bundles["binary"], use, keyring=steps[2]) == [{503}] * len(asked)


def day(distance):
    return datetime.now(UTC).date() + timedelta(days=distance)


def test_an_expired_key_lets_nobody_in_and_says_so(serve, bundles):
    fresh = entry("web", "new")["sha256"]
    ring = many(expires=day(0), next={"sha256": fresh, "expires": day(1)})

    async def use(client, _):
        return [await client.get("/v1/models", headers={"x-api-key": key}) for key in ("secret", "new")]

    over, good = serve(bundles["binary"], use, keyring=ring)
    assert (over.status_code, good.status_code) == (401, 200)
    assert f"the API key of web expired on {day(0)}" in over.json()["detail"]


def test_a_key_is_for_its_models_alone(serve, bundles):
    async def use(client, _):
        paths = ("/v1/models", "/v2/models/delays")
        return [await client.get(path, headers=key) for path in paths for key in (WEB, SPY)]

    answers = serve(bundles["binary"], use, keyring=many(models=("flights", "diabetes")))
    assert [answer.status_code for answer in answers] == [403, 200] * 2
    assert answers[0].json()["detail"] == (
        "the API key of web is for flights, diabetes alone; expected a key for delays"
    )
    assert serve(bundles["binary"], use, keyring=many(models=("delays",)))[0].status_code == 200


def test_a_version_is_named_by_testers_alone(serve, bundles):
    choice = {"x-plumbline-arm": "canary"}

    async def use(client, server):
        body = {"features": ROW}
        answers = [await client.post("/v1/predict", json=body, headers=key | choice) for key in (WEB, SPY)]
        value = server.metrics.registry.get_sample_value
        outcomes = ("answered", "refused", "failed", "excused")
        labels = dict(server.metrics.labels) | {"route": "/v1/predict"}
        return answers, [value("serving_predictions_total", labels | {"outcome": name}) for name in outcomes]

    (refused, good), counted = serve(bundles["binary"], use, keyring=many(roles=()))
    assert (refused.status_code, good.status_code) == (403, 403)
    assert "a key with the role tester" in refused.json()["detail"]
    assert counted == [0, 0, 0, 0], "no release is judged by it"
    (good, refused), _ = serve(bundles["binary"], use, keyring=many(roles=("tester",)))
    assert (good.status_code, refused.status_code) == (200, 403)
    (anybody, _), _ = serve(bundles["binary"], use)
    assert anybody.status_code == 200


def test_predictions_are_counted_by_groups_of_who_answers_for_them(serve, bundles):
    async def use(client, server):
        for key, subject, row in ((WEB, "a", ROW), (WEB, "b", ROW), (JUDGE, "a", ROW), (JUDGE, "a", {"carrier": 7})):
            await client.post("/v1/predict", json={"features": row}, headers=key | {"x-subject": subject})
        await client.post("/v1/predict", json={"features": ROW})  # 401: nobody's
        return {
            (group, outcome): value
            for group in range(CALLERS)
            for outcome in ("answered", "refused", "failed", "excused")
            if (
                value := server.metrics.registry.get_sample_value(
                    "serving_predictions_by_caller_total",
                    dict(server.metrics.labels) | {"outcome": outcome, "caller": str(group)},
                )
            )
            != 0
        }

    def group(name):
        return zlib.crc32(hashlib.sha256(name).hexdigest()[:12].encode()) % CALLERS

    web, judge = group(b"web"), group(b"judge")
    assert web != judge
    counted = serve(bundles["binary"], use, keyring=many())
    assert counted == {(web, "answered"): 2, (judge, "answered"): 1, (judge, "refused"): 1}
    by_subject = serve(bundles["binary"], use)
    assert by_subject[zlib.crc32(b"b") % CALLERS, "answered"] == 1, "without keys, and every series begins with nothing"


def test_the_access_log_says_who_asked_by_a_hash(serve, bundles, capfdbinary):
    async def use(client, server):
        for key in (WEB, {"x-api-key": "guess"}):
            await client.get("/v1/models", headers=key)
        server.buffer.flush()

    serve(bundles["binary"], use, keyring=many(), access_log=True)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines() if b'"access"' in line]
    assert [line["keyholder"] for line in lines] == [hashlib.sha256(b"web").hexdigest()[:12], ""]


def test_a_refusal_says_whose_the_prediction_is_not(serve, bundles):
    async def use(client, _):
        body = {"prediction_id": ids.prediction_id(), "truth": "late"}
        return await client.post("/v1/feedback", json=body, headers=WEB)

    answer = serve(bundles["binary"], use, keyring=many())
    assert answer.status_code == 403
    (error,) = answer.json()["errors"]
    assert error["field"] == "prediction_id"
    assert "role feedback" in error["expected"]


def test_without_keys_anybody_gives_feedback(serve, bundles):
    async def use(client, _):
        return await statuses(client, await predictions(client, {}), {})

    assert serve(bundles["binary"], use) == {503}


def test_an_owned_id_is_as_good_as_any_other():
    seal = b"s" * 32
    made = [ids.prediction_id(5, seal) for _ in range(2000)]
    assert len(set(made)) == 2000
    assert all(re.fullmatch(ids.PREDICTION_PATTERN, name) and ids.is_for(name, seal) for name in made)
    assert not any(ids.is_for(name, b"t" * 32) for name in made)
    assert not any(ids.is_for(ids.prediction_id(5), seal) for _ in range(2000))
    assert ids.prediction_id(1, seal) < ids.prediction_id(2, seal)


def test_categories_are_named_to_who_may_see_them_and_counted_to_others(serve, bundles):
    async def use(client, server):
        answers = [await client.get("/v1/models", headers=key) for key in (WEB, JUDGE)]
        other = await client.get("/v2/models/delays", headers=WEB)
        document = create_app(server, many()).document()
        schemas = [answer.json()["models"][0]["schema"] for answer in answers]
        return schemas, unescape("".join((answers[0].text, other.text, json.dumps(document), page(document))))

    (counted, whole), everything = serve(bundles["binary"], use, keyring=many())
    assert whole == bundles["binary"].schema.model_dump(mode="json")
    shown = {field["name"]: field.get("categories") for field in counted["fields"]}
    expected = {field.name: len(field.vocabulary) or None for field in bundles["binary"].schema.fields}
    assert shown == expected
    values = {
        value for field in bundles["binary"].schema.fields for value in field.vocabulary if value != field.example
    }
    assert values
    assert not [value for value in values if f'"{value}"' in everything or f">{value}<" in everything]


# Addresses


def test_wrong_keys_are_limited_and_right_ones_are_not(serve, bundles):
    async def use(client, server):
        answers = [await client.get("/v1/models", headers={"x-api-key": f"guess-{n}"}) for n in range(30)]
        right = await client.get("/v1/models", headers=WEB)
        value = server.metrics.registry.get_sample_value
        labels = dict(server.metrics.labels)
        counted = [value("serving_wrong_keys_total", labels | {"result": result}) for result in ("refused", "limited")]
        return answers, right, counted

    answers, right, counted = serve(bundles["binary"], use, keyring=many(), wrong_keys_rate=0.001, wrong_keys_burst=10)
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 20
    assert int(answers[-1].headers["retry-after"]) > 900
    assert "guess" not in answers[-1].text
    assert right.status_code == 200
    assert counted == [10, 20]


def test_an_address_is_believed_from_the_gateway_alone(serve, bundles):
    def of(number, **more):
        headers = {"x-api-key": "wrong", "x-forwarded-for": f"7.7.7.7, 10.1.0.{number}"} | more
        return headers | {"x-envoy-external-address": f"10.2.0.{number}"}

    def use(**more):
        async def ask(client, _):
            return [(await client.get("/v1/models", headers=of(n, **more))).status_code for n in range(6)]

        limits = {"wrong_keys_rate": 0.001, "wrong_keys_burst": 2, "gateway_key": GATEWAY}
        return serve(bundles["binary"], ask, keyring=many(), **limits)

    assert use() == [401] * 2 + [429] * 4
    assert use(**{"x-plumbline-gateway": "another-key-of-it"}) == [401] * 2 + [429] * 4
    assert use(**{"x-plumbline-gateway": GATEWAY}) == [401] * 6


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "2001:db8:0:1:ffff::7", "2001:db8:0:1::/64"),
        ("10.0.0.1", "::ffff:1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "x" * 5000, "x" * 64),
    ],
)
def test_an_address_is_the_last_one_named_and_a_network_of_ipv6(peer, forwarded, expected):
    context = Context({b"x-forwarded-for": forwarded.encode()}, "id", 0.0, Bodies(1))
    scope = {"client": (peer, 1234)}
    assert address_of(scope, context, by_gateway=True) == expected
    assert address_of(scope, context, by_gateway=False) == peer
    assert address_of({"client": None}, context, by_gateway=False) == ""


def test_addresses_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(addresses, "_MOST", 100)
    known = Addresses(0.001, 1)
    assert known.take("first") == 0
    for number in range(99):
        known.take(str(number))
    assert known.take("first") > 0
    for number in range(1000):
        known.take(str(number))
    assert len(known._buckets) == 100
    assert isinstance(known._buckets["999"], Bucket)


# Files


def document(*entries):
    return json.dumps({"keys": entries}).encode()


def test_keys_change_while_the_server_runs(serve, bundles, tmp_path, caplog):
    mounted = Mounted(tmp_path / "keys", "keys.yaml")
    path = mounted.put(document(entry(rate=5)))
    ring = read_keys(path)

    async def use(client, server):
        server.files.add("SERVING_API_KEYS_FILE", path, read_keys, ring.replace)

        async def status(key):
            return (await client.get("/v1/models", headers={"x-api-key": key})).status_code

        async def shown(value):
            return in_effect(server, "SERVING_API_KEYS_FILE") == value

        assert [await status("secret"), await status("new")] == [200, 401]
        mounted.put(document(entry(key="new")))
        await until(lambda: _is(status("new"), 200))
        assert await status("secret") == 401
        for bad in (b"keys: []", b"\xff", None, b"{"):
            mounted.put(bad)
            await until(lambda: shown(0))
            assert await status("new") == 200
            mounted.put(document(entry(key="new")))
            await until(lambda: shown(1))
        assert {await status("new") for _ in range(20)} == {200}, "the rate is the new one"

    serve(bundles["binary"], use, keyring=ring, reload_seconds=0.01)
    lines = [record.getMessage() for record in caplog.records if "is not taken" in record.getMessage()]
    assert len(lines) == 4, "one line each, not one at every look"
    assert all("SERVING_API_KEYS_FILE" in line and "\n" not in line for line in lines)


async def _is(answer, expected):
    return await answer == expected


def test_the_gateways_key_changes_while_the_server_runs(serve, bundles, tmp_path):
    mounted = Mounted(tmp_path / "gateway", "GATEWAY_KEY")

    async def use(_, server):
        def proves(key):
            return server.by_gateway(Context({b"x-plumbline-gateway": key.encode()}, "id", 0.0, Bodies(1)))

        async def shown(value):
            return in_effect(server, "SERVING_GATEWAY_KEY_FILE") == value

        assert await shown(0), "the Secret is not filled yet"
        assert not proves("")
        mounted.put(GATEWAY.encode() + b"\n")
        await until(lambda: shown(1))
        assert proves(GATEWAY)
        mounted.put(b"short")
        await until(lambda: shown(0))
        assert proves(GATEWAY)
        mounted.put(b"the-next-key-of-the-gateway\n" + GATEWAY.encode())
        await until(lambda: shown(1))
        assert proves(GATEWAY)
        assert proves("the-next-key-of-the-gateway")
        assert not proves("")

    serve(bundles["binary"], use, gateway_key_file=mounted.path, reload_seconds=0.01)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 20, None])
def test_a_bad_key_of_the_gateway_is_refused_by_name(tmp_path, content):
    path = tmp_path / "key"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"^SERVING_GATEWAY_KEY_FILE: ") as refused:
        read_gateway_keys(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "content"),
    [("SERVING_API_KEYS_FILE", b"\xff\xfe"), ("SERVING_API_KEYS_FILE", None), ("SERVING_GATEWAY_KEY_FILE", b"short")],
)
def test_a_bad_file_of_keys_is_refused_at_the_start_in_one_line(tmp_path, variable, content):
    path = tmp_path / "keys"
    path.mkdir() if content is None else path.write_bytes(content)
    environment = {"SERVING_RELEASE": "/r.yaml", "SERVING_PUBLIC_KEY": "/k", variable: str(path)}
    command = [sys.executable, "-m", "plumbline", "serve"]
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"{variable}: {path}: ")
    assert ended.stderr.count("\n") == 1


def test_another_public_key_is_a_new_chance_for_a_refused_model(serve, bundles, tmp_path):
    """And is not taken where what is served would not start again with it."""
    mounted = Mounted(tmp_path / "public", "signing-key.pub")
    other = make_keys(tmp_path / "other").public.read_bytes()
    right = bundles["binary"].keys.public.read_bytes()
    mounted.put(other)

    async def use(client, server):
        async def ready():
            return (await client.get("/health/ready")).status_code == 200

        async def shown(value):
            return in_effect(server, "SERVING_PUBLIC_KEY") == value

        assert "tampered" in server.reason
        mounted.put(b"no key")
        await until(lambda: shown(0))
        assert not await ready()
        mounted.put(right)
        await until(ready)
        mounted.put(other)
        await until(lambda: shown(0))
        assert await ready()
        mounted.put(right)
        await until(lambda: shown(1))

    serve(bundles["binary"], use, public_key=mounted.path, reload_seconds=0.01)
