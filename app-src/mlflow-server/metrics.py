"""MLflow's metrics on a port of their own: the server itself gives /metrics to administrators alone.

Reads what the server's process writes (`--expose-prometheus`, PROMETHEUS_MULTIPROC_DIR here). A scrape fails while the
server does not answer, so that `up` is the server's.
"""

import os
import urllib.request
from collections.abc import Iterable
from typing import Any
from wsgiref.simple_server import make_server

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

HEALTH = f"http://127.0.0.1:{os.environ.get('MLFLOW_PORT', '5000')}/health"


def answer(_: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The metrics, or 503."""
    try:
        urllib.request.urlopen(HEALTH, timeout=5).close()
    except OSError as error:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [f"{HEALTH}: {error}\n".encode()]
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
    return [generate_latest(registry)]


if __name__ == "__main__":
    make_server("", int(os.environ.get("METRICS_PORT", "9464")), answer).serve_forever()
