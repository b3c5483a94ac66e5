"""Nothing that production is made of is merged without an owner who looks; what GitHub would say, said here."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from plumbline.promotion.delivery.forge import CHECKS
from plumbline.tree.render.build import environments
from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[3]
LINES = [line.split() for line in (ROOT / ".github/CODEOWNERS").read_text().splitlines() if line[:1] not in ("", "#")]
# All files, and folders from the root: nobody has to know more of gitignore than that to say who owns a file.
RULES = [(re.fullmatch(r"\*|/(.+/)", pattern), teams) for pattern, *teams in LINES]
PLATFORM, GOVERNANCE = "platform", "governance"


def owners(path: str) -> set[str]:
    """The teams of the last line that fits."""
    found: set[str] = set()
    for pattern, teams in RULES:
        assert pattern is not None, "CODEOWNERS: expected * or /folder/"
        if path.startswith(pattern[1] or ""):
            found = {team.rpartition("/")[2] for team in teams}
    return found


def files() -> list[str]:
    """Every file of the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.splitlines()


def reads(name: str) -> bool:
    """Whether production may be rendered from a file: the folders that Kustomize is given, without other environments.

    A superset of what it reads today, so that a new reference needs no new owner.
    """
    folder, _, rest = name.partition("/")
    return (
        folder in ("apps", "argo", "kustomize", "policies")
        or name.startswith("clusters/production/")
        or (folder == "clusters" and "/" not in rest)
    )


def test_every_file_that_production_renders_from_has_an_owner() -> None:
    read = [name for name in files() if reads(name)]
    assert len(read) > 100
    assert [name for name in read if not owners(name)] == []
    governed = [name for name in read if not name.startswith("argo/")]
    assert [name for name in governed if GOVERNANCE not in owners(name)] == []


def test_every_other_file_has_one_too_but_what_staging_s_promotion_writes() -> None:
    without = {"/".join(name.split("/")[:3]) for name in files() if not owners(name)}
    unguarded = [name for name in environments(ROOT) if read_values(ROOT, name).class_ != "guarded"]
    assert without <= {f"clusters/{name}/models" for name in unguarded}


@pytest.mark.parametrize(
    "path",
    [
        "a-new-folder/file",
        "clusters/preview/environment.yaml",
        "clusters/staging/model-server/kustomization.yaml",
        "clusters/staging/admission/kustomization.yaml",
        "app-src/models/flights/__init__.py",
        "locks/serving.txt",
        "Makefile",
    ],
)
def test_what_is_new_or_reaches_an_image_belongs_to_the_platform(path: str) -> None:
    assert PLATFORM in owners(path)


@pytest.mark.parametrize(
    "path",
    [
        ".github/CODEOWNERS",
        ".github/workflows/pull-request.yaml",
        ".github/rulesets/main.json",
        "policies/admission/models/server.yaml",
        "policies/promotion/flights.yaml",
        "app-src/plumbline/tree/validate/checks.py",
        "app-src/plumbline/promotion/cli/release.py",
        "clusters/production/models/flights/release.yaml",
        "kustomize/model-server/settings.env",
    ],
)
def test_who_judges_is_not_changed_by_the_judged_alone(path: str) -> None:
    assert GOVERNANCE in owners(path)


def test_the_audit_is_the_base_branch_s_and_its_secret_opens_what_it_reads_alone() -> None:
    """Any pull request starts it, a stranger's too: nothing that it brings runs beside the registry's password."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/pull-request.yaml").read_text())
    audit = workflow["jobs"]["audit"]
    assert (audit["permissions"], audit["if"]) == ({"contents": "read"}, "vars.MLFLOW_TRACKING_URI != ''")
    taken = {step["with"]["path"]: step["with"] for step in audit["steps"] if "checkout" in step.get("uses", "")}
    assert taken["base"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert all(one["persist-credentials"] is False for one in taken.values())
    ran = [step["run"] for step in audit["steps"] if "run" in step]
    judged = "base/.venv/bin/plumbline promote audit --path tree --since HEAD^1"
    assert ran == ["make -C base install", "printenv PUBLIC_KEY > keys.pub", judged]
    with_secret = [step["run"] for step in audit["steps"] if "secrets." in str(step)]
    assert with_secret == [judged]
    assert str(workflow).count("secrets.") == 1


def test_the_rules_of_main_require_what_judges() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/pull-request.yaml").read_text())["jobs"]
    rules = json.loads((ROOT / ".github/rulesets/main.json").read_text())["rules"]
    (checks,) = (rule["parameters"] for rule in rules if rule["type"] == "required_status_checks")
    required = {check["context"] for check in checks["required_status_checks"]}
    assert required == CHECKS == jobs.keys() - {"post"}


def test_what_judges_a_pull_request_is_the_base_branch_s() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/pull-request.yaml").read_text())
    # YAML 1.1 reads the key `on` as true.
    assert list(workflow[True]) == ["pull_request_target"], "its file is the base branch's too"
    judge = workflow["jobs"]["judge"]
    assert (workflow["permissions"], judge["permissions"]) == ({}, {"contents": "read"})
    taken = {step["with"]["path"]: step["with"] for step in judge["steps"] if "checkout" in step.get("uses", "")}
    assert taken["base"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert taken["tree"]["ref"] == "refs/pull/${{ github.event.pull_request.number }}/merge"
    assert all(one["persist-credentials"] is False for one in taken.values())
    ran = [step["run"] for step in judge["steps"] if "run" in step]
    assert [
        command for command in ran if "tree/" in command or not command.startswith(("make -C base", "base/", "cat"))
    ] == []
    assert "secrets." not in str(judge)
    used = [step["uses"].partition("@")[0] for step in judge["steps"] if "uses" in step]
    assert "actions/cache/restore" in used
    assert "actions/cache" not in used, "what the pull request made would be main's tomorrow"
