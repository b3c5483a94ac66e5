"""API keys: a file of hashes, so that it tells no one a key, with each caller's name, rate and roles."""

import hashlib
import hmac
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from plumbline.core import ids
from plumbline.core.documents import DocumentError, Strict, read

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Role = Literal["feedback", "vocabulary"]
_GATEWAY_CHARACTERS = 16


class ApiKey(Strict):
    """One caller."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    sha256: Sha256
    """`printf %s "$KEY" | sha256sum`. Keys are random and long, so that one round of a plain hash is enough."""
    rate: Annotated[float, Field(ge=0.001, le=1_000_000)]
    """Requests a second, over all pods."""
    # Bounds within which Redis can keep the bucket: its refusal would count as if it were lost, for every caller.
    burst: Annotated[float, Field(ge=1, le=1_000_000_000)] | None = None
    """Requests that may come at once; by default those of one second."""
    roles: tuple[Role, ...] = ()
    """What it may beyond asking: give feedback on what others asked; see the categories of a model one by one."""
    former: tuple[Sha256, ...] = ()
    """Hashes of keys that the caller had before: they let nobody in, and its feedback on their answers counts."""

    @property
    def capacity(self) -> float:
        """Tokens of a full bucket."""
        return max(1.0, self.rate) if self.burst is None else self.burst

    @cached_property
    def seal(self) -> bytes:
        """What the ids of this caller's predictions are made with."""
        return bytes.fromhex(self.sha256)

    def asked_for(self, prediction_id: str) -> bool:
        """Whether the prediction was made for this caller."""
        return any(ids.is_for(prediction_id, bytes.fromhex(seal)) for seal in (self.sha256, *self.former))


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
        self._keys = {key.seal: key for key in keys}

    def replace(self, other: "Keyring") -> None:
        """Let the callers of another one in from now on, and no others; who did not change stays the same object."""
        known = self._keys
        self._keys = {seal: known[seal] if known.get(seal) == key else key for seal, key in other._keys.items()}

    def find(self, secret: bytes) -> ApiKey | None:
        """The caller that holds `secret`.

        The table is searched by the hash, of which a caller can't choose the bytes, and the match compared in
        constant time: neither tells how near a guess came.
        """
        digest = hashlib.sha256(secret).digest()
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.seal, digest):
            return None
        return key


def read_keys(path: Path) -> Keyring:
    """Read the file of SERVING_API_KEYS_FILE (YAML or JSON); raises DocumentError that names file and field."""
    return Keyring(read(path, _File, f"SERVING_API_KEYS_FILE: {path}").keys)


def read_gateway_keys(path: Path) -> tuple[bytes, ...]:
    """The lines of SERVING_GATEWAY_KEY_FILE; raises DocumentError that names the file and what was expected."""
    where = f"SERVING_GATEWAY_KEY_FILE: {path}"
    try:
        keys = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"cannot be read: {error}", source=where) from error
    if not keys or min(map(len, keys)) < _GATEWAY_CHARACTERS:
        expected = f"one key, or a new and an old one, each on a line and of {_GATEWAY_CHARACTERS} characters or more"
        raise DocumentError(f"expected {expected}", source=where)
    return tuple(key.encode() for key in keys)
