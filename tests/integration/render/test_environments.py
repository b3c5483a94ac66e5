"""Staging and production are one platform: what they differ in is listed here, and nothing else may."""

import re
from collections.abc import Sequence
from pathlib import Path

from plumbline.tree.difference import Change, differences
from plumbline.tree.render.build import Object, render

ROOT = Path(__file__).parents[3]

# (object, field) as regular expressions, each with the reason.
MEANT = [
    # The environment's own name: in paths that Argo CD syncs, and in the addresses of its managed services.
    (r"argocd/Application(Set)?/(platform|admission|models|workloads)", r"spec\..*path"),
    (r".*/ConfigMap/([a-z]+-)?services", r"data\.(PGHOST|REDIS_ADDRESS|MLFLOW_ARTIFACTS)"),
    (r"workflows/ConfigMap/(settings|artifact-repositories)", r"data\.(environment|scoring-store|BACKUP_STORE|s3)"),
    # Where its secrets are.
    (r"/ClusterSecretStore/aws", r"spec\.provider\.aws\.prefix"),
    # Policies of production: two replicas, an approved and signed release.
    (r"/ValidatingAdmissionPolicy(Binding)?/(replicas|release)\.plumbline\.dev", ""),
    # A second Prometheus that takes over, three Alertmanagers that agree, room for more series; each says where it is.
    (r"monitoring/(Alertmanager|Prometheus)/plumbline", r"spec\.(replicas|resources\..*|externalLabels\.environment)"),
    # Third parties in two copies and more: apps/components/highly-available.
    (r"argocd/Application/[a-z-]+", r"spec\.source\.(path|kustomize\..*|helm\..*)"),
]


def meant(change: Change, rules: Sequence[tuple[str, str]] = MEANT) -> bool:
    return any(re.fullmatch(item, change.object) and re.fullmatch(field, change.field) for item, field in rules)


def objects(environment: str) -> list[Object]:
    return [item for found in render(ROOT, environment).values() for item in found]


def test_staging_and_production_differ_only_where_it_is_meant() -> None:
    found = differences(objects("staging"), objects("production"))
    assert [change for change in found if not meant(change)] == []
    assert [rule for rule in MEANT if not any(meant(change, [rule]) for change in found)] == [], "nothing differs there"
