"""Wrong keys are limited by the address that they come from, in memory that is bounded.

A right key is let in whatever its neighbours sent: behind one address stand many callers, and who guesses must not shut
them out. A key of 128 random bits is not found by guessing; the limit keeps the guesses cheap, and counts them.
"""

from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address

from plumbline.serving.http.asgi import Context, Scope
from plumbline.serving.http.limits import Bucket

_MOST = 10_000
"""Addresses at once; beyond that the one that was quiet for longest is forgotten."""


class Addresses:
    """A bucket of wrong keys for each address."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, address: str) -> float:
        """Count a wrong key: 0.0 if it may be answered, else the seconds until the next one may."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = Bucket(self.rate, self._burst)
            if len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(address)
        return bucket.take()


def address_of(scope: Scope, context: Context, *, by_gateway: bool) -> str:
    """Whom a request comes from: the peer or, where that is the gateway, the peer that it names.

    The gateway appends its own peer to what a caller wrote into x-forwarded-for, so that only the end is to be
    believed. Of IPv6 it is the network: a caller has all addresses of a /64.
    """
    peer: str = (scope.get("client") or ("",))[0]
    if by_gateway:
        peer = context.headers.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip().decode("latin-1") or peer
    try:
        address = ip_address(peer)
    except ValueError:
        return peer[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))
