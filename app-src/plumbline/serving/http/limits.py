"""Rate limits: a token bucket for each API key in Redis, of which each pod leases a tenth of a second.

A request takes a token from the pod's lease, in memory; the next lease is asked for in the background when half is
used. A request waits for Redis only where the lease is empty, for the link's time limit at most. Without Redis each
pod applies the whole rate by itself: callers are limited less, and never refused for Redis' sake.
"""

import asyncio
import math
import time
from typing import TYPE_CHECKING

from plumbline.serving.http.keys import ApiKey
from plumbline.serving.redis_link import Bypass, RedisLink, State

if TYPE_CHECKING:
    from redis.asyncio import Redis

_LEASE_SECONDS = 0.1
_KEPT_SECONDS = 1.0
"""A lease that is not used up by then is forgotten: its tokens would come on top of those given out since."""

# KEYS[1] the bucket; ARGV: rate, capacity, tokens wanted. Answers the tokens given and the seconds until one is there.
# Redis' own clock, so that the pods' clocks do not matter.
_LEASE = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local rate, capacity, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(state[1]) or capacity
local at = tonumber(state[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
local given = math.min(want, math.floor(tokens))
tokens = tokens - given
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('PEXPIRE', KEYS[1], math.ceil(capacity / rate * 1000) + 1000)
local wait = 0
if given < 1 then wait = (1 - tokens) / rate end
return {given, tostring(wait)}
"""


class Bucket:
    """A token bucket in memory; used where Redis can't be asked."""

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate, self._capacity = rate, capacity
        self._tokens, self._at = capacity, time.monotonic()

    def take(self) -> float:
        """Take one token: 0.0 if there was one, else the seconds until there is."""
        now = time.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class Limiter:
    """The limit of one API key in this pod."""

    def __init__(self, key: ApiKey, link: RedisLink | None) -> None:
        self.key, self._link = key, link
        self._redis_key = f"limit:{key.name}"
        self._chunk = max(1, min(math.floor(key.rate * _LEASE_SECONDS), math.floor(key.capacity / 4)))
        self._leased = 0
        self._until = 0.0
        self._local = Bucket(key.rate, key.capacity)
        self._refill: asyncio.Task[float | None] | None = None

    def take_now(self) -> bool:
        """Take a token from the lease if it holds one, without waiting."""
        if self._leased <= 0 or time.monotonic() > self._until:
            return False
        self._leased -= 1
        if self._leased <= self._chunk // 2 and self._refill is None:
            self._lease()
        return True

    async def take(self) -> float:
        """Take a token: 0.0, or the seconds after which to try again."""
        if self.take_now():
            return 0.0
        if self._link is None or self._link.state is not State.CLOSED:
            return self._local.take()
        wait: float | None = 0.0
        while wait == 0:  # others may have taken the lease first, or a process that stood still has forgotten it
            wait = await asyncio.shield(self._refill or self._lease())
            if wait is not None and self.take_now():
                return 0.0
        return self._local.take() if wait is None else wait

    def _lease(self) -> "asyncio.Task[float | None]":
        self._refill = asyncio.create_task(self._ask())
        return self._refill

    async def _ask(self) -> float | None:
        """Lease from Redis: the seconds until there is a token (0.0 if some were given), None without Redis."""
        key = self.key

        async def ask(client: "Redis") -> tuple[int, bytes]:
            return await client.eval(  # type: ignore[no-any-return]
                _LEASE, 1, self._redis_key, str(key.rate), str(key.capacity), str(self._chunk)
            )

        assert self._link is not None  # noqa: S101 - take() asked
        try:
            given, wait = await self._link.call("limit", ask)
        except Bypass:
            return None
        finally:
            self._refill = None
        now = time.monotonic()
        self._leased = given + (self._leased if now <= self._until else 0)
        self._until = now + _KEPT_SECONDS
        return float(wait)
