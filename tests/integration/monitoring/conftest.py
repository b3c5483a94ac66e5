"""Events as a server writes them, and a consumer of them."""

import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from prometheus_client import CollectorRegistry

from plumbline.core import ids
from plumbline.monitoring.log.consumer import Consumer
from plumbline.monitoring.log.metrics import Metrics
from plumbline.monitoring.log.settings import Settings
from plumbline.monitoring.log.store import Store
from plumbline.monitoring.quality import Quality


class Log:
    """The streams of one Redis and the tables of one database."""

    def __init__(self, redis_url: str, postgres_dsn: str) -> None:
        self.redis_url, self.dsn = redis_url, postgres_dsn
        self.redis = redis.Redis.from_url(redis_url)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.random = random.Random(1)
        self.stores: list[Store] = []

    def new_id(self, at: datetime | None = None) -> str:
        moment = ids.floor(at or datetime.now(UTC)).int
        return str(UUID(int=moment | 0x7 << 76 | 0x2 << 62 | self.random.getrandbits(60)))

    def predict(self, *, rows: int | list[dict[str, Any]] = 1, at: datetime | None = None, **changes: Any) -> str:
        if isinstance(rows, int):
            rows = [{"distance": float(n), "carrier": "UA"} for n in range(rows)]
        event: dict[str, Any] = {
            "id": self.new_id(at), "at": (at or datetime.now(UTC)).isoformat(), "model": "flights",
            "version": "v1.0.0", "role": "stable", "arm": "", "subject": "", "request_id": "r",
            "columns": (columns := list(rows[0])), "data": [[row[name] for name in columns] for row in rows],
            "outputs": [{"label": "late", "probability": 0.8}] * len(rows), "ms": 0.5,
        }  # fmt: skip
        event |= changes
        self.redis.xadd("predictions", {"event": json.dumps(event)})
        return str(event["id"])

    def label(
        self,
        identifier: str,
        truth: Any = "late",
        value: float | None = None,
        at: datetime | None = None,
        **changes: Any,
    ) -> None:
        moment = (at or datetime.now(UTC)).isoformat()
        event = {"prediction_id": identifier, "at": moment, "model": "flights", "truth": truth, "value": value}
        self.redis.xadd("feedback", {"event": json.dumps(event | changes)})

    def settings(self, **changes: Any) -> Settings:
        values: dict[str, Any] = {
            "redis_url": self.redis_url, "database_url": self.dsn, "consumer": "one", "metrics_port": 0,
            "backoff_seconds": 0.3,
        }  # fmt: skip
        return Settings(**(values | changes))

    def consumer(self, **changes: Any) -> Consumer:
        store = Store(self.dsn)
        self.stores.append(store)
        return Consumer(self.settings(**changes), store, self.metrics)

    def consume(self, **changes: Any) -> None:
        self.consumer(**changes).run(threading.Event(), until_empty=True)

    def query(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement, values).fetchall()

    def count(self, table: str) -> int:
        return int(self.query(f"SELECT count(*) FROM monitoring.{table}")[0][0])  # noqa: S608

    def quality(self) -> Callable[..., float | None]:
        """What a consumer shows of answers and drift: a function of a series' name and labels."""
        store = Store(self.dsn)
        self.stores.append(store)
        registry = CollectorRegistry()
        registry.register(quality := Quality(store))
        quality.refresh()
        return lambda name, **labels: registry.get_sample_value(name, labels)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def open_log() -> Iterator[Callable[[str, str], Log]]:
    opened: list[Log] = []

    def start(redis_url: str, postgres_dsn: str) -> Log:
        opened.append(Log(redis_url, postgres_dsn))
        return opened[-1]

    yield start
    for store in itertools.chain.from_iterable(log.stores for log in opened):
        store.close()


@pytest.fixture
def log(open_log: Callable[[str, str], Log], redis_url: str, postgres_dsn: str) -> Log:
    return open_log(redis_url, postgres_dsn)
