"""The commit that a work tree is compared with."""

from collections.abc import Mapping
from pathlib import Path

from plumbline.core import programs
from plumbline.core.errors import Accident


class GitError(Accident):
    """Git refused; the message says what and why."""


def git(root: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> bytes:
    """What git printed. Raises GitError."""
    done = programs.git(*arguments, cwd=root, environment=environment)
    if done.code:
        raise GitError(f"git {' '.join(arguments)}: {done.error}")
    return done.stdout


def left(root: Path, base: str) -> str:
    """The commit at which HEAD left `base`; without a name, the remote's main, or the local one. Raises GitError."""
    names = [base] if base else ["origin/main", "main"]
    for name in names:
        try:
            return git(root, "merge-base", "HEAD", name).decode().strip()
        except GitError as error:
            refused = error
    raise GitError(f"no commit to compare with: fetch main, or name a branch with --base ({refused})")
