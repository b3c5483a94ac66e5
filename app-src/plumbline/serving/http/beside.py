"""The port beside the callers': what Prometheus reads, and the page of the API for people. No caller is led here."""

from collections.abc import Callable, Iterable
from socket import AF_INET6
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from pydantic_core import to_json

from plumbline.serving.http.docs import PAGE_HEADERS, page
from plumbline.serving.logs import log
from plumbline.serving.metrics import Exposed

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Document = Callable[[], dict[str, Any]]
_SILENT_SECONDS = 10


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was lost, or said nothing: of no interest to anybody."""


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SILENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of what Prometheus asks every few seconds."""


def serve(host: str, port: int, metrics: Exposed, document: Document) -> None:
    """Answer in threads of its own until the process ends; raises OSError where the port can't be listened on."""
    kind = _Server6 if ":" in host else _Server
    server = make_server(host, port, application(metrics, document), kind, _Handler)
    Thread(target=server.serve_forever, name="beside", daemon=True).start()


def application(metrics: Exposed, document: Document) -> "WSGIApplication":
    """The two as a WSGI application."""
    exposition = make_wsgi_app(metrics)

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        try:
            if path == "/metrics":
                # All or nothing: the series are those of one moment. In one form: a version in Accept that is no number
                # ends the client library's choice of another with a TypeError.
                asked = environ | {"QUERY_STRING": "", "HTTP_ACCEPT": ""}
                return exposition(asked, start)  # type: ignore[no-any-return]
            if path == "/openapi.json":
                return _respond(start, "200 OK", "application/json", to_json(document()))
            if path == "/docs":
                return _respond(start, "200 OK", "text/html; charset=utf-8", page(document()).encode(), **PAGE_HEADERS)
        except TimeoutError:
            return _respond(start, "503 Service Unavailable", "text/plain", b"the server is too busy to say\n")
        except Exception:
            log.exception("%s failed", path)
            return _respond(start, "500 Internal Server Error", "text/plain", b"the server's log says why\n")
        return _respond(start, "404 Not Found", "text/plain", b"expected /metrics, /docs or /openapi.json\n")

    return answer


def _respond(start: "StartResponse", status: str, kind: str, body: bytes, **headers: str) -> Iterable[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers.items()])
    return [body]
