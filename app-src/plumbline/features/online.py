"""The online store: the newest values of a view for each entity, as JSON in Redis, under one key.

`write` is what materialisation calls, `read` what the server asks. Both are told the time, so that a test can hold the
values as of any moment against the point-in-time join of training.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from plumbline.core.schema import ModelSchema, SchemaField, Value, View
from plumbline.core.values import fits

if TYPE_CHECKING:
    from redis import Redis

PREFIX = "features"
_WRITE_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """What a view knows of one entity."""

    entity: Mapping[str, Value]
    """The value of each field that the view is keyed by."""
    values: Mapping[str, Value]
    at: float
    """Seconds since the epoch: the event time of the values."""


def entity_key(model: str, view: View, row: Mapping[str, Any]) -> str | None:
    """`features:<model>:<view>:<values joined by |>`; None where the row lacks one of them.

    The values are percent-encoded, so that `a|b` and `c` are not taken for `a` and `b|c`; 5.0 and 5 are one entity.
    """
    parts = []
    for name in view.entity:
        value = row.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        parts.append(quote(str(value), safe=""))
    return f"{PREFIX}:{model}:{view.name}:{'|'.join(parts)}"


def write(
    client: "Redis", schema: ModelSchema, view: View, entries: Iterable[Entry], *, now: float | None = None
) -> int:
    """Write the newest values of each entity and let them expire with their age; answers how many were written.

    Entries older than the view's max_age, or after `now`, are left out. Raises ValueError for an entry without an
    entity's field or with other fields than the view's, and redis.RedisError where Redis fails.
    """
    moment = time.time() if now is None else now
    newest: dict[str, Entry] = {}
    for entry in entries:
        key = entity_key(schema.model, view, entry.entity)
        if key is None:
            raise ValueError(f"{view.name}: the entry {dict(entry.entity)} lacks one of {list(view.entity)}")
        if set(entry.values) != set(view.fields):
            raise ValueError(f"{view.name}: an entry has {sorted(entry.values)}, expected {sorted(view.fields)}")
        fresh = 0 <= moment - entry.at <= view.max_age_seconds
        if fresh and (key not in newest or newest[key].at <= entry.at):
            newest[key] = entry
    items = list(newest.items())
    for start in range(0, len(items), _WRITE_CHUNK):
        pipeline = client.pipeline(transaction=False)
        for key, entry in items[start : start + _WRITE_CHUNK]:
            document = json.dumps({"at": entry.at, "values": _plain(entry.values)}, allow_nan=False)
            pipeline.set(key, document, ex=max(1, math.ceil(entry.at + view.max_age_seconds - moment)))
        pipeline.execute()
    if newest:
        # It has no end: how old the values are is to be known when nothing writes any more.
        client.set(newest_key(schema.model, view), max(entry.at for entry in newest.values()))
    return len(items)


def _plain(values: Mapping[str, Value]) -> dict[str, Value]:
    """JSON has no NaN: a missing number is null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def newest_key(model: str, view: View) -> str:
    """Where the moment of a view's newest values stands, of whatever entity."""
    return f"{PREFIX}:{model}:{view.name}"


class Stored(NamedTuple):
    """What the store holds of one entity."""

    at: float
    values: tuple[Value, ...]
    """In the order of the view's fields; None is known to be missing."""

    def holds(self, view: View, moment: float) -> bool:
        """Whether these are the values as of a moment: known by then, and not too old."""
        return 0 <= moment - self.at <= view.max_age_seconds


def read(fields: Mapping[str, SchemaField], view: View, document: bytes | str | None) -> Stored | None:
    """A stored document; None where there is none, it lacks one of the view's fields, or a value does not fit."""
    if document is None:
        return None
    try:
        entry = json.loads(document)
        at, values = float(entry["at"]), tuple(entry["values"][name] for name in view.fields)
    except (ValueError, KeyError, TypeError):
        return None
    fitting = (value is None or fits(fields[name], value) for name, value in zip(view.fields, values, strict=True))
    return Stored(at, values) if all(fitting) else None
