"""The rule that names a new version.

| against the version registered before it | bump |
| --- | --- |
| what callers see changed: a field's name, type, unit or need, the task, labels, name or unit of the answer | major |
| how it was made changed: code, model kind, hyperparameters, vocabulary or ranges of the fields, views | minor |
| nothing but the data (or nothing at all) | patch |
"""

from collections.abc import Iterable
from dataclasses import dataclass

from plumbline.core.digests import sha256_of_json
from plumbline.core.names import SemVer
from plumbline.core.schema import ModelSchema

FIRST = SemVer(1, 0, 0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What of a version decides its number; the registry keeps it as tags from the version's first moment."""

    interface: str
    """Digest of what callers see."""
    schema: str
    code: str
    kind: str
    parameters: str
    """Digest of the run's parameters."""


def interface_digest(schema: ModelSchema) -> str:
    """Digest of the part of a schema that callers depend on."""
    output = schema.output
    return sha256_of_json(
        {
            "fields": [[field.name, field.type, field.unit, field.required] for field in schema.fields],
            "output": [output.task, output.name, list(output.labels), output.unit],
        }
    )


def bump(previous: SemVer, old: Recipe, new: Recipe) -> SemVer:
    """The version that follows `previous`, by the table above."""
    if new.interface != old.interface:
        return SemVer(previous.major + 1, 0, 0)
    if new != old:
        return SemVer(previous.major, previous.minor + 1, 0)
    return SemVer(previous.major, previous.minor, previous.patch + 1)


def number(history: Iterable[tuple[SemVer | None, Recipe]]) -> SemVer:
    """The semantic version of the last entry of `history` (registry order, oldest first).

    An entry without a version is a registration that has not finished: its number is reserved all the same, so that
    two registrations at once, or one that died and is resumed, never share one.
    """
    version, recipe = None, None
    for named, current in history:
        if named is not None:
            version = named
        elif version is None or recipe is None:
            version = FIRST
        else:
            version = bump(version, recipe, current)
        recipe = current
    if version is None:
        raise ValueError("number() needs at least one entry")
    return version
