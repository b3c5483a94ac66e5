"""Callers behind a real Envoy who hang up: the gateway hangs up on the server, which drops their rows."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import services

from bundles import Bundle

ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA"}
ROWS, CALLERS, SEEN = 500, 60, 40
BODY = json.dumps({"rows": [ROW] * ROWS}).encode()


@contextmanager
def envoy(folder: Path, upstream: str) -> Iterator[int]:
    """The port of an Envoy that sends everything to one server, as a gateway does."""
    port = services.free_port()
    kind = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [route]}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"address": _at(port), "filter_chains": [{"filters": filters}]}
    endpoints = [{"endpoint": {"address": _at(httpx.URL(upstream).port or 0)}}]
    cluster = {
        "name": "server",
        "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    bootstrap = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    (folder / "envoy.json").write_text(json.dumps(bootstrap))
    program = Path(str(files("envoy") / "_bin/envoy"))
    command: list[str | Path] = [program, "--config-path", folder / "envoy.json", "--concurrency", "1"]
    ready = f"http://127.0.0.1:{port}/health/live"
    with services.process(
        [*command, "--disable-hot-restart"], ready=lambda: services.answers_http(ready), log=folder / "envoy.log"
    ):
        yield port


def _at(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def test_rows_of_callers_who_hung_up_on_the_gateway_are_not_run(serve: Any, bundle_of: Any, tmp_path: Path) -> None:
    bundle: Bundle = bundle_of("slow")  # whose batches of so many rows are run one by one
    settings = {"SERVING_CACHE_SECONDS": 0, "SERVING_QUEUE_SECONDS": 300, "SERVING_MAX_BYTES_IN_FLIGHT": 1 << 28}
    with serve(bundle, **settings) as server, envoy(tmp_path, server.url) as port:
        head = "POST /v1/predict/batch HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY
        before = server.metric("serving_batch_rows_sum")
        callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(CALLERS)]
        for caller in callers:
            caller.sendall(request)
        server.until(lambda: server.metric("serving_queue_rows") >= SEEN * ROWS, 60)
        for caller in callers:
            caller.close()
        server.until(lambda: server.metric("serving_in_flight_requests") == 0, 120)
        run = (server.metric("serving_batch_rows_sum") - before) / ROWS
        gone = server.metric("serving_requests_total", status="499")
        assert gone >= SEEN / 2
        assert run <= CALLERS - SEEN / 2, "rows were run for nobody"
        assert server.metric("serving_requests_total", status="500") == 0
        assert httpx.post(f"http://127.0.0.1:{port}/v1/predict", json={"features": ROW}, timeout=60).status_code == 200
