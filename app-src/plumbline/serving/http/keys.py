"""API keys: a file of hashes, so that it tells no one a key, with each caller's name and rate."""

import hashlib
import hmac
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from plumbline.core.release import UniqueKeys
from plumbline.serving.settings import SettingsError


class ApiKey(BaseModel):
    """One caller."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

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
    """Read the file of SERVING_API_KEYS_FILE (YAML or JSON); raises SettingsError that names file and field."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)  # noqa: S506 - a SafeLoader
        return Keyring(_File.model_validate(document).keys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"SERVING_API_KEYS_FILE: {path}: cannot be read: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(f"SERVING_API_KEYS_FILE: {path}: {problems}") from error
