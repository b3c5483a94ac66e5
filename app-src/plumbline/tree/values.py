"""clusters/<env>/environment.yaml: what an environment is, written once."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from plumbline.core.documents import DocumentError, Strict, read
from plumbline.core.names import Name

HOST = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
Repository = Annotated[str, Field(pattern=rf"\A(https|ssh)://([a-z0-9-]+@)?{HOST}(:[0-9]+)?/[A-Za-z0-9._/-]+\.git\z")]
"""As Argo CD and git clone it, with `.git` at its end."""
Registry = Annotated[str, Field(pattern=rf"\A{HOST}(:[0-9]+)?(/[a-z0-9._-]+)*\z")]
"""Host and path, to which `/model-server` is added."""
Domain = Annotated[str, Field(pattern=rf"\A{HOST}\z")]
Issuer = Annotated[str, Field(pattern=rf"\Ahttps://{HOST}(:[0-9]+)?(/[A-Za-z0-9._/-]*)?\z")]
"""As its OpenID Connect discovery says it."""
Region = Annotated[str, Field(pattern=r"\A[a-z]{2}(-[a-z]+)+-[0-9]\z")]
Buckets = Annotated[str, Field(pattern=r"\A[a-z0-9][a-z0-9-]{1,40}\z")]


class Values(Strict):
    """`data` of environment.yaml. What only a cloud has may be left out."""

    name: Name
    class_: Annotated[Literal["guarded", "open", "small"], Field(alias="class")] = "open"
    """Several environments may share one: what it asks of a release and of its servers."""
    repository: Repository
    branch: Annotated[str, Field(min_length=1)] = "main"
    registry: Registry
    """Of our own images."""
    domain: Domain | Literal[""] = ""
    issuer: Issuer | Literal[""] = ""
    """Of the identity provider that signs people in."""
    region: Region | Literal[""] = ""
    buckets: Buckets | Literal[""] = ""
    """What the names of its buckets begin with."""
    given: str = ""
    """API groups that the cluster brings along."""


class EnvironmentFile(Strict):
    """A ConfigMap that Kustomize reads and never sends to the cluster."""

    apiVersion: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: dict[str, Any]
    data: Values


def read_values(root: Path, environment: str) -> Values:
    """What clusters/<environment>/environment.yaml says; raises DocumentError that names the field."""
    name = f"clusters/{environment}/environment.yaml"
    values = read(root / name, EnvironmentFile, name).data
    if values.name != environment:
        raise DocumentError(f"data.name: expected {environment!r}, the folder's name, not {values.name!r}", source=name)
    return values
