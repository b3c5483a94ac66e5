"""What a real API server says to objects: each refusal has its reason, and asking leaves nothing behind."""

import copy
from pathlib import Path
from typing import Any

import asis
import pytest
import yaml

from plumbline.serving.settings import Settings
from plumbline.tree.render.build import Object, build
from plumbline.tree.validate.cluster import Cluster
from plumbline.tree.validate.crds import CrdError, crds_of
from plumbline.tree.validate.examples import (
    NAMESPACE,
    Example,
    check_examples,
    of_environment,
    read_examples,
)

ROOT = Path(__file__).parents[3]
DEPLOYMENT = yaml.safe_load((ROOT / "policies/admission/examples/deployment.yaml").read_text())


def deployment(**spec: Any) -> dict[str, Any]:
    item: dict[str, Any] = copy.deepcopy(DEPLOYMENT)
    item["spec"] |= spec
    return item


def test_a_right_object_is_accepted_and_not_stored(cluster: Cluster) -> None:
    assert cluster.ask(deployment(), "default").refusal == ""
    assert cluster.client.get("/apis/apps/v1/namespaces/default/deployments/example").status_code == 404


def test_a_field_that_no_schema_knows_is_refused(cluster: Cluster) -> None:
    assert "replcas" in cluster.ask(deployment(replcas=3), "default").refusal


def test_a_value_of_another_type_is_refused(cluster: Cluster) -> None:
    assert "replicas" in cluster.ask(deployment(replicas="three"), "default").refusal


def test_an_illegal_value_is_refused(cluster: Cluster) -> None:
    selector = {"matchLabels": {"app.kubernetes.io/name": "other"}}
    assert "selector" in cluster.ask(deployment(selector=selector), "default").refusal


def test_no_kind_is_skipped(cluster: Cluster) -> None:
    item = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "one"}}
    assert "no kind Gadget in example.com/v1" in cluster.ask(item, "default").refusal


def test_a_repository_whose_crds_are_nowhere_is_an_error() -> None:
    with pytest.raises(CrdError, match=r"example\.com/other.*add it to"):
        crds_of({("https://example.com/other.git", "v1.0.0")})


def test_crds_have_the_schema_of_the_version_that_apps_names(cluster: Cluster, kinds: None) -> None:
    rollout = yaml.safe_load((ROOT / "policies/admission/examples/rollout.yaml").read_text())
    assert cluster.ask(rollout, "default").refusal == ""
    rollout["spec"]["strategy"]["canary"]["steps"][0] = {"setWieght": 10}
    assert "setWieght" in cluster.ask(rollout, "default").refusal


def test_every_rule_has_an_accepted_and_a_refused_example(policies: set[str]) -> None:
    found = {(example.policy, example.refused) for example in read_examples(ROOT)}
    assert found == {(policy, refused) for policy in policies for refused in (True, False)}


def test_the_examples_are_answered_as_their_names_say(cluster: Cluster, policies: set[str]) -> None:
    assert check_examples(cluster, read_examples(ROOT), policies) == []


TEMPLATED = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "ReplicationController": "v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "PodTemplate": "v1",
    "Rollout": "argoproj.io/v1alpha1",
    "Pod": "v1",
}
SELECTED = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout"}


def of_kind(kind: str, pod: Object, namespace: str) -> Object:
    """An object of this kind that is, or makes, such a pod."""
    labels: dict[str, str] = {"app": "example"}
    template: Object = {"metadata": {"labels": labels}, "spec": pod}
    metadata = {"name": f"of-{kind.lower()}", "namespace": namespace, "labels": labels}
    item: Object = {"apiVersion": TEMPLATED[kind], "kind": kind, "metadata": metadata}
    if kind == "PodTemplate":
        return item | {"template": template}
    spec: Object = pod if kind == "Pod" else {"template": template}
    if kind in SELECTED:
        spec |= {"selector": {"matchLabels": labels}, "replicas": 2}
    if kind in ("Job", "CronJob"):
        template["spec"] = pod | {"restartPolicy": "Never"}
    if kind == "DaemonSet":
        del spec["replicas"]
    if kind == "StatefulSet":
        spec["serviceName"] = "example"
    if kind == "CronJob":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": spec}}
    if kind == "Rollout":
        rollout = yaml.safe_load((ROOT / "policies/admission/examples/server.yaml").read_text())
        spec["strategy"] = rollout["spec"]["strategy"]
    return item | {"spec": spec}


@pytest.mark.parametrize("kind", TEMPLATED)
def test_what_a_pod_may_be_is_asked_of_every_kind_that_makes_pods(
    kind: str, cluster: Cluster, policies: set[str]
) -> None:
    """In the namespace of the models itself, whose binding goes by its name: it has no label."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}})
    pod = yaml.safe_load((ROOT / "policies/admission/examples/server-pod.yaml").read_text())["spec"]
    assert cluster.ask(of_kind(kind, copy.deepcopy(pod), "models")).refusal == ""
    foreign = copy.deepcopy(pod)
    foreign["containers"][0]["command"] = ["sleep", "60"]
    assert "'model-server.plumbline.dev'" in cluster.ask(of_kind(kind, foreign, "models")).refusal
    foreign = copy.deepcopy(pod)
    foreign["containers"][0]["image"] = "ghcr.io/plumbline/model-server:latest"
    assert "'images.plumbline.dev'" in str(cluster.ask(of_kind(kind, foreign, NAMESPACE)).warnings)


def test_what_stood_before_a_rule_may_still_be_labelled_and_scaled_and_not_changed(
    cluster: Cluster, policies: set[str]
) -> None:
    space: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later"}}
    cluster.apply(space)
    item = deployment(replicas=2)
    item["metadata"] = {"name": "early", "namespace": "later"}
    item["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/library/redis:latest"
    cluster.apply(item)
    space["metadata"]["labels"] = {"app.kubernetes.io/part-of": "plumbline"}
    cluster.apply(space)
    item["spec"]["replicas"] = 3
    assert cluster.ask(item).refusal == ""
    item["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/library/postgres:latest"
    assert "'images.plumbline.dev'" in cluster.ask(item).refusal


def test_every_file_that_a_server_reads_by_a_setting_has_one_place() -> None:
    """A new setting that is a path is a line in the rule, or a ConfigMap could name another file."""
    rule = (ROOT / "policies/admission/models/settings.yaml").read_text()
    paths = [
        f"SERVING_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if field.annotation in (Path, Path | None)
    ]
    assert len(paths) > 3
    assert [name for name in paths if f"'{name}': '/" not in rule] == []


def test_the_objects_of_a_sign_in_at_the_gateway_have_their_shape(cluster: Cluster) -> None:
    """No environment of this repository has them, so that nothing else asks."""
    kinds = {"RequestAuthentication", "AuthorizationPolicy"}
    sources = {source for item in asis.everywhere() for source in item.sources()}
    cluster.load([crd for crd in crds_of(sources) if crd.kind in {("security.istio.io", kind) for kind in kinds}])
    folder = ROOT / "kustomize/gateway/components/sign-in"
    items = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml") if path.stem != "kustomization"]
    assert {item["kind"] for item in items} == kinds
    for item in items:
        assert cluster.ask(item, "default").refusal == ""


def test_what_one_environment_takes_is_refused_elsewhere_alone(cluster: Cluster, policies: set[str]) -> None:
    """The image of a laptop: `local` patches the policy that all others have as it is."""

    def images(folder: str) -> Object:
        known = {(item["kind"], item["metadata"]["name"]): item for item in build(ROOT, folder)}
        return known["ValidatingAdmissionPolicy", "images.plumbline.dev"]

    cluster.apply(images("clusters/local/admission"))
    try:
        assert check_examples(cluster, of_environment(read_examples(ROOT), "local"), policies) == []
    finally:
        cluster.apply(images("policies/admission"))


def test_an_example_without_its_fault_is_a_problem(
    cluster: Cluster, policies: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plumbline.tree.validate.examples._SECONDS", 0)
    sound = DEPLOYMENT | {"metadata": {"name": "sound", "namespace": NAMESPACE}}
    [problem] = check_examples(cluster, [Example("file", "images.plumbline.dev", True, sound, None)], policies)
    assert str(problem) == "file: must be refused by images.plumbline.dev alone, and is accepted"


def test_an_example_with_two_faults_is_a_problem(
    cluster: Cluster, policies: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plumbline.tree.validate.examples._SECONDS", 0)
    item = deployment(replicas=1)
    item["metadata"] = {"name": "two", "namespace": NAMESPACE}
    item["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/library/redis:latest"
    [problem] = check_examples(cluster, [Example("file", "images.plumbline.dev", True, item, None)], policies)
    assert "is refused by images.plumbline.dev, replicas.plumbline.dev" in str(problem)


def test_namespaces_that_are_not_ours_are_left_alone(cluster: Cluster, policies: set[str]) -> None:
    item = deployment(replicas=1)
    item["spec"]["template"]["spec"]["hostNetwork"] = True
    assert cluster.ask(item, NAMESPACE).refusal != ""
    assert cluster.ask(item, "default").refusal == ""
