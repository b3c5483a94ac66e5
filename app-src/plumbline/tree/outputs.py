"""`plumbline tree outputs`: what `terraform output -json` says of an environment, written into its folder of clusters/.

As for `adopt`, what is replaced is what environment.yaml said before, here wherever a file of that folder repeats it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from plumbline.core.documents import DocumentError, Strict, parse
from plumbline.core.errors import Misuse
from plumbline.core.names import Name
from plumbline.tree.adopt import replaced
from plumbline.tree.render.build import environments
from plumbline.tree.values import Buckets, Domain, Region, Registry, read_values

_SERVICES = "services/services.env"
PROMOTED = ("release.yaml", "evidence.yaml")
"""What promotion wrote of a release stays: its image is where it was pushed."""


class Environment(Strict):
    """What environment.yaml holds and a cloud decides."""

    name: Name
    registry: Registry
    domain: Domain
    region: Region
    buckets: Buckets


class Platform(BaseModel):
    """The outputs of terraform/modules/platform that the folder repeats; others are for people."""

    model_config = ConfigDict(frozen=True)

    environment: Environment
    services: dict[str, str]


class _Output(BaseModel):
    value: Platform


class Outputs(BaseModel):
    """`terraform output -json` in a folder of terraform/environments."""

    platform: _Output


def write_outputs(root: Path, environment: str, text: str, source: str) -> list[str]:
    """Rewrite clusters/<environment>; returns the files that changed, none where they say so already.

    Raises Misuse for another environment's outputs, DocumentError for what is not as Terraform writes it and for a
    folder that lacks a value or says one twice. Nothing is written unless all of it can be.
    """
    if environment not in (names := environments(root)):
        raise Misuse(f"there is no environment {environment!r}; expected one of {', '.join(names) or 'clusters/<env>'}")
    if not text.strip().removeprefix("{").removesuffix("}").strip():
        raise Misuse(f"{source}: no outputs yet; run `terraform apply` in terraform/environments/{environment} first")
    given = parse(text, Outputs, source).platform.value
    if given.environment.name != environment:
        raise Misuse(f"{source}: outputs of {given.environment.name!r}; expected those of {environment!r}")
    old = read_values(root, environment).model_dump()
    new = given.environment.model_dump()
    if absent := [field for field in new if not old[field]]:
        name = f"clusters/{environment}/environment.yaml"
        raise DocumentError(f"data.{absent[0]}: missing; give it any value, which is then replaced", source=name)
    words = {old[field]: new[field] for field in new if old[field] != new[field]}
    written = {}
    for file in _files(root / "clusters" / environment):
        before = file.read_text(encoding="utf-8")
        after = replaced(before, words)
        if file.match(_SERVICES):
            after = with_settings(after, given.services, str(file.relative_to(root)))
        if after != before:
            written[file] = after
    for file, after in written.items():
        file.write_text(after, encoding="utf-8")
    return sorted(str(file.relative_to(root)) for file in written)


def with_settings(text: str, settings: Mapping[str, str], source: str) -> str:
    """The text of an .env file with these values; raises DocumentError for a key that does not stand there once."""
    lines = text.splitlines()
    for key, value in settings.items():
        places = [place for place, line in enumerate(lines) if line.startswith(f"{key}=")]
        if len(places) != 1:
            raise DocumentError(f"{key}: stands there {len(places)} times; expected one line {key}=…", source=source)
        lines[places[0]] = f"{key}={value}"
    return "\n".join(lines) + "\n"


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".yaml", ".env") and file.name not in PROMOTED and not file.is_symlink():
            yield file
