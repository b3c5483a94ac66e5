"""Which code this is: the commit that a run names, so that it can be made again."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from plumbline.core import programs
from plumbline.core.digests import sha256_of_json
from plumbline.training.model import folder_of

if TYPE_CHECKING:
    from plumbline.training.work import DataVersion, Settings

UNKNOWN_COMMIT = "0" * 40
_OF_THE_PLATFORM = ("locks", "pyproject.toml")
"""What decides, besides the package and the model's folder, how a training ends."""


def code_version(model: str) -> tuple[str, bool]:
    """Commit of this code and whether it, or the model's own folder, differs from a commit.

    In an image without git TRAINING_CODE_COMMIT names the commit of both. Where a commit is not known it is forty zeros
    and the code counts as changed: nobody can go back to it.
    """
    if commit := os.environ.get("TRAINING_CODE_COMMIT"):
        return commit, False
    package, folder = Path(__file__).resolve().parents[1], folder_of(model).resolve()
    commit, changed = _state(package, str(package), *_OF_THE_PLATFORM)
    return commit, changed or _state(folder, str(folder))[1]


def unchanged_since(model: str, commit: str) -> bool:
    """Whether git knows that HEAD has nothing that a training of this model reads otherwise than that commit.

    What is committed beside it changes no result: the model's own promotion, before all.
    """
    package, folder = Path(__file__).resolve().parents[1], folder_of(model).resolve()
    top = programs.git("rev-parse", "--show-toplevel", cwd=package)
    paths = (str(package), *_OF_THE_PLATFORM, str(folder))
    return not (
        top.code or programs.git("diff", "--quiet", commit, "HEAD", "--", *paths, cwd=Path(top.text.strip())).code
    )


def prepared_key(settings: "Settings", data: "DataVersion", run: str) -> str:
    """Equal for runs whose checked tables and prepared rows are equal: same data, code, sample and seed.

    Code that no commit names is like no other: the key is the run's own.
    """
    commit, dirty = code_version(settings.model)
    parts = [settings.model, data.digest, commit, settings.sample, settings.seed, run if dirty else ""]
    return sha256_of_json(parts).removeprefix("sha256:")


def _state(folder: Path, *parts: str) -> tuple[str, bool]:
    """HEAD of the repository that a folder stands in, and whether these parts of it differ or are not in it at all."""
    top = programs.git("rev-parse", "--show-toplevel", cwd=folder)
    if top.code:  # no repository here, or one of somebody else that git does not trust
        return UNKNOWN_COMMIT, True
    root = Path(top.text.strip())
    head = programs.git("rev-parse", "HEAD", cwd=root)
    if head.code:  # no commit yet
        return UNKNOWN_COMMIT, True
    changed = programs.git("status", "--porcelain", "--", *parts, cwd=root)
    ignored = programs.git("check-ignore", "--quiet", str(folder), cwd=root)
    return head.text.strip(), bool(changed.code or changed.stdout or ignored.code == 0)
