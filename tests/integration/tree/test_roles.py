"""The table of docs/people.md, line by line, asked of Argo CD, of the API server and of the admission policies."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from programs import program

from plumbline.tree.render.build import build
from plumbline.tree.validate.cluster import Cluster

ROOT = Path(__file__).parents[3]
ROLES = ("viewer", "trainer", "promoter", "approver", "admin")
_ROW = re.compile(r"^\| (argocd|workflows): (\S+) (.+?) \| (.+) \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str, dict[str, bool]]]:
    """Page, verb, of what, and {role: may}."""
    found = []
    for page, verb, of, cells in _ROW.findall((ROOT / "docs/people.md").read_text()):
        said = [cell.strip() for cell in cells.split("|")]
        assert set(said) <= {"yes", "no"}, f"{verb} {of}: {said}"
        found.append((page, verb, of, {role: cell == "yes" for role, cell in zip(ROLES, said, strict=True)}))
    return found


def test_the_table_is_there() -> None:
    assert {page for page, *_ in rows()} == {"argocd", "workflows"}
    assert len(rows()) > 15


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Argo CD's roles, as a folder of what it is asked with."""
    (found,) = [
        patch["value"]["patch"]
        for patch in yaml.safe_load((ROOT / "apps/argo-cd/roles.yaml").read_text())
        if "argocd-rbac-cm" in patch["value"].get("patch", "")
    ]
    path = tmp_path_factory.mktemp("argocd") / "argocd-rbac-cm.yaml"
    path.write_text(found)
    # It is asked of a cluster for what no file says; here a file says all.
    cluster = {"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "none", "context": {"cluster": "none", "user": "none"}}
    nowhere = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    path.with_name("kubeconfig").write_text(yaml.safe_dump(nowhere | {"current-context": "none"}))
    return path


@pytest.mark.parametrize(("page", "verb", "of", "may"), [row for row in rows() if row[0] == "argocd"])
def test_argo_cd(policy: Path, page: str, verb: str, of: str, may: dict[str, bool]) -> None:
    target = {"a model": "models/flights", "a workload": "workloads/mlflow", "every Application": "*/*"}[of]
    for role, expected in may.items():
        assert _argo_cd_lets(policy, f"plumbline:{role}", verb, target) == expected, f"{role}: {verb} {target}"


def test_nobody_in_particular_sees_nothing_of_argo_cd(policy: Path) -> None:
    assert not _argo_cd_lets(policy, "everybody", "get", "*/*")


def _argo_cd_lets(policy: Path, whom: str, verb: str, target: str) -> bool:
    command: list[str | Path] = [
        program("argocd"),
        "admin",
        "settings",
        "rbac",
        "can",
        whom,
        verb,
        "applications",
        target,
    ]
    # By its name one program is many.
    environment = os.environ | {"ARGOCD_BINARY_NAME": "argocd", "KUBECONFIG": str(policy.with_name("kubeconfig"))}
    done = subprocess.run(
        [*command, "--policy-file", policy], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() in ("Yes", "No"), done.stdout + done.stderr
    return done.stdout.strip() == "Yes"


@pytest.fixture(scope="module")
def accounts(cluster: Cluster) -> dict[str, str]:
    """{role: the account of Argo Workflows that a person of that role alone is taken for}."""
    objects = build(ROOT, "clusters/staging/workloads/workflows")
    for name in ("workflows", "argo"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    for item in (item for item in objects if item["kind"] in kinds):
        item["metadata"].setdefault("namespace", "workflows")
        if item["metadata"]["namespace"] in ("workflows", "argo"):
            cluster.apply(item)
    rule = "workflows.argoproj.io/rbac-rule"
    rules = {
        item["metadata"]["name"]: item["metadata"]["annotations"][rule]
        for item in objects
        if item["kind"] == "ServiceAccount" and rule in item["metadata"].get("annotations", {})
    }
    return {role: _taken_for(rules, role) for role in ROLES}


def _taken_for(rules: dict[str, str], role: str) -> str:
    (name,) = [name for name, rule in rules.items() if f"'plumbline:{role}' in groups" in rule.split(" || ")]
    return f"system:serviceaccount:argo:{name}"


@pytest.mark.parametrize(("page", "verb", "of", "may"), [row for row in rows() if row[0] == "workflows"])
def test_argo_workflows(
    cluster: Cluster, policies: set[str], accounts: dict[str, str], page: str, verb: str, of: str, may: dict[str, bool]
) -> None:
    for role, account in accounts.items():
        if verb != "start":
            assert _allowed(cluster, account, verb, of) == may[role], f"{role} ({account}): {verb} {of}"
            continue
        created = _allowed(cluster, account, "create", "workflows")
        deadline = time.monotonic() + 30  # until a policy is in force
        while (created and (refusal := _refusal(cluster, account, of)) == "") != may[role]:
            assert time.monotonic() < deadline, f"{role} ({account}): {verb} {of}: {created} {refusal}"
            time.sleep(0.5)


def _refusal(cluster: Cluster, account: str, template: str) -> str:
    workflow = yaml.safe_load((ROOT / "policies/admission/examples/workflow.yaml").read_text())
    workflow["spec"]["workflowTemplateRef"]["name"] = template
    return cluster.ask(workflow, user=account).refusal


def _allowed(cluster: Cluster, account: str, verb: str, resource: str) -> bool:
    name, _, sub = resource.partition("/")
    group = "" if name in ("pods", "secrets") else "argoproj.io"
    asked = {"namespace": "workflows", "verb": verb, "group": group, "resource": name, "subresource": sub}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": asked},
    }
    answer = cluster.client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
    answer.raise_for_status()
    return bool(answer.json()["status"]["allowed"])
