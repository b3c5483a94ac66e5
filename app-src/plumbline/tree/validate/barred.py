"""A ladder does not change while what it would roll out is barred: the change would start the bad canary again."""

from pathlib import Path

from plumbline.core.documents import DocumentError, parse
from plumbline.promotion.delivery.documents import Barred, barred_path
from plumbline.tree.documents import read_release
from plumbline.tree.git import GitError, git, left
from plumbline.tree.validate.problem import Problem


def frozen_ladders(root: Path, base: str) -> list[Problem]:
    """Every canary.yaml that differs from `base` although the release beside it names a barred digest."""
    try:
        changed = git(root, "diff", "--name-only", left(root, base), "--", "clusters/*/models/*/canary.yaml")
    except GitError as error:
        return [Problem("git", str(error))]
    names = changed.decode().splitlines()
    return [problem for name in names if (problem := _frozen(root, name)) is not None]


def _frozen(root: Path, name: str) -> Problem | None:
    release_file = root / Path(name).with_name("release.yaml")
    if not release_file.exists():
        return None
    try:
        release = read_release(release_file.read_text(encoding="utf-8"))
    except DocumentError:
        return None  # said by the check of the models
    record = barred_path(release.model, release.spec.artifact.digest)
    if not (root / record).exists():
        return None
    try:
        barred = parse((root / record).read_text(encoding="utf-8"), Barred, record)
    except DocumentError as error:
        return Problem(record, error.reason)
    if barred.override is not None:
        return None
    reason = f"{release.spec.version} is barred for {barred.metric} ({record}): revert release.yaml before the ladder"
    return Problem(name, reason)
