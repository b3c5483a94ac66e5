"""Digests, written as `sha256:<hex>` wherever they are kept."""

import hashlib
import json
from pathlib import Path


def sha256(data: bytes | str) -> str:
    """`sha256:…` of bytes, or of a text as UTF-8."""
    return "sha256:" + hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def sha256_of_json(value: object) -> str:
    """`sha256:…` of a JSON value in its one canonical form."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def file_hex(path: Path) -> str:
    """The hex of a file's sha256, as sha256sum prints it; the file is never in memory as a whole."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
