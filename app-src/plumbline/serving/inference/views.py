"""Views in a request's rows: looked up in one call, and filled in wholly or not at all.

A view is the caller's where it gave one of its fields, be it null: nothing is then looked up, and what it left out is
missing. Only a view of which it gave nothing comes from the online store, with every value that stands there.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.core.encoding import seconds_of
from plumbline.core.schema import ModelSchema, View
from plumbline.features.online import Stored, entity_key, newest_key, read
from plumbline.serving.errors import MAX_ERRORS, FieldError, Problem, shown
from plumbline.serving.inference.reader import ABSENT, Values
from plumbline.serving.metrics import Metrics
from plumbline.serving.redis_link import Bypass, RedisLink

Missing = Mapping[str, Sequence[int]]
"""{view: the rows of which it is missing}."""
NONE: Missing = {}
_WATCH_SECONDS = 15


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a view's fields stand in a row."""

    view: View
    fields: tuple[int, ...]
    entity: tuple[int, ...]

    def left_out(self, row: Values) -> bool:
        """Whether the caller gave none of the fields."""
        return all(row[place] is ABSENT for place in self.fields)


class Views:
    """The views of one served model."""

    def __init__(self, schema: ModelSchema, metrics: Metrics) -> None:
        places = {field.name: place for place, field in enumerate(schema.fields)}
        self.plans = [
            _Plan(view, tuple(places[name] for name in view.fields), tuple(places[name] for name in view.entity))
            for view in schema.views
        ]
        self._moment = next((place for place, field in enumerate(schema.fields) if field.moment), None)
        self._schema, self._metrics = schema, metrics
        self._fields = {field.name: field for field in schema.fields}
        # A series that begins with 1 shows no increase; and to find one costs as much as a small model.
        self._counted = {
            (view.name, result): metrics.of(metrics.online, view=view.name, result=result)
            for view in schema.views
            for result in ("hit", "miss", "bypass")
        }
        self._said = {view.name for view in schema.views if view.when_missing == "answer-and-say"}

    def said(self, missing: Missing) -> Missing:
        """What an answer says of the views that are missing."""
        return {name: rows for name, rows in missing.items() if name in self._said} if missing else NONE

    async def fill(self, rows: list[Values], link: RedisLink | None) -> tuple[list[Values], Missing]:
        """Rows without gaps, and which views are missing in them; raises Problem where such a row is not answered."""
        wanted = [
            (index, plan, self._key(plan, row))
            for plan in self.plans
            for index, row in enumerate(rows)
            if plan.left_out(row)
        ]
        stored = await self._look_up({key: plan.view for _, plan, key in wanted if key}, link)
        filled: dict[int, list[Any]] = {}
        missing: dict[str, list[int]] = {}
        now = time.time()
        failed = "bypass" if stored is None else "miss"
        for index, plan, key in wanted:
            entry = None if stored is None or key is None else stored.get(key)
            if entry is not None and entry.holds(plan.view, self._moment_of(rows[index], now)):
                row = filled.setdefault(index, list(rows[index]))
                for place, value in zip(plan.fields, entry.values, strict=True):
                    row[place] = value
                self._counted[plan.view.name, "hit"].inc()
            else:
                missing.setdefault(plan.view.name, []).append(index)
                self._counted[plan.view.name, failed].inc()
        self._require(rows, missing)
        return [_without_gaps(filled.get(index, row)) for index, row in enumerate(rows)], missing

    async def watch(self, link: RedisLink) -> None:
        """Tell the age of each view's newest values, whether anybody asks for them or not; runs until cancelled."""
        views, metrics = self._schema.views, self._metrics
        keys = [newest_key(self._schema.model, view) for view in views]
        for view in views:
            metrics.of(metrics.view_max_age, view=view.name).set(view.max_age_seconds)
        while True:
            try:
                moments = await link.call("views", lambda client: client.mget(keys), patient=True)
            except Bypass:
                await asyncio.sleep(_WATCH_SECONDS)
                continue
            for view, moment in zip(views, moments, strict=True):
                metrics.of(metrics.view_newest, view=view.name).set(float(moment or 0))
            await asyncio.sleep(_WATCH_SECONDS)

    def _key(self, plan: _Plan, row: Values) -> str | None:
        """None where the row does not say of what."""
        named = {name: row[place] for name, place in zip(plan.view.entity, plan.entity, strict=True)}
        if any(value is ABSENT for value in named.values()):
            return None
        return entity_key(self._schema.model, plan.view, named)

    def _moment_of(self, row: Values, now: float) -> float:
        """The row's own, where it has one: the values that were known then, as in training."""
        moment = None if self._moment is None else seconds_of(row[self._moment])
        return now if moment is None else moment

    async def _look_up(self, views: Mapping[str, View], link: RedisLink | None) -> dict[str, Stored] | None:
        """What the store knows of these keys; None where it can't be asked."""
        if not views:
            return {}
        try:
            if link is None:
                return None
            documents = await link.call("online", lambda client: client.mget(list(views)))
        except Bypass:
            return None
        stored = zip(views.items(), documents, strict=True)
        entries = ((key, read(self._fields, view, document)) for (key, view), document in stored)
        return {key: entry for key, entry in entries if entry is not None}

    def _require(self, rows: Sequence[Values], missing: Missing) -> None:
        """Raise Problem 424 that names the rows which are not to be answered without a view."""
        faults = [
            FieldError(plan.view.name, f"has no fresh values for row {index}: {_entity(plan, rows[index])}", expected)
            for plan in self.plans
            if plan.view.when_missing == "refuse"
            for expected in (f"the caller's own {', '.join(plan.view.fields)}, or the same request later",)
            for index in missing.get(plan.view.name, ())
        ]
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            detail = f"the view {faults[0].field} {faults[0].message}; expected {faults[0].expected}{more}"
            raise Problem(424, detail, faults[:MAX_ERRORS])


def _entity(plan: _Plan, row: Values) -> str:
    """Of what the values would be, in words."""
    given = zip(plan.view.entity, (row[place] for place in plan.entity), strict=True)
    return ", ".join(f"{name} {'not given' if value in (None, ABSENT) else shown(value)}" for name, value in given)


def _without_gaps(row: Sequence[Any]) -> Values:
    return tuple(None if value is ABSENT else value for value in row)
