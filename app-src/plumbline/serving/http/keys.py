"""API keys: a file of hashes, so that it tells no one a key, with each caller's name and rate."""

import hashlib
import hmac
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from plumbline.core.documents import Strict, read


class ApiKey(Strict):
    """One caller."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """`printf %s "$KEY" | sha256sum`. Keys are random and long, so that one round of a plain hash is enough."""
    rate: Annotated[float, Field(gt=0, le=1_000_000)]
    """Requests a second, over all pods."""
    burst: Annotated[float, Field(ge=1)] | None = None
    """Requests that may come at once; by default those of one second."""

    @property
    def capacity(self) -> float:
        """Tokens of a full bucket."""
        return max(1.0, self.rate) if self.burst is None else self.burst


class _File(Strict):
    keys: Annotated[tuple[ApiKey, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> "_File":
        for attribute in ("name", "sha256"):
            values = [getattr(key, attribute) for key in self.keys]
            if len(set(values)) != len(values):
                raise ValueError(f"two keys have the same {attribute}")
        return self


class Keyring:
    """The callers that are let in."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = {bytes.fromhex(key.sha256): key for key in keys}

    def find(self, secret: bytes) -> ApiKey | None:
        """The caller that holds `secret`.

        The table is searched by the hash, of which a caller can't choose the bytes, and the match compared in
        constant time: neither tells how near a guess came.
        """
        digest = hashlib.sha256(secret).digest()
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(bytes.fromhex(key.sha256), digest):
            return None
        return key


def read_keys(path: Path) -> Keyring:
    """Read the file of SERVING_API_KEYS_FILE (YAML or JSON); raises DocumentError that names file and field."""
    return Keyring(read(path, _File, f"SERVING_API_KEYS_FILE: {path}").keys)
