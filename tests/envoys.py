"""A real Envoy with some HTTP filters, as Istio's gateway runs them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from services import accepts, answers_http, free_port, process

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


@contextmanager
def running(
    folder: Path,
    ours: list[dict[str, Any]],
    routes: list[dict[str, Any]],
    server: str = "",
    secret: Path | None = None,
    more: dict[str, Any] | None = None,
    **others: str,
) -> Iterator[int]:
    """Its port. Routes may lead to the cluster `server` and to `others`; with a certificate it speaks TLS.

    `more` is what else its configuration begins with.
    """
    port = free_port()
    bootstrap = _bootstrap(port, ours, routes, {"server": server} | others, secret and folder / "sds.json")
    (folder / "envoy.json").write_text(json.dumps(bootstrap | (more or {})))
    if secret is not None:
        (folder / "sds.json").write_text(json.dumps({"resources": [_secret(secret)]}))
    envoy = Path(str(files("envoy") / "_bin/envoy"))
    command: list[str | Path] = [envoy, "--config-path", folder / "envoy.json", "--concurrency", "1"]
    command += ["--disable-hot-restart"]
    ready = partial(accepts, port) if secret else partial(answers_http, f"http://127.0.0.1:{port}/")
    with process(command, ready=ready, log=folder / "log"):
        yield port


def _bootstrap(
    port: int, ours: list[dict[str, Any]], routes: list[dict[str, Any]], servers: dict[str, str], secrets: Path | None
) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        # As Istio's gateway: whoever connects is whom the addresses end with.
        "use_remote_address": True,
        # What it does with a path unless its mesh says otherwise (pathNormalization BASE).
        "normalize_path": True,
        # And what it lets a connection become.
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [*ours, router],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    chain: dict[str, Any] = {"filters": filters}
    if secrets is not None:
        chain["transport_socket"] = _tls(secrets)
    static: dict[str, Any] = {"listeners": [{"address": _at("127.0.0.1", port), "filter_chains": [chain]}]}
    static["clusters"] = [_cluster(name, url) for name, url in servers.items() if url]
    return {"node": {"id": "test", "cluster": "test"}, "static_resources": static}


def _cluster(name: str, url: str) -> dict[str, Any]:
    host, _, number = url.rpartition("/")[2].partition(":")
    endpoint = {"endpoint": {"address": _at(host, int(number))}}
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}


def _at(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _secret(folder: Path) -> dict[str, Any]:
    """As it comes of a Secret of this type; the folder is watched for another one in its place."""
    files = {"certificate_chain": {"filename": f"{folder}/tls.crt"}, "private_key": {"filename": f"{folder}/tls.key"}}
    watched = {"watched_directory": {"path": str(folder.parent)}}
    return {"@type": f"{_TLS}.Secret", "name": "models-tls", "tls_certificate": files | watched}


def _tls(secrets: Path) -> dict[str, Any]:
    """As Istio writes it for `mode: SIMPLE` and `minProtocolVersion: TLSV1_2`."""
    source = {"path_config_source": {"path": str(secrets)}, "resource_api_version": "V3"}
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [{"name": "models-tls", "sds_config": source}],
    }
    typed = {"@type": f"{_TLS}.DownstreamTlsContext", "common_tls_context": context}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}
