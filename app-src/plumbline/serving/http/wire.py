"""uvicorn's HTTP protocol, with bounds on what a connection may hold, and an answer's head and body in one write.

uvicorn writes them apart, and each is a system call, a packet and a wake-up of the caller: 6 to 13 µs of a request. It
bounds neither the size of a head nor the time that head and body may take.
"""

import asyncio
import time
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from plumbline.core import ids
from plumbline.serving.errors import MEDIA_TYPE, Problem
from plumbline.serving.http.asgi import RECEIVED, REFUSED
from plumbline.serving.logs import log


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may ask for."""

    head_bytes: int = 16 * 1024
    headers: int = 100
    pipelined: int = 16
    """Requests that may wait behind the one that is being answered."""
    head_seconds: float = 10
    """From a connection's or a request's first byte to the end of its head."""
    body_seconds: float = 30


_LINGER_SECONDS = 1.0


class _Part(Enum):
    """What of a request is on its way."""

    HEAD = "head"
    BODY = "body"


class _Joining:
    """A connection's transport that holds the head of an answer until its body follows, or nothing does."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 2"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._part: _Part | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        """Of a head that came in parts, without the first of them."""
        self._silent = 0
        """Bytes since the last of a body's: what stands between chunks, or after the last, is kept by the parser."""
        self._long = False
        """Whether the head may be too large: most come in one small piece, and need no look."""
        self._deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the joining transport between uvicorn and the connection, which has to say something in time."""
        self._joining = _Joining(transport)
        super().connection_made(cast(asyncio.Transport, self._joining))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._deaf:
            return
        begun, rest = self._part, data
        # The rest of a body whose answer is out already: the connection is kept as long as it was.
        answered = begun is _Part.BODY and self.cycle.response_complete
        if not answered:
            self._unset_keepalive_if_required()
        self._long = begun is _Part.HEAD or len(data) > self.limits.head_bytes
        try:
            while rest:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as offer:
                    rest = self._without_offer() + rest[offer.args[0] :]
        except httptools.HttpParserError as error:
            problem = error.__context__ if isinstance(error.__context__, Problem) else None
            self._refuse(problem or Problem(400, "what was sent is not HTTP/1.1"))
            return
        if self._part is begun is _Part.HEAD:
            self._head_bytes += len(data)
        elif self._part is begun is _Part.BODY:
            self._silent = self._silent + len(data) if self._silent >= 0 else 0
        if max(self._head_bytes, self._silent) > self.limits.head_bytes:
            self._refuse(self._too_large())
            return
        if answered and self._part is None:
            return
        # Also a connection that is kept alive, and sends what begins no request.
        if self._timer is None and (self._part is not None or self.cycle is None or self.cycle.response_complete):
            self._arm()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the half that answers stays open: a caller may have said all and still listen."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self._part is _Part.BODY:
            return False
        cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """A head begins."""
        self._part, self._head_bytes, self._silent = _Part.HEAD, 0, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hold the head against the limits, then begin to answer."""
        if len(self.headers) > self.limits.headers or (self._long and self._head_size() > self.limits.head_bytes):
            raise self._too_large()
        if len(self.pipeline) >= self.limits.pipelined:
            raise Problem(429, f"more than {self.limits.pipelined} requests wait on this connection")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Problem(405, "CONNECT is for proxies")
            return
        self._disarm()
        self._part = _Part.BODY
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._silent = -1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte is here: from now on it is the server's time."""
        if self.parser.should_upgrade():
            return
        self._disarm()
        self._part = None
        self.cycle.scope[RECEIVED] = time.perf_counter()  # type: ignore[literal-required]
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer without a body, to HEAD, leaves here."""
        self._joining.flush()
        super().on_response_complete()

    def _without_offer(self) -> bytes:
        """The head again, without its offer of another protocol, which may be ignored (RFC 9110, section 7.8).

        The parser takes what follows such an offer for the other protocol, and so for no body.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""])

    def _head_size(self) -> int:
        return len(self.url) + sum([len(name) + len(value) for name, value in self.headers])

    def _too_large(self) -> Problem:
        limits = self.limits
        if len(self.url) > limits.head_bytes:
            return Problem(414, f"the address is longer than {limits.head_bytes} bytes")
        return Problem(431, f"the head is larger than {limits.head_bytes} bytes or {limits.headers} headers")

    def _arm(self) -> None:
        seconds = self.limits.body_seconds if self._part is _Part.BODY else self.limits.head_seconds
        self._timer = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.flow.read_paused:  # the server itself doesn't read on
            self._arm()
        elif self._part is None and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        elif self._part is not None:
            seconds = self.limits.body_seconds if self._part is _Part.BODY else self.limits.head_seconds
            self._refuse(Problem(408, f"the {self._part.value} was not complete after {seconds:g} s"))

    def _refuse(self, problem: Problem) -> None:
        """Read no more, and answer `problem` unless the caller waits for other answers; then close."""
        self._deaf = True
        self._disarm()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False  # those that wait are answered in turn, and the last of them closes
            if self._part is _Part.BODY:
                cycle.scope[REFUSED] = problem  # type: ignore[literal-required]
                cycle.message_event.set()
            return
        if self._part is not _Part.BODY:  # else it has its answer
            self._answer(problem)
        # What is still sent is read and dropped: a close before it would reach the caller ahead of the answer.
        self._joining.flush()
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _answer(self, problem: Problem) -> None:
        request_id = ids.request_id(None)
        log.warning("refused before it was a request: %d %s", problem.status, problem.detail)
        body = problem.body(request_id)
        title = HTTPStatus(problem.status).phrase
        head = f"HTTP/1.1 {problem.status} {title}\r\nx-request-id: {request_id}\r\nconnection: close\r\n"
        kind = b"content-type: %b\r\ncontent-length: %d\r\n\r\n" % (MEDIA_TYPE, len(body))
        self.transport.write(head.encode() + kind + body)


def protocol_within(limits: Limits) -> type[Protocol]:
    """The protocol with these limits; uvicorn makes one for each connection and gives it nothing of ours."""
    return type("Protocol", (Protocol,), {"limits": limits})
