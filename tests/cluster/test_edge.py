"""Callers by TLS, as staging and production take them: the Gateway of their component, and keys."""

import base64
import http.client
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from certificates import Authority
from cryptography import x509
from rollouts import MODEL, NAMESPACE
from traffic import api_key

from harness.kubectl import Kubectl
from harness.processes import wait_until
from harness.settings import GATEWAY_TLS_NODE_PORT, ROOT

pytestmark = pytest.mark.timeout(600)
HOST = f"{MODEL}.models.test"
_SERVERS = ROOT / "kustomize/model-server/components/tls/servers.yaml"
_DOOR = "edge-of-a-test"


class Door(http.client.HTTPSConnection):
    """A connection to the gateway's port on loopback, for the model's name."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        super().__init__(HOST, context=trust, timeout=20)
        self._trust = trust

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", GATEWAY_TLS_NODE_PORT), timeout=20)
        self.sock = self._trust.wrap_socket(plain, server_hostname=HOST)

    def ask(self, body: str, key: str) -> int:
        """The status of a prediction."""
        self.request("POST", "/v1/predict", body, {"Content-Type": "application/json", "x-api-key": key})
        answer = self.getresponse()
        answer.read()
        return answer.status


class Edge:
    """Its authority and certificates."""

    def __init__(self, kubectl: Kubectl, folder: Path) -> None:
        self._kubectl, self._folder, self._authority, self._issued = kubectl, folder, Authority(folder), 0
        self.trust = ssl.create_default_context(cafile=str(self._authority.ca))

    def renew(self) -> int:
        """Another certificate in the Secret, as cert-manager would write it; its number."""
        self._issued += 1
        number = self._authority.issue(made := self._folder / str(self._issued), HOST)
        data = {name: base64.b64encode((made / name).read_bytes()).decode() for name in ("tls.crt", "tls.key")}
        metadata = {"name": "models-tls", "namespace": "istio-system"}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata}
        self._kubectl.apply([secret | {"data": data}])
        return number

    def shows(self, number: int) -> bool:
        """Whether a new connection is shown this certificate."""
        door = Door(self.trust)
        try:
            door.connect()
            certificate = door.sock.getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(certificate or b"").serial_number == number
        except OSError:
            return False
        finally:
            door.close()


@pytest.fixture
def edge(kubectl: Kubectl, stable: str, tmp_path: Path) -> Iterator[Edge]:
    """A second door to the model: the Gateway's servers as the component has them, for a name of this test."""
    edge = Edge(kubectl, tmp_path)
    number = edge.renew()
    (change,) = yaml.safe_load(_SERVERS.read_text(encoding="utf-8"))
    servers = [server | {"hosts": [HOST]} for server in change["value"]]
    routes = kubectl.get("virtualservice", f"{MODEL}-server", *NAMESPACE)
    shared = {"apiVersion": routes["apiVersion"], "metadata": {"name": _DOOR, "namespace": "models"}}
    gateway = shared | {"kind": "Gateway", "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers}}
    kubectl.apply(
        [gateway, shared | {"kind": routes["kind"], "spec": routes["spec"] | {"hosts": [HOST], "gateways": [_DOOR]}}]
    )
    try:
        wait_until("the gateway to speak TLS", partial(edge.shows, number), seconds=60)
        yield edge
    finally:
        kubectl.run("delete", "gateway,virtualservice", _DOOR, *NAMESPACE)
        kubectl.run("delete", "secret", "models-tls", "--namespace=istio-system")


def test_a_certificate_is_renewed_under_load_and_nobody_is_answered_without_a_key(
    kubectl: Kubectl, edge: Edge, bodies: list[str]
) -> None:
    key, statuses, stop = api_key(kubectl), Counter[int](), threading.Event()
    door = Door(edge.trust)
    assert [door.ask(bodies[0], key), door.ask(bodies[0], ""), door.ask(bodies[0], "guess")] == [200, 401, 401]

    def call() -> None:
        while not stop.is_set():
            door = Door(edge.trust)
            for body in bodies[:10]:
                try:
                    statuses[door.ask(body, key)] += 1
                except (OSError, http.client.HTTPException):
                    statuses[0] += 1
                    break
            door.close()

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            number = edge.renew()
            wait_until("the new certificate", partial(edge.shows, number), seconds=60)
            time.sleep(3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print(f"{statuses.total()} answers by TLS while three certificates were renewed: {json.dumps(statuses)}")
    assert set(statuses) == {200}
