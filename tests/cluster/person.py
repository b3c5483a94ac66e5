"""Changes the platform the only way there is: a commit that is pushed."""

from dataclasses import dataclass, field
from pathlib import Path

from harness.repositories import git
from harness.settings import OUR_GIT


@dataclass(frozen=True, slots=True)
class Person:
    """A clone of the repository that Argo CD watches."""

    folder: Path
    standing: list[str] = field(default_factory=list)
    """Commits of theirs that they have not taken back, the oldest first."""

    @classmethod
    def clone(cls, folder: Path) -> "Person":
        """Clone main."""
        git(folder.parent, "clone", "--quiet", OUR_GIT, str(folder))
        git(folder, "config", "user.name", "A Person")
        git(folder, "config", "user.email", "person@plumbline.dev")
        return cls(folder)

    def edit(self, path: str, *changes: tuple[str, str]) -> str:
        """Commit (before, after) of lines of a file on today's main: the commit."""
        git(self.folder, "pull", "--quiet", "--rebase")
        text = (self.folder / path).read_text()
        for before, after in changes:
            assert text.count(before) == 1, f"{path}: {before!r} is there {text.count(before)} times"
            text = text.replace(before, after)
        return self._commit(path, text, f"{path}: {changes[0][1].strip()}")

    def write(self, path: str, text: str) -> str:
        """Commit another text of a file: the commit."""
        git(self.folder, "pull", "--quiet", "--rebase")
        return self._commit(path, text, f"{path}: written anew")

    def _commit(self, path: str, text: str, message: str) -> str:
        (self.folder / path).write_text(text)
        self._push(message)
        self.standing.append(git(self.folder, "rev-parse", "HEAD").strip())
        return self.standing[-1]

    def delete(self, path: str) -> None:
        """Commit that a file is gone, for good."""
        git(self.folder, "pull", "--quiet", "--rebase")
        (self.folder / path).unlink()
        self._push(f"{path}: deleted")

    def _push(self, message: str) -> None:
        git(self.folder, "commit", "--quiet", "--all", "--message", message)
        git(self.folder, "push", "--quiet", "origin", "main")

    def revert(self, *commits: str) -> None:
        """Take these commits of theirs back, every one that still stands if none is named, on today's main."""
        undone = [commit for commit in reversed(self.standing) if commit in commits or not commits]
        if undone:
            git(self.folder, "pull", "--quiet", "--rebase")
            git(self.folder, "revert", "--no-edit", *undone)
            git(self.folder, "push", "--quiet", "origin", "main")
        self.standing[:] = [commit for commit in self.standing if commit not in undone]
