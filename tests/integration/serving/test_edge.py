"""The whole way of a caller: TLS, a key, the gateway's filters and routes, and the server behind them."""

import hashlib
import http.client
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import envoys
import numpy as np
import pytest
import yaml
from certificates import Authority
from cryptography import x509

ROOT = Path(__file__).parents[3]
FILTERS = ("components/keyless-limit/keyless-limit", "caller-bucket", "gateway-key")
ROW = {"distance": 1400.0, "hour": 17, "carrier": "UA"}


def _filters(key: Path) -> list[dict[str, Any]]:
    """Those that git names, with the gateway's key from another place."""
    found = []
    for name in FILTERS:
        text = (
            (ROOT / f"kustomize/gateway/{name}.yaml")
            .read_text()
            .replace("/etc/secrets/gateway-key/GATEWAY_KEY", str(key))
        )
        (patch,) = yaml.safe_load(text)["spec"]["configPatches"]
        found.append(patch["patch"]["value"])
    return found


def _routes() -> list[dict[str, Any]]:
    """Those of git's VirtualService, all to one server."""
    document = yaml.safe_load((ROOT / "kustomize/model-server/virtual-service.yaml").read_text())
    matches = [match["uri"] for route in document["spec"]["http"] for match in route["match"]]
    kinds = {"prefix": "prefix", "exact": "path"}
    return [
        {"match": {kinds[kind]: path}, "route": {"cluster": "server"}} for uri in matches for kind, path in uri.items()
    ]


class Edge:
    """A gateway in front of one server, with a file of keys and a certificate that may change."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.authority, self._issued = folder, Authority(folder), 0
        self.secret, self.keys, self.port = folder / "tls", folder / "keys.yaml", 0
        self.server: Any = None

    def renew(self) -> int:
        """Another certificate, put in its place as Kubernetes does it; its number."""
        self._issued += 1
        number = self.authority.issue(made := self._folder / f"tls-{self._issued}")
        (link := self._folder / "new").symlink_to(made)
        link.replace(self.secret)
        return number

    def let_in(self, **fields: Any) -> None:
        """The one caller of the file."""
        (new := self._folder / "keys").write_text(json.dumps({"keys": [{"name": "web", "rate": 100_000} | fields]}))
        new.replace(self.keys)

    def trusted(self) -> ssl.SSLContext:
        """Of a caller who knows the authority."""
        return ssl.create_default_context(cafile=str(self.authority.ca))

    def shown(self) -> int:
        """The number of the certificate that a new connection is shown."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
            self.trusted().wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of a caller."""
        return http.client.HTTPSConnection("localhost", self.port, timeout=20, context=self.trusted())

    def ask(self, path: str, **headers: str) -> int:
        """The status of one request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            return connection.getresponse().status
        finally:
            connection.close()


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def edge(serve: Callable[..., Any], bundle_of: Callable[..., Any], tmp_path: Path) -> Iterator[Edge]:
    """One caller with the key `first`."""
    edge = Edge(tmp_path)
    edge.renew()
    edge.let_in(sha256=sha256("first"))
    proof = tmp_path / "GATEWAY_KEY"
    proof.write_text("a-key-of-the-gateway")
    settings = {"SERVING_API_KEYS_FILE": edge.keys, "SERVING_GATEWAY_KEY_FILE": proof, "SERVING_RELOAD_SECONDS": 0.1}
    (folder := tmp_path / "envoy").mkdir()
    with (
        serve(bundle_of("binary"), **settings) as server,
        envoys.running(folder, _filters(proof), _routes(), server.url, edge.secret) as edge.port,
    ):
        edge.server = server
        yield edge


def test_an_unmodified_oip_client_predicts_with_a_key_and_is_refused_without(edge: Edge) -> None:
    import tritonclient.http as triton

    options = {"ca_certs": str(edge.authority.ca)}
    client = triton.InferenceServerClient(f"localhost:{edge.port}", ssl=True, ssl_options=options)
    inputs = []
    for name, kind, value in (("distance", "FP64", 1400.0), ("hour", "INT64", 17), ("carrier", "BYTES", "UA")):
        types: dict[str, Any] = {"FP64": np.float64, "INT64": np.int64, "BYTES": np.object_}
        tensor = triton.InferInput(name, [1], kind)
        inputs.append(tensor.set_data_from_numpy(np.array([value], types[kind])))
    assert client.is_server_ready()
    answer = client.infer("delays", inputs, headers={"x-api-key": "first"})
    assert answer.as_numpy("probabilities").shape == (1, 2)
    for headers in ({}, {"x-api-key": "guess"}):
        with pytest.raises(triton.InferenceServerException, match="API key"):
            client.infer("delays", inputs, headers=headers)
    client.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_of_today_alone_and_the_api_alone(edge: Edge) -> None:
    assert edge.ask("/v1/models", x_api_key="first") == 200
    assert edge.ask("/v2/health/ready") == 200
    for path in ("/docs", "/openapi.json", "/metrics", "/health", "/health/ready", "/v3", "/"):
        assert edge.ask(path, x_api_key="first") == 404, path
    assert edge.ask("/v1/models", x_api_key="first", x_plumbline_arm="canary") == 403
    plain = http.client.HTTPConnection("localhost", edge.port, timeout=10)
    plain.request("GET", "/v1/models")
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.getresponse()
    old = edge.trusted()
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", edge.port), timeout=10) as raw,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        old.wrap_socket(raw, server_hostname="localhost")
    modern = edge.trusted()
    modern.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as raw:
        assert modern.wrap_socket(raw, server_hostname="localhost").selected_alpn_protocol() == "h2"


@contextmanager
def callers(edge: Edge, using: list[str]) -> Iterator[Counter[int]]:
    """Four of them, who keep a connection for ten requests; {status: how often}, 0 where there was no answer."""
    statuses, stop, lock = Counter[int](), threading.Event(), threading.Lock()

    def call() -> None:
        body = json.dumps({"features": ROW})
        while not stop.is_set():
            connection, found = edge.connect(), Counter[int]()
            for _ in range(10):
                try:
                    connection.request(
                        "POST", "/v1/predict", body, {"content-type": "application/json", "x-api-key": using[0]}
                    )
                    answer = connection.getresponse()
                    answer.read()
                    found[answer.status] += 1
                except (OSError, http.client.HTTPException):
                    found[0] += 1
                    break
            connection.close()
            with lock:
                statuses.update(found)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_key_is_rotated_and_a_certificate_renewed_under_load_without_a_failed_request(edge: Edge) -> None:
    using, until = ["first"], edge.server.until
    with callers(edge, using) as statuses:

        def some_more() -> None:
            asked = statuses.total()
            until(lambda: statuses.total() > asked + 80)

        some_more()
        for _ in range(2):
            number = edge.renew()
            until(lambda number=number: edge.shown() == number)
            some_more()
        edge.let_in(sha256=sha256("first"), next={"sha256": sha256("second")})
        until(lambda: edge.ask("/v1/models", x_api_key="second") == 200)
        using[0] = "second"
        some_more()
        edge.let_in(sha256=sha256("second"), former=[sha256("first")])
        until(lambda: edge.ask("/v1/models", x_api_key="first") == 401)
        some_more()
    assert set(statuses) == {200}, statuses
