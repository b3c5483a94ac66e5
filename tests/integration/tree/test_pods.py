"""A template whose pods the API server would refuse is found before there are any, whatever makes them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from plumbline.tree.render.environment import Environment
from plumbline.tree.render.sync import Sync
from plumbline.tree.validate.cluster import Cluster
from plumbline.tree.validate.pods import pods
from plumbline.tree.validate.sources import sources

ROOT = Path(__file__).parents[3]
FOLDER, URL = "clusters/live/workloads/default", "https://git.example/ours.git"
EXAMPLES = [
    yaml.safe_load((ROOT / f"policies/admission/examples/{name}.yaml").read_text())
    for name in ("deployment", "rollout")
]


def refusals(cluster: Cluster, item: dict[str, Any]) -> list[str]:
    tree = Environment("live", {FOLDER: [item]}, [Sync("default", URL, "main", FOLDER, "default")], url=URL)
    return [cluster.ask(pod, "default").refusal for _, _, _, pod in pods(tree)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda item: item["kind"])
def test_pods_of_the_examples_are_accepted(cluster: Cluster, example: dict[str, Any]) -> None:
    item = copy.deepcopy(example)
    item["metadata"].pop("namespace", None)
    assert refusals(cluster, item) == [""]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda item: item["kind"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}, "must be less than or equal to cpu limit"),
        ({"volumeMounts": [{"name": "absent", "mountPath": "/x"}]}, 'Not found: "absent"'),
        ({"imagePullPolicy": "Sometimes"}, "imagePullPolicy"),
        ({"ports": [{"name": "a-name-that-is-too-long", "containerPort": 80}]}, "ports[0].name"),
    ],
)
def test_pods_that_would_be_refused_are_found(
    cluster: Cluster, example: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    item = copy.deepcopy(example)
    item["metadata"].pop("namespace", None)
    item["spec"]["template"]["spec"]["containers"][0] |= change
    (refusal,) = refusals(cluster, item)
    assert reason in refusal


def application(**source: Any) -> dict[str, Any]:
    spec = {
        "source": {"repoURL": "https://github.com/argoproj/argo-rollouts.git", "targetRevision": "v1.10.1"} | source
    }
    return {"kind": "Application", "metadata": {"name": "one"}, "spec": spec}


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        ({"path": "manifests/cluster-install", "kustomize": {}}, []),
        ({"path": "manifests/clusterinstall"}, ["has no folder manifests/clusterinstall at v1.10.1"]),
        ({"path": "manifests/crds/../../docs"}, ["is neither a chart nor a folder of Kustomize"]),
        (
            {"path": "manifests/cluster-install", "helm": {"releaseName": "x"}},
            ["is for kustomize; expected `kustomize:`"],
        ),
    ],
)
def test_a_folder_that_its_pinned_source_does_not_have_is_found(source: dict[str, Any], reasons: list[str]) -> None:
    problems, unchecked = sources(Environment("live", {"clusters/live": [application(**source)]}, [], url=URL))
    assert [reason in problem.reason for problem, reason in zip(problems, reasons, strict=True)] == [True] * len(
        reasons
    )
    assert unchecked == []


def test_a_chart_of_a_repository_of_charts_is_not_claimed_to_be_right() -> None:
    item = application(repoURL="https://charts.jetstack.io", chart="cert-manager", targetRevision="v9.9.9")
    assert sources(Environment("live", {"clusters/live": [item]}, [], url=URL)) == ([], ["cert-manager v9.9.9"])
