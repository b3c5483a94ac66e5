"""Which code this is: the commit that a run names, so that it can be made again."""

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from plumbline.core.digests import sha256_of_json

if TYPE_CHECKING:
    from plumbline.training.work import DataVersion, Settings

UNKNOWN_COMMIT = "0" * 40


def code_version() -> tuple[str, bool]:
    """Commit of this code and whether files differ from it; from TRAINING_CODE_COMMIT in an image without git.

    Where neither is known the commit is forty zeros and the tree counts as changed: nobody can go back to it.
    """
    if commit := os.environ.get("TRAINING_CODE_COMMIT"):
        return commit, False
    if (root := _repository()) is None:
        return UNKNOWN_COMMIT, True
    try:
        changed = _git(root, "status", "--porcelain", "--", "app-src", "locks", "pyproject.toml")
        return _git(root, "rev-parse", "HEAD"), bool(changed)
    except (FileNotFoundError, subprocess.CalledProcessError):
        # No git here, no commit yet, or a work tree of somebody else that git does not trust.
        return UNKNOWN_COMMIT, True


def prepared_key(settings: "Settings", data: "DataVersion", run: str) -> str:
    """Equal for runs whose checked tables and prepared rows are equal: same data, code, sample and seed.

    Code that no commit names is like no other: the key is the run's own.
    """
    commit, dirty = code_version()
    parts = [settings.model, data.digest, commit, settings.sample, settings.seed, run if dirty else ""]
    return sha256_of_json(parts).removeprefix("sha256:")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _repository() -> Path | None:
    """The git work tree that this code stands in, None in an image."""
    here = Path(__file__).resolve()
    return next((folder for folder in here.parents if (folder / ".git").exists()), None)
