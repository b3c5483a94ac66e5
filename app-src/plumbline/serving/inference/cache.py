"""Answers that need not be computed again. Layers that would cost more than the model are not used.

The key is the model's input, bit by bit, and what is kept are the model's numbers. The digests of the model and of the
server's image are part of the shared key: two images may encode, or run a model, differently. A change of threshold,
labels or version therefore can't bring back an old answer.
"""

import asyncio
import statistics
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from plumbline.serving.inference.model import Matrix
from plumbline.serving.metrics import Metrics
from plumbline.serving.redis_link import Bypass, RedisLink

if TYPE_CHECKING:
    from redis.asyncio import Redis

Row = Sequence[float]
_PAYS_AT = 20
"""A layer is used where the model costs so many times its look-up: it then pays from one hit in twenty on."""
_TRUST = 5
"""So many runs of the model may Redis have cost more than it saved; then it is asked for a sample of the keys only."""
_SAMPLE = 16
"""One key in so many, the same ones in every pod, and on until their hits have earned it the others again."""
_MAX_WRITES = 64
_WIDE = 512
"""Bytes of an input from which on its digest is the key: 10,000 inputs of 4,096 columns would be 160 MB."""


class LocalCache:
    """The newest answers of this process: least recently used leave first, and all after `seconds`."""

    def __init__(self, entries: int, seconds: float) -> None:
        self._entries, self._seconds = entries, seconds
        self._rows: OrderedDict[bytes, tuple[float, Row]] = OrderedDict()

    def get(self, key: bytes) -> Row | None:
        """The answer to an input, or None."""
        entry = self._rows.get(key)
        if entry is None:
            return None
        if entry[0] < time.monotonic():
            del self._rows[key]
            return None
        self._rows.move_to_end(key)
        return entry[1]

    def put(self, key: bytes, row: Row) -> None:
        """Keep an answer."""
        self._rows[key] = time.monotonic() + self._seconds, row
        if len(self._rows) > self._entries:
            self._rows.popitem(last=False)

    @classmethod
    def measured_cost(cls, key: bytes) -> float:
        """Seconds that a look-up which misses, and keeping the answer, add to a request."""
        cache, times = cls(64, 60), []
        for chunk in range(20):  # the median of many, for the machine may do something else in between
            keys = [key + i.to_bytes(2, "big") for i in range(chunk * 10, chunk * 10 + 10)]
            start = time.perf_counter()
            for item in keys:
                cache.get(item)
                cache.put(item, ())
            times.append((time.perf_counter() - start) / len(keys))
        return statistics.median(times)


@dataclass(frozen=True, slots=True)
class Decision:
    """Which layers are used, and the measured seconds that decided it."""

    local: bool
    shared: bool
    model: float
    local_cost: float
    round_trip: float | None

    @property
    def name(self) -> str:
        """For the metric's label."""
        return {(True, True): "local+redis", (True, False): "local"}.get((self.local, self.shared), "off")


class ResponseCache:
    """The layers in front of a model, chosen by measured cost; `origin` names all that answers follow from."""

    def __init__(self, origin: str, model_cost: float, key: bytes, entries: int, seconds: float) -> None:
        self._prefix = f"cache:{blake2b(origin.encode(), digest_size=12).hexdigest()}:".encode()
        self._local = LocalCache(entries, seconds)
        self._seconds = seconds
        self._link: RedisLink | None = None
        self._writes: set[asyncio.Task[None]] = set()
        cost = LocalCache.measured_cost(key)
        local = seconds > 0 and model_cost > _PAYS_AT * cost
        self.decision = Decision(local, False, model_cost, cost, None)
        self._balance = self._limit = _TRUST * model_cost
        """Seconds that Redis saved, less those that it took; between nothing and the trust, so that the past fades."""

    def bind(self, metrics: Metrics) -> None:
        """Count look-ups in these metrics."""
        child = metrics.of
        self._hit = child(metrics.cache, layer="local", result="hit")
        self._miss = child(metrics.cache, layer="local", result="miss")
        self._shared_hit = child(metrics.cache, layer="redis", result="hit")
        self._shared_miss = child(metrics.cache, layer="redis", result="miss")
        self._bypass = child(metrics.cache, layer="redis", result="bypass")
        self._off = child(metrics.cache, layer="local", result="bypass")
        child(metrics.cache_used, layer="local").set_function(lambda: float(self.decision.local))
        child(metrics.cache_used, layer="redis").set_function(lambda: self.share_asked)

    @property
    def share_asked(self) -> float:
        """Of the keys, those that Redis is asked for."""
        return 0.0 if not self.decision.shared else 1.0 if self._balance > 0 else 1 / _SAMPLE

    def asks_redis(self, key: bytes) -> bool:
        """Whether Redis is asked for this key: where inputs do not repeat it would only make the model slower."""
        return self.decision.shared and (self._balance > 0 or crc32(key) % _SAMPLE == 0)

    def use_redis(self, link: RedisLink) -> None:
        """Redis was reached and its round trip measured: use it if the model is slower by far."""
        self._link = link
        trip = link.round_trip
        shared = self.decision.local and trip is not None and self.decision.model > _PAYS_AT * trip
        self.decision = Decision(self.decision.local, shared, self.decision.model, self.decision.local_cost, trip)

    def key_of(self, matrix: Matrix) -> bytes:
        """By what the answer to one encoded row is found."""
        key = matrix.tobytes()
        return blake2b(key, digest_size=20).digest() if len(key) > _WIDE and self.decision.local else key

    def find(self, key: bytes) -> Row | None:
        """Look in this process; counts."""
        if not self.decision.local:
            self._off.inc()
            return None
        row = self._local.get(key)
        (self._miss if row is None else self._hit).inc()
        return row

    async def find_shared(self, key: bytes) -> Row | None:
        """Look in Redis; a lost or slow Redis is a miss."""
        assert self._link is not None  # noqa: S101 - the decision to share was made with a link
        start = time.perf_counter()
        try:
            stored = await self._link.call("cache", lambda client: client.get(self._shared_key(key)))
        except Bypass:
            self._bypass.inc()
            return None
        finally:
            # Twice: a miss is followed by a write, behind the request's back but on the same CPU.
            self._balance = max(0.0, self._balance - 2 * (time.perf_counter() - start))
        if not isinstance(stored, bytes) or len(stored) % 4:
            self._shared_miss.inc()
            return None
        self._shared_hit.inc()
        self._balance = min(self._limit, self._balance + self.decision.model)
        row: Row = np.frombuffer(stored, "<f4").tolist()
        self._local.put(key, row)
        return row

    def keep(self, key: bytes, row: Row) -> None:
        """Keep an answer in this process, and in Redis behind the request's back."""
        if self.decision.local:
            self._local.put(key, row)
        if self.asks_redis(key) and len(self._writes) < _MAX_WRITES:
            task = asyncio.create_task(self._keep_shared(key, row))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _keep_shared(self, key: bytes, row: Row) -> None:
        assert self._link is not None  # noqa: S101
        value = np.asarray(row, "<f4").tobytes()

        async def put(client: "Redis") -> None:
            await client.set(self._shared_key(key), value, px=int(self._seconds * 1000))

        try:
            await self._link.call("cache", put)
        except Bypass:
            self._bypass.inc()

    def _shared_key(self, key: bytes) -> bytes:
        return self._prefix + blake2b(key, digest_size=20).hexdigest().encode()
