"""Staging and production are one platform: what they differ in is listed here, and nothing else may."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from plumbline.tree.difference import Change, differences
from plumbline.tree.render.build import Object, render

# (object, field) as regular expressions, each with the reason.
MEANT = [
    # The environment's own name: in paths that Argo CD syncs, and in the addresses of its managed services.
    (r"argocd/Application(Set)?/(platform|admission|models|workloads)", r"spec\..*path"),
    (r".*/ConfigMap/([a-z]+-)?services", r"data\.(PGHOST|REDIS_ADDRESS|MLFLOW_ARTIFACTS)"),
    (
        r"workflows/ConfigMap/(settings|artifact-repositories)",
        r"data\.(environment|class|scoring-store|BACKUP_STORE|s3)",
    ),
    # And in the names by which its models are asked.
    (r"(models|istio-system)/(Gateway|VirtualService)/.*", r"spec\.(servers\..*\.)?hosts\..*"),
    (r"istio-system/Certificate/(models|people)-tls", r"spec\.dnsNames\..*"),
    # And its pages.
    (r"mlflow/Deployment/mlflow", r".*containers\.mlflow\.args\.[56]"),
    (r"monitoring/Deployment/grafana", r".*containers\..*\.env\..*"),
    # Where its secrets are.
    (r"/ClusterSecretStore/aws", r"spec\.provider\.aws\.prefix"),
    # Policies of production: two replicas, an approved and signed release.
    (r"/ValidatingAdmissionPolicy(Binding)?/(replicas|release)\.plumbline\.dev", ""),
    # Each says where it is.
    (r"monitoring/Prometheus/plumbline", r"spec\.externalLabels\.environment"),
    # A drained node takes one of them at a time.
    (r"(argo|argo-rollouts|argocd|keda|kube-system)/PodDisruptionBudget/.*|argocd/Application/budgets", ""),
    # Third parties in two copies and more: apps/components/highly-available.
    (r"argocd/Application/[a-z-]+", r"spec\.source\.(path|kustomize\..*|helm\..*)"),
]
# Sizes are each environment's own: they may differ anywhere, and need not.
SIZES = [(".*", r"(.*\.)?(replicas|resources(\..*)?|(min|max)ReplicaCount)")]


def meant(change: Change, rules: Sequence[tuple[str, str]] = MEANT) -> bool:
    return any(re.fullmatch(item, change.object) and re.fullmatch(field, change.field) for item, field in rules)


def objects(tree: Path, environment: str) -> list[Object]:
    return [item for found in render(tree, environment).values() for item in found]


@pytest.fixture
def same_models(tree: Path) -> Path:
    """The tree with the models that both have, in production at staging's weights, and nothing served."""
    for folder in (*tree.glob("clusters/staging/models/*"), *tree.glob("clusters/production/models/*")):
        other = tree / "clusters" / {"staging": "production", "production": "staging"}[folder.parts[-3]]
        (folder / "release.yaml").unlink(missing_ok=True)
        if not (other / "models" / folder.name).exists():
            shutil.rmtree(folder)
        elif other.name == "production":
            shutil.copyfile(folder / "canary.yaml", other / "models" / folder.name / "canary.yaml")
    return tree


def test_staging_and_production_differ_only_where_it_is_meant(same_models: Path) -> None:
    found = differences(objects(same_models, "staging"), objects(same_models, "production"))
    assert [change for change in found if not meant(change) and not meant(change, SIZES)] == []
    assert [rule for rule in MEANT if not any(meant(change, [rule]) for change in found)] == [], "nothing differs there"
