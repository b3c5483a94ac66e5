"""The set of public keys that servers and the gate believe: which one signed what is served, one more, one less."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plumbline.core import store
from plumbline.core.artifact import SIGNATURE, ArtifactError
from plumbline.core.dsse import as_pem, read_public_keys, signed_by
from plumbline.core.errors import Refused
from plumbline.core.release import Release
from plumbline.core.stated import statement_name
from plumbline.core.store import StoreError
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import read_served


def uses(tree: Checkout, public_keys: bytes) -> dict[str, list[str]]:
    """{key: what environments serve of its signature, as `production: flights v1.0.0`}; "" of what none signed.

    Raises StoreError where the release store does not answer: nobody can tell then what a key is needed for.
    """
    found: dict[str, list[str]] = {name: [] for name in read_public_keys(public_keys)}
    for environment, release in _served(tree):
        served = f"{environment}: {release.model} {release.spec.version}"
        signature, statement = _envelopes(release)
        signers = signed_by(signature, public_keys) or {""}
        for name in signers:
            found.setdefault(name, []).append(served)
        # A registration that was resumed after a rotation: a pod needs both keys.
        for name in (signed_by(statement, public_keys) or {""}) - signers:
            found.setdefault(name, []).append(f"{served}, its statement")
    return found


def add(file: Path, key: Path) -> list[str]:
    """Put a key (or several) beside those that a file holds; returns the ids of all. Again, it changes nothing."""
    keys = read_public_keys(file.read_bytes()) | read_public_keys(key.read_bytes())
    _write(file, as_pem(keys.values()))
    return list(keys)


def remove(tree: Checkout, file: Path, key: str, *, stolen: bool) -> list[str]:
    """Take a key out; returns what environments serve of its signature alone, which no new pod loads from now on.

    Raises Refused where there is any, unless the key was stolen; for a key that is not there, and for the last one.
    Raises StoreError where nobody can tell; a stolen key goes out all the same.
    """
    pem = file.read_bytes()
    keys = read_public_keys(pem)
    matching = [name for name in keys if key and name.startswith(key)]
    if len(matching) != 1:
        raise Refused(f"{file} holds {len(matching)} keys {key!r}, expected one of {', '.join(keys)}")
    if len(keys) == 1:
        raise Refused(f"{file}: {key} is its only key, and without one nothing is loaded; add the next one first")
    rest = as_pem(item for name, item in keys.items() if name != matching[0])
    try:
        served = uses(tree, pem)
    except StoreError as error:
        if not stolen:
            raise
        _write(file, rest)
        return [f"what it alone signed is unknown ({error})"]
    by_others = {item for name, items in served.items() if name != matching[0] for item in items}
    lost = [item for item in served[matching[0]] if item not in by_others]
    if lost and not stolen:
        raise Refused(
            f"{matching[0][:12]} alone signed what is served, {'; '.join(lost)}: promote what the new key signed, then "
            "remove it; or say --stolen, and none of this is loaded again"
        )
    _write(file, rest)
    return lost


def _served(tree: Checkout) -> Iterator[tuple[str, Release]]:
    for name in tree.names("clusters", "*/models/*/release.yaml"):
        _, environment, _, model, _ = name.split("/")
        if (release := read_served(tree, environment, model)) is not None:
            yield environment, release


def _envelopes(release: Release) -> tuple[object, object]:
    """Of a release's signature and of its statement; None in place of one that is none."""
    with store.open_bundle(release.spec.artifact.uri) as bundle:
        signature = _json(bundle, SIGNATURE)
        return signature.get("dsseEnvelope"), _json(bundle, statement_name(release.spec.version))


def _json(bundle: store.Bundle, name: str) -> dict[str, Any]:
    try:
        value = json.loads(b"".join(bundle.read(name)))
    except (ArtifactError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(file: Path, pem: bytes) -> None:
    """Whole or not at all: servers read it again while it is written."""
    whole = file.with_name(f".{file.name}.new")
    whole.write_bytes(pem)
    whole.replace(file)
