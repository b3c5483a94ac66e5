"""Callers and their arms, asked of a real Envoy with the filter that git names."""

import http.client
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from services import answers_http, free_port, process

ROOT = Path(__file__).parents[3]
FIFTH = "[01]."


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An Envoy that says `canary` to a fifth of the buckets and `stable` to everybody else."""
    (patch,) = yaml.safe_load((ROOT / "kustomize/gateway/caller-bucket.yaml").read_text())["spec"]["configPatches"]
    port = free_port()
    folder = tmp_path_factory.mktemp("envoy")
    (folder / "envoy.json").write_text(json.dumps(_bootstrap(port, patch["patch"]["value"])))
    envoy = Path(str(files("envoy") / "_bin/envoy"))
    command: list[str | Path] = [envoy, "--config-path", folder / "envoy.json", "--concurrency", "1"]
    command += ["--disable-hot-restart"]
    with process(command, ready=lambda: answers_http(f"http://127.0.0.1:{port}/"), log=folder / "log"):
        yield port


def _bootstrap(port: int, bucket: dict[str, Any]) -> dict[str, Any]:
    routes = [
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
    kind = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "http_filters": [bucket, router],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"static_resources": {"listeners": [{"address": address, "filter_chains": [{"filters": filters}]}]}}


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
