"""No ladder changes while what it would roll out is barred."""

import subprocess
from pathlib import Path

import pytest

from plumbline.core.release import parse_release
from plumbline.promotion.delivery.documents import Barred, Override, barred_path, dump
from plumbline.tree.render.example import example_release
from plumbline.tree.validate.barred import frozen_ladders

FOLDER = "clusters/production/models/flights"
RELEASE = example_release("flights")
DIGEST = parse_release(RELEASE).spec.artifact.digest
IMAGE = "sha256:" + "2" * 64
RECORD = barred_path("flights", DIGEST)
BARRED = Barred(
    model="flights",
    version="v0.0.0",
    digest=DIGEST,
    metric="error-share",
    reason="too many",
    at="2026-11-23T12:00:00Z",
)


def git(root: Path, *arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@plumbline.dev")
    subprocess.run(["git", "-C", root, *author, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """main serves a release that was barred; the ladder stands as it stood."""
    for name, text in {
        f"{FOLDER}/canary.yaml": "weight: 10\n",
        f"{FOLDER}/release.yaml": RELEASE,
        RECORD: dump(BARRED),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "as it stands")
    return tmp_path


def test_nothing_changed_is_no_problem(repository: Path) -> None:
    assert frozen_ladders(repository, "") == []


@pytest.mark.parametrize("committed", [False, True])
def test_a_ladder_changed_while_barred_is_refused(repository: Path, committed: bool) -> None:
    (repository / FOLDER / "canary.yaml").write_text("weight: 20\n")
    if committed:
        git(repository, "switch", "-q", "-c", "faster")
        git(repository, "commit", "-qam", "faster")
    [problem] = frozen_ladders(repository, "")
    assert problem.where == f"{FOLDER}/canary.yaml"
    assert "v0.0.0 is barred for error-share" in problem.reason
    assert "revert release.yaml before the ladder" in problem.reason


def test_with_the_release_reverted_the_ladder_may_change(repository: Path) -> None:
    (repository / FOLDER / "canary.yaml").write_text("weight: 20\n")
    other = RELEASE.replace(f"    digest: {DIGEST}", "    digest: sha256:" + "1" * 64).replace(
        "@" + DIGEST, "@" + IMAGE
    )
    (repository / FOLDER / "release.yaml").write_text(other)
    assert frozen_ladders(repository, "") == []


def test_a_written_override_lifts_it(repository: Path) -> None:
    (repository / FOLDER / "canary.yaml").write_text("weight: 20\n")
    override = Override(by="ada", reason="the gateway was at fault", at=BARRED.at)
    (repository / RECORD).write_text(dump(BARRED.model_copy(update={"override": override})))
    assert frozen_ladders(repository, "") == []


def test_a_broken_record_is_a_problem_and_no_pass(repository: Path) -> None:
    (repository / FOLDER / "canary.yaml").write_text("weight: 20\n")
    (repository / RECORD).write_text("kind: Barred\n")
    [problem] = frozen_ladders(repository, "")
    assert problem.where == RECORD


def test_without_a_base_nothing_is_called_right(repository: Path) -> None:
    [problem] = frozen_ladders(repository, "origin/main")
    assert "--base" in problem.reason


def test_a_barred_image_freezes_the_ladder_too(repository: Path) -> None:
    (repository / FOLDER / "canary.yaml").write_text("weight: 20\n")
    (repository / FOLDER / "release.yaml").write_text(RELEASE.replace("@" + DIGEST, "@" + IMAGE))
    (repository / RECORD).unlink()
    record = BARRED.model_copy(update={"digest": IMAGE})
    (repository / barred_path("flights", IMAGE)).write_text(dump(record))
    [problem] = frozen_ladders(repository, "")
    assert "v0.0.0 is barred for error-share" in problem.reason


def test_what_another_environments_verdict_barred_freezes_no_ladder_of_one_that_keeps_it(repository: Path) -> None:
    (repository / FOLDER / "canary.yaml").write_text("weight: 20\n")
    (repository / RECORD).write_text(dump(BARRED.model_copy(update={"stays": ("production",)})))
    assert frozen_ladders(repository, "") == []
