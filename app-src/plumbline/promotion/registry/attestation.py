"""What registration saw of a version, as a signed in-toto statement beside its run.

The registry's tags are for people and for its search: whoever may write to it may change them. The gate, the commit
that it allows and the audit believe the statement, and refuse a version whose tags say anything else by now.
"""

import json
import tempfile
from pathlib import Path

from plumbline.core.dsse import STATEMENT, PublicKeyError, SignatureError, opened, seal
from plumbline.core.errors import Refused
from plumbline.promotion.registry.client import Registry, Version
from plumbline.promotion.settings import Settings

FOLDER, _FILE = "attestation", "registration.json"
_PREDICATE = "https://plumbline.dev/registration/v1"


def attest(registry: Registry, settings: Settings, version: Version, semver: str, folder: Path) -> None:
    """Sign what a version is, its tags and its name, and keep the statement beside its run.

    It is written before the version has its name, so that no version is found without one.
    """
    # Where a version is in its life changes, and follows what environments serve.
    facts = {name: value for name, value in version.tags.items() if name != "lifecycle"} | {"semver": semver}
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": version.model, "digest": {"sha256": version.digest.removeprefix("sha256:")}}],
        "predicateType": _PREDICATE,
        "predicate": facts | _identity(version),
    }
    path = folder / _FILE
    path.write_text(json.dumps(seal(statement, settings.signing_path().read_bytes()), indent=2) + "\n")
    registry.upload(version.run, path, FOLDER)


def require_attested(registry: Registry, settings: Settings, version: Version) -> None:
    """Raise Refused unless a key of ours signed exactly what the registry says of the version now."""
    where = f"{FOLDER}/{_FILE} of run {version.run}"
    if _FILE not in registry.names(version.run, FOLDER):
        raise Refused(f"{where} is missing: nobody signed what was registered; train and register anew")
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        data = (registry.download(version.run, FOLDER, Path(folder)) / _FILE).read_bytes()
    try:
        statement = opened(json.loads(data), settings.public_pem())
    except PublicKeyError:
        raise
    except SignatureError as error:
        raise Refused(f"{where} {error}") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where} is no JSON: {error}") from error
    if statement.get("predicateType") != _PREDICATE:
        raise Refused(f"{where} states something else: {statement.get('predicateType')!r:.80}")
    signed, now = statement.get("predicate"), version.tags | _identity(version)
    if not isinstance(signed, dict):
        raise Refused(f"{where} states nothing")
    changed = [
        f"{name} is {now.get(name)!r}, registered was {value!r}"
        for name, value in sorted(signed.items())
        if now.get(name) != value
    ]
    if changed:
        raise Refused(f"somebody changed what was registered: {'; '.join(changed)}")


def _identity(version: Version) -> dict[str, str]:
    return {"name": version.model, "run": version.run, "source": version.source, "number": version.number}
