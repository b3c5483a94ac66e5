"""What the gateway saw: a real Envoy's statistics, as a real Prometheus takes them in by the rules of the monitor."""

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from envoys import running
from prometheus import prometheus
from services import free_port

ROOT = Path(__file__).parents[3]
MONITOR = ROOT / "kustomize/monitoring/monitors/gateway.yaml"
ISTIO = ROOT / "apps/components/istio/istio-gateway.yaml"
ASKED = {"canary": {"/200": 7, "/500": 3}, "stable": {"/200": 20, "/422": 4}}


class _Server(BaseHTTPRequestHandler):
    """Answers with the status that its path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def _of_istio() -> dict[str, Any]:
    """What Istio's bootstrap says of statistics (tools/packaging/common/envoy_bootstrap.json), with our annotation."""
    values = yaml.safe_load(ISTIO.read_text())["spec"]["source"]["helm"]["valuesObject"]
    matcher = yaml.safe_load(values["podAnnotations"]["proxy.istio.io/config"])["proxyStatsMatcher"]
    tags = {
        "cluster_name": r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)",
        "response_code": r"_rq(_(\d{3}))$",
        "response_code_class": r"_rq(_(\dxx))$",
    }
    return {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in tags.items()],
        "stats_matcher": {
            "inclusion_list": {"patterns": [{"safe_regex": {"regex": regex}} for regex in matcher["inclusionRegexps"]]}
        },
    }


def _scraping(port: int) -> str:
    """Prometheus' own words for the monitor."""
    (endpoint,) = yaml.safe_load(MONITOR.read_text())["spec"]["podMetricsEndpoints"]
    rules = [
        {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): value for key, value in rule.items()}
        for rule in endpoint["metricRelabelings"]
    ]
    job = {
        "job_name": "gateway", "scrape_interval": "1s", "metrics_path": endpoint["path"], "params": endpoint["params"],
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}], "metric_relabel_configs": rules,
    }  # fmt: skip
    return yaml.safe_dump({"scrape_configs": [job]})


@pytest.mark.parametrize("stats", [{}, _of_istio()], ids=["stock", "istio"])
def test_answers_are_counted_by_model_side_and_class_whoever_made_them(
    tmp_path: Path, server: str, stats: dict[str, Any]
) -> None:
    admin, nobody = free_port(), f"http://127.0.0.1:{free_port()}"
    name = "outbound|80||{}.models.svc.cluster.local"
    clusters = dict.fromkeys([name.format("flights-canary"), name.format("flights-stable")], server)
    clusters |= {name.format("night-flights-canary"): nobody, "outbound|80||mlflow.mlflow.svc.cluster.local": server}
    routes = [
        {"match": {"prefix": "/", "headers": [{"name": "to", "string_match": {"exact": cluster}}]},
         "route": {"cluster": cluster, "retry_policy": {"retry_on": "connect-failure", "num_retries": 1}}}
        for cluster in clusters
    ]  # fmt: skip
    more = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "stats_config": stats}  # fmt: skip
    started = time.time()
    with running(tmp_path, [], routes, "", None, more, **clusters) as port:
        for side, paths in ASKED.items():
            for path, count in paths.items():
                for _ in range(count):
                    _ask(port, path, name.format(f"flights-{side}"))
        for _ in range(5):
            _ask(port, "/200", name.format("night-flights-canary"))
        _ask(port, "/500", "outbound|80||mlflow.mlflow.svc.cluster.local")
        with prometheus(tmp_path, f"x 1 {started:.0f}\n# EOF\n", _scraping(admin)) as scraped:
            seen: dict[tuple[str, str, str], float] = {}
            deadline = time.monotonic() + 20
            while len(seen) < 5 and time.monotonic() < deadline:
                time.sleep(0.5)
                seen = _seen(scraped)
            assert seen == {
                ("flights", "canary", "2"): 7, ("flights", "canary", "5"): 3, ("flights", "stable", "2"): 20,
                ("flights", "stable", "4"): 4, ("night-flights", "canary", "5"): 5,
            }  # fmt: skip


def _ask(port: int, path: str, cluster: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"to": cluster})
    try:
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - loopback
    except urllib.error.HTTPError as error:
        error.close()


def _seen(scraped: Any) -> dict[tuple[str, str, str], float]:
    labels = ("job", "side", "class")
    found = scraped.labelled("gateway_answers_total", time.time())
    assert all(series.keys() - {"__name__", "instance"} == set(labels) for series, _ in found)
    return {(series["job"], series["side"], series["class"]): value for series, value in found}
