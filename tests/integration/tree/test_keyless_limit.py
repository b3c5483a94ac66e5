"""The gateway's bounds for callers without a key, asked of a real Envoy with the filter that git names."""

import http.client
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from envoys import running

FILTER = Path(__file__).parents[3] / "kustomize/gateway/components/keyless-limit/keyless-limit.yaml"
KEY = {"x-api-key": "any"}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """An Envoy that says 200 to whoever gets through."""
    (patch,) = yaml.safe_load(FILTER.read_text())["spec"]["configPatches"]
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    with running(tmp_path, [patch["patch"]["value"]], routes) as port:
        yield port


def ask(
    port: int,
    times: int,
    headers: dict[str, str] | None = None,
    size: int = 0,
    source: str = "127.0.0.1",
    method: str = "POST",
    *,
    chunked: bool = False,
) -> Counter[int]:
    """{status: how often}."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(source, 0))
    found = Counter[int]()
    for _ in range(times):
        body = iter([b"x"]) if chunked else b"x" * size if size or method == "POST" else None
        connection.request(method, "/v1/predict", body, headers or {}, encode_chunked=chunked)
        answer = connection.getresponse()
        answer.read()
        found[answer.status] += 1
        assert answer.status == 200 or answer.headers["retry-after"] == "1"
    connection.close()
    return found


@pytest.mark.parametrize("named", [{}, {"x-forwarded-for": "7.7.7.7"}])
def test_an_address_without_a_key_asks_so_often_and_others_are_not_asked_to_wait(
    port: int, named: dict[str, str]
) -> None:
    flood = ask(port, 200, named)
    assert 40 <= flood[200] < 200
    assert ask(port, 200, KEY)[200] == 200
    assert ask(port, 200, {"authorization": "Bearer any"})[200] == 200
    assert ask(port, 20, source="127.0.0.2")[200] == 20


def test_an_address_without_a_key_sends_so_many_bytes(port: int) -> None:
    large = ask(port, 10, size=1 << 20)
    assert 4 <= large[200] < 10
    assert ask(port, 10, KEY, size=1 << 20)[200] == 10


def test_who_does_not_say_how_many_bytes_sends_no_more_of_them(port: int) -> None:
    unsaid = ask(port, 10, chunked=True)
    assert 4 <= unsaid[200] < 10
    assert ask(port, 1, size=1 << 20)[429] == 1, "the bytes are of the same bucket"
    assert ask(port, 10, method="GET")[200] == 10, "who sends no body sends no bytes"
    assert ask(port, 10, KEY, chunked=True)[200] == 10
