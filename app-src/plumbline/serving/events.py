"""The prediction log: what was asked and answered goes to a Redis stream, and no request ever waits for it."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from plumbline.core.logs import timestamp
from plumbline.serving.inference.model import Matrix
from plumbline.serving.inference.reader import Values
from plumbline.serving.logs import log
from plumbline.serving.metrics import MODEL, Metrics
from plumbline.serving.redis_link import Bypass, RedisLink, State, still_wanted

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREDICTIONS, FEEDBACK = "predictions", "feedback"
_EVENTS, _BYTES = 200, 4 << 20
"""In one call at most. As much as gathers until a busy loop gets to read its end."""
_IDLE_SECONDS = 0.05
_FULL = 0.25
"""The share of the queue from which on it is written at once."""
_MOST_BYTES = 32 << 20
"""Of the queue: a row may have texts of 100,000 characters, and a pod's memory is hardly ever for ten thousand such."""
_BETWEEN = b"\x1e"
"""Stands in no JSON."""
# One argument for many events: packing an XADD for each in Python costs more than the prediction itself.
_APPEND = r"""
for event in string.gmatch(ARGV[2], '[^\30]+') do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'event', event)
end
"""


@dataclass(slots=True)
class Event:
    """One answered request; nobody changes it, and to freeze it would cost a request more than to make it."""

    id: str
    at: float
    request_id: str
    arm: str
    subject: str
    rows: Sequence[Values] | Matrix
    """NaN in a matrix is a missing value."""
    outputs: bytes
    """As answered: JSON, with commas between."""
    seconds: float
    text: bytes | None = None
    """The rows as their caller wrote them (`Batch.text` of the reader); None where they must be written."""
    keyholder: str = ""
    """Whose key it was, by a hash (`ApiKey.known_as`); empty without keys."""
    missing: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """The rows of which a view is missing, by the view's name."""


class PredictionLog:
    """A queue in memory, bounded by its rows and bytes, and a task that moves it into the stream."""

    def __init__(
        self,
        link: RedisLink,
        columns: Sequence[str],
        capacity: int,
        maxlen: int,
        metrics: Metrics,
        role: str = "",
    ) -> None:
        self._link, self._capacity, self._maxlen = link, capacity, maxlen
        self._queue: deque[tuple[bytes, int]] = deque()
        self._rows = self._bytes = 0
        self._filling = asyncio.Event()
        self._dropped = metrics.of(metrics.log_dropped)
        self._written = metrics.of(metrics.log_written)
        self._named = {name: metrics.labels[name] for name in MODEL}
        self._head = b""
        self.set_role(role or metrics.labels["role"])
        # The names stand once before the rows: with each row they would be more than half of the stream.
        self._columns = orjson.dumps(columns)

    def set_role(self, role: str) -> None:
        """What events say of this pod from now on; nothing changes where that is empty."""
        if role:
            self._head = orjson.dumps(self._named | {"role": role})[1:-1]

    def put(self, event: Event) -> None:
        """Keep an event for the stream, or count it as dropped when Redis was away for too long."""
        if self._rows + len(event.rows) > self._capacity or self._bytes >= _MOST_BYTES:
            self._dropped.inc()
        else:
            # Written here, not when it is sent: many may be sent at once, and that must not keep the event loop.
            document = self.encode(event)
            self._queue.append((document, len(event.rows)))
            self._rows += len(event.rows)
            self._bytes += len(document)
            if self._rows >= self._capacity * _FULL and self._link.state is State.CLOSED:
                self._filling.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._filling.wait()
            self._filling.clear()
            try:
                while self._queue and self._link.state is State.CLOSED:
                    await self._write()
                    still_wanted()
            except Bypass:
                continue  # the events stay queued; the link's probe says when Redis is back

    async def drain(self, seconds: float) -> None:
        """Write what is left before the process ends, at most for so long; what stays is counted and logged."""
        try:
            async with asyncio.timeout(seconds):
                while self._queue:
                    await self._write()
        except (Bypass, TimeoutError):
            self._dropped.inc(len(self._queue))
            log.warning("%d predictions were not logged: Redis did not take them", len(self._queue))

    async def _write(self) -> None:
        events: list[bytes] = []
        rows = size = 0
        for event, count in self._queue:
            if events and (len(events) == _EVENTS or size + len(event) > _BYTES):
                break
            events.append(event)
            rows += count
            size += len(event)

        async def append(client: "Redis") -> None:
            await client.eval(_APPEND, 1, PREDICTIONS, str(self._maxlen), _BETWEEN.join(events))

        # An event leaves the queue when Redis has it. A call that failed late is made again: the consumer knows
        # an event by its id, so that twice does no harm and never does.
        await self._link.call("log", append, patient=True)
        for _ in events:
            self._queue.popleft()
        self._rows -= rows
        self._bytes -= size
        self._written.inc(len(events))

    def encode(self, event: Event) -> bytes:
        """The JSON document of the stream's `event` field."""
        fields = {
            "id": event.id,
            "at": timestamp(event.at),
            "request_id": event.request_id,
            "arm": event.arm,
            "subject": event.subject,
            "keyholder": event.keyholder,
            "ms": round(event.seconds * 1000, 3),
        }
        if event.missing:
            fields["missing_views"] = event.missing
        rest = orjson.dumps(fields)
        data = b"" if event.text else orjson.dumps(event.rows, option=orjson.OPT_SERIALIZE_NUMPY)
        rows = event.text or b'"columns":%b,"data":%b' % (self._columns, data)
        return b'%b,%b,%b,"outputs":[%b]}' % (rest[:-1], self._head, rows, event.outputs)


async def append_feedback(link: RedisLink, document: bytes, maxlen: int) -> None:
    """Put one piece of feedback into its stream; raises Bypass where Redis did not confirm it."""

    async def add(client: "Redis") -> None:
        await client.xadd(FEEDBACK, {"event": document}, maxlen=maxlen, approximate=True)

    await link.call("feedback", add, patient=True)
