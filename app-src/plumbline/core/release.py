"""`clusters/<env>/models/<model>/release.yaml` as frozen types that can't hold an illegal value.

The file is a Kubernetes-shaped document marked as local to Kustomize: Kustomize reads the image and the version
out of it, hashes the whole file into the pod template, and never sends it to the cluster as an object of its own.
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plumbline.core.errors import Misuse

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
Version = Annotated[str, Field(pattern=r"^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")]


class ReleaseError(Misuse):
    """A release.yaml that is missing, is not YAML or breaks the shape; the message names file and field."""


@total_ordering
@dataclass(frozen=True, slots=True)
class SemVer:
    """A semantic version of a model: v<major>.<minor>.<patch>."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> "SemVer":
        """Read `v1.2.3`; raises ValueError that says what was expected."""
        match = re.fullmatch(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", text)
        if match is None:
            raise ValueError(f"{text!r} is not a version; expected one like v1.2.3")
        return cls(*map(int, match.groups()))

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    def __lt__(self, other: "SemVer") -> bool:
        return (self.major, self.minor, self.patch) < (other.major, other.minor, other.patch)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Artifact(_Strict):
    """Where the bytes of the model are and what they must hash to."""

    uri: Annotated[str, Field(pattern=r"^(file|s3|mlflow-artifacts)://?[^\s]+$")]
    digest: Digest
    schemaDigest: Digest


class Lineage(_Strict):
    """What the model was made from."""

    registryVersion: Annotated[str, Field(pattern=r"^[1-9]\d*$")]
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    code: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    data: Digest
    workflow: str = ""


class Evidence(_Strict):
    """Why it may be served: the gate's report and, where asked, who approved."""

    gate: Digest
    approvedBy: str = ""


class Spec(_Strict):
    """The release itself: code, model, schema and threshold move together, forward and back."""

    version: Version
    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./:-]*[a-z0-9]@sha256:[0-9a-f]{64}$")]
    artifact: Artifact
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    lineage: Lineage
    evidence: Evidence


class Metadata(_Strict):
    """The model's name, and the mark that keeps Kustomize from sending the document to the cluster."""

    name: Name
    annotations: dict[str, str]


class Release(_Strict):
    """One release.yaml."""

    apiVersion: Literal["plumbline.dev/v1"]
    kind: Literal["Release"]
    metadata: Metadata
    spec: Spec

    @property
    def model(self) -> str:
        """The model's name."""
        return self.metadata.name


class UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; a release must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raise ConstructorError, with the place, for the second of two equal keys."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_release(text: str, *, source: str = "release.yaml") -> Release:
    """Read the text of a release.yaml; raises ReleaseError that names `source`, the field and what was expected."""
    try:
        document = yaml.load(text, UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ReleaseError(f"{source}: not readable as YAML: {error}") from error
    try:
        return Release.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']} (got {item['input']!r:.80})"
            for item in error.errors()
        )
        raise ReleaseError(f"{source}: {problems}") from error


def read_release(path: Path) -> Release:
    """Read a release.yaml from disk; raises ReleaseError that names the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{path}: cannot be read: {error}") from error
    return parse_release(text, source=str(path))
