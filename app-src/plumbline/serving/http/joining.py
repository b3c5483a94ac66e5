"""A transport for uvicorn that makes one write of an answer's head and body."""

import asyncio
from collections.abc import Callable
from typing import Any


class Joining:
    """A connection's transport that holds the head of an answer until its body follows, or nothing does.

    Whoever closes it asks `end` to.
    """

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self._transport = transport
        self._head = b""
        self.close = end
        self.ended = False
        """Whether nothing more is written, although what comes is still read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or wait for what follows."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 2"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write what waits."""
        if self._head:
            self.write(b"")

    def is_closing(self) -> bool:
        """Whether nothing more is answered."""
        return self.ended or self._transport.is_closing()
