"""uvicorn's HTTP protocol, with bounds on what a connection may hold, and an answer's head and body in one write.

uvicorn writes them apart, and each is a system call, a packet and a wake-up of the caller: 6 to 13 µs of a request. It
bounds neither the size of a head nor the time that head, body and answer may take, closes before a refused body is
through, so that its sender reads a reset in place of the answer, and tells no request that its caller is gone.
"""

import asyncio
import socket
import struct
import time
from enum import Enum
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from plumbline.core import ids
from plumbline.serving.errors import MEDIA_TYPE, Problem, overloaded
from plumbline.serving.http.asgi import AT_ONCE, RECEIVED, REFUSED, Connections
from plumbline.serving.http.caller import Caller
from plumbline.serving.http.joining import Joining
from plumbline.serving.inference.batching import CALLER
from plumbline.serving.logs import log
from plumbline.serving.settings import Limits

_UNREAD_BYTES = 128 * 1024
"""Of answers, in the kernel, which doubles it. Left alone it takes up to 4 MB a connection, of the pod's memory."""
_RESET = struct.pack("ii", 1, 0)


class _Part(Enum):
    """What of a request is on its way."""

    HEAD = "head"
    BODY = "body"


class Protocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[Limits]
    held: ClassVar[Connections]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._part: _Part | None = None
        self._answering: RequestResponseCycle | None = None
        """The request whose turn it is; `cycle` is the last that came."""
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        """Of a head that came in parts, without the first of them."""
        self._silent = 0
        """Bytes since the last of a body's: what stands between chunks, or after the last, is kept by the parser."""
        self._long = False
        """Whether the head may be too large: most come in one small piece, and need no look."""
        self._deaf = False
        self._dropped = 0
        """Bytes that came after what was refused."""
        self._unread: asyncio.TimerHandle | None = None
        """Runs while the caller does not read what is written to it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the joining transport between uvicorn and the connection, which has to say something in time."""
        self._raw, self._joining = transport, Joining(transport, self._end)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD_BYTES)
        self._caller = Caller(self.loop, transport)
        super().connection_made(cast(asyncio.Transport, self._joining))
        self.held.open += 1
        if self.held.open <= self.held.most:
            self._arm()
        else:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more, and nothing is answered."""
        self.held.open -= 1
        self._disarm()
        self._expect_no_reading()
        super().resume_writing()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True  # uvicorn tells it to the last of the requests alone
            self._answering.message_event.set()
        self._caller.hung_up()
        super().connection_lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        """Leave no reference that comes back here: the collector, which finds such rings, hardly ever has to run."""
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self.scope = self.cycle = self._answering = None  # type: ignore[assignment]
        self._joining.close = _nothing

    def pause_writing(self) -> None:
        """The caller does not read; what it does not read in time it does not want."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """The caller has read; of a connection that closes it has to read all."""
        if not self._raw.is_closing():
            self._expect_no_reading()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._deaf:
            self._dropped += len(data)
            if self._dropped > self.limits.max_bytes_in_flight:
                self._raw.abort()
            return
        begun, rest = self._part, data
        # The rest of a body whose answer is out already: the connection is kept as long as it was.
        answered = begun is _Part.BODY and self.cycle.response_complete
        if not answered:
            self._unset_keepalive_if_required()
        self._long = begun is _Part.HEAD or len(data) > self.limits.max_head_bytes
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
        if max(self._head_bytes, self._silent) > self.limits.max_head_bytes:
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
            self._close()
            return False
        cycle.keep_alive = False
        if cycle.scope["http_version"] == "1.1":
            self._caller.said_all()
        return True

    def on_message_begin(self) -> None:
        """A head begins."""
        self._part, self._head_bytes, self._silent = _Part.HEAD, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head. One that follows a body is none, whatever it says (RFC 9110, section 6.5.1)."""
        if self._part is _Part.HEAD:
            name = name.lower()
            if name == b"expect":
                # Who speaks HTTP/1.0 would take a 100 for the answer.
                self.expect_100_continue = value.lower() == b"100-continue" and self.parser.get_http_version() != "1.0"
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hold the head against the limits, then begin to answer."""
        if len(self.headers) > self.limits.max_headers or (
            self._long and self._head_size() > self.limits.max_head_bytes
        ):
            raise self._too_large()
        if len(self.pipeline) >= self.limits.max_pipelined:
            raise Problem(429, f"more than {self.limits.max_pipelined} requests wait on this connection")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Problem(405, "CONNECT is for proxies")
            return
        self._disarm()
        super().on_headers_complete()
        self._part = _Part.BODY  # a target that can't be read ends here, as a head that is refused

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

    def _turn_away(self) -> None:
        """One connection too many. It gets an answer while there are not too many of these as well, and no line."""
        self.held.refused()
        if self.held.open > self.held.most * 9 // 8:
            self._raw.abort()
            return
        self._deaf = True
        self._answer(overloaded(f"the server has {self.held.most} connections, as many as it may; try again"))
        self._linger()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        cycle.scope[AT_ONCE] = self._at_once  # type: ignore[literal-required]
        CALLER.set(self._caller)
        super()._start_asgi_task(cycle, app)

    def _at_once(self, head: bytes, body: bytes) -> bool:
        """Write a whole answer of 200, without the two messages and the search of each header that uvicorn makes of it.

        False where there is more to do than to write: the connection ends with it, its caller does not read, or is
        gone.
        """
        cycle = self._answering
        if (
            cycle is None
            or not cycle.keep_alive
            or cycle.response_started
            or cycle.disconnected
            or self.flow.write_paused
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        ours = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
        self._raw.write(b"HTTP/1.1 200 OK\r\n%b%b\r\n%b" % (ours, head, body))
        cycle.message_event.set()
        cycle.on_response()
        return True

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
        if len(self.url) > limits.max_head_bytes:
            return Problem(414, f"the address is longer than {limits.max_head_bytes} bytes")
        return Problem(431, f"the head is larger than {limits.max_head_bytes} bytes or {limits.max_headers} headers")

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
            log.warning("refused before it was a request: %d %s", problem.status, problem.detail)
            self._answer(problem)
        self._linger()

    def _end(self) -> None:
        """Close. Where a body is still sent, read and drop it a while, or a reset would reach its sender first."""
        self._joining.flush()
        if (self._deaf or self._part is _Part.BODY) and not self._raw.is_closing():
            self._linger()
            return
        self._disarm()
        self._close()

    def _close(self) -> None:
        """Close once all is written, for which its reader has no more time than for any answer."""
        self._raw.close()
        if self._raw.get_write_buffer_size():
            self._expect_reading()

    def _linger(self) -> None:
        if self._joining.ended:
            return
        self._joining.flush()
        self._deaf = self._joining.ended = True
        self._disarm()
        self._raw.write_eof()
        self.flow.resume_reading()
        self._timer = self.loop.call_later(self.limits.linger_seconds, self._close)

    def _expect_reading(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self.limits.write_seconds, self._not_read)

    def _expect_no_reading(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _not_read(self) -> None:
        log.warning(
            "a caller did not read its answer within %g s: the connection is dropped", self.limits.write_seconds
        )
        # With a reset, or the kernel would offer the caller what it holds for minutes more.
        self._raw.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._raw.abort()

    def _answer(self, problem: Problem) -> None:
        request_id = ids.request_id(None)
        body = problem.body(request_id)
        title = HTTPStatus(problem.status).phrase
        headers = problem.headers | {"x-request-id": request_id, "connection": "close"}
        lines = [f"HTTP/1.1 {problem.status} {title}", *(f"{name}: {value}" for name, value in headers.items()), ""]
        head = "\r\n".join(lines)
        kind = b"content-type: %b\r\ncontent-length: %d\r\n\r\n" % (MEDIA_TYPE, len(body))
        self.transport.write(head.encode() + kind + body)


def _nothing() -> None:
    """What there is left to do for a connection that is lost."""


def protocol_within(limits: Limits, connections: Connections | None = None) -> type[Protocol]:
    """The protocol with these limits; uvicorn makes one for each connection and gives it nothing of ours."""
    counted = connections or Connections(limits.max_connections)
    return type("Protocol", (Protocol,), {"limits": limits, "held": counted})
