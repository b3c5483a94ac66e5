"""The server's own tasks go on: one that ends is begun again, and somebody is told."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from plumbline.serving.logs import log
from plumbline.serving.redis_link import still_wanted

_DELAYS = (0.1, 1.0, 5.0, 30.0)
"""Seconds before a task that ended is begun again; the last from the fourth time on."""
_WELL_SECONDS = 60.0
"""After so long a task's earlier ends are forgotten."""


async def supervise(name: str, work: Callable[[], Awaitable[None]], failed: Callable[[], None]) -> None:
    """Run `work`, which should never end, until cancelled; `failed` is called each time that it ends all the same."""
    ends = 0
    while True:
        began = time.monotonic()
        error: Exception | None = None
        try:
            await work()
        except Exception as raised:
            error = raised
        still_wanted()
        ends = 0 if time.monotonic() - began > _WELL_SECONDS else ends
        delay = _DELAYS[min(ends, len(_DELAYS) - 1)]
        ends += 1
        failed()
        log.error("the task %s ended; it is begun again in %g s", name, delay, exc_info=error)
        await asyncio.sleep(delay)
