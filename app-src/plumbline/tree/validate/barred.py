"""A ladder does not change while what it would roll out is barred: the change would start the bad canary again."""

from pathlib import Path

from plumbline.core.documents import DocumentError
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import barred_place
from plumbline.promotion.delivery.state import bar_of
from plumbline.promotion.settings import Settings
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
    tree, environment = Checkout(root.resolve(), Settings()), name.split("/")[1]
    try:
        barred = bar_of(tree, environment, release)
    except DocumentError as error:
        return Problem(error.source, error.reason)
    if barred is None:
        return None
    record = barred_place(tree, release.model, barred.digest)
    reason = f"{release.spec.version} is barred for {barred.metric} ({record}): revert release.yaml before the ladder"
    return Problem(name, reason)
