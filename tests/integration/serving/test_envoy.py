"""Behind a real Envoy: rows of callers who hang up are dropped, and a server is restarted without a lost request."""

import json
import socket
import subprocess
import threading
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
def envoy(folder: Path, *servers: str) -> Iterator[int]:
    """The port of an Envoy that sends everything to the servers that are ready, and tries nothing twice."""
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
    endpoints = [{"endpoint": {"address": _at(httpx.URL(server).port or 0)}} for server in servers]
    check = {
        "timeout": "30s",
        "interval": "0.1s",
        "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
    }
    cluster = {
        "name": "server",
        "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": endpoints}]},
        "health_checks": [check | {"http_health_check": {"path": "/health/ready"}}],
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


def test_a_server_is_restarted_under_load_without_a_lost_request(serve: Any, bundle_of: Any, tmp_path: Path) -> None:
    """One of two, by SIGTERM; callers keep their connections to the gateway, which tries nothing twice."""
    failures: list[str] = []
    """Of every answer; empty for a good one."""
    stop = threading.Event()
    settings = {"SERVING_DRAIN_SECONDS": 5}
    with (
        serve(bundle_of("binary"), **settings) as first,
        serve(bundle_of("binary"), **settings) as other,
        envoy(tmp_path, first.url, other.url) as port,
    ):

        def call() -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                while not stop.is_set():
                    answer = client.post("/v1/predict", json={"features": ROW})
                    failures.append("" if answer.status_code == 200 else f"{answer.status_code} {answer.text}")

        def answered() -> float:
            return float(first.metric("serving_requests_total", route="/v1/predict", status="200"))

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        first.until(lambda: answered() > 20, 60)
        told = Path(f"/proc/{first.process.pid}/environ").read_text().rstrip("\0").split("\0")
        assert first.stop(60) == 0
        there = len(failures)
        environment = dict(item.split("=", 1) for item in told)
        again = subprocess.Popen(first.process.args, env=environment, stdout=subprocess.DEVNULL)
        try:
            other.until(lambda: _ready(first.url), 60)
            other.until(lambda: answered() > 20, 60)
        finally:
            stop.set()
            for caller in callers:
                caller.join()
            again.kill()
            again.wait()
    assert len(failures) > there
    assert set(failures) == {""}


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
