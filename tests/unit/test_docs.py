"""What the documents say about the tree is true of the tree."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
DOCUMENTS = sorted(name for name in TRACKED if name.endswith(".md"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    missing = [link for link in links if not ((ROOT / name).parent / link).exists()]
    assert not missing, f"{name} links to files that do not exist: {missing}"


def test_make_targets_named_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (name, target)
        for name in DOCUMENTS
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert ("README.md", "test") in named
    assert {(name, target) for name, target in named if target not in targets} == set()


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```sh\n(.*?)```", readme, re.DOTALL))
    commands = [line.split("#")[0].strip() for line in blocks.splitlines() if line.startswith("make ")]
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert commands == ["make demo", "make test", "make cluster-up", "make cluster-test", "make cluster-down"]
    assert set(commands) <= set(ci)


@pytest.mark.parametrize("lock", ["dev", "serving", "mlflow-server", "platform", "checkov"])
def test_locks_hold_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / f"locks/{lock}.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^[a-z0-9][^\s=]*==", text, re.MULTILINE)
    assert len(pins) > 20
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def test_serving_holds_nothing_that_unpickles() -> None:
    text = (ROOT / "locks/serving.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9][a-z0-9-]*)", text, re.MULTILINE))
    forbidden = {"mlflow", "mlflow-skinny", "scikit-learn", "pandas", "xgboost-cpu", "joblib", "cloudpickle"}
    assert {"onnxruntime", "fastapi"} <= names
    assert names & forbidden == set()
