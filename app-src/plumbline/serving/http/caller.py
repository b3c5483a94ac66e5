"""Whether a caller is still there while its rows wait for the model: uvicorn lets a request run on for nobody.

A caller that closes its connection and one that closes only its half of it look alike: what was said is at its end. The
second waits for its answer, so that both are told to go on (HTTP/1.1 lets a server say 100 at any time). A caller that
is gone refuses that, and the next write finds the connection lost.
"""

import asyncio
from typing import Any

from plumbline.serving.errors import HungUp

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIRST_SECONDS, _MOST_SECONDS = 0.02, 1.0
"""Between two of them; each time twice as long."""


class Caller:
    """The other end of a connection, of whose requests one at a time is answered."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop, self._transport = loop, transport
        self._answer: asyncio.Future[Any] | None = None
        self._gone = self._silent = False

    def waits_for(self, answer: "asyncio.Future[Any]") -> None:
        """Give `answer` the exception HungUp when this caller goes away before it is there."""
        self._answer = answer
        answer.add_done_callback(self._answered)
        if self._gone:
            self.hung_up()
        elif self._silent:
            self._probe(_FIRST_SECONDS)

    def said_all(self) -> None:
        """Nothing follows from this caller, which may still listen."""
        self._silent = True
        self._probe(_FIRST_SECONDS)

    def hung_up(self) -> None:
        """The connection is lost."""
        self._gone = True
        if self._waits() and self._answer is not None:
            self._answer.set_exception(HungUp())

    def _answered(self, _: "asyncio.Future[Any]") -> None:
        self._answer = None

    def _waits(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _probe(self, seconds: float) -> None:
        if self._waits() and not self._gone:
            self._transport.write(_CONTINUE)
            self._loop.call_later(seconds, self._probe, min(2 * seconds, _MOST_SECONDS))
