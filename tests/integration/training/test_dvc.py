"""Data versions by DVC: made anew, pushed to a remote, and brought back at an older commit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.training.data import dvc_md5, pinned

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path("app-src/models/diabetes")


@pytest.fixture
def clone(tmp_path):
    """A repository with the code of this work tree and DVC's files, its remote beside it."""
    target = tmp_path / "clone"
    for part in ("app-src", ".dvc/config", ".dvcignore"):
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__", "/data"))
        else:
            shutil.copyfile(ROOT / part, target / part)
    shutil.rmtree(target / FOLDER / "data", ignore_errors=True)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


def dvc(clone, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(clone / "app-src"), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=clone / FOLDER, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_data_are_made_again_pushed_and_brought_back(clone):
    folder = clone / FOLDER
    version = pinned(folder)
    dvc(clone, "repro", "-q")
    assert pinned(folder) == version, "the source gives the bytes that the lock pins"
    assert dvc_md5(folder / "data") == version, "our md5 of a folder is DVC's"
    dvc(clone, "push", "-q", "data")
    shutil.rmtree(folder / "data")
    shutil.rmtree(clone / ".dvc" / "cache")
    dvc(clone, "pull", "-q", "data")
    assert dvc_md5(folder / "data") == version
    assert "up to date" in dvc(clone, "status", "data")


def test_new_data_are_a_new_version(clone):
    folder = clone / FOLDER
    version = pinned(folder)
    source = folder / "data.py"
    source.write_text(source.read_text().replace("frame.astype", "frame.iloc[1:].astype"))
    dvc(clone, "repro", "-q")
    assert pinned(folder) != version
    assert pinned(folder) == dvc_md5(folder / "data")
