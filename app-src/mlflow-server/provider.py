"""The identity provider's public keys. Where it says none, nobody knows whose a token is: that is no refusal."""

import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests

PATIENCE_SECONDS = 5.0
"""For one of its documents."""
AGAIN_SECONDS = 5
"""After a failure it is not asked for so long, or everybody would wait for it in turn."""
_MOST_BYTES = 1 << 18
_log = logging.getLogger(__name__)


class Away(Exception):
    """The identity provider does not answer, or answers what it should not."""


class Keys(jwt.PyJWKClient):
    """The keys that an issuer signs with; asked for again when they are old, and where a token names a new one."""

    def __init__(self, issuer: str) -> None:
        super().__init__(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        self._issuer = issuer
        self._again = 0.0

    def fetch_data(self) -> jwt.PyJWKSet:
        """The keys as they are now; raises Away."""
        if time.monotonic() < self._again:
            raise Away
        try:
            return self._fetch()
        except Exception as error:  # of whatever it answered
            self._again = time.monotonic() + AGAIN_SECONDS
            _log.warning("the identity provider %s: %s", self._issuer, str(error) or type(error).__name__)
            raise Away from error

    def _fetch(self) -> jwt.PyJWKSet:
        discovery = _document(self.uri)
        if discovery["issuer"] != self._issuer:
            raise ValueError(f"it calls itself {str(discovery['issuer'])[:200]}")
        if urlsplit(discovery["jwks_uri"]).scheme not in {"https", urlsplit(self._issuer).scheme}:
            raise ValueError("jwks_uri: expected an address with TLS")
        keys = jwt.PyJWKSet.from_dict(_document(discovery["jwks_uri"]))
        if not [key for key in keys.keys if key.key_id and key.public_key_use in ("sig", None)]:
            raise ValueError("it has no key that signs")
        return keys


def _document(address: str) -> dict[str, Any]:
    """A JSON document, of bounded size and time, from nowhere else."""
    end, text = time.monotonic() + PATIENCE_SECONDS, b""
    plain = {"accept-encoding": "identity"}  # what is packed may be of any size
    with requests.get(address, headers=plain, timeout=PATIENCE_SECONDS, allow_redirects=False, stream=True) as answer:
        if answer.status_code != 200:
            raise ValueError(f"{address}: {answer.status_code}")
        while piece := answer.raw.read1(_MOST_BYTES, decode_content=False):
            text += piece
            if len(text) > _MOST_BYTES or time.monotonic() > end:
                raise ValueError(f"{address}: more than {_MOST_BYTES} bytes or {PATIENCE_SECONDS:g} s")
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"{address}: expected an object")
    return document
