"""What only an adopter can fill in: digests that nobody published, an account's number, hosts that nobody made.

Each stands in git as a value that can be nobody's, so that it is found by its look and works nowhere by accident.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from plumbline.tree.validate.problem import Problem

_WHOSE = (
    (re.compile(r"sha256:0{64}(?![0-9a-f])"), "a digest of zeros: the images pipeline writes the published one"),
    (re.compile(r"(?<![0-9a-f-])0{12}(?![0-9a-f-])"), "an account of zeros: write the number of yours"),
    # No name ends in it, by RFC 2606.
    (re.compile(r"[\w.-]+\.invalid(?![\w.-])"), "a host that there is not: `plumbline tree outputs` writes yours"),
)
_READ = (".yaml", ".env")


def to_fill_in(root: Path, environment: str) -> list[Problem]:
    """Every place below clusters/<environment> at which something stands that can be nobody's; comments may."""
    return [problem for file in _files(root / "clusters" / environment) for problem in _of(root, file)]


def _files(folder: Path) -> Iterator[Path]:
    yield from (file for file in sorted(folder.rglob("*")) if file.suffix in _READ and not file.is_symlink())


def _of(root: Path, file: Path) -> Iterator[Problem]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        text = "" if line.lstrip().startswith("#") else line
        for look, whose in _WHOSE:
            if match := look.search(text):
                yield Problem(f"{file.relative_to(root)}:{number}", f"to fill in: {match[0]} is {whose}")
