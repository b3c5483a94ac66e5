"""The few pieces of ASGI that the hot routes share: what is known of a request, its body, its answer."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from plumbline.core import ids
from plumbline.serving.errors import FieldError, Problem, overloaded

if TYPE_CHECKING:
    from plumbline.serving.http.keys import ApiKey

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTEXT = "plumbline"
"""Where the edge leaves a request's context in the scope."""
RECEIVED = "plumbline.received"
"""Where the connection leaves the time of a request's last byte, by time.perf_counter; absent until then."""
REFUSED = "plumbline.refused"
"""Where the connection leaves a Problem with a body that will not be complete: it is late, or broken."""
AT_ONCE = "plumbline.at-once"
"""Where the connection leaves what writes a whole answer: (headers, body) → whether it did."""
INFER = "/v2/models/{model}/infer"
"""The route that its metrics are labelled with, with or without a version in the path."""
_JSON = (b"content-type", b"application/json")
_MAX_HEADER = 256
_TAKEN_FOR_JSON = (b"application/json", b"application/x-www-form-urlencoded")
_ENCODINGS = (b"gzip", b"deflate", b"identity")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_MEMBERS = 64
"""Of one gzip stream. What follows a member is copied: 200,000 empty ones in 4 MB would take minutes."""


class Bodies:
    """The bytes of all bodies that are being read, or whose requests wait for their answers."""

    __slots__ = ("most", "size")

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0

    def require(self, size: int) -> None:
        """Raise Problem 503 where so many more are too many."""
        if self.size + size > self.most:
            # The rest of the body is not read, so that the connection can't be used again.
            raise overloaded("the server holds as much as it can; send it again", connection="close")


class Connections:
    """Those that are open, and what is called for each that is refused beyond so many."""

    __slots__ = ("most", "open", "refused")

    def __init__(self, most: int) -> None:
        self.most, self.open = most, 0
        self.refused: Callable[[], None] = lambda: None


class Context:
    """What the edge knows of a request."""

    __slots__ = ("at_once", "bodies", "caller", "headers", "held", "request_id", "started", "status")

    def __init__(
        self,
        headers: dict[bytes, bytes],
        request_id: str,
        started: float,
        bodies: Bodies,
        at_once: Callable[[bytes, bytes], bool] | None = None,
    ) -> None:
        self.at_once = at_once
        self.bodies = bodies
        self.held = 0
        """Bytes among those of `bodies`, until the request is answered."""
        self.headers = headers
        self.request_id = request_id
        self.started = started
        """When the last byte was received; of time.perf_counter, in seconds."""
        self.status = 0
        """Of the answer, once it has begun."""
        self.caller: ApiKey | None = None
        """Whose key it was; None where no keys are asked for."""

    @property
    def keyholder(self) -> str:
        """The caller by a hash of its name, for logs; empty where no keys are asked for, or none is known."""
        return "" if self.caller is None else self.caller.known_as

    def prediction_id(self) -> str:
        """A new id for the caller's prediction, by which its feedback is told from that of others."""
        return ids.prediction_id(seal=b"" if self.caller is None else self.caller.seal)

    def text(self, name: bytes) -> str:
        """A header as text, cut to 256 characters; empty where there is none."""
        return self.headers.get(name, b"")[:_MAX_HEADER].decode("latin-1")

    def hold(self, size: int) -> None:
        """Count bytes of this request's body; raises Problem 503 where the server has no room for them."""
        self.bodies.require(size)
        self.bodies.size += size
        self.held += size


def require_json(context: Context) -> None:
    """Refuse a body that is declared to be anything but JSON; what `curl -d` says of any body is taken for it."""
    kind = context.headers.get(b"content-type", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() not in _TAKEN_FOR_JSON:
        shown = context.text(b"content-type") or "not set"
        raise Problem(
            415,
            f"the content type is {shown}; expected application/json",
            [FieldError("content-type", f"is {shown}", "application/json")],
            {"accept-post": "application/json"},
        )


async def read_body(context: Context, receive: Receive, limit: int) -> bytes:
    """The whole body, unpacked; raises Problem 413 beyond `limit` bytes, 400 and 415 for what can't be unpacked."""
    encoding = context.headers.get(b"content-encoding")
    if encoding is None:
        return await _read(context, receive, limit)
    if encoding.lower() not in _ENCODINGS:
        shown = context.text(b"content-encoding")
        raise Problem(
            415,
            f"the content encoding is {shown}; expected gzip, deflate or none",
            [FieldError("content-encoding", f"is {shown}", "gzip, deflate or none")],
            {"accept-encoding": "gzip, deflate"},
        )
    body = await _read(context, receive, limit)
    if encoding.lower() == b"identity":
        return body
    plain = await asyncio.to_thread(_unpacked, body, limit)
    context.hold(len(plain))
    return plain


def _unpacked(body: bytes, limit: int) -> bytes:
    plain = b""
    for _ in range(_MEMBERS):  # a stream in gzip may have several (RFC 1952, section 2.2)
        packed = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            plain += packed.decompress(body, limit + 1 - len(plain))
        except zlib.error as error:
            raise _not_packed() from error
        if len(plain) > limit:
            raise _too_large(limit)
        if not packed.eof or len(packed.unused_data) == len(body):
            raise _not_packed()
        body = packed.unused_data
        if not body:
            return plain
    raise _not_packed()


def _not_packed() -> Problem:
    expected = "one whole stream of the content encoding"
    return Problem(400, f"the body can't be unpacked; expected {expected}", [FieldError("body", "is broken", expected)])


async def _read(context: Context, receive: Receive, limit: int) -> bytes:
    declared = context.headers.get(b"content-length")
    if declared is None:
        _require_chunks(context)
    else:
        if int(declared) > limit:
            raise _too_large(limit)
        context.bodies.require(int(declared))  # counted when it is here: a promise takes no room
    message = await receive()
    body: bytes = message.get("body", b"")
    context.hold(len(body))
    if not message.get("more_body", False) and len(body) <= limit and message["type"] == "http.request":
        return body
    chunks, size = [body], len(body)
    while message["type"] == "http.request" and message.get("more_body", False):
        if size > limit:
            raise _too_large(limit)
        message = await receive()
        chunks.append(message.get("body", b""))
        context.hold(len(chunks[-1]))
        size += len(chunks[-1])
    if message["type"] != "http.request":
        raise Problem(400, "the connection was closed before the body was complete")
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


def _require_chunks(context: Context) -> None:
    """Refuse a body that the transfer itself packs, which no client does: read as it is, it would not be JSON."""
    if context.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        shown, expected = context.text(b"transfer-encoding"), "chunked alone; a body is packed by content-encoding"
        problem = FieldError("transfer-encoding", f"is {shown}", expected)
        raise Problem(400, f"the transfer encoding is {shown}; expected {expected}", [problem])


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        f"the body is larger than {limit} bytes; send fewer rows",
        [FieldError("body", "is too large", f"at most {limit} bytes")],
        # The rest of the body may not be read, so that the connection can't be used again.
        {"connection": "close"},
    )


async def answer(context: Context, send: Send, body: bytes) -> None:
    """Send a prediction, in one piece where the connection can."""
    if context.at_once is not None:
        head = f"content-length: {len(body)}\r\nx-request-id: {context.request_id}\r\n"
        if context.at_once(b"content-type: application/json\r\n" + head.encode(), body):
            context.status = 200
            return
    await respond(send, body)


async def respond(send: Send, body: bytes, status: int = 200) -> None:
    """Send a JSON answer."""
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
