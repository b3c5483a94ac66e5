"""What apps/ declares is what runs, and stays so."""

import pytest

from harness import applications
from harness.kubectl import Kubectl
from harness.processes import wait_until
from harness.settings import ROOT
from plumbline.tree.render.build import render

pytestmark = pytest.mark.timeout(600)


def declared(environment: str) -> set[str]:
    """The Applications of apps/ and of the folders that its ApplicationSets find; models have them once they serve."""
    folders = render(ROOT, environment)
    root = folders[f"clusters/{environment}"]
    single = {item["metadata"]["name"] for item in root if item["kind"] == "Application"}
    return single | {folder.rsplit("/", 1)[1] for folder in folders if "/workloads/" in folder}


def test_every_declared_application_is_synced_and_healthy_and_there_is_no_other(kubectl: Kubectl) -> None:
    wait_until("the Applications", lambda: not applications.complaints(kubectl), seconds=120)
    found = set(applications.states(kubectl))
    assert {name for name in found if not name.startswith("model-")} == declared("local")


def test_what_is_deleted_by_hand_comes_back(kubectl: Kubectl) -> None:
    """Argo CD puts a deleted Deployment back; nobody has to notice."""
    name = ("deployment", "argo-rollouts", "--namespace=argo-rollouts")
    before = kubectl.get(*name)["metadata"]["uid"]
    kubectl.run("delete", *name, "--wait=true")

    def back() -> bool:
        return kubectl.try_run("get", *name) and kubectl.get(*name)["metadata"]["uid"] != before

    wait_until("the Deployment", back, seconds=60)
    kubectl.run("rollout", "status", *name, "--timeout=120s")
    wait_until("argo-rollouts", lambda: applications.states(kubectl)["argo-rollouts"] == "Synced Healthy", seconds=60)
