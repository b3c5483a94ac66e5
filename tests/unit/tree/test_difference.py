"""Staging and production are one platform: what they differ in is listed here, and nothing else may."""

import re
from typing import Any

from plumbline.tree.difference import Change, differences
from plumbline.tree.render.build import Object, render

from .conftest import ROOT

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


def meant(change: Change) -> bool:
    return any(re.fullmatch(item, change.object) and re.fullmatch(field, change.field) for item, field in MEANT)


def objects(environment: str) -> list[Object]:
    return [item for found in render(ROOT, environment).values() for item in found]


def test_staging_and_production_differ_only_where_it_is_meant() -> None:
    found = differences(objects("staging"), objects("production"))
    assert [change for change in found if not meant(change)] == []
    assert found, "an environment that differs in nothing is a copy"


def config(name: str, **data: Any) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "models"}, "data": data}


def test_a_field_that_changes_comes_or_goes() -> None:
    before = [config("settings", kept=1, changed=[1, 2], gone="x")]
    after = [config("settings", kept=1, changed=[1, 3], new="y")]
    assert differences(before, after) == [
        Change("models/ConfigMap/settings", "data.changed.1", 2, 3),
        Change("models/ConfigMap/settings", "data.gone", "x", "nothing"),
        Change("models/ConfigMap/settings", "data.new", "nothing", "y"),
    ]


def test_an_object_that_comes_or_goes_is_one_change() -> None:
    item, there = config("settings", a=1), "models/ConfigMap/settings"
    assert differences([], [item]) == [Change(there, "", "nothing", "there")]
    assert differences([item], []) == [Change(there, "", "there", "nothing")]


def test_an_item_in_front_of_a_list_of_names_changes_no_other() -> None:
    def pod(*names: str) -> Object:
        return config("pod", containers=[{"name": name, "image": name} for name in names])

    changed = {change.field for change in differences([pod("main")], [pod("proxy", "main")])}
    assert changed == {"data.containers.proxy.name", "data.containers.proxy.image"}


def test_a_generated_name_counts_without_its_hash() -> None:
    assert differences([config("release-2456789bcd", a=1)], [config("release-fghkmt2456", a=1)]) == []
