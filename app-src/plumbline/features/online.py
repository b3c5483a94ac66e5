"""The online store: the newest values of a view for each entity, as JSON in Redis, under one key.

`write` is what materialisation calls, `OnlineReader` what the server asks. Both take the time as an argument, so that a
test can hold the values as of any moment against the point-in-time join of training.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from plumbline.core.schema import ModelSchema, Value, View
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
    entity's field or with a value that the view does not have, and redis.RedisError where Redis fails.
    """
    moment = time.time() if now is None else now
    newest: dict[str, Entry] = {}
    for entry in entries:
        key = entity_key(schema.model, view, entry.entity)
        if key is None:
            raise ValueError(f"{view.name}: the entry {dict(entry.entity)} lacks one of {list(view.entity)}")
        if unknown := set(entry.values) - set(view.fields):
            raise ValueError(f"{view.name}: {sorted(unknown)} are not fields of the view {list(view.fields)}")
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
    return len(items)


def _plain(values: Mapping[str, Value]) -> dict[str, Value]:
    """JSON has no NaN: a missing number is null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


class OnlineReader:
    """Which values of a request's rows the store can fill in, and how its answers are read."""

    def __init__(self, schema: ModelSchema) -> None:
        self._schema = schema
        self._fields = {field.name: field for field in schema.fields}
        self.views = schema.views

    def wanted(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, View, str]]:
        """(row, view, key) for each view that knows a value which the row lacks."""
        lookups = []
        for view in self.views:
            for index, row in enumerate(rows):
                lacks = any(row.get(name) is None for name in view.fields)
                if lacks and (key := entity_key(self._schema.model, view, row)) is not None:
                    lookups.append((index, view, key))
        return lookups

    def values(self, view: View, document: bytes | str | None, now: float) -> dict[str, Value]:
        """The values of a stored document; empty where there is none, it is too old, or it is not of the schema."""
        if document is None:
            return {}
        try:
            entry = json.loads(document)
            at, values = float(entry["at"]), entry["values"]
            if not 0 <= now - at <= view.max_age_seconds:
                return {}
            return {
                name: values[name]
                for name in view.fields
                if values.get(name) is not None and fits(self._fields[name], values[name])
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}
