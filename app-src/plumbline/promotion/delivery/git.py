"""Git by its command line: a temporary clone of the newest main, and a push that races safely.

A change is made on the newest main and pushed without force. If somebody was faster, the clone takes the new main and
the change is made again from the beginning, so that whatever it was judged by is judged again.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Literal

from plumbline.core import programs
from plumbline.core.errors import Accident, Misuse, Refused
from plumbline.promotion.settings import Settings

_LOST_RACE = re.compile(
    r"^ ?! \[.*(fetch first|non-fast-forward|cannot lock ref|failed to update ref|incorrect old value|stale info)",
    re.MULTILINE,
)
"""Of git's own line about the branch: a hook may say such words too, and mean something else."""
_DECLINED = re.compile(r"^ ?! \[remote rejected\]", re.MULTILINE)
_PULL_REQUESTS_ONLY = re.compile("protected|pull request|merge request|GH006|GH013|not allowed to push", re.IGNORECASE)
"""How GitHub, GitLab, Gitea and Bitbucket decline a push to a branch that takes pull requests alone."""


class LostRace(Accident):
    """Somebody else was faster, or holds a lock; the message is git's."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a commit is about, for the branch and the labels of its pull request."""

    kind: Literal["promotion", "rollback", "approval", "rejection", "hold", "step", "data"]
    model: str
    """Empty where it concerns all of an environment."""
    version: str
    environment: str = ""
    """Empty where it concerns several, or none."""
    details: str = ""
    """Markdown for the pull request's reader, such as the gate's table."""

    @property
    def branch(self) -> str:
        """The same for the same subject, so that a rerun finds its pull request."""
        prefix = {"promotion": "promote", "approval": "approve", "rejection": "reject"}.get(self.kind, self.kind)
        return "/".join(part for part in (prefix, self.environment, self.model, self.version) if part)


@dataclass(frozen=True)
class Change:
    """One commit: {path: new text}, its message, and what it is about."""

    files: dict[str, str]
    message: str
    subject: Subject | None = None
    """Needed where it becomes a pull request."""


class Checkout:
    """A temporary clone that stands on the newest commit of the branch."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self._whole = False

    @property
    def branch(self) -> str:
        """The branch that environments follow."""
        return self.settings.branch

    @property
    def _main(self) -> str:
        """What is fetched of it: by its full name, for a tag may have the same."""
        return f"+refs/heads/{self.branch}:refs/remotes/origin/{self.branch}"

    def git(self, *arguments: str, check: bool = True, stdin: str | None = None) -> programs.Done:
        """Run git in the clone; raises Accident with its message where it fails."""
        return _git(self.settings, "-C", str(self.path), *arguments, check=check, stdin=stdin)

    def head(self) -> str:
        """The commit that the clone stands on."""
        return self.git("rev-parse", "HEAD").text.strip()

    def is_folder(self, name: str) -> bool:
        """Whether git has that folder, reached through no symbolic link."""
        return self._resolve(name).is_dir()

    def read(self, name: str) -> str | None:
        """A file's text, or None where there is none; raises Refused for a link or bytes that are not UTF-8."""
        path = self._resolve(name)
        if not path.exists():
            return None
        try:
            return path.read_bytes().decode()  # read_text would turn CRLF into LF, and a one-line diff into all lines
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{name}: cannot be read as text: {error}") from error

    def names(self, folder: str, pattern: str) -> list[str]:
        """Paths below a folder that match a glob, sorted."""
        base = self._resolve(folder)
        return sorted(path.relative_to(self.path).as_posix() for path in base.glob(pattern))

    def history(self, name: str, *, deletions: bool = False, mainline: bool = False) -> Iterator[tuple[str, str]]:
        """(commit, text) of a file, newest first, at each commit that changed it, on whatever side of a merge.

        Bytes that are not UTF-8 come as lone surrogates, which no parser takes and which are written as they were.
        Commits that deleted it are left out; with `deletions` they come with an empty text. With `mainline`, only the
        branch's own commits, a merge for what it brought. A handful of processes, however long the history is.
        """
        self.complete()
        side = "--first-parent" if mainline else "--full-history"
        commits = self.git("log", side, "--topo-order", "--format=%H", "--", name).text.split()
        self._fetch_missing(name)
        shown = self.git("cat-file", "--batch", stdin="".join(f"{commit}:{name}\n" for commit in commits)).stdout
        for commit in commits:
            head, _, shown = shown.partition(b"\n")
            kind, _, size = head.decode(errors="replace").partition(" ")[2].partition(" ")
            text, shown = (shown[: int(size)], shown[int(size) + 1 :]) if size else (b"", shown)
            if kind == "blob" or deletions:
                yield commit, text.decode(errors="surrogateescape") if kind == "blob" else ""

    def mainline(self) -> set[str]:
        """The branch's own commits, without what their merges brought."""
        self.complete()
        return set(self.git("rev-list", "--first-parent", "HEAD").text.split())

    def complete(self) -> None:
        """Fetch the commits of the branch that a shallow clone lacks; contents come when they are asked for."""
        if not self._whole and self.git("rev-parse", "--is-shallow-repository").text.strip() == "true":
            self.git("fetch", "--quiet", "--unshallow", "--filter=blob:none", "--no-tags", "origin", self._main)
        self._whole = True

    def _fetch_missing(self, name: str) -> None:
        """Fetch a file's contents at all commits at once: a partial clone would ask for each of them alone."""
        listed = self.git("rev-list", "--objects", "--full-history", "--missing=print", "HEAD", "--", name).text
        if missing := [line[1:] for line in listed.split("\n") if line.startswith("?")]:
            quiet = ("-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head")
            self.git(*quiet, "--filter=blob:none", "--stdin", "origin", stdin="\n".join(missing))

    def diff(self, change: Change) -> str:
        """The change as a unified diff; the clone is left as it was."""
        self._write(change)
        try:
            return self.git("diff", "--cached", "--no-color", "--no-ext-diff").text
        finally:
            self.git("reset", "--hard", "--quiet", "HEAD")

    def commit(self, change: Change) -> str:
        """Commit exactly the change's files; returns the commit, the newest one where all are as the change wants."""
        self._write(change)
        touched = set(self.git("diff", "--cached", "--name-only").text.split("\n")) - {""}
        if not touched <= set(change.files):
            raise Refused(f"the commit would touch {sorted(touched - set(change.files))} as well")
        if touched:
            self.git(*self._signing(), "commit", "--quiet", "--message", change.message)
        return self.head()

    def _signing(self) -> list[str]:
        key = self.settings.commit_key
        if key is None:
            return []
        if not key.is_file():
            raise Misuse(f"PROMOTION_COMMIT_KEY={key}: no such file; expected a private SSH key")
        options = {"gpg.format": "ssh", "user.signingKey": str(key.resolve()), "commit.gpgSign": "true"}
        return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

    def tip(self, branch: str) -> str:
        """The newest commit of another branch, fetched with the one before it; empty where there is no such branch."""
        there = f"refs/remotes/origin/{branch}"
        fetch = ("fetch", "--quiet", "--no-tags", "--depth", "2", "origin", f"+refs/heads/{branch}:{there}")
        self._whole = False  # so little depth cuts off what was fetched of main as well
        fetched = self.git(*fetch, check=False)
        if fetched.code == 0:
            return self.git("rev-parse", there).text.strip()
        if "couldn't find remote ref" in fetched.error:
            return ""
        raise Accident(f"git: {fetched.error}; nothing was changed")

    def remove(self, branch: str) -> None:
        """Delete a branch of the remote, if it is there."""
        self.git("push", "--quiet", "origin", "--delete", f"refs/heads/{branch}", check=False)

    def push(self, target: str, replacing: str = "") -> None:
        """Push HEAD to a branch; raises LostRace, Refused where the server says no, or Accident.

        Without force, unless a branch is `replacing` the commit that was seen there. Where git did not say clearly
        that it went well, the remote is asked whether it has the commit.
        """
        try:
            lease = [f"--force-with-lease=refs/heads/{target}:{replacing}"] if replacing else []
            pushed = self.git("push", "--quiet", *lease, "origin", f"HEAD:refs/heads/{target}", check=False)
        except Accident as error:  # no end within the time limit
            answer = str(error)
        else:
            if pushed.code == 0:
                return
            answer = pushed.error
        commit, there = self.head(), f"refs/remotes/origin/{target}"
        try:
            asked = self.git("fetch", "--quiet", "--no-tags", "origin", f"+refs/heads/{target}:{there}", check=False)
        except Accident as error:
            asked = programs.Done(1, b"", str(error))
        if asked.code == 0 and self.git("merge-base", "--is-ancestor", commit, there, check=False).code == 0:
            return  # the connection broke after the server had taken it
        if _DECLINED.search(answer) and not _LOST_RACE.search(answer):
            way = "; to write by pull request, set PROMOTION_FORGE and its token (docs/promotion.md)"
            closed = target == self.branch and _PULL_REQUESTS_ONLY.search(answer)
            raise Refused(f"git refused the push to {target}: {answer}{way if closed else ''}")
        if asked.code != 0 and "couldn't find remote ref" not in asked.error:
            raise Accident(
                f"git: the push of {commit[:12]} to {target} ended unclear and the remote does not say whether it has "
                f"the commit ({answer}; {asked.error}); look at {target}, then try again"
            )
        if _LOST_RACE.search(answer):
            raise LostRace(answer)
        raise Accident(f"git: the push to {target} failed: {answer}; nothing was changed, try again")

    def refresh(self) -> None:
        """Stand on the newest commit of the branch; what was committed here and not pushed is dropped."""
        self.git("fetch", "--quiet", "--no-tags", "origin", self._main)
        self.git("reset", "--hard", "--quiet", f"refs/remotes/origin/{self.branch}")

    def _resolve(self, name: str) -> Path:
        path = self.path
        for part in Path(name).parts:
            path = path / part
            if part == ".." or path.is_symlink():
                raise Refused(f"{name}: {part!r} leads elsewhere; promotion reads and writes plain paths only")
        return path

    def _write(self, change: Change) -> None:
        for name, text in change.files.items():
            path = self._resolve(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode(errors="surrogateescape"))
            self.git("add", "--force", "--", name)  # whatever a person's or the repository's ignored files are


@contextmanager
def checkout(settings: Settings) -> Iterator[Checkout]:
    """Clone the branch of PROMOTION_REPO into a temporary folder that is removed at the end.

    The newest commit alone: most calls ask for no history, and `Checkout.history` fetches what it needs.
    """
    if not settings.repo:
        raise Misuse("PROMOTION_REPO is not set: name the URL or path of the git repository of the environments")
    folder = Path(tempfile.mkdtemp(prefix="promotion-"))
    try:
        little = ("--depth", "1", "--no-tags", "--branch", settings.branch)
        _git(settings, "clone", "--quiet", *little, "--", settings.repo, str(folder / "clone"))
        tree = Checkout(folder / "clone", settings)
        if tree.git("symbolic-ref", "--quiet", "HEAD", check=False).code:  # git takes a tag's name too
            raise Misuse(f"PROMOTION_BRANCH={settings.branch}: {settings.repo} has a tag of that name, and no branch")
        yield tree
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def commit_and_push(tree: Checkout, attempts: int, make: Callable[[], Change | None]) -> str | None:
    """Commit what `make` makes of the newest main and push it; returns the commit, or None where it made nothing.

    `make` is called anew after each lost race, so it must read the clone each time. Raises Accident when
    `attempts` races in a row were lost.
    """
    for attempt in range(attempts):
        change = make()
        if change is None:
            return None
        commit = tree.commit(change)
        try:
            tree.push(tree.branch)
            return commit
        except LostRace as error:
            lost = error
        # Full jitter: writers that collided once spread out instead of colliding again.
        time.sleep(SystemRandom().uniform(0, min(2.0, 0.1 * 2**attempt)))
        tree.refresh()
    raise Accident(
        f"{tree.branch} took no push in {attempts} tries; nothing was changed, try again. At last git said: {lost}"
    )


def _git(settings: Settings, *arguments: str, check: bool = True, stdin: str | None = None) -> programs.Done:
    identity = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", settings.author_name), ("EMAIL", settings.author_email))
    }
    done = programs.git(*arguments, environment=identity, stdin=stdin)
    if check and done.code != 0:
        complaint = done.error or done.text.strip() or f"{arguments[0]} ended with {done.code}"
        raise Accident(f"git: {complaint}; nothing was changed")
    return done
