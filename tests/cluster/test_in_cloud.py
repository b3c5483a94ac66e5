"""An environment that leans on a cloud, as it stands in clusters/: from a training in pods to a caller's prediction."""

import base64
import http.client
import json
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import rollouts
import servers
import workflows
from approvals import Approver, approvers
from browsers import Browser
from person import Person
from rollouts import MODEL
from test_applications import declared
from workstation import Workstation

from harness import applications, outside, pki
from harness.kubectl import Kubectl
from harness.processes import wait_until
from harness.settings import IDENTITY_IP, ROOT
from plumbline.promotion.delivery.approval import APPROVERS
from plumbline.training.model import load
from plumbline.tree.values import Values

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1800)]
_ROW = {"features": load(MODEL, ROOT / "app-src/models").schema.example()}


def test_every_declared_application_is_synced_and_healthy(kubectl: Kubectl, values: Values) -> None:
    wait_until("the Applications", lambda: not applications.complaints(kubectl), seconds=300)
    found = set(applications.states(kubectl))
    assert {name for name in found if not name.startswith("model-")} == declared(values.name)


def test_every_secret_that_git_names_is_filled_from_the_store(kubectl: Kubectl, values: Values) -> None:
    asked = kubectl.items("externalsecrets", "--all-namespaces")
    for item in asked:
        space, name = item["metadata"]["namespace"], item["metadata"]["name"]
        filled = kubectl.get("secret", name, f"--namespace={space}")["data"]
        entry = outside.secret(values, name)
        wanted = {one["secretKey"]: entry[one["remoteRef"]["property"]] for one in item["spec"]["data"]}
        assert {key: base64.b64decode(value).decode() for key, value in filled.items()} == wanted
    assert {item["metadata"]["namespace"] for item in asked} >= {"argocd", "istio-system", "models", "workflows"}


def test_a_training_in_pods_ends_at_a_prediction_by_tls_and_key(kubectl: Kubectl, values: Values) -> None:
    """docs/adopt.md, steps 6 and 7: nobody but the Workflow does anything."""
    if values.class_ == "guarded":
        pytest.skip("its releases were served in another environment first, and are approved")
    begun = time.monotonic()
    image = servers.server()
    name = workflows.submit(kubectl, "train-model", model=MODEL, sample="0.05", trials="2", seed="0", image=image)
    workflows.succeeded(kubectl, name, seconds=1200)
    trained = time.monotonic()
    _serves(kubectl, values, image)
    print(f"{trained - begun:.0f} s of training, {time.monotonic() - trained:.0f} s to the first prediction")


def test_what_it_proved_is_approved_for_production(
    kubectl: Kubectl, values: Values, desk: Workstation, person: Person, tmp_path: Path
) -> None:
    """Production's cluster does not run: its release is a commit, which it finds when it starts."""
    if values.class_ == "guarded":
        pytest.skip("no environment comes after it")
    served = desk.release(MODEL)
    assert served is not None
    rollouts.settled(kubectl, desk)
    about = (f"--model={MODEL}", f"--version={served.spec.version}", "--env=production", f"--image={served.spec.image}")
    ada = Approver("Ada")
    person.write(APPROVERS, approvers(ada.entry("production")))
    with pytest.raises(AssertionError, match="approval: nobody approved it"):
        desk.run("promote", "run", *about)
    desk.run("promote", "approve", *about, "--reason=read the card", PROMOTION_APPROVER_KEY=str(ada.key(tmp_path)))
    desk.run("promote", "run", *about)
    approved = desk.release(MODEL, "production")
    assert approved is not None
    assert approved.spec.artifact == served.spec.artifact
    print(desk.run("promote", "releases", f"--model={MODEL}"))


def test_a_release_of_staging_serves_in_production(kubectl: Kubectl, values: Values, desk: Workstation) -> None:
    """`make cluster-up ENV=production` after staging's tests: the same bytes, by production's own door and keys."""
    if values.class_ != "guarded":
        pytest.skip("the first environment of the way")
    release, before = desk.release(MODEL), desk.release(MODEL, "staging")
    if release is None or before is None:
        pytest.skip("nothing was promoted in staging before: its cluster did not run until this one started")
    answer = _serves(kubectl, values, release.spec.image)
    assert release.spec.artifact == before.spec.artifact
    assert answer["version"] == release.spec.version
    rollouts.settled(kubectl, desk)
    print(desk.run("promote", "releases", f"--model={MODEL}"))


def _serves(kubectl: Kubectl, values: Values, image: str) -> dict[str, str]:
    """Wait until a release with this image serves, and answers who has a key: its answer."""
    rollouts.healthy(kubectl, image)
    door = _Door(kubectl, f"{MODEL}.models.{values.name}.{values.domain}")
    key = outside.secret(values, "api-key")["API_KEY"]
    wait_until("a prediction", lambda: door.ask(key)[0] == 200, seconds=60)
    status, answer = door.ask(key)
    assert status == 200
    assert door.ask("")[0] == door.ask("guess")[0] == 401
    labels = rollouts.rollout(kubectl)["metadata"]["labels"]
    assert answer["version"] == labels["app.kubernetes.io/version"]
    print(answer)
    return answer


def test_three_people_sign_in_and_see_what_their_roles_say(kubectl: Kubectl, values: Values) -> None:
    service = kubectl.get("service", "istio-people", "--namespace=istio-system")
    port = next(port["nodePort"] for port in service["spec"]["ports"] if port["port"] == 443)
    authority = kubectl.get("secret", "models-ca", "--namespace=istio-system")["data"]["ca.crt"]
    trusted = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
    provider = {str(urlsplit(values.issuer).hostname): (IDENTITY_IP, ssl.create_default_context(cafile=str(pki.CA)))}

    def browser(name: str, page: str) -> Browser:
        page = f"{page}.{values.name}.{values.domain}"
        return Browser(name, page, port, trusted, page, provider)

    experiments = "/api/2.0/mlflow/experiments/search?max_results=100"
    seen = {name: browser(name, "mlflow").open(experiments) for name in ("vera", "ivy", "eve")}
    assert {name: answer.status_code for name, answer in seen.items()} == {"vera": 200, "ivy": 200, "eve": 403}
    assert len(seen["ivy"].json()["experiments"]) > len(seen["vera"].json().get("experiments", []))
    for name, status in (("vera", 200), ("eve", 403)):
        assert browser(name, "prometheus").open("/api/v1/query?query=up").status_code == status
        assert browser(name, "alertmanager").open("/api/v2/alerts").status_code == status
    vera = browser("vera", "alertmanager")
    vera.open("/api/v2/alerts")
    assert vera.ask(f"https://{vera.page}/api/v2/silences", "POST").status_code == 405, "it is to be read"
    # Argo CD asks at the identity provider itself, and tells nobody anything before.
    assert browser("vera", "argocd").open("/api/v1/applications").status_code == 401


class _Door:
    """The gateway's port on loopback, by the model's public name and the environment's own authority."""

    def __init__(self, kubectl: Kubectl, host: str) -> None:
        service = kubectl.get("service", "istio-ingressgateway", "--namespace=istio-system")
        self._port = next(port["nodePort"] for port in service["spec"]["ports"] if port["port"] == 443)
        authority = kubectl.get("secret", "models-ca", "--namespace=istio-system")["data"]["ca.crt"]
        self._trust = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
        self._host = host

    def ask(self, key: str) -> tuple[int, dict[str, str]]:
        """Status and answer of a prediction; 0 where nobody answers."""
        connection = http.client.HTTPSConnection(self._host, timeout=20)
        try:
            plain = socket.create_connection(("127.0.0.1", self._port), timeout=20)
            connection.sock = self._trust.wrap_socket(plain, server_hostname=self._host)
            headers = {"Content-Type": "application/json"} | ({"x-api-key": key} if key else {})
            connection.request("POST", "/v1/predict", json.dumps(_ROW), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError):
            return 0, {}
        finally:
            connection.close()
