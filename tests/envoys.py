"""A real Envoy with some HTTP filters, as Istio's gateway runs them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from services import answers_http, free_port, process


@contextmanager
def running(folder: Path, ours: list[dict[str, Any]], routes: list[dict[str, Any]]) -> Iterator[int]:
    """Its port."""
    port = free_port()
    (folder / "envoy.json").write_text(json.dumps(_bootstrap(port, ours, routes)))
    envoy = Path(str(files("envoy") / "_bin/envoy"))
    command: list[str | Path] = [envoy, "--config-path", folder / "envoy.json", "--concurrency", "1"]
    command += ["--disable-hot-restart"]
    with process(command, ready=lambda: answers_http(f"http://127.0.0.1:{port}/"), log=folder / "log"):
        yield port


def _bootstrap(port: int, ours: list[dict[str, Any]], routes: list[dict[str, Any]]) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        # As Istio's gateway: whoever connects is whom the addresses end with.
        "use_remote_address": True,
        "http_filters": [*ours, router],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"static_resources": {"listeners": [{"address": address, "filter_chains": [{"filters": filters}]}]}}
