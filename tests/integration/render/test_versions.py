"""Each version is pinned once: what is written elsewhere, and what the test cluster builds, is the same."""

from pathlib import Path

import asis
import pytest
from versions import applications, built, images, modules, table

from plumbline.tree.render.build import Objects, environments
from plumbline.tree.validate.crds import SOURCES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def own() -> dict[str, Objects]:
    """{environment: the objects of its own folder}."""
    return {name: asis.rendered(name)[f"clusters/{name}"] for name in environments(ROOT)}


def test_the_document_is_what_the_pins_say() -> None:
    written = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    assert written == table(ROOT), "docs/versions.md is behind what pins the versions: run `make versions`"


def test_the_test_cluster_builds_what_apps_installs(own: dict[str, Objects]) -> None:
    programs = modules(ROOT)
    compared = {item.name: (built(item, programs), item.version) for item in applications(own)}
    istio = SOURCES["istio/istio"]
    assert istio is not None
    # Istio's tags are no versions of Go's: which commit one is stands beside where its CRDs are.
    same = {name: (pair[0], istio.versions.get(pair[1], pair[1])) for name, pair in compared.items() if pair[0]}
    assert {
        "argo-cd",
        "argo-rollouts",
        "argo-workflows",
        "keda",
        "metrics-server",
        "prometheus-operator",
        "istiod",
    } <= set(same)
    assert {name: pair for name, pair in same.items() if pair[0] != pair[1]} == {}


def test_every_environment_installs_the_same_version_of_a_part(own: dict[str, Objects]) -> None:
    names = [item.name for item in applications(own)]
    assert len(names) == len(set(names)), "an environment overrides a version: versions are pinned in apps/ alone"


def test_images_of_others_are_found_wherever_an_object_names_one() -> None:
    ours = {"registry.example/ml"}
    pod = {"containers": [{"image": "docker.io/library/redis:8.2.1"}, {"image": "registry.example/ml/mlflow:1.0.0"}]}
    prometheus = {"kind": "Prometheus", "spec": {"image": "quay.io/prometheus/prometheus:v3.13.4"}}
    found = images([{"kind": "Deployment", "spec": {"template": {"spec": pod}}}, prometheus], ours)
    assert found == {"docker.io/library/redis:8.2.1", "quay.io/prometheus/prometheus:v3.13.4"}
    # What `make demo` and a registry of a person's own write into a release.
    released = [{"image": f"{name}/model-server@sha256:0"} for name in ("localhost", "registry.example.com:5000")]
    assert images([{"kind": "Pod", "spec": {"containers": released}}], ours) == set()
    assert images([{"kind": "Rollout", "spec": {"image": "registry.example.com/server:v1@sha256:0"}}], ours) == set()
    bare = {"kind": "ConfigMap", "data": {"image": "none"}}
    assert images([bare], ours) == set()
