"""One served model, made ready from a verified artifact: validate, fill in, encode, look up, run, answer, log."""

import time
from collections.abc import Sequence
from typing import Any

from features import ModelSchema
from features.online import OnlineReader
from pydantic_core import to_json
from release import Release

from serving.answers import Answers
from serving.batching import Runner
from serving.cache import ResponseCache
from serving.contract import Contract, Row
from serving.metrics import Metrics
from serving.model import Matrix, Model
from serving.redis_link import Bypass, RedisLink
from serving.settings import Settings

Outputs = list[list[float]]


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
        self.runner = Runner(model, metrics)
        key = schema.encode([schema.example()]).tobytes()
        self.cache = ResponseCache(
            release.spec.artifact.digest, model.cost.one_row, key, settings.cache_entries, settings.cache_seconds
        )
        self.cache.bind(metrics)
        self._reader = OnlineReader(schema)
        self._link: RedisLink | None = None
        self._metrics = metrics
        self._observe_score = metrics.of(metrics.scores).observe
        self._known = [
            (field.name, frozenset(field.vocabulary), metrics.of(metrics.unknown, field=field.name))
            for field in schema.fields
            if field.type == "category"
        ]
        row = to_json(schema.example())
        self.contract.one(b'{"features":%b}' % row)  # the first use of a validator is slow
        self.contract.batch(b'{"rows":[%b]}' % row)

    def use_redis(self, link: RedisLink) -> None:
        """Redis was reached: read views from it, and share the cache if that pays."""
        self._link = link
        self.cache.use_redis(link)

    async def predict_one(self, row: Row) -> list[float]:
        """The model's numbers for one row, from the cache where there is one. Fills the row in from the views."""
        if self._reader.views and self._link is not None:
            await self._fill([row], self._link)
        matrix = self._encode([row])
        cache = self.cache
        key = matrix.tobytes()
        if (found := cache.find(key)) is not None:
            return list(found)
        if cache.decision.shared and (found := await cache.find_shared(key)) is not None:
            return list(found)
        answer = self.runner.now(matrix)
        if answer is None:
            answer = await self.runner.later(matrix)
        output: list[float] = answer[0].tolist()
        cache.keep(key, output)
        return output

    async def predict_rows(self, rows: list[Row]) -> Outputs:
        """The model's numbers for a batch. A batch is not looked up: its rows cost less than their look-ups."""
        if self._reader.views and self._link is not None:
            await self._fill(rows, self._link)
        return await self.predict_matrix(self._encode(rows))

    async def predict_matrix(self, matrix: Matrix) -> Outputs:
        """The model's numbers for rows that are encoded already, shape (rows, fields)."""
        answer = self.runner.now(matrix)
        if answer is None:
            answer = await self.runner.later(matrix)
        return answer.tolist()  # type: ignore[no-any-return]

    def observe(self, outputs: Sequence[list[float]]) -> None:
        """Count what was predicted."""
        score = self.answers.score
        for output in outputs:
            self._observe_score(score(output))

    def decode(self, matrix: Matrix) -> list[Row]:
        """Encoded rows as named values, for the prediction log; what is missing is left out."""
        rows: list[Row] = []
        for values in matrix.tolist():
            row: Row = {}
            for field, value in zip(self.schema.fields, values, strict=True):
                if value == value:
                    row[field.name] = _decoded(field.type, field.vocabulary, value)
            rows.append(row)
        return rows

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
            "cache_lookup_ms": round(decision.local_cost * 1000, 4),
            "redis_round_trip_ms": None if decision.round_trip is None else round(decision.round_trip * 1000, 4),
        }

    def close(self) -> None:
        """Let go of the model's thread."""
        self.runner.close()

    def _encode(self, rows: list[Row]) -> Matrix:
        for name, known, counter in self._known:
            for row in rows:
                value = row.get(name)
                if value is not None and value not in known:
                    counter.inc()
        return self.schema.encode(rows)

    async def _fill(self, rows: list[Row], link: RedisLink) -> None:
        """Put the views' values where the caller gave none; without Redis they stay missing."""
        wanted = self._reader.wanted(rows)
        if not wanted:
            return
        try:
            documents = await link.call("online", lambda client: client.mget([key for _, _, key in wanted]))
        except Bypass:
            for name in {view.name for _, view, _ in wanted}:
                self._metrics.of(self._metrics.online, view=name, result="bypass").inc()
            return
        now = time.time()
        for (index, view, _), document in zip(wanted, documents, strict=True):
            values = self._reader.values(view, document, now)
            self._metrics.of(self._metrics.online, view=view.name, result="hit" if values else "miss").inc()
            row = rows[index]
            for field, value in values.items():
                if row.get(field) is None:
                    row[field] = value


def _decoded(kind: str, vocabulary: tuple[str, ...], value: float) -> Any:
    if kind == "category":
        return vocabulary[int(value)]
    return int(value) if kind == "integer" else value
