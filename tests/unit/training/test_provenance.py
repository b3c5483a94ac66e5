"""Which code a run names."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline.training import provenance

Git = Callable[..., str]


@pytest.fixture
def git() -> Git:
    """Run git somewhere; what it printed."""

    def run(folder: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    return run


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git: Git) -> Path:
    """A repository that holds the package, a model and a README; nothing is committed yet."""
    root = tmp_path / "platform"
    for name in ("app-src/plumbline/training/provenance.py", "app-src/models/toy/__init__.py", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    git(tmp_path, "init", "-q", str(root))
    monkeypatch.setattr(provenance, "__file__", str(root / "app-src/plumbline/training/provenance.py"))
    monkeypatch.setenv("TRAINING_MODELS", str(root / "app-src/models"))
    monkeypatch.delenv("TRAINING_CODE_COMMIT", raising=False)
    return root


def commit(git: Git, folder: Path) -> str:
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_of_the_work_tree_and_whether_files_differ(package: Path, git: Git) -> None:
    assert provenance.code_version("toy") == ("0" * 40, True), "no commit yet"
    head = commit(git, package)
    assert provenance.code_version("toy") == (head, False)
    (package / "README.md").write_text("changed")
    assert provenance.code_version("toy") == (head, False), "the README is not code"
    (package / "app-src/plumbline/new.py").write_text("")
    assert provenance.code_version("toy") == (head, True)


def test_a_model_kept_elsewhere_is_asked_about_too(
    package: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = commit(git, package)
    models = tmp_path / "owners"
    (models / "toy").mkdir(parents=True)
    (models / "toy/__init__.py").write_text("")
    monkeypatch.setenv("TRAINING_MODELS", str(models))
    assert provenance.code_version("toy") == (head, True), "in no repository"
    git(models, "init", "-q")
    commit(git, models)
    assert provenance.code_version("toy") == (head, False)
    (models / "toy/data.py").write_text("")
    assert provenance.code_version("toy") == (head, True), "a file that no commit has"


def test_a_commit_beside_the_code_changes_no_training(
    package: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit(git, package)
    (package / "README.md").write_text("promoted")
    commit(git, package)
    assert provenance.unchanged_since("toy", first)
    assert not provenance.unchanged_since("toy", "1" * 40), "no commit of this repository"
    for name in ("app-src/models/toy/data.py", "app-src/plumbline/new.py", "pyproject.toml"):
        before = git(package, "rev-parse", "HEAD")
        (package / name).write_text("changed")
        commit(git, package)
        assert not provenance.unchanged_since("toy", before), name
    (tmp_path / "owners/toy").mkdir(parents=True)
    (tmp_path / "owners/toy/__init__.py").write_text("")
    monkeypatch.setenv("TRAINING_MODELS", str(tmp_path / "owners"))
    assert not provenance.unchanged_since("toy", git(package, "rev-parse", "HEAD")), "of another repository"


def test_the_repository_of_a_hook_is_not_asked(
    package: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = commit(git, package)
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert provenance.code_version("toy") == (head, False)


def test_an_image_names_its_commit_and_without_one_nobody_can_go_back(
    package: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "app/plumbline/training/provenance.py"))
    (tmp_path / "app/plumbline/training").mkdir(parents=True)
    monkeypatch.setenv("TRAINING_CODE_COMMIT", "a" * 40)
    assert provenance.code_version("toy") == ("a" * 40, False)
    monkeypatch.delenv("TRAINING_CODE_COMMIT")
    assert provenance.code_version("toy") == ("0" * 40, True)
