r"""What names look like, once: the same rule in git, registry, cluster and on the command line.

Digits are written as [0-9], for `\d` takes those of every script.
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Annotated

from pydantic import Field

from plumbline.core.errors import Misuse

_NAME = "[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
_VERSION = r"v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"

Digest = Annotated[str, Field(pattern=r"\Asha256:[0-9a-f]{64}\z")]
Name = Annotated[str, Field(pattern=rf"\A{_NAME}\z")]
"""Of a model or an environment: what Kubernetes and git take as part of a name, and a path as a folder."""
Version = Annotated[str, Field(pattern=rf"\A{_VERSION}\z")]
Line = Annotated[str, Field(max_length=500, pattern=r"\A[^\r\n]*[^\s][^\r\n]*\z")]
"""One line of text that is not blank, so that it can stand in a commit message; Bo and f1 are names too."""


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
