"""The consumer: from the streams to PostgreSQL, each entry in effect exactly once.

An entry is acknowledged only after its transaction was committed. A crash between the two delivers it again, and its
primary key leaves it out. Nothing is held in memory between two steps: after any failure the entries that were read
and not acknowledged are read from Redis again.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import redis

from plumbline.monitoring.log.events import STREAMS, Feedback, PoisonError, Prediction, Window, parse
from plumbline.monitoring.log.metrics import Metrics
from plumbline.monitoring.log.settings import Settings
from plumbline.monitoring.log.store import DeadLetter, RefusedError, Store

GROUP = "monitoring"
_BLOCK_MS = 1000
_CHUNK_BYTES = 4 << 20
"""Of JSON in one transaction: bounds memory where requests hold thousands of rows."""
_MEASURE_SECONDS = 5
_UNTIL_EMPTY_PATIENCE = 60
_STUCK_SECONDS = 120
"""More than any try takes that ends by itself: timeouts of Redis and the pool, and the longest pause."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream."""

    stream: str
    id: str
    fields: dict[str, bytes]

    @property
    def body(self) -> bytes:
        """The event, or all fields of an entry that has none."""
        return self.fields.get("event", repr(self.fields).encode())


class Consumer:
    """One member of the group `monitoring`."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self._settings, self._store, self._metrics = settings, store, metrics
        # RESP2 by name: the shape of stream replies differs in RESP3, which newer clients may choose by themselves.
        self._redis = redis.Redis.from_url(
            str(settings.redis_url), protocol=2, socket_timeout=10, socket_connect_timeout=5, client_name="monitoring"
        )
        self._ready = self._recovering = False
        self._measure_at = self._claim_at = 0.0
        self._turn_at = time.monotonic()
        self._gap_counted_at: dict[str, str] = {}

    def run(self, stop: threading.Event, *, until_empty: bool = False) -> None:
        """Consume until `stop` is set, or until both streams are read; tries again for ever while a server is away.

        With `until_empty` a server that stays away for 60 s raises its error.
        """
        failures, last_success = 0, time.monotonic()
        while not stop.is_set():
            self._turn_at = time.monotonic()
            try:
                handled = self.step(block_ms=None if until_empty else _BLOCK_MS)
            except (redis.RedisError, psycopg.Error) as error:
                failures += 1
                self._ready = False
                service = "redis" if isinstance(error, redis.RedisError) else "postgresql"
                self._metrics.reconnects.labels(service).inc()
                log.warning("%s: %s; try %d follows", service, str(error).strip(), failures + 1)
                if until_empty and time.monotonic() - last_success > _UNTIL_EMPTY_PATIENCE:
                    raise
                longest = min(self._settings.backoff_seconds, 0.1 * 2 ** min(failures, 16))
                stop.wait(longest * random.uniform(0.5, 1))  # noqa: S311 - spreads the retries of several consumers
            else:
                failures, last_success = 0, time.monotonic()
                if until_empty and not handled and not self._recovering:
                    return

    def alive(self) -> bool:
        """Whether it still turns. A server that is away does not make it stuck: a restart would not help."""
        return time.monotonic() - self._turn_at < _STUCK_SECONDS

    def ready(self) -> bool:
        """Whether it reached both servers and has not lost one since."""
        return self._ready

    def step(self, *, block_ms: int | None) -> int:
        """Read one batch, store it, acknowledge it; returns how many entries it had."""
        if not self._ready:
            self._prepare()
        now = time.monotonic()
        if now >= self._measure_at:
            self._measure_at = now + _MEASURE_SECONDS
            self._store.make_partitions((), ahead_of=datetime.now(UTC).date())
            self._measure()
        entries = list(self._read(block_ms))
        for chunk in _chunks(entries):
            self._handle(chunk)
        return len(entries)

    def _prepare(self) -> None:
        """After a start or a failure: tables and groups are there, and what this consumer left undone comes first."""
        self._store.migrate()
        for stream in STREAMS:
            try:
                # From 0: what was logged before the first consumer started counts too.
                self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        self._ready = self._recovering = True

    def _read(self, block_ms: int | None) -> Iterator[Entry]:
        """This consumer's own unfinished entries, then those of consumers that are gone, then new ones."""
        if self._recovering:
            own = list(self._read_group("0", None))
            if own:
                yield from own
                return
            self._recovering = False
        if time.monotonic() >= self._claim_at:
            claimed = [entry for stream in STREAMS for entry in self._claim(stream)]
            if claimed:
                yield from claimed
                return
            self._claim_at = time.monotonic() + self._settings.claim_seconds / 2
        yield from self._read_group(">", block_ms)

    def _read_group(self, start: str, block_ms: int | None) -> Iterator[Entry]:
        streams: dict[Any, Any] = dict.fromkeys(STREAMS, start)
        reply: Any = self._redis.xreadgroup(
            GROUP, self._settings.consumer, streams, count=self._settings.batch_entries, block=block_ms
        )
        for stream, entries in reply or ():
            yield from self._present(stream.decode(), entries)

    def _claim(self, stream: str) -> Iterator[Entry]:
        idle = int(self._settings.claim_seconds * 1000)
        reply: Any = self._redis.xautoclaim(
            stream, GROUP, self._settings.consumer, idle, count=self._settings.batch_entries
        )
        _, entries, deleted = reply
        # XAUTOCLAIM takes trimmed entries off the pending list itself; what it names is gone.
        self._count_lost(stream, len(deleted))
        yield from self._present(stream, entries)

    def _present(self, stream: str, entries: Any) -> Iterator[Entry]:
        """The entries that still have a body; what was trimmed while it was pending is counted and let go."""
        for name, fields in entries:
            if fields:
                yield Entry(stream, name.decode(), {key.decode(errors="replace"): body for key, body in fields.items()})
            else:
                self._count_lost(stream, 1)
                self._redis.xack(stream, GROUP, name)

    def _handle(self, entries: Sequence[Entry]) -> None:
        predictions: list[Prediction] = []
        feedback: list[Feedback] = []
        dead: list[DeadLetter] = []
        window = Window.around(datetime.now(UTC), days=self._settings.retention_days)
        for entry in entries:
            try:
                event = parse(entry.stream, entry.id, entry.fields, window)
            except PoisonError as error:
                dead.append(DeadLetter(entry.stream, entry.id, str(error), entry.body))
            else:
                predictions.append(event) if isinstance(event, Prediction) else feedback.append(event)
        try:
            self._write(predictions, feedback, dead)
        except RefusedError as error:
            if len(entries) > 1:
                for entry in entries:
                    self._handle([entry])
                return
            dead = [DeadLetter(entries[0].stream, entries[0].id, str(error), entries[0].body)]
            self._write([], [], dead)
        self._acknowledge(entries, {(letter.stream, letter.entry) for letter in dead})

    def _write(self, predictions: list[Prediction], feedback: list[Feedback], dead: list[DeadLetter]) -> None:
        with self._metrics.commit.time():
            written = self._store.write(predictions, feedback, dead)
        self._metrics.rows.labels("predictions").inc(written.predictions)
        self._metrics.rows.labels("feedback").inc(written.feedback)
        for letter in dead:
            log.error("parked %s entry %s: %s", letter.stream, letter.entry, letter.reason)

    def _acknowledge(self, entries: Sequence[Entry], parked: set[tuple[str, str]]) -> None:
        for stream in STREAMS:
            ids = [entry.id for entry in entries if entry.stream == stream]
            if ids:
                self._redis.xack(stream, GROUP, *ids)
                bad = sum((stream, entry) in parked for entry in ids)
                self._metrics.entries.labels(stream, "parked").inc(bad)
                self._metrics.entries.labels(stream, "stored").inc(len(ids) - bad)

    def _measure(self) -> None:
        """Lag, pending entries, and what was trimmed before this group read it."""
        for stream in STREAMS:
            infos: Any = self._redis.xinfo_groups(stream)
            group = {info["name"]: info for info in infos}.get(GROUP.encode())
            if group is None:
                raise redis.ResponseError(f"NOGROUP: the stream {stream} has lost its consumer group")
            whole: Any = self._redis.xinfo_stream(stream)
            self._metrics.lag.labels(stream).set(float("nan") if group["lag"] is None else group["lag"])
            self._metrics.pending.labels(stream).set(group["pending"])
            read = group["entries-read"]
            gap = 0 if read is None else whole["entries-added"] - whole["length"] - read
            position = group["last-delivered-id"].decode()
            if gap > 0 and self._gap_counted_at.get(stream) != position:
                self._gap_counted_at[stream] = position
                self._count_lost(stream, gap)

    def _count_lost(self, stream: str, entries: int) -> None:
        if entries:
            log.error("%s: Redis trimmed %d entries before they were stored", stream, entries)
            self._metrics.lost.labels(stream).inc(entries)


def _chunks(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Runs of at least one entry and, beyond that, at most 4 MB."""
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        if chunk and size + len(entry.body) > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry.body)
    if chunk:
        yield chunk
