"""What registration saw of a version, as a signed in-toto statement beside its run and in the release store.

The registry's tags are for people and for its search: whoever may write to it may change them. The gate, the commit
that it allows and the audit believe the statement, and refuse a version whose tags say anything else by now.
"""

import json
import tempfile
from pathlib import Path

from plumbline.core import store
from plumbline.core.artifact import ArtifactError
from plumbline.core.dsse import PublicKeyError, SignatureError, seal
from plumbline.core.errors import Refused
from plumbline.core.stated import facts_of, statement_name, statement_of
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import STORED, Version
from plumbline.promotion.settings import Settings

FOLDER, _FILE = "attestation", "registration.json"


def attest(registry: Registry, settings: Settings, version: Version, semver: str, folder: Path) -> None:
    """Sign what a version is, its tags and its name, and keep the statement beside its run and beside its bytes.

    It is written before the version has its name, so that no version is found without one.
    """
    # Where a version is in its life changes, and follows what environments serve.
    facts = {name: value for name, value in version.tags.items() if name != "lifecycle"} | {"semver": semver}
    statement = statement_of(facts | _identity(version))
    path = folder / _FILE
    path.write_text(json.dumps(seal(statement, settings.signing_path().read_bytes()), indent=2) + "\n")
    registry.upload(version.run, path, FOLDER)
    _publish(settings, path.read_bytes())


def publish(registry: Registry, settings: Settings, version: Version) -> None:
    """Put the statement of a version beside its bytes, where one of before that was done has none there.

    Raises Refused where it has none at all.
    """
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        if _FILE not in registry.names(version.run, FOLDER):
            raise Refused(f"{version.model} {version.semver}: nobody signed what it is; train and register it anew")
        _publish(settings, (registry.download(version.run, FOLDER, Path(folder)) / _FILE).read_bytes())


def _publish(settings: Settings, statement: bytes) -> None:
    """Write it once where it says itself, and read it back; raises Refused where something else is there."""
    pem = settings.public_pem()
    try:
        facts = facts_of(statement, pem)
    except SignatureError as error:
        raise Refused(f"{_FILE} {error}") from error
    if STORED not in facts:
        raise Refused(f"{facts['name']} {facts['semver']} is in no release store; train and register it anew")
    uri, name = facts[STORED], statement_name(facts["semver"])
    with store.open_bundle(uri) as bundle, tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        (copy := Path(folder) / name).write_bytes(statement)
        bundle.add(copy)
        try:
            there = facts_of(b"".join(bundle.read(name)), pem)
        except (ArtifactError, SignatureError) as error:
            raise Refused(f"{uri}/{name} {error}") from error
    # A registration that died and went on measured anew; what a release says must be the same.
    measured = ("latency.", "memory.", "parity.")
    if changed := [key for key in facts if facts[key] != there.get(key) and not key.startswith(measured)]:
        raise Refused(f"{uri}/{name} states another {', '.join(changed)}, and is never replaced")


def require_attested(registry: Registry, settings: Settings, version: Version) -> None:
    """Raise Refused unless a key of ours signed exactly what the registry says of the version now."""
    where = f"{FOLDER}/{_FILE} of run {version.run}"
    if _FILE not in registry.names(version.run, FOLDER):
        raise Refused(f"{where} is missing: nobody signed what was registered; train and register anew")
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        data = (registry.download(version.run, FOLDER, Path(folder)) / _FILE).read_bytes()
    try:
        signed = facts_of(data, settings.public_pem())
    except PublicKeyError:
        raise
    except SignatureError as error:
        raise Refused(f"{where} {error}") from error
    now = version.tags | _identity(version)
    changed = [
        f"{name} is {now.get(name)!r}, registered was {value!r}"
        for name, value in sorted(signed.items())
        if now.get(name) != value
    ]
    if changed:
        raise Refused(f"somebody changed what was registered: {'; '.join(changed)}")


def _identity(version: Version) -> dict[str, str]:
    return {"name": version.model, "run": version.run, "source": version.source, "number": version.number}
