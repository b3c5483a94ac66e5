"""`clusters/<env>/models/<model>/release.yaml` as frozen types that can't hold an illegal value.

The file is a Kubernetes-shaped document marked as local to Kustomize: Kustomize reads the image and the version
out of it, hashes the whole file into the pod template, and never sends it to the cluster as an object of its own.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from plumbline.core.documents import Strict, parse, read
from plumbline.core.names import Digest, Name, Version

Image = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./:-]*[a-z0-9]@sha256:[0-9a-f]{64}$")]
"""A server's image: repository and digest."""


class Artifact(Strict):
    """Where the bytes of the model are and what they must hash to."""

    uri: Annotated[str, Field(pattern=r"^(file|s3)://?[^\s]+$")]
    digest: Digest
    schemaDigest: Digest


class Lineage(Strict):
    """What the model was made from."""

    registryVersion: Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    code: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    data: Digest
    workflow: str = ""


class Evidence(Strict):
    """Why it may be served: the gate's report and, where asked, who approved."""

    gate: Digest
    approvedBy: str = ""


class Spec(Strict):
    """The release itself: code, model, schema and threshold move together, forward and back."""

    version: Version
    image: Image
    artifact: Artifact
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    lineage: Lineage
    evidence: Evidence


class Metadata(Strict):
    """The model's name, and the mark that keeps Kustomize from sending the document to the cluster."""

    name: Name
    annotations: dict[str, str]


class Release(Strict):
    """One release.yaml."""

    apiVersion: Literal["plumbline.dev/v1"]
    kind: Literal["Release"]
    metadata: Metadata
    spec: Spec

    @property
    def model(self) -> str:
        """The model's name."""
        return self.metadata.name


def parse_release(text: str, *, source: str = "release.yaml") -> Release:
    """Read the text of a release.yaml; raises DocumentError that names `source`, the field and what was expected."""
    return parse(text, Release, source)


def read_release(path: Path) -> Release:
    """Read a release.yaml from disk; raises DocumentError that names the file."""
    return read(path, Release)
