"""The bootstrap on a real API server: Secrets are made once and never anew, and CRDs as Argo CD would make them."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from plumbline.tree.bootstrap import Bootstrap, manifests
from plumbline.tree.kubectl import Kubectl
from plumbline.tree.tools import api_server
from plumbline.tree.validate.cluster import Cluster

ROOT = Path(__file__).parents[3]


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    """kubectl of the pinned version, as administrator."""
    token = cluster.client.headers["Authorization"].removeprefix("Bearer ")
    server = {"server": str(cluster.client.base_url), "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECTL", str(api_server() / "kubectl"))
    return Kubectl("test")


def values(kubectl: Kubectl) -> dict[tuple[str, str], dict[str, str]]:
    """{(namespace, Secret): what it holds}."""
    found = {}
    for item in kubectl.items("secrets", "--all-namespaces"):
        key = item["metadata"]["namespace"], item["metadata"]["name"]
        found[key] = {name: base64.b64decode(value).decode() for name, value in item["data"].items()}
    return found


def test_secrets_are_made_once_and_are_the_same_in_every_namespace(kubectl: Kubectl) -> None:
    wanted: list[dict[str, Any]] = yaml.safe_load((ROOT / "clusters/local/secrets.yaml").read_text(encoding="utf-8"))
    Bootstrap(kubectl).make_secrets(wanted)
    made = values(kubectl)
    assert set(made) == {(space, secret["name"]) for secret in wanted for space in secret["namespaces"]}
    for secret in wanted:
        first, *others = [made[space, secret["name"]] for space in secret["namespaces"]]
        assert all(other == first for other in others), secret["name"]
        assert all(len(first[key]) >= 32 for key in secret.get("random", []))
    password = made["postgresql", "postgresql"]["PGPASSWORD"]
    assert password not in {values["REDIS_PASSWORD"] for key, values in made.items() if key[1] == "redis"}

    kubectl.run("delete", "secret", "postgresql", "--namespace=mlflow")
    Bootstrap(kubectl).make_secrets(wanted)
    assert values(kubectl) == made


def test_crds_are_made_as_argo_cd_would_make_them(kubectl: Kubectl, tmp_path: Path) -> None:
    """From the project's own repository with the Application's patches: the rest of it is Argo CD's to apply."""
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"containers": [{"name": "one", "image": "example.com/one"}]},
    }
    repository = tmp_path / "widgets.git"
    (repository / "manifests").mkdir(parents=True)
    (repository / "manifests/all.yaml").write_text(yaml.safe_dump_all([crd, pod]))
    (repository / "manifests/kustomization.yaml").write_text("resources: [all.yaml]\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@plumbline.dev"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], [*identity, "commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run(["git", "-C", repository, *command], check=True)
    patch = '[{"op": "add", "path": "/metadata/labels", "value": {"team": "ours"}}]'
    source = {
        "repoURL": f"file://{repository}",
        "targetRevision": "v1",
        "path": "manifests",
        "kustomize": {
            "images": ["example.com/one:v1"],
            "patches": [{"target": {"kind": "CustomResourceDefinition"}, "patch": patch}],
        },
    }
    application = {"metadata": {"name": "widgets"}, "spec": {"source": source, "destination": {"namespace": "widgets"}}}

    built = {item["kind"]: item for item in manifests(application)}
    assert built["Pod"]["spec"]["containers"][0]["image"] == "example.com/one:v1"
    Bootstrap(kubectl).install_crds([application])
    (made,) = [item for item in kubectl.items("crds") if item["metadata"]["name"] == "widgets.example.org"]
    assert made["metadata"]["labels"] == {"team": "ours"}
    # Argo CD marks no CRD as its own: with a mark it would find it different and write it again.
    assert "annotations" not in made["metadata"]
    assert kubectl.items("pods", "--namespace=default") == []
