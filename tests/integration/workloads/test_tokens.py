"""Who a token is of, where the identity provider is away or odd, and where two requests are a person's first."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Barrier
from types import ModuleType
from typing import Any

import identities
import jwt
import mlflow.server.auth
import pytest
from flask import Flask, Response
from loopback import Quiet, serving
from sqlalchemy import event

from .rendered import ROOT


@pytest.fixture
def people(tmp_path, monkeypatch) -> ModuleType:
    """The server's own file, with a database that knows nobody."""
    monkeypatch.syspath_prepend(ROOT / "app-src/mlflow-server")
    module = import_module("people")
    module.keys_of.cache_clear()
    monkeypatch.setenv("AUDIENCE", identities.CLIENT)
    mlflow.server.auth.store.init_db(f"sqlite:///{tmp_path}/accounts.db")
    return module


@pytest.fixture
def provider(people, monkeypatch) -> Iterator[identities.Provider]:
    with identities.running({"vera": ["plumbline:viewer"]}) as provider:
        monkeypatch.setenv("ISSUER", provider.url)
        yield provider


def ask(token: str) -> Any:
    """What MLflow is told of a request with this token."""
    with Flask("test").test_request_context(headers={"authorization": f"Bearer {token}"}):
        return import_module("locations").authenticate()


def status(token: str) -> int:
    answer = ask(token)
    return answer.status_code if isinstance(answer, Response) else 200


def test_while_the_identity_provider_is_away_nobody_is_refused(provider, people) -> None:
    token, address = provider.token("vera"), provider.url
    provider.url = "http://127.0.0.1:9"
    people.keys_of.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISSUER", provider.url)
        answer = ask(provider.token("vera"))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert status("nonsense") == 401, "what is no token is none, whoever is away"
    provider.url = address
    assert status(token) == 200


def test_keys_that_are_known_need_no_provider_and_new_ones_are_asked_for(provider, people, monkeypatch) -> None:
    token = provider.token("vera")
    assert status(token) == 200
    keys = people.keys_of(provider.url)
    monkeypatch.setattr(keys, "_fetch", lambda: 1 / 0)
    assert status(token) == 200
    keys.jwk_set_cache.put(None)  # as after five minutes
    assert status(token) == 503
    monkeypatch.undo()
    monkeypatch.setenv("ISSUER", provider.url)
    monkeypatch.setenv("AUDIENCE", identities.CLIENT)
    assert status(token) == 503, "it is not asked again at once, or everybody would wait for it"
    keys._again = 0
    assert status(token) == 200


@pytest.fixture
def odd(people, monkeypatch) -> Iterator[dict[str, Any]]:
    """An identity provider that answers what it is told to: {status, headers, body or a function that writes it}."""
    says: dict[str, Any] = {}

    class Handler(Quiet):
        def do_GET(self) -> None:
            says["asked"] += 1
            body = says["body"]
            self.send_response(says.get("status", 200))
            for name, value in says.get("headers", {}).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in [body] if isinstance(body, bytes) else body():
                    self.wfile.write(piece)
            except OSError:
                says["left"] = True

    with serving(Handler) as address:
        says |= {"url": address, "asked": 0}
        monkeypatch.setenv("ISSUER", address)
        yield says


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 65536


def slow() -> Iterator[bytes]:
    for _ in range(40):
        time.sleep(0.05)
        yield b" "


@pytest.mark.parametrize(("name", "document"), [
    ("no keys' address", {"issuer": "URL"}),
    ("another issuer", {"issuer": "https://elsewhere.example", "jwks_uri": "URL/keys"}),
    ("a file", {"issuer": "URL", "jwks_uri": "file:///etc/passwd"}),
    ("a number", {"issuer": "URL", "jwks_uri": 5}),
    ("a key without a name", {"issuer": "URL", "jwks_uri": "URL/keys", "keys": [{"kty": "oct", "k": "eA"}]}),
    ("keys that are none", {"issuer": "URL", "jwks_uri": "URL/keys", "keys": ["x", 5, None]}),
    ("no key", {"issuer": "URL", "jwks_uri": "URL/keys", "keys": []}),
    ("no object", ["URL"]),
])  # fmt: skip
def test_a_document_that_says_no_keys_refuses_nobody(odd, name, document) -> None:
    odd["body"] = json.dumps(document).replace("URL", odd["url"]).encode()
    assert status(jwt.encode({"sub": "vera"}, "x" * 32, headers={"kid": "one"})) == 503, name


@pytest.mark.parametrize(("name", "answer"), [
    ("a page", {"body": b"<html>sign in</html>"}),
    ("a fault", {"status": 500, "body": b"{}"}),
    ("nothing", {"body": b""}),
    ("another place", {"status": 302, "headers": {"location": "http://127.0.0.1:9/x"}, "body": b""}),
    ("no end", {"body": endless}),
    ("no haste", {"body": slow}),
    ("depth", {"body": b"[" * 200_000}),
    ("no text", {"body": b"\xff\xfe\xfd"}),
    ("packed", {"headers": {"content-encoding": "gzip"}, "body": b"\x1f\x8b"}),
])  # fmt: skip
def test_an_odd_answer_of_the_provider_refuses_nobody(odd, name, answer, monkeypatch) -> None:
    monkeypatch.setattr(import_module("provider"), "PATIENCE_SECONDS", 0.5)
    odd |= answer
    began = time.monotonic()
    token = jwt.encode({"sub": "vera"}, "x" * 32, headers={"kid": "one"})
    assert [status(token), status(token)] == [503, 503], name
    assert time.monotonic() - began < 3
    assert odd["asked"] == 1, "the second did not ask"


@pytest.mark.parametrize(("name", "token"), [
    ("depth", ".".join([jwt.utils.base64url_encode(b'{"alg":"RS256","kid":' + b"[" * 20_000).decode(), "e30", "eA"])),
    ("a moment in words", {"iat": str(int(time.time()))}),
    ("a moment without end", {"iat": float("inf")}),
    ("groups in groups", {"groups": [["plumbline:admin"]]}),
    ("groups by name", {"groups": {"plumbline:admin": True}}),
    ("a long name", {"email": f"{'x' * 300}@example.org"}),
])  # fmt: skip
def test_what_is_no_token_of_a_person_is_refused(provider, name, token) -> None:
    assert status(token if isinstance(token, str) else provider.token("vera", **token)) == 401, name


def test_two_first_requests_of_one_person_make_one_account(provider, people, monkeypatch) -> None:
    both, store = Barrier(2), mlflow.server.auth.store
    has_user = store.has_user

    def has(name: str) -> bool:
        there = bool(has_user(name))
        if not there:
            both.wait(10)
        return there

    monkeypatch.setattr(store, "has_user", has)
    token = provider.token("vera")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(status, [token, token])) == [200, 200]
    assert [user.username for user in store.list_users()] == ["vera@example.org"]


def test_a_request_finds_out_once_who_asks(provider, people) -> None:
    token, locations = provider.token("vera"), import_module("locations")
    assert status(token) == 200
    asked: list[str] = []
    event.listen(mlflow.server.auth.store.engine, "before_cursor_execute", lambda *more: asked.append(more[2]))
    with Flask("test").test_request_context(headers={"authorization": f"Bearer {token}"}):
        first = locations.authenticate()
        once = len(asked)
        assert once > 0
        assert [locations.authenticate() for _ in range(3)] == [first] * 3
    assert len(asked) == once
