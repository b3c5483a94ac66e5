"""The prediction log: what was asked and answered goes to a Redis stream, and no request ever waits for it."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from serving.logs import log, timestamp
from serving.metrics import Metrics
from serving.redis_link import Bypass, RedisLink, State, still_wanted

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREDICTIONS, FEEDBACK = "predictions", "feedback"
_BATCH = 100
"""Rows in one call: encoding them keeps the event loop for half a millisecond."""
_IDLE_SECONDS = 0.05
# One command for many events: packing an XADD for each in Python costs more than the prediction itself.
_APPEND = """
for i = 2, #ARGV do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'event', ARGV[i]) end
return #ARGV - 1
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One answered request."""

    id: str
    at: float
    request_id: str
    arm: str
    subject: str
    rows: list[dict[str, Any]]
    outputs: list[str]
    """As answered: JSON."""
    seconds: float


class PredictionLog:
    """A queue in memory, bounded by its rows, and a task that moves it into the stream."""

    def __init__(self, link: RedisLink, capacity: int, maxlen: int, metrics: Metrics) -> None:
        self._link, self._capacity, self._maxlen = link, capacity, maxlen
        self._queue: deque[Event] = deque()
        self._rows = 0
        self._dropped = metrics.of(metrics.log_dropped)
        self._written = metrics.of(metrics.log_written)
        labels = metrics.labels
        self._head = to_json({"model": labels["model"], "version": labels["version"], "role": labels["role"]})[1:-1]

    def put(self, event: Event) -> None:
        """Keep an event for the stream, or count it as dropped when Redis was away for too long."""
        if self._rows + len(event.rows) > self._capacity:
            self._dropped.inc()
        else:
            self._queue.append(event)
            self._rows += len(event.rows)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS)
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
        events: list[Event] = []
        rows = 0
        for event in self._queue:
            if events and rows + len(event.rows) > _BATCH:
                break
            events.append(event)
            rows += len(event.rows)
        encoded = [self.encode(event) for event in events]

        async def append(client: "Redis") -> None:
            await client.eval(_APPEND, 1, PREDICTIONS, str(self._maxlen), *encoded)

        # An event leaves the queue when Redis has it. A call that failed late is made again: the consumer knows
        # an event by its id, so that twice does no harm and never does.
        await self._link.call("log", append, patient=True)
        for _ in events:
            self._queue.popleft()
        self._rows -= rows
        self._written.inc(len(events))

    def encode(self, event: Event) -> bytes:
        """The JSON document of the stream's `event` field."""
        rest = to_json(
            {
                "id": event.id,
                "at": timestamp(event.at),
                "request_id": event.request_id,
                "arm": event.arm,
                "subject": event.subject,
                "ms": round(event.seconds * 1000, 3),
                "rows": event.rows,
            }
        )
        return b'%b,%b,"outputs":[%b]}' % (rest[:-1], self._head, ",".join(event.outputs).encode())


async def append_feedback(link: RedisLink, document: bytes, maxlen: int) -> None:
    """Put one piece of feedback into its stream; raises Bypass where Redis did not confirm it."""

    async def add(client: "Redis") -> None:
        await client.xadd(FEEDBACK, {"event": document}, maxlen=maxlen, approximate=True)

    await link.call("feedback", add, patient=True)
