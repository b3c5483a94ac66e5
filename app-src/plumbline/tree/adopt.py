"""`plumbline tree adopt`: a fork that names the adopter's repository, registry and places, in one commit.

What is replaced is what clusters/<env>/environment.yaml said before, wherever a file of the tree repeats it, so that it
can be run again with other values.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from plumbline.core.documents import worded
from plumbline.core.errors import Misuse
from plumbline.tree.git import git
from plumbline.tree.render.build import environments
from plumbline.tree.values import Buckets, Domain, Region, Registry, Repository, Values, read_values

_HISTORY = ("CHANGELOG.md", "LICENSE")
"""What was is told there; it stays."""
_OWNERS = ".github/CODEOWNERS"
_SHAPES = {"repository": Repository, "registry": Registry, "domain": Domain, "region": Region, "buckets": Buckets}


@dataclass(frozen=True, slots=True)
class Adopter:
    """What a fork is to say; raises Misuse for a value that could not stand in environment.yaml."""

    repository: str
    registry: str
    domain: str
    region: str
    buckets: str
    """What the names of all its buckets begin with; an environment's name follows."""
    teams: str
    """The organisation of the teams in .github/CODEOWNERS."""

    def __post_init__(self) -> None:
        for field, shape in _SHAPES.items():
            try:
                TypeAdapter(shape).validate_python(getattr(self, field))
            except ValidationError as error:
                raise Misuse(f"--{field} {worded(error).removeprefix('document: ')}") from error
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9/_-]*", self.teams):
            raise Misuse(f"--teams {self.teams!r}: expected an organisation, such as acme")


def adopt(root: Path, adopter: Adopter) -> list[str]:
    """Rewrite a clean work tree and commit it; returns the files that changed, none where it says so already.

    Raises Misuse for a work tree with changes of its own, DocumentError for an environment.yaml that can't be read.
    """
    if changed := git(root, "status", "--porcelain").decode().strip():
        raise Misuse(f"the work tree has changes of its own: commit or stash them first ({changed.splitlines()[0]})")
    if not (names := environments(root)):
        raise Misuse(f"{root.resolve()}: no clusters/<env>/environment.yaml here; name the work tree with --root")
    words = _words([read_values(root, name) for name in names], adopter)
    written = {path: text for path in _files(root) if (text := _replaced(root, path, words, adopter)) is not None}
    for path, text in written.items():
        (root / path).write_bytes(text.encode())
    if written:
        git(root, "add", "--", *written)
        git(root, "commit", "--quiet", "--message", f"adopt: this is {adopter.repository}")
    return sorted(written)


def _words(known: list[Values], adopter: Adopter) -> dict[str, str]:
    """{what stands in the tree: what is to stand there}."""
    words: dict[str, str] = {}
    new = adopter.repository.removesuffix(".git")
    for values in known:
        old = values.repository.removesuffix(".git")
        words |= {old: new, _path(old): _path(new), values.registry: adopter.registry}
        # The organisation alone: an address of another of its repositories.
        words[old.rpartition("/")[0] + "/"] = new.rpartition("/")[0] + "/"
        if values.domain:
            words[values.domain] = adopter.domain
        if values.region:
            words[values.region] = adopter.region
        if values.buckets:
            words[values.buckets] = f"{adopter.buckets}-{values.name}"
    return {old: new for old, new in words.items() if old != new}


def _path(url: str) -> str:
    return urlsplit(url).path.strip("/")


def _files(root: Path) -> Iterator[str]:
    """The files of git that are texts, but for what tells of the past."""
    for name in git(root, "ls-files", "-z").decode().split("\0"):
        if name and name not in _HISTORY and (root / name).is_file() and not (root / name).is_symlink():
            yield name


def replaced(text: str, words: Mapping[str, str]) -> str:
    """A text with each of these words replaced, but not where it is a part of a longer one.

    A region does not stand in the name of a zone of it, nor a domain in a longer name.
    """
    if not words:
        return text
    longest = sorted(words, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(old)}(?![a-z0-9])" for old in longest))
    return pattern.sub(lambda match: words[match[0]], text)


def _replaced(root: Path, name: str, words: Mapping[str, str], adopter: Adopter) -> str | None:
    """The new text of a file; None where nothing changes."""
    try:
        text = (root / name).read_bytes().decode()
    except UnicodeDecodeError:
        return None
    new = replaced(text, words)
    if name == _OWNERS:
        new = re.sub(r"@[\w-]+/", f"@{adopter.teams}/", new)
    return new if new != text else None
