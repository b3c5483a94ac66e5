"""The server's only way to Redis: short time limits, and a circuit breaker that makes a lost Redis cost nothing.

No prediction depends on Redis. A call that can't be made or takes too long raises `Bypass`, and its user goes on
without: no shared cache, limits for each pod alone, predictions kept in memory until there is room no more. Once the
breaker is open a request never waits; only a probe in the background does, and closes it when Redis answers again.
"""

import asyncio
import importlib
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from plumbline.serving.logs import log
from plumbline.serving.metrics import Metrics

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
_FAILURES_TO_OPEN = 3
_PROBE_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
PATIENT_SECONDS = 1.0
"""For work that nobody's prediction waits for: the prediction log and feedback."""


class Bypass(Exception):
    """Redis can't be asked now."""


class State(IntEnum):
    """The breaker's state, as the metric shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class RedisLink:
    """A quick and a patient client of one Redis, behind one breaker. It starts open, until a probe succeeds."""

    def __init__(self, url: str, timeout_ms: float, metrics: Metrics) -> None:
        self._url, self._timeout, self._metrics = url, timeout_ms / 1000, metrics
        self._quick: Redis | None = None
        self._patient: Redis | None = None
        self._failures = 0
        self._lost = asyncio.Event()
        self._asked = asyncio.Event()
        """Whether Redis answers is known, for the first time."""
        self.state = State.OPEN
        self.round_trip: float | None = None
        """The median seconds of a PING when the breaker last closed."""
        self.on_close: Callable[[], None] | None = None

    async def call(self, use: str, command: "Callable[[Redis], Awaitable[T]]", *, patient: bool = False) -> T:
        """Run one command within the time limit; raises Bypass where Redis does not answer it.

        A patient one that comes before the first probe has ended waits for that: a server is ready sooner.
        """
        if patient:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENT_SECONDS):
                    await self._asked.wait()
        client = self._patient if patient else self._quick
        if client is None or self.state is not State.CLOSED:
            self._count(use)
            raise Bypass(use)
        try:
            async with asyncio.timeout(PATIENT_SECONDS if patient else self._timeout):
                result = await command(client)
        except Exception as error:
            still_wanted()
            self._count(use)
            self._failed(error)
            raise Bypass(use) from error
        self._failures = 0
        return result

    async def keep(self) -> None:
        """Connect, and connect again whenever the breaker is open; runs until it is cancelled."""
        if self._patient is None:
            await self._make_clients()
        attempt = 0
        while True:
            answers = await self._probe()
            self._asked.set()
            if answers:
                attempt = 0
                self._lost.clear()
                await self._lost.wait()
            else:
                self.state = State.OPEN
                await asyncio.sleep(_PROBE_SECONDS[min(attempt, len(_PROBE_SECONDS) - 1)])
                attempt += 1

    async def close(self) -> None:
        """Give the connections back."""
        for client in (self._quick, self._patient):
            if client is not None:
                await client.aclose()

    async def _make_clients(self) -> None:
        # 14 MB and a third of the time that a pod has to be ready; nothing waits for it, so it comes after.
        module = await asyncio.to_thread(importlib.import_module, "redis.asyncio")
        retry = (await asyncio.to_thread(importlib.import_module, "redis.backoff")).NoBackoff()
        retries = (await asyncio.to_thread(importlib.import_module, "redis.asyncio.retry")).Retry(retry, 0)
        options = {"retry": retries, "protocol": 2, "max_connections": 256}
        self._quick = module.Redis.from_url(self._url, socket_timeout=self._timeout * 2, **options)
        self._patient = module.Redis.from_url(self._url, socket_timeout=PATIENT_SECONDS * 2, **options)

    async def _probe(self) -> bool:
        """Half-open: PINGs by nobody's request; they also measure the round trip that decides about the cache."""
        assert self._quick is not None  # noqa: S101 - keep() made it
        self.state = State.HALF_OPEN
        times = []
        try:
            async with asyncio.timeout(PATIENT_SECONDS):
                await self._quick.ping()
            for _ in range(9):
                start = time.perf_counter()
                async with asyncio.timeout(self._timeout):
                    await self._quick.ping()
                times.append(time.perf_counter() - start)
        except Exception as error:
            still_wanted()
            log.debug("Redis does not answer: %s", error)
            return False
        still_wanted()
        self.round_trip = statistics.median(times)
        self._failures, self.state = 0, State.CLOSED
        log.info("Redis answers in %.2f ms", self.round_trip * 1000)
        if self.on_close is not None:
            self.on_close()
        return True

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= _FAILURES_TO_OPEN and self.state is State.CLOSED:
            self.state = State.OPEN
            self._lost.set()
            log.warning("Redis is bypassed after %d failed calls in a row: %r", self._failures, error)

    def _count(self, use: str) -> None:
        self._metrics.of(self._metrics.redis_failures, use=use).inc()


def still_wanted() -> None:
    """Raise a cancellation that got lost: whoever stops a task waits for its end.

    redis-py sends by asyncio.wait_for, which before Python 3.12 swallows a cancellation that arrives as it is done
    (python/cpython#86296); the command then goes on as if nobody had asked it to stop.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
