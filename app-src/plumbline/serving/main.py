"""`plumbline serve`: one worker process on uvicorn with uvloop and httptools."""

import asyncio
import resource
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from plumbline.core.errors import Misuse
from plumbline.core.settings import load
from plumbline.serving.http import beside
from plumbline.serving.http.app import create_app
from plumbline.serving.http.keys import Keyring, read_keys
from plumbline.serving.http.wire import protocol_within
from plumbline.serving.logs import log, set_up
from plumbline.serving.metrics import Metrics
from plumbline.serving.server import Server
from plumbline.serving.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than the gateway does (kustomize/model-server/destination-rules.yaml)."""

_LISTENERS = 16
"""Of the one socket. libuv accepts one connection for each listener and turn of its loop, and a turn answers everybody
who is ready: with a single one the last of 64 new callers waits for 2,000 answers of others before its first."""

_OTHER_FILES = 256
"""Of a process beside its connections: libraries, the model, Redis, what Prometheus asks."""


class _Uvicorn(uvicorn.Server):
    """Keeps answering for a while after the first SIGTERM, until no gateway sends requests here any more."""

    def __init__(self, config: uvicorn.Config, server: Server, drain_seconds: float) -> None:
        super().__init__(config)
        self._server, self._drain_seconds = server, drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the loop: a signal's handler runs beside it."""
        self._loop = self._server.metrics.exposed.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unready first; a second signal, or Ctrl-C, closes at once."""
        if self._server.draining or sig == signal.SIGINT or self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._server.drain()
        log.info("draining: unready now, closing in %g s", self._drain_seconds)
        # Not by way of uvicorn's handler, which would end a clean stop with the signal again.
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_seconds, self._close)

    def _close(self) -> None:
        self.should_exit = True


def app(arguments: list[str], prog_name: str) -> None:
    """Serve until told to stop; exits with 2 and a line for each setting that is wrong."""
    if arguments:
        sys.exit(_refuse(f"{prog_name} takes no arguments; it is set by SERVING_… (docs/serving.md)"))
    try:
        settings = load(Settings)
        buffer = set_up(settings.log_level)
        metrics = Metrics()
        server = Server(settings, metrics, buffer)
        keyring = None
        if settings.api_keys_file is not None:
            keyring = Keyring(())
            server.files.add("SERVING_API_KEYS_FILE", settings.api_keys_file, read_keys, _let_in(keyring, metrics))
    except Misuse as error:
        sys.exit(_refuse(error))
    _make_room(settings.max_connections)
    if keyring is None:
        log.warning("SERVING_API_KEYS_FILE is not set: every caller is let in")
    edge = create_app(server, keyring)
    try:
        beside.serve(settings.host, settings.metrics_port, metrics.exposed, edge.document)
    except OSError as error:
        where = f"SERVING_HOST {settings.host}, SERVING_METRICS_PORT {settings.metrics_port}"
        sys.exit(_refuse(f"{where}: cannot be listened on: {error}"))
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as error:
        sys.exit(_refuse(f"SERVING_HOST {settings.host}, SERVING_PORT {settings.port}: cannot be listened on: {error}"))
    log.info("listening on %s", listening[0].getsockname()[:2])
    config = uvicorn.Config(
        edge,
        loop="uvloop",
        http=protocol_within(settings, server.connections),
        ws="none",
        proxy_headers=False,  # a layer for each request, for an address that nothing here asks for
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    try:
        _Uvicorn(config, server, settings.drain_seconds).run(listening)
    finally:
        buffer.close()


def _let_in(keyring: Keyring, metrics: Metrics) -> Callable[[Keyring], None]:
    def take(other: Keyring) -> None:
        keyring.replace(other)
        metrics.show_key_ends(keyring.ends())

    return take


def _listen(host: str, port: int) -> list[socket.socket]:
    """The socket, as often as there are listeners; raises OSError where the port can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    return [listening, *(listening.dup() for _ in range(_LISTENERS - 1))]


def _make_room(connections: int) -> None:
    """Let the process open so many files: each connection is one, and a shell's usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * 9 // 8 + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            log.warning("SERVING_MAX_CONNECTIONS %d: the process may open %d files, too few for it", connections, most)


def _refuse(error: object) -> int:
    print(error, file=sys.stderr)
    return 2
