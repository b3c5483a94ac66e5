"""What two renderings differ in: objects that come, go or change, and the fields that do."""

import re
from dataclasses import dataclass
from typing import Any

from plumbline.core.documents import leaves
from plumbline.tree.render.build import Object, Objects
from plumbline.tree.validate.cluster import name_of

# How Kustomize ends the name of a ConfigMap or Secret that it generates: ten of these letters.
_HASH = re.compile(r"-[2456789bcdfghkmt]{10}$")
_MISSING = "nothing"


@dataclass(frozen=True, slots=True)
class Change:
    """A field of an object before and after; without a field, the object as a whole."""

    object: str
    field: str
    before: Any
    after: Any


def differences(before: Objects, after: Objects) -> list[Change]:
    """Field by field, in the order of the names; a generated name counts without its hash."""
    old, new = _by_name(before), _by_name(after)
    changes: list[Change] = []
    for name in sorted(old.keys() | new.keys()):
        if name in old and name in new:
            left, right = _fields(old[name]), _fields(new[name])
            for field in sorted(left.keys() | right.keys()):
                values = left.get(field, _MISSING), right.get(field, _MISSING)
                if values[0] != values[1]:
                    changes.append(Change(name, field, *values))
        else:
            changes.append(Change(name, "", *(("there", _MISSING) if name in old else (_MISSING, "there"))))
    return changes


def key_of(item: Object) -> str:
    """namespace/Kind/name; a generated name without its hash."""
    return f"{item['metadata'].get('namespace', '')}/{_HASH.sub('', name_of(item))}"


def _by_name(objects: Objects) -> dict[str, Any]:
    return {key_of(item): item for item in objects}


def _fields(value: Any) -> dict[str, Any]:
    return {".".join(path): _plain(leaf) for path, leaf in leaves(value)}


def _plain(leaf: Any) -> Any:
    return _HASH.sub("", leaf) if isinstance(leaf, str) else leaf
