r"""What names look like, once: the same rule in git, registry, cluster and on the command line.

Digits are written as [0-9], for `\d` takes those of every script.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import total_ordering
from typing import Annotated

from pydantic import AfterValidator, Field

from plumbline.core.errors import Misuse

_NAME = "[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
_VERSION = r"v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"

Digest = Annotated[str, Field(pattern=r"\Asha256:[0-9a-f]{64}\z")]
Name = Annotated[str, Field(pattern=rf"\A{_NAME}\z")]
"""Of a model or an environment: what Kubernetes and git take as part of a name, and a path as a folder."""
Version = Annotated[str, Field(pattern=rf"\A{_VERSION}\z")]
LONGEST_LINE = 500
_STEERS = {"Cc", "Cs", "Zl", "Zp"}
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _steers(character: str) -> bool:
    """Whether it ends a line somewhere, moves a terminal's cursor or turns the order of what follows."""
    return unicodedata.category(character) in _STEERS or unicodedata.bidirectional(character) in _TURNS


def _blank(text: str) -> bool:
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


def _line(text: str) -> str:
    if _blank(text) or len(text) > LONGEST_LINE or any(map(_steers, text)):
        raise ValueError(
            f"expected one line of {LONGEST_LINE} characters at most, not blank, without control characters"
        )
    return text


Line = Annotated[str, AfterValidator(_line)]
"""One line of text that is not blank, so that it can stand in a commit message; Bo and f1 are names too."""


def plain_line(value: str, what: str) -> str:
    """A person's words before they stand in a commit message; raises Misuse where they are no `Line`."""
    try:
        return _line(value)
    except ValueError as error:
        raise Misuse(f"{what}: {error}") from None


def one_line(text: str) -> str:
    """Somebody else's words, of whatever shape, as what a `Line` may hold; empty where nothing is left."""
    plain = "".join(" " if _steers(character) else character for character in text)
    return "" if _blank(plain) else " ".join(plain.split())[:LONGEST_LINE].strip()


@total_ordering
@dataclass(frozen=True, slots=True)
class SemVer:
    """A semantic version of a model: v<major>.<minor>.<patch>."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> "SemVer":
        """Read `v1.2.3`; raises Misuse that says what was expected."""
        match = re.fullmatch(_VERSION, text)
        if match is None:
            raise Misuse(f"version: {text!r} is not one; expected like v1.2.3")
        return cls(*map(int, match.groups()))

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    def __lt__(self, other: "SemVer") -> bool:
        return (self.major, self.minor, self.patch) < (other.major, other.minor, other.patch)


def plain_name(value: str, what: str, like: str) -> str:
    """A name before it becomes a path, a branch or a search; raises Misuse where it is not one."""
    if not re.fullmatch(_NAME, value):
        raise Misuse(f"{what}: {value!r} is not one; expected like {like}")
    return value
