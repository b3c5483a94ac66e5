"""The consumer's HTTP port: /metrics for Prometheus, /live and /ready for the kubelet."""

import threading
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from plumbline.monitoring.log.consumer import Consumer


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *_: Any) -> None:
        """Say nothing of probes and scrapes."""


def serve(consumer: Consumer, port: int) -> None:
    """Answer on a port until the process ends."""
    metrics = make_wsgi_app()
    checks: dict[str, Callable[[], bool]] = {"/live": consumer.alive, "/ready": consumer.ready}

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if (check := checks.get(environ["PATH_INFO"])) is None:
            return metrics(environ, start_response)
        good = check()
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"yes\n" if good else b"no\n"]

    server = make_server("", port, answer, ThreadingWSGIServer, _Silent)
    threading.Thread(target=server.serve_forever, name="port", daemon=True).start()
