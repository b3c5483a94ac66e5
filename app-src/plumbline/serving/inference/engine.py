"""One served model, made ready from a verified artifact: validate, fill in, encode, look up, run, answer, log."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from plumbline.core.release import Release
from plumbline.core.schema import ModelSchema, SchemaField, Value
from plumbline.serving.inference.answers import Answers
from plumbline.serving.inference.batching import Runner
from plumbline.serving.inference.cache import ResponseCache
from plumbline.serving.inference.contract import Contract
from plumbline.serving.inference.model import Matrix, Model
from plumbline.serving.inference.profile import Profile
from plumbline.serving.inference.reader import Batch, Values
from plumbline.serving.inference.views import NONE, Missing, Views
from plumbline.serving.metrics import Metrics
from plumbline.serving.redis_link import RedisLink
from plumbline.serving.settings import Settings


class Engine:
    """Everything between a request's bytes and the model's numbers."""

    def __init__(
        self, release: Release, schema: ModelSchema, model: Model, settings: Settings, metrics: Metrics
    ) -> None:
        self.release = release
        self.schema = schema
        self.model = model
        self.contract = Contract(schema, settings.max_batch_rows)
        self.answers = Answers(schema.output, release.spec.threshold)
        self.head = f'{{"model":"{release.model}","version":"{release.spec.version}",'
        """How every answer begins."""
        self.runner = Runner(model, metrics, settings)
        key = schema.encode([schema.example()]).tobytes()
        origin = f"{release.spec.artifact.digest} {release.spec.image.rpartition('@')[2]}"
        self.cache = ResponseCache(origin, model.cost.one_row, key, settings.cache_entries, settings.cache_seconds)
        self.cache.bind(metrics)
        self.views = Views(schema, metrics)
        self._link: RedisLink | None = None
        self._profile = Profile(schema, metrics)
        self._vocabularies = [
            (index, frozenset((*field.vocabulary, None)), metrics.of(metrics.unknown, field=field.name))
            for index, field in enumerate(schema.fields)
            if field.type == "category"
        ]
        self._lists = [
            (index, frozenset(field.vocabulary), metrics.of(metrics.unknown, field=field.name))
            for index, field in enumerate(schema.fields)
            if field.type == "categories"
        ]
        row = to_json(schema.example())
        self.contract.one(b'{"features":%b}' % row)  # the first use of a validator is slow
        self.contract.batch(b'{"rows":[%b]}' % row)

    def use_redis(self, link: RedisLink) -> None:
        """Redis was reached: read views from it, and share the cache if that pays."""
        self._link = link
        self.cache.use_redis(link)

    async def fill(self, batch: Batch) -> tuple[list[Values], Missing]:
        """Rows with the views' values where the caller gave none, and which views are missing in them.

        Raises Problem where a view is missing that the model does not answer without.
        """
        if batch.whole or not self.views.plans:
            return batch.rows, NONE
        return await self.views.fill(batch.rows, self._link)

    async def predict_one(self, row: Values) -> Sequence[float]:
        """The model's numbers for one row, from the cache where there is one."""
        matrix = self._encode([row])
        cache = self.cache
        key = cache.key_of(matrix)
        numbers = cache.find(key)
        if numbers is None and cache.asks_redis(key):
            numbers = await cache.find_shared(key)
        if numbers is None:
            answer = self.runner.now(matrix)
            if answer is None:
                answer = await self.runner.later(matrix)
            numbers = answer[0].tolist()
            cache.keep(key, numbers)
        else:
            answer = np.array([numbers], np.float32)
        self._profile.add(matrix, answer)
        return numbers

    async def predict_rows(self, rows: list[Values]) -> Matrix:
        """The model's numbers for a batch. A batch is not looked up: its rows cost less than their look-ups."""
        return await self.predict_matrix(self._encode(rows))

    async def predict_matrix(self, matrix: Matrix) -> Matrix:
        """The model's numbers for rows that are encoded already, shape (rows, width)."""
        answer = self.runner.now(matrix)
        if answer is None:
            answer = await self.runner.later(matrix)
        self._profile.add(matrix, answer)
        return answer

    def decode(self, matrix: Matrix) -> Sequence[Values] | Matrix:
        """Encoded rows as values, for the prediction log; None for what is missing.

        Numbers are what they were: their matrix is left as it is, which takes a quarter of the time to write.
        """
        if all(field.type == "number" for field in self.schema.fields):
            return matrix
        columns = [_decoded(field, column) for field, column in zip(self.schema.fields, matrix.T, strict=True)]
        return list(zip(*columns, strict=True))

    def describe(self) -> dict[str, Any]:
        """What is served and how, for /v1/models."""
        cost, decision = self.model.cost, self.cache.decision
        return {
            "one_row_ms": round(cost.one_row * 1000, 4),
            "per_row_ms": round(cost.per_row * 1000, 4),
            "threads": cost.threads,
            "batching": self.runner.mode,
            "batch_rows": cost.batch_rows,
            "cache": decision.name,
            "redis_share_asked": self.cache.share_asked,
            "cache_lookup_ms": round(decision.local_cost * 1000, 4),
            "redis_round_trip_ms": None if decision.round_trip is None else round(decision.round_trip * 1000, 4),
        }

    def close(self) -> None:
        """Let go of the model's thread."""
        self.runner.close()

    def _encode(self, rows: list[Values]) -> Matrix:
        for index, vocabulary, counter in self._vocabularies:
            for row in rows:
                if row[index] not in vocabulary:
                    counter.inc()
        for index, vocabulary, counter in self._lists:
            members: list[Any] = [row[index] or () for row in rows]
            counter.inc(sum(len(set(given) - vocabulary) for given in members))
        return self.schema.encode_values(rows)


def _decoded(field: SchemaField, column: npt.NDArray[np.float32]) -> list[Value]:
    values: list[Value] = column.tolist()
    read: dict[str, Callable[[Any], Value]] = {
        "number": float,
        "integer": int,
        "boolean": bool,
        "category": lambda code: field.vocabulary[int(code)],
    }
    return [None if value != value else read[field.type](value) for value in values]
