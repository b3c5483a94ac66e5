"""`plumbline tree api-key`: makes callers' keys, and the file of their hashes that the model servers read."""

import hashlib
import secrets
from datetime import date
from pathlib import Path
from typing import Any, get_args

import yaml

from plumbline.core.documents import parse
from plumbline.core.errors import Misuse
from plumbline.serving.http.keys import KeyFile, Role


def new_key() -> tuple[str, str]:
    """A key, as long and random as a plain hash asks for, and the hash."""
    key = secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def for_everything(key: str) -> str:
    """The file of one caller, who may ask and do everything: for a machine of one's own."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return _text([{"name": "developer", "sha256": digest, "rate": 100_000, "roles": get_args(Role)}])


def issue(text: str, name: str, expires: date, more: dict[str, Any]) -> tuple[str, str]:
    """A key for a caller, and the file's text with its hash: a new caller, or the second key of one that it has.

    `more` are the fields of a new caller. Raises Misuse where the caller has two keys already, or is known and shall
    be another than it is; DocumentError for fields that are wrong.
    """
    key, digest = new_key()
    callers, caller = _callers(text, name)
    if caller is None:
        callers.append({"name": name, "sha256": digest, "expires": expires} | more)
    elif more:
        raise Misuse(f"{name} is in the file; expected no {', '.join(sorted(more))}: edit its entry there")
    elif "next" in caller:
        raise Misuse(f"{name} has two keys; retire the first (--retire) before it gets another")
    else:
        caller["next"] = {"sha256": digest, "expires": expires}
    return key, _text(callers)


def retire(text: str, name: str) -> str:
    """The file's text when a caller has gone over to its second key; raises Misuse where it has none."""
    callers, caller = _callers(text, name)
    if caller is None or "next" not in caller:
        raise Misuse(f"{name} has no second key in the file; expected one to go over to")
    caller["former"] = [*caller.get("former", []), caller["sha256"]]
    caller.pop("expires", None)
    caller |= caller.pop("next")
    return _text(callers)


def read_text(path: Path) -> str:
    """What a file holds, nothing where there is none yet; raises Misuse for what is no text."""
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path}: cannot be read: {error}; expected a file of keys, or a name for a new one") from error


def _callers(text: str, name: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """All callers, and the one of this name."""
    callers = []
    if text.strip():
        callers = [caller.model_dump(exclude_defaults=True) for caller in parse(text, KeyFile).keys]
    return callers, next((caller for caller in callers if caller["name"] == name), None)


def _text(callers: list[dict[str, Any]]) -> str:
    plain = [
        {key: list(value) if isinstance(value, tuple) else value for key, value in each.items()} for each in callers
    ]
    text = yaml.safe_dump({"keys": plain}, sort_keys=False)
    parse(text, KeyFile)
    return text
