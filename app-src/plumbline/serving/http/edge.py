"""The outermost layer, pure ASGI: request id, API key, rate limit, problems, metrics and access log, in one pass."""

import math
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from plumbline.core import ids
from plumbline.core.logs import timestamp
from plumbline.serving.errors import MEDIA_TYPE, FieldError, HungUp, Problem
from plumbline.serving.http.addresses import Addresses, address_of
from plumbline.serving.http.asgi import (
    AT_ONCE,
    CONTEXT,
    INFER,
    RECEIVED,
    REFUSED,
    Context,
    Endpoint,
    Message,
    Receive,
    Scope,
    Send,
)
from plumbline.serving.http.keys import ApiKey, Keyring
from plumbline.serving.http.limits import Limiter
from plumbline.serving.logs import log
from plumbline.serving.metrics import CALLERS, OUTCOMES, outcome_of

if TYPE_CHECKING:
    from plumbline.serving.server import Server

_PROTECTED = ("/v1/", "/v2/models")
_QUIET = ("/health", "/metrics", "/v2/health")
_OTHER = "other"
_HUNG_UP = 499
"""In metrics and log: nobody is answered, and no release is at fault."""
_EXCUSE = "plumbline.excuse"
"""Where a request's scope says why its 5xx is no fault of the release."""
_EXCUSES = ("load", "store")
_PREDICT = ("/v1/predict", "/v1/predict/batch", INFER)
_TURNED_AWAY = (401, 403, 404, 405, 429, _HUNG_UP)
"""Who gets these asked nothing of a model: they count neither as predictions nor by their time."""
_CHOICE = b"x-plumbline-arm"
"""By which the gateway sends a request past the shares (kustomize/model-server/virtual-service.yaml)."""
_SHOWN = 256
"""Characters of a path in the log."""
_Recorders = tuple[Callable[[], None], Callable[[], None], Callable[[], None], Callable[[float], None]]
"""Of a request, a prediction, an excused one, and of seconds."""


class Edge:
    """Wraps the application; every answer of the server leaves through it."""

    document: Callable[[], dict[str, Any]]
    """The application's OpenAPI document."""

    def __init__(self, app: Any, hot: Mapping[str, Endpoint], server: "Server", keyring: Keyring | None) -> None:
        self._app, self._hot, self._server, self._keyring = app, hot, server, keyring
        self._limiters: dict[str, Limiter] = {}
        self._addresses = Addresses(server.settings.wrong_keys_rate, server.settings.wrong_keys_burst)
        self._counters: dict[tuple[str, int], _Recorders] = {}
        self._of_callers: dict[tuple[int, str], Callable[[], None]] = {}
        self._bound: object = None
        self._bodies = server.bodies
        self._write = server.buffer.write if server.settings.access_log else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass the lifespan on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = ids.request_id(headers.get(b"x-request-id"))
        context = scope[CONTEXT] = Context(
            headers, request_id, scope.get(RECEIVED) or time.perf_counter(), self._bodies, scope.get(AT_ONCE)
        )
        if RECEIVED not in scope:
            receive = partial(self._arriving, context, scope, receive)
        # Starlette answers HEAD only where a route names it; the connection leaves the body out.
        routed = scope if scope["method"] != "HEAD" else {**scope, "method": "GET"}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        server = self._server
        server.in_flight += 1
        path = scope["path"]
        endpoint = self._hot.get(path) if scope["method"] == "POST" else None
        try:
            if self._keyring is not None and path.startswith(_PROTECTED):
                await self._admit(scope, context, self._keyring)
            await (endpoint or self._app)(routed, receive, answer)
        except Problem as problem:
            if problem.excuse:
                scope[_EXCUSE] = problem.excuse
            await _send_problem(answer, problem, request_id)
        except HungUp:
            context.status = _HUNG_UP
        except Exception:
            log.exception("%s %s failed", scope["method"], path[:_SHOWN], extra={"request_id": request_id})
            if not context.status:  # else uvicorn closes the connection, where the answer is not complete
                await _send_problem(answer, Problem(500, "the server failed; its log has the request id"), request_id)
        finally:
            server.in_flight -= 1
            self._bodies.size -= context.held
            route = path if endpoint else getattr(routed.get("route") or routed.get("endpoint"), "path", _OTHER)
            self._record(scope, route, context, time.perf_counter() - context.started)

    async def _arriving(self, context: Context, scope: Scope, receive: Receive) -> Message:
        """What a caller still sends. Until it is complete, a request takes the caller's time, and is not in flight."""
        self._server.in_flight -= 1
        try:
            message = await receive()
        finally:
            self._server.in_flight += 1
        context.started = time.perf_counter()
        if (problem := scope.get(REFUSED)) is not None:
            raise problem
        if message["type"] == "http.request" and not message.get("more_body", False):
            scope[RECEIVED] = context.started
        return message

    async def _admit(self, scope: Scope, context: Context, keyring: Keyring) -> None:
        """Let a known caller in to what its key is for, while its rate lasts; raises Problem 401, 403 or 429."""
        secret = context.headers.get(b"x-api-key")
        if secret is None:
            scheme, _, token = context.headers.get(b"authorization", b"").partition(b" ")
            secret = token.strip() if scheme.lower() == b"bearer" else b""
        entry = keyring.find(secret)
        if entry is None:
            raise self._stranger(scope, context, "is not known" if secret else "is missing")
        if entry.until <= time.time():
            raise self._stranger(scope, context, f"of {entry.caller.name} expired on {entry.expires}")
        key = context.caller = entry.caller
        self._require_right(context, key)
        limiter = self._limiters.get(key.name)
        if limiter is None or limiter.key is not key:  # a new caller, or its rate is another since the file changed
            limiter = self._limiters[key.name] = Limiter(key, self._server.link)
        if limiter.take_now():
            return
        if wait := await limiter.take():
            raise Problem(
                429,
                f"{key.name} is limited to {key.rate:g} requests a second",
                headers={"retry-after": str(max(1, math.ceil(wait)))},
            )

    def _require_right(self, context: Context, key: ApiKey) -> None:
        """Raise Problem 403 for a model that the key is not for, and for a version that only a tester may choose."""
        engine = self._server.engine
        if engine is not None and not key.may_ask(engine.release.model):
            expected = f"a key for {engine.release.model}"
            message = f"of {key.name} is for {', '.join(key.models)} alone"
            raise Problem(
                403, f"the API key {message}; expected {expected}", [FieldError("x-api-key", message, expected)]
            )
        if _CHOICE in context.headers and "tester" not in key.roles:
            field, expected = _CHOICE.decode(), "no such header; a key with the role tester may name a version"
            message = f"is not for the key of {key.name}"
            raise Problem(403, f"{field}: {message}; expected {expected}", [FieldError(field, message, expected)])

    def _stranger(self, scope: Scope, context: Context, message: str) -> Problem:
        """401 for a request without a known key; 429 from an address that sends many."""
        server = self._server
        wait = self._addresses.take(address_of(scope, context, by_gateway=server.by_gateway(context)))
        server.metrics.of(server.metrics.wrong_keys, result="limited" if wait else "refused").inc()
        if wait:
            return Problem(
                429,
                f"too many requests without a known API key from this address; one in {1 / self._addresses.rate:g} s"
                " is looked at",
                headers={"retry-after": str(max(1, math.ceil(wait)))},
            )
        expected = "a known API key in x-api-key, or as a bearer token"
        return Problem(
            401,
            f"the API key {message}; expected {expected}",
            [FieldError("x-api-key", message, expected)],
            {"www-authenticate": "Bearer"},
        )

    def _record(self, scope: Scope, route: str, context: Context, seconds: float) -> None:
        status = context.status
        if self._bound is not self._server.metrics.labels:  # the release became known
            self._counters.clear()
            self._bound = self._server.metrics.labels
            metrics = self._server.metrics
            for path, excuse in product((*self._hot, INFER), _EXCUSES):  # a series that begins with 1 shows no increase
                metrics.of(metrics.excused, route=path, excuse=excuse)
            for path, outcome in product(_PREDICT, OUTCOMES):
                metrics.of(metrics.predictions, route=path, outcome=outcome)
            self._of_callers = {
                (group, outcome): metrics.of(metrics.of_callers, outcome=outcome, caller=str(group)).inc
                for group, outcome in product(range(CALLERS), OUTCOMES)
            }
        recorders = self._counters.get((route, status))
        if recorders is None:
            metrics = self._server.metrics
            recorders = self._counters[route, status] = (
                metrics.of(metrics.requests, route=route, status=str(status)).inc,
                self._predicted(route, outcome_of(status)),
                self._predicted(route, "excused"),
                metrics.of(metrics.latency, route=route).observe,
            )
        recorders[0]()
        excused = status == 503 and _EXCUSE in scope
        if excused:
            metrics = self._server.metrics
            metrics.of(metrics.excused, route=route, excuse=scope[_EXCUSE]).inc()
        if status not in _TURNED_AWAY:
            (recorders[2] if excused else recorders[1])()
            if route in _PREDICT:
                # By whom it is answered for: a key may ask for any number of subjects.
                who = context.keyholder.encode() or context.headers.get(b"x-subject", b"")
                self._of_callers[zlib.crc32(who) % CALLERS, "excused" if excused else outcome_of(status)]()
            # A body that never came says nothing of the release.
            if RECEIVED in scope:
                recorders[3](seconds)
        path = scope["path"]
        if self._write is None or (path.startswith(_QUIET) and status < 400):
            return
        # A hot path is this program's own text and the id was checked; any other path of a caller is encoded.
        shown = f'"{route}"' if route is path else to_json(path[:_SHOWN]).decode()
        self._write(
            f'{{"at":"{timestamp()}","level":"info","logger":"access","request_id":"{context.request_id}",'
            f'"keyholder":"{context.keyholder}","method":"{scope["method"]}","path":{shown},"status":{status},'
            f'"ms":{seconds * 1000:.3f}}}'.encode()
        )

    def _predicted(self, route: str, outcome: str) -> Callable[[], None]:
        """What counts a prediction; nothing on any other route."""
        metrics = self._server.metrics
        return metrics.of(metrics.predictions, route=route, outcome=outcome).inc if route in _PREDICT else _nothing


def _nothing() -> None:
    """A request that asked for no prediction is none."""


async def _send_problem(send: Send, problem: Problem, request_id: str) -> None:
    body = problem.body(request_id)
    headers = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    headers += [(b"content-type", MEDIA_TYPE), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
