"""What holds for every workload of ours in every environment, and what the API server does not look at."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asis
import boto3
import pytest
import yaml

from plumbline.monitoring.log.settings import Settings
from plumbline.tree.render.build import environments

ROOT = Path(__file__).parents[3]
Object = dict[str, Any]
SERVERS = ("Deployment", "StatefulSet")


@pytest.fixture(scope="module", params=environments(ROOT))
def workloads(request: pytest.FixtureRequest) -> dict[str, list[Object]]:
    """{workload: its objects} of one environment."""
    rendered = asis.rendered(request.param)
    return {folder.rsplit("/", 1)[1]: objects for folder, objects in rendered.items() if "/workloads/" in folder}


def of(objects: list[Object], *kinds: str) -> list[Object]:
    return [item for item in objects if item["kind"] in kinds]


def test_everything_stands_in_the_namespace_that_is_called_like_its_folder(workloads: dict[str, list[Object]]) -> None:
    assert {"mlflow", "prediction-log"} <= workloads.keys()
    for name, objects in workloads.items():
        cluster_wide = {"ClusterRole", "ClusterRoleBinding"}
        spaces = {item["metadata"].get("namespace") for item in objects if item["kind"] not in cluster_wide}
        assert name in spaces
        assert None not in spaces


def test_nobody_talks_to_anybody_unless_a_policy_says_so(workloads: dict[str, list[Object]]) -> None:
    for name, objects in workloads.items():
        closed = [
            policy
            for policy in of(objects, "NetworkPolicy")
            if not policy["spec"]["podSelector"] and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        ]
        assert closed, f"{name}: no NetworkPolicy closes its namespace"


def test_what_has_replicas_has_a_budget_of_disruptions(workloads: dict[str, list[Object]]) -> None:
    for name, objects in workloads.items():
        budgets = [budget["spec"]["selector"]["matchLabels"] for budget in of(objects, "PodDisruptionBudget")]
        for server in of(objects, *SERVERS):
            labels = server["spec"]["template"]["metadata"]["labels"]
            covered = [budget for budget in budgets if budget.items() <= labels.items()]
            assert len(covered) == (server["spec"]["replicas"] > 1), f"{name}: {server['metadata']['name']}"


def test_variables_that_a_container_puts_together_are_there(workloads: dict[str, list[Object]]) -> None:
    for name, objects in workloads.items():
        known = {item["metadata"]["name"]: set(item["data"]) for item in of(objects, "ConfigMap")}
        for item in of(objects, *SERVERS, "Job"):
            for container in item["spec"]["template"]["spec"]["containers"]:
                missing = _used(container) - _defined(container, known)
                assert not missing, f"{name}: {item['metadata']['name']} uses $({missing}), which nothing defines"


def _used(container: Object) -> set[str]:
    texts = [*container.get("command", ()), *container.get("args", ())]
    texts += [item["value"] for item in container.get("env", ()) if "value" in item]
    return {found for text in texts for found in re.findall(r"\$\((\w+)\)", text)}


def _defined(container: Object, maps: dict[str, set[str]]) -> set[str]:
    found = {item["name"] for item in container.get("env", ())}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            found |= maps[source["configMapRef"]["name"]]
        else:
            found |= set(_keys(source["secretRef"]["name"]))
    return found


def _keys(secret: str) -> Iterator[str]:
    for item in yaml.safe_load((ROOT / "clusters/local/secrets.yaml").read_text(encoding="utf-8")):
        if item["name"] == secret:
            yield from (*item.get("random", ()), *item.get("fixed", {}))


def test_monitoring_reads_what_the_workflows_settings_say(
    workloads: dict[str, list[Object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings,) = [item for item in of(workloads["workflows"], "ConfigMap") if item["metadata"]["name"] == "settings"]
    for name, value in settings["data"].items():
        monkeypatch.setenv(name, value)
    assert Settings().database_url.path == "/predictions"


def test_hooks_run_again_at_every_sync_and_after_what_they_read(workloads: dict[str, list[Object]]) -> None:
    """A Job can't be changed: without the policy the second sync fails. What it reads is there an earlier wave."""

    def wave(item: Object) -> int:
        return int(item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", "0"))

    assert any(of(objects, "Job") for objects in workloads.values())
    for objects in workloads.values():
        for job in of(objects, "Job"):
            said = job["metadata"]["annotations"]
            assert said["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
            if said["argocd.argoproj.io/hook"] == "Sync":
                names = yaml.safe_dump(job["spec"])
                read = of(objects, "ConfigMap", "ExternalSecret", "ServiceAccount")
                early = [item for item in read if item["metadata"]["name"] in names]
                policies = [item for item in of(objects, "NetworkPolicy") if "Egress" in item["spec"]["policyTypes"]]
                assert all(wave(item) < wave(job) for item in [*early, *policies])
                assert all(wave(job) < wave(item) for item in of(objects, *SERVERS))


def test_the_object_store_that_tests_build_is_the_one_that_is_declared() -> None:
    pinned = re.search(r"github\.com/versity/versitygw (v\S+)", (ROOT / "tests/tools/go.mod").read_text())
    assert pinned is not None
    text = (ROOT / "kustomize/object-store/stateful-set.yaml").read_text(encoding="utf-8")
    assert f"ghcr.io/versity/versitygw:{pinned[1]}\n" in text


def test_addresses_that_mlflow_signs_are_those_of_the_bucket_s_region(
    workloads: dict[str, list[Object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 sends whoever asks elsewhere for a young bucket on to another host, for which the signature is none."""
    (services,) = [
        item for item in of(workloads["mlflow"], "ConfigMap") if item["metadata"]["name"].startswith("services")
    ]
    region = services["data"]["AWS_DEFAULT_REGION"]
    if services["data"].get("PGSSLMODE") != "verify-full":
        return  # an object store of its own, which is named in full
    for name, value in services["data"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    # The session that all clients of a process share keeps the first keys that it sees.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    repository = S3ArtifactRepository(services["data"]["MLFLOW_ARTIFACTS"])
    url = repository._get_s3_client().generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert url.startswith(f"https://bucket.s3.{region}.amazonaws.com/")
