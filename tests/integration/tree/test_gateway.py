"""Callers, their arms and the gateway's proof, asked of a real Envoy with the filters that git names."""

import http.client
import re
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoys import running

ROOT = Path(__file__).parents[3]
FIFTH = "[01]."
TOLD = ("x-plumbline-gateway", "x-arm", "x-subject", "x-plumbline-caller")
WAY = ("x-forwarded-for", "x-forwarded-proto", "forwarded", "x-forwarded-host", "x-forwarded-port", "x-real-ip")


def _filter(name: str) -> dict[str, Any]:
    (patch,) = yaml.safe_load((ROOT / f"kustomize/gateway/{name}.yaml").read_text())["spec"]["configPatches"]
    found: dict[str, Any] = patch["patch"]["value"]
    return found


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the gateway's key, which is not there yet."""
    return tmp_path_factory.mktemp("secret") / "GATEWAY_KEY"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, secret: Path) -> Iterator[int]:
    """An Envoy that says `canary` to a fifth of the buckets and `stable` to everybody else."""
    proof = _filter("gateway-key")
    source = proof["typed_config"]["default_source_code"]
    text = source["inline_string"].replace("/etc/secrets/gateway-key/GATEWAY_KEY", str(secret))
    source["inline_string"] = text.replace("os.time() + 10", "os.time() + 1")
    with running(tmp_path_factory.mktemp("envoy"), [_filter("caller-bucket"), proof], _routes()) as port:
        yield port


def _routes() -> list[dict[str, Any]]:
    told = "|".join(f"%REQ({name})%" for name in (*TOLD, *WAY))
    return [
        {
            "match": {"path": "/told"},
            "direct_response": {"status": 200},
            "response_headers_to_add": [{"header": {"key": "told", "value": told}, "keep_empty_value": True}],
        },
        {
            "match": {
                "prefix": "/",
                "headers": [
                    {"name": "x-plumbline-bucket", "string_match": {"safe_regex": {"regex": FIFTH}}},
                ],
            },
            "direct_response": {"status": 200, "body": {"inline_string": "canary"}},
        },
        {
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "stable"}},
        },
    ]


def _arms(port: int, callers: list[dict[str, str]], host: str = "flights.models.internal") -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    arms = []
    for headers in callers:
        connection.request("GET", "/v1/models", headers={"Host": host} | headers)
        arms.append(connection.getresponse().read().decode())
    connection.close()
    return arms


@pytest.mark.parametrize("name", ["user-{}", "{:032x}", "ada+{}@example.org"])
def test_a_fifth_of_the_callers_whatever_their_names(port: int, name: str) -> None:
    """Of 2,000 callers 400, within 4 standard deviations."""
    arms = _arms(port, [{"x-subject": name.format(number)} for number in range(2000)])
    assert abs(arms.count("canary") - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5


def test_a_caller_stays_in_an_arm(port: int) -> None:
    callers = [{"x-subject": f"user-{number}"} for number in range(200)]
    assert _arms(port, callers) == _arms(port, callers) == _arms(port, callers)
    assert set(_arms(port, callers)) == {"canary", "stable"}


def test_the_arms_of_two_models_are_independent(port: int) -> None:
    callers = [{"x-subject": f"user-{number}"} for number in range(2000)]
    pairs = zip(_arms(port, callers), _arms(port, callers, "diabetes.models.internal"), strict=True)
    both = sum(pair == ("canary", "canary") for pair in pairs)
    assert abs(both - 80) < 4 * (2000 * 0.04 * 0.96) ** 0.5


def test_a_key_is_a_caller_as_well_and_none_is_in_no_experiment(port: int) -> None:
    keys = [{"x-api-key": f"key-{number}"} for number in range(200)]
    assert set(_arms(port, keys)) == {"canary", "stable"}
    assert _arms(port, keys) == _arms(port, keys)
    assert set(_arms(port, [{}] * 20)) == {"stable"}


def test_nobody_chooses_a_bucket(port: int) -> None:
    assert set(_arms(port, [{"x-plumbline-bucket": "00"}] * 20)) == {"stable"}


def test_whose_bucket_it_was_is_told_and_nobody_tells_it_for_himself(port: int) -> None:
    forged = {"x-plumbline-caller": "key-00000000"}
    assert _told(port, forged)[3] == ""
    callers = {_told(port, {"x-api-key": f"key-{number}"} | forged)[3] for number in range(50)}
    assert len(callers) == 50
    assert all(re.fullmatch("key-[0-9a-f]{8}", caller) for caller in callers)
    assert _told(port, {"x-api-key": "key-7"})[3] == _told(port, {"x-api-key": "key-7"})[3]
    assert _told(port, {"x-api-key": "key-7", "x-subject": ""})[3] == _told(port, {"x-api-key": "key-7"})[3]


def test_two_callers_whom_the_log_does_not_tell_apart_have_one_bucket(port: int) -> None:
    """A server keeps 256 characters of a subject."""
    names = [{"x-subject": "a" * 256 + str(number)} for number in range(40)]
    assert len(set(_arms(port, names))) == 1


def _told(port: int, headers: dict[str, str]) -> list[str]:
    """What a model's server is told of a request that a caller sends with these headers."""
    return _heard(port, headers)[: len(TOLD)]


def _heard(port: int, headers: dict[str, str]) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/told", headers={"Host": "flights.models.internal"} | headers)
    told = connection.getresponse().headers["told"]
    connection.close()
    return str(told).split("|")


def test_nobody_says_which_way_he_came(port: int) -> None:
    """Wrong keys are counted by this address."""
    said = {"Forwarded": "for=7.7.7.7", "X-Forwarded-For": "7.7.7.7, 10.0.0.1", "X-Forwarded-Proto": "https"}
    said |= {"X-Forwarded-Host": "evil", "X-Forwarded-Port": "1", "X-Real-Ip": "7.7.7.7"}
    peer, *others = _heard(port, {})[len(TOLD) :]
    ip_address(peer)  # Envoy takes the machine's own for that of loopback
    assert others == ["http", "", "", "", ""]
    assert _heard(port, said)[len(TOLD) :] == [peer, *others]


def test_the_gateway_alone_writes_its_key_and_no_caller_names_an_arm(port: int, secret: Path) -> None:
    """Also where its Secret is filled later, and changes while it runs."""
    forged = {"x-plumbline-gateway": "a-key-that-was-guessed", "x-arm": "canary", "x-subject": "user-7"}
    assert _told(port, forged) == ["", "", "user-7", ""]
    for content in ("the-first-key-of-it\n", "the-second-key-of-it\nthe-first-key-of-it\n"):
        secret.write_text(content)
        written = content.split()[0]
        deadline = time.monotonic() + 60
        while _told(port, {})[0] != written and time.monotonic() < deadline:
            time.sleep(0.2)
        assert _told(port, forged) == [written, "", "user-7", ""]
    secret.unlink()
    assert _told(port, forged)[0] == "the-second-key-of-it"
