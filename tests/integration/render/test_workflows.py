"""What Argo CD makes of the Workflows in each environment: images, settings, rights, and pods that are let in."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from plumbline.tree.render.build import build, environments
from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = environments(ROOT)
FILLS = ("materialise", "fill")


@cache
def objects(environment: str) -> dict[tuple[str, str], dict[str, Any]]:
    """{(kind, name): object}."""
    built = build(ROOT, f"clusters/{environment}/workloads/workflows")
    return {(item["kind"], item["metadata"]["name"]): item for item in built}


def specs(environment: str = "local") -> dict[str, dict[str, Any]]:
    """{Workflow: its specification}."""
    return {name: item["spec"] for (kind, name), item in objects(environment).items() if kind == "WorkflowTemplate"}


def templates(environment: str = "local") -> dict[tuple[str, str], dict[str, Any]]:
    return {(name, item["name"]): item for name, spec in specs(environment).items() for item in spec["templates"]}


def pods(environment: str = "local") -> dict[tuple[str, str], dict[str, Any]]:
    return {key: item for key, item in templates(environment).items() if "container" in item}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_image_of_ours_has_a_digest_and_every_name_exists(environment: str) -> None:
    found = objects(environment)
    assert pods(environment).keys() == pods("local").keys() != set()
    ours = f"{read_values(ROOT, environment).registry}/platform@sha256:"
    for key, pod in pods(environment).items():
        image = pod["container"]["image"]
        assert image.startswith(ours) or image == "docker.io/library/postgres:17.6", key
        for source in pod["container"]["envFrom"]:
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in found, key
    server = build(ROOT, "kustomize/postgresql")
    (image,) = [
        item["spec"]["template"]["spec"]["containers"][0]["image"] for item in server if item["kind"] == "StatefulSet"
    ]
    assert image == "docker.io/library/postgres:17.6", "dumps are made by tools of the server's version"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_is_called_like_its_folder_and_all_is_in_its_namespace(environment: str) -> None:
    found = objects(environment)
    assert found["ConfigMap", "settings"]["data"]["environment"] == environment
    # Whom the server of Argo Workflows takes people for, and its client at the identity provider.
    texts = [
        (ROOT / f"kustomize/workflows/components/people/{file}.yaml").read_text() for file in ("accounts", "sign-in")
    ]
    of_the_server = {(item["kind"], item["metadata"]["name"]) for text in texts for item in yaml.safe_load_all(text)}
    for (kind, name), item in found.items():
        expected = "models" if name == "reconcile" and kind.startswith("Role") else "workflows"
        assert item["metadata"]["namespace"] == ("argo" if (kind, name) in of_the_server else expected), (kind, name)


def test_pods_are_restricted_bounded_and_tried_again() -> None:
    for spec in specs().values():
        context = spec["securityContext"]
        assert context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["activeDeadlineSeconds"] > 0
        assert {"podGC", "ttlStrategy"} <= spec.keys()
    for key, pod in pods().items():
        container = pod["container"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, key
        assert {"cpu", "memory"} == container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
        assert pod["activeDeadlineSeconds"] > 0, key
        assert pod["retryStrategy"]["retryPolicy"] == "Always", key
        mounts = {item["mountPath"] for item in container["volumeMounts"]}
        for item in (*pod.get("inputs", {}).get("artifacts", []), *pod.get("outputs", {}).get("artifacts", [])):
            assert any(item["path"].startswith(f"{mount}/") for mount in mounts), f"{key}: {item['path']} is read-only"


def secrets_of(pod: dict[str, Any]) -> set[str]:
    """The Secrets that a step reads, by variable or by file."""
    taken = {item["secretRef"]["name"] for item in pod["container"]["envFrom"] if "secretRef" in item}
    return taken | {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}


def with_secret(name: str) -> set[tuple[str, str]]:
    return {key for key, pod in pods().items() if name in secrets_of(pod)}


def test_each_secret_is_read_by_the_steps_that_need_it_and_no_other() -> None:
    assert with_secret("signing-key") == {("train-model", "register")}
    pushing = {("promote-model", "promote"), ("promote-model", "record"), ("reconcile", "reconcile")}
    assert with_secret("git") == pushing | {("drift-check", "collect")}
    assert with_secret("git-read") & with_secret("git") == set()
    assert {key for key, pod in pods().items() if pod.get("automountServiceAccountToken")} == {
        ("reconcile", "reconcile")
    }


def test_who_signs_who_judges_and_who_reads_all_data_are_accounts_of_their_own() -> None:
    accounts = {
        key: pod.get("serviceAccountName", specs()[key[0]]["serviceAccountName"]) for key, pod in pods().items()
    }
    by_account = {name: {key for key, account in accounts.items() if account == name} for name in accounts.values()}
    assert by_account["register"] == with_secret("signing-key")
    assert by_account["judge"] == {("train-model", "judge")}
    assert secrets_of(pods()["train-model", "judge"]) == {"mlflow-workflows", "git-read", "releases", "public-key"}
    promoting = {("promote-model", name) for name in ("check", "record", "promote")}
    assert by_account["promote"] == promoting | {("drift-check", "collect")}
    assert {workflow for workflow, _ in by_account["backup"]} == {"backup", "restore"}
    assert by_account["materialise"] == with_secret("redis") == {FILLS}
    assert by_account.keys() == {"judge", "register", "promote", "backup", "materialise", "reconcile", "workflow"}
    assert {("ServiceAccount", name) for name in by_account} <= objects("local").keys()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_step_that_fills_the_online_store_reaches_redis_as_servers_do_and_no_other_step_does(
    environment: str,
) -> None:
    found = objects(environment)
    step = pods(environment)[FILLS]
    assert secrets_of(step) == {"redis"}, "neither git nor MLflow"
    (address,) = step["container"]["env"]
    assert address["value"] == "$(REDIS_SCHEME)://:$(REDIS_PASSWORD)@$(REDIS_ADDRESS)/0"
    services = next(item for (kind, name), item in found.items() if kind == "ConfigMap" and name.startswith("services"))
    in_cloud = read_values(ROOT, environment).buckets
    assert services["data"]["REDIS_SCHEME"] == ("rediss" if in_cloud else "redis")
    labels = step["metadata"]["labels"]
    assert {key for key, pod in pods(environment).items() if pod.get("metadata", {}).get("labels") == labels} == {FILLS}
    policy = found["NetworkPolicy", "materialise"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert [rule["ports"] for rule in policy["egress"]] == [[{"port": 6379}]]
    (redis,) = [item for item in build(ROOT, "kustomize/redis") if item["metadata"]["name"] == "redis"
                and item["kind"] == "NetworkPolicy"]  # fmt: skip
    let_in = [each for rule in redis["spec"]["ingress"] for each in rule["from"]]
    assert [each["podSelector"]["matchLabels"] for each in let_in if "podSelector" in each] == [labels]
    schedule = found["CronWorkflow", "materialise"]["spec"]
    assert (schedule["timezone"], schedule["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
    assert schedule["startingDeadlineSeconds"] > 0


def test_a_schedule_starts_a_template_of_its_name_and_says_no_more() -> None:
    schedules = {name: item["spec"] for (kind, name), item in objects("local").items() if kind == "CronWorkflow"}
    assert schedules
    for name, spec in schedules.items():
        assert spec["workflowSpec"] == {"workflowTemplateRef": {"name": name}}
        assert name in specs()


def test_admission_knows_the_templates_that_a_person_may_start() -> None:
    rule = (ROOT / "policies/admission/workflows.yaml").read_text()
    listed = re.search(r"name\.orValue\(''\) in (\[[^]]*\])", rule)
    assert listed is not None
    # What others call when they end is nobody's to start.
    assert set(ast.literal_eval(re.sub(r"\s+", " ", listed[1]))) == specs().keys() - {"report"}


def test_the_controller_runs_templates_alone() -> None:
    sources = [item["spec"]["source"] for item in build(ROOT, "clusters/local") if item["kind"] == "Application"]
    patches = [patch["patch"] for source in sources for patch in source.get("kustomize", {}).get("patches", [])]
    [settings] = [yaml.safe_load(patch) for patch in patches if "workflowRestrictions" in patch]
    assert yaml.safe_load(settings["data"]["workflowRestrictions"]) == {"templateReferencing": "Strict"}


def test_rights_are_these_and_no_more() -> None:
    found = objects("local")
    rules = {name: item["rules"] for (kind, name), item in found.items() if kind == "Role"}
    written = {name: {verb for rule in each for verb in rule["verbs"]} for name, each in rules.items()}
    assert written == {
        "executor": {"create", "patch"},
        "reconcile": {"get", "list", "watch"},
        "submitter": {"create", "get", "list", "watch", "update", "patch"},
    }
    assert {resource for rule in rules["submitter"] if "create" in rule["verbs"] for resource in rule["resources"]} == {
        "workflows"
    }
    assert "secrets" not in str(rules)
    assert rules["executor"][0]["resources"] == ["workflowtaskresults"]
    bound = {name: item["subjects"] for (kind, name), item in found.items() if kind == "RoleBinding"}
    assert {(name, subject.get("namespace"), subject["name"]) for name, each in bound.items() for subject in each} == {
        ("executor", "workflows", "executor"),
        ("reconcile", "workflows", "reconcile"),
        ("submitter", None, "plumbline:submitters"),
    }


def test_what_a_task_calls_exists_and_takes_what_it_is_given() -> None:
    every = templates()
    for (workflow, name), template in every.items():
        for task in template.get("dag", {}).get("tasks", []):
            target = task.get("templateRef", {"name": workflow, "template": task.get("template")})
            called = every[target["name"], target["template"]].get("inputs", {})
            for kind in ("parameters", "artifacts"):
                given = {item["name"] for item in task.get("arguments", {}).get(kind, [])}
                taken = {item["name"] for item in called.get(kind, []) if not {"default", "valueFrom"} & item.keys()}
                assert given == taken, f"{workflow}.{name}.{task['name']}"


def test_promotions_of_one_model_into_one_environment_wait_for_each_other() -> None:
    promote = templates()["promote-model", "promote"]
    (mutex,) = promote["synchronization"]["mutexes"]
    assert mutex["name"] == "promote-{{inputs.parameters.environment}}-{{inputs.parameters.model}}"
    assert "synchronization" not in specs()["promote-model"], "an approval that is waited for blocks nobody"
