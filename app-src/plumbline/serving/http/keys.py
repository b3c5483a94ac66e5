"""API keys: a file of hashes, so that it tells no one a key, with each caller's name, rate, roles and models."""

import hashlib
import hmac
from datetime import UTC, date, datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from plumbline.core import ids
from plumbline.core.documents import DocumentError, Strict, read

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Role = Literal["feedback", "vocabulary", "tester"]
_GATEWAY_CHARACTERS = 16


class _Key(Strict):
    sha256: Sha256
    """`printf %s "$KEY" | sha256sum`. Keys are random and long, so that one round of a plain hash is enough."""
    expires: date | None = None
    """The first day, of UTC, on which the key lets nobody in; without it the key is for ever."""


class ApiKey(_Key):
    """One caller, with its key."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    owner: Annotated[str, Field(max_length=200)] = ""
    """Whom to ask, and to tell that the key expires."""
    next: _Key | None = None
    """A second key that lets in as well, while the caller goes over from the one to the other."""
    models: tuple[str, ...] = ()
    """What it may ask; by default every model whose servers read the file."""
    rate: Annotated[float, Field(ge=0.001, le=1_000_000)]
    """Requests a second, over all pods."""
    # Bounds within which Redis can keep the bucket: its refusal would count as if it were lost, for every caller.
    burst: Annotated[float, Field(ge=1, le=1_000_000_000)] | None = None
    """Requests that may come at once; by default those of one second."""
    roles: tuple[Role, ...] = ()
    """What it may beyond asking: give feedback on what others asked; see the categories of a model one by one; name the
    version that answers."""
    former: tuple[Sha256, ...] = ()
    """Hashes of keys that the caller had before: they let nobody in, and its feedback on their answers counts."""

    @property
    def capacity(self) -> float:
        """Tokens of a full bucket."""
        return max(1.0, self.rate) if self.burst is None else self.burst

    @cached_property
    def seal(self) -> bytes:
        """What the ids of this caller's predictions are made with, whichever of its keys asked."""
        return bytes.fromhex(self.sha256)

    @cached_property
    def known_as(self) -> str:
        """Who it is in logs, which are read by more people than may know who asks for what."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:12]

    @property
    def letting_in(self) -> tuple[_Key, ...]:
        """Its keys: one, or two while one follows the other."""
        return (self,) if self.next is None else (self, self.next)

    def asked_for(self, prediction_id: str) -> bool:
        """Whether the prediction was made for this caller."""
        hashes = chain((key.sha256 for key in self.letting_in), self.former)
        return any(ids.is_for(prediction_id, bytes.fromhex(each)) for each in hashes)

    def may_ask(self, model: str) -> bool:
        """Whether the key is for this model."""
        return not self.models or model in self.models


class KeyFile(Strict):
    """All callers that are let in."""

    keys: Annotated[tuple[ApiKey, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> "KeyFile":
        hashes = [key.sha256 for caller in self.keys for key in caller.letting_in]
        for attribute, values in (("name", [caller.name for caller in self.keys]), ("sha256", hashes)):
            if len(set(values)) != len(values):
                raise ValueError(f"two keys have the same {attribute}")
        return self


class KnownKey(NamedTuple):
    """A key that the file has."""

    caller: ApiKey
    digest: bytes
    expires: date | None
    until: float
    """The same in seconds since the epoch; infinite for a key that is for ever."""


class Keyring:
    """The callers that are let in."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._callers = {caller.name: caller for caller in keys}
        entries = [
            KnownKey(caller, bytes.fromhex(key.sha256), key.expires, _until(key.expires))
            for caller in keys
            for key in caller.letting_in
        ]
        self._known = {key.digest: key for key in entries}

    def replace(self, other: "Keyring") -> None:
        """Let the callers of another one in from now on, and no others; who did not change stays the same object."""
        before = self._callers
        same = {name: before[name] for name, caller in other._callers.items() if before.get(name) == caller}
        self._callers = other._callers | same
        self._known = {
            digest: entry._replace(caller=self._callers[entry.caller.name]) for digest, entry in other._known.items()
        }

    def ends(self) -> dict[str, float]:
        """When the last key of each caller ends, in seconds since the epoch, by who it is in logs."""
        return {
            caller.known_as: max(_until(key.expires) for key in caller.letting_in) for caller in self._callers.values()
        }

    def find(self, secret: bytes) -> KnownKey | None:
        """The key that `secret` is, expired or not, with its caller.

        The table is searched by the hash, of which a caller can't choose the bytes, and the match compared in
        constant time: neither tells how near a guess came.
        """
        digest = hashlib.sha256(secret).digest()
        entry = self._known.get(digest)
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            return None
        return entry


def _until(day: date | None) -> float:
    return float("inf") if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def read_keys(path: Path) -> Keyring:
    """Read the file of SERVING_API_KEYS_FILE (YAML or JSON); raises DocumentError that names file and field."""
    return Keyring(read(path, KeyFile, f"SERVING_API_KEYS_FILE: {path}").keys)


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
