"""What registration signed of a version: an in-toto statement, beside its run and beside its bytes in the store.

git names a version and its values, the threshold among them. That these are the ones that were judged the statement
says, to whoever has the public key: gate and audit beside MLflow, a server beside the bytes.
"""

import json
from collections.abc import Mapping
from typing import Any

from plumbline.core.artifact import ArtifactError
from plumbline.core.dsse import STATEMENT, PublicKeyError, SignatureError, opened
from plumbline.core.release import Release

_PREDICATE = "https://plumbline.dev/registration/v1"


def statement_name(version: str) -> str:
    """The file's name beside a bundle: two versions may have the same bytes, and differ in the threshold."""
    return f"{version}.json"


def statement_of(facts: Mapping[str, str]) -> dict[str, Any]:
    """The statement of a version's facts, to be sealed."""
    return {
        "_type": STATEMENT,
        "subject": [_subject(facts)],
        "predicateType": _PREDICATE,
        "predicate": dict(facts),
    }


def facts_of(data: bytes, public_keys: bytes) -> dict[str, str]:
    """{fact: value} of a sealed statement; raises SignatureError that says why it is none of a key that is believed."""
    try:
        statement = opened(json.loads(data), public_keys)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"is no JSON: {error}") from error
    if (kind := statement.get("predicateType")) != _PREDICATE or statement.get("_type") != STATEMENT:
        raise SignatureError(f"states something else: {kind!r:.80}")
    facts = statement.get("predicate")
    if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
        raise SignatureError("states nothing")
    if (subject := statement.get("subject")) != [_subject(facts)]:
        raise SignatureError(f"is of something else than it says: {subject!r:.120}")
    return facts


def differences(release: Release, facts: Mapping[str, str]) -> list[str]:
    """What a release says otherwise than was registered, field by field; not where the bytes stand, which may move."""
    spec = release.spec
    pairs = {
        "metadata.name": (release.model, "name"),
        "spec.version": (spec.version, "semver"),
        "spec.artifact.digest": (spec.artifact.digest, "digest"),
        "spec.artifact.schemaDigest": (spec.artifact.schemaDigest, "schema.digest"),
        "spec.threshold": (threshold_text(spec.threshold), "threshold"),
        "spec.lineage.registryVersion": (spec.lineage.registryVersion, "number"),
        "spec.lineage.run": (spec.lineage.run, "run"),
        "spec.lineage.code": (spec.lineage.code, "code.commit"),
        "spec.lineage.data": (spec.lineage.data, "data.digest"),
        "spec.lineage.workflow": (spec.lineage.workflow, "workflow"),
    }
    return [
        f"{field} is {ours or 'none'}, registered {facts.get(fact) or 'none'}"
        for field, (ours, fact) in pairs.items()
        if facts.get(fact) != ours
    ]


def threshold_text(threshold: float | None) -> str:
    """A threshold among the facts; empty of a model without one."""
    return "" if threshold is None else repr(threshold)


def require_stated(release: Release, data: bytes, public_keys: bytes) -> None:
    """Raise ArtifactError unless a key signed, of this version, all that the release says of it."""
    name = statement_name(release.spec.version)
    try:
        wrong = differences(release, facts_of(data, public_keys))
    except PublicKeyError:
        raise
    except SignatureError as error:
        raise ArtifactError(f"{name} {error}") from error
    if wrong:
        raise ArtifactError(f"git says otherwise than {name}, which was signed: {'; '.join(wrong)}")


def _subject(facts: Mapping[str, str]) -> dict[str, Any]:
    return {"name": facts.get("name"), "digest": {"sha256": facts.get("digest", "").removeprefix("sha256:")}}
