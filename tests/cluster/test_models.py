"""A model comes with a file and goes with it; nothing of it stays behind."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import servers
from person import Person
from rollouts import NAMESPACE, agreed
from traffic import Traffic, api_key
from workstation import Workstation

from harness.kubectl import Kubectl
from harness.processes import wait_until
from harness.settings import GATEWAY_NODE_PORT

pytestmark = pytest.mark.timeout(900)
_MODEL = "diabetes"
_ROLLOUT = ("rollout", f"{_MODEL}-server", *NAMESPACE)


def objects(kubectl: Kubectl) -> list[str]:
    """Everything in the namespace that is named for the model, but for what the cluster says about the past."""
    kinds = kubectl.run("api-resources", "--namespaced", "--verbs=list,delete", "--output=name").split()
    lasting = ",".join(kind for kind in kinds if not kind.startswith("events"))
    return [name for name in kubectl.run("get", lasting, *NAMESPACE, "--output=name").split() if f"/{_MODEL}" in name]


def phase(kubectl: Kubectl) -> str:
    """Of the model's Rollout."""
    return str(kubectl.get(*_ROLLOUT).get("status", {}).get("phase"))


def take_away(kubectl: Kubectl, person: Person) -> None:
    """Delete its release, and say to Argo CD, which keeps what serves until somebody does, that it may go."""
    person.delete(f"clusters/local/models/{_MODEL}/release.yaml")
    application = ("application", f"model-{_MODEL}", "--namespace=argocd")
    wait_until("Argo CD to ask", lambda: "deletionTimestamp" in kubectl.get(*application)["metadata"], seconds=120)
    assert kubectl.try_run("get", *_ROLLOUT), "it serves until somebody confirms"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kubectl.run("annotate", *application, f"argocd.argoproj.io/deletion-approved={now}", "--overwrite")


@pytest.mark.long
def test_a_second_model_comes_and_goes_without_a_trace(
    kubectl: Kubectl, desk: Workstation, person: Person, served: None
) -> None:
    """It is taken out in the middle of a canary, when two releases' objects stand side by side."""
    assert objects(kubectl) == []
    version = desk.train(_MODEL, sample="1")
    gateway = Traffic(f"{_MODEL}.models.internal", GATEWAY_NODE_PORT, [], api_key(kubectl))
    body = json.dumps({"features": {"age": 59, "sex": "2", "bmi": 32.1}})
    with ExitStack() as undo:
        desk.promote(_MODEL, version, servers.server())
        undo.callback(take_away, kubectl, person)
        wait_until("its Rollout", lambda: kubectl.try_run("get", *_ROLLOUT), seconds=120)
        wait_until("it to serve", lambda: phase(kubectl) == "Healthy", seconds=120)
        agreed(kubectl, desk, _MODEL)
        status, answer = gateway.ask(body)
        assert (status, json.loads(answer).get("version")) == (200, version), answer

        desk.promote(_MODEL, version, servers.another("none"))
        wait_until("the canary", lambda: phase(kubectl) == "Progressing", seconds=120)
        releases = [name for name in objects(kubectl) if name.startswith(f"configmap/{_MODEL}-release-")]
        assert len(releases) == 2, "stable's pods mount theirs until it is replaced"

    wait_until("everything to go", lambda: objects(kubectl) == [], seconds=180)
    agreed(kubectl, desk, _MODEL)
    assert desk.said.splitlines()[1].split() == [_MODEL, "-", "-", "-", "agree"]
    assert gateway.ask(body)[0] == 404
