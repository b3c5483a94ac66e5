"""An identity provider by OpenID Connect: authorization code with PKCE, and tokens that it signs."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from loopback import Quiet, serving

CLIENT, SECRET = "people", "secret-of-this-client"


class Provider:
    """It knows people by name, and believes who says he is one of them (`person=` in the address)."""

    def __init__(self, people: dict[str, list[str]]) -> None:
        self.people = people
        """{name: groups}."""
        self.url = ""
        self._key = rsa.generate_private_key(65537, 2048)
        self._asked: dict[str, dict[str, str]] = {}

    def token(self, name: str, **claims: Any) -> str:
        """An ID token, with these claims besides or instead."""
        now = int(time.time())
        said = {"iss": self.url, "aud": CLIENT, "sub": name, "email": f"{name}@example.org", "email_verified": True}
        said |= {"groups": self.people[name], "iat": now, "exp": now + 300}
        return jwt.encode(said | claims, self._key, algorithm="RS256", headers={"kid": "one"})

    def answer(self, path: str, asked: dict[str, str]) -> dict[str, Any] | str:
        """A document, or an address to go to."""
        if path == "/.well-known/openid-configuration":
            ends = {name: f"{self.url}/{name.split('_')[0]}" for name in ("authorization_endpoint", "token_endpoint")}
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **ends} | {
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }  # fmt: skip
        if path == "/keys":
            return {"keys": [jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True) | {"kid": "one"}]}
        if path == "/authorization":
            self._asked[code := secrets.token_urlsafe()] = asked
            return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
        before = self._asked.pop(asked["code"])
        proof = base64.urlsafe_b64encode(hashlib.sha256(asked["code_verifier"].encode()).digest()).rstrip(b"=")
        assert (before["code_challenge"], before["redirect_uri"]) == (proof.decode(), asked["redirect_uri"])
        token = self.token(before["person"], **{"nonce": before["nonce"]} if "nonce" in before else {})
        return {"id_token": token, "access_token": secrets.token_urlsafe(), "token_type": "Bearer", "expires_in": 300}


@contextmanager
def running(people: dict[str, list[str]]) -> Iterator[Provider]:
    """One of these people, on loopback."""
    provider = Provider(people)
    with serving(handler(provider)) as provider.url:
        yield provider


def handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    """What answers for it."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])).decode())

        def _answer(self, query: str) -> None:
            asked = {name: values[0] for name, values in parse_qs(query).items()}
            found = provider.answer(urlsplit(self.path).path, asked)
            body = json.dumps(found).encode() if isinstance(found, dict) else b""
            self.send_response(200 if body else 302)
            if isinstance(found, str):
                self.send_header("location", found)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
