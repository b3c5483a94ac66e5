"""Documents of ours in git: strict YAML that names file and field where it is wrong."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from plumbline.core.documents import Strict, worded
from plumbline.core.errors import Misuse
from plumbline.core.names import Digest, Line, Name, Version

Document = TypeVar("Document", bound=Strict)

BY_MERGE = "whoever merged the pull request"
"""Who approved a release that came by pull request: the forge knows them (delivery/approval.py: `reviews`)."""


class Override(Strict):
    """Why a barred digest may be served after all; written by hand, by pull request."""

    by: Line
    reason: Line
    at: datetime


class Lineage(Strict):
    """What of a barred version is barred in whatever file, and from whatever run, it comes again."""

    weights: Digest | None = None
    """Of what the graph computes, without any name or note in it."""
    recipe: Digest | None = None
    """Of code, data, parameters and schema together; None where the code was not committed."""
    run: str | None = None


class Barred(Strict):
    """`policies/barred/<model>/<hex of the digest>.yaml`: these bytes failed and are not served again.

    Of an artifact, or of a server's image. What counts is the digest that stands in it.
    """

    apiVersion: Literal["plumbline.dev/v1"] = "plumbline.dev/v1"
    kind: Literal["Barred"] = "Barred"
    model: Name
    version: Version
    digest: Digest
    metric: Line
    reason: Line
    at: datetime
    stays: tuple[Name, ...] | None = None
    """Environments that served it when another one's canary failed: what they have proved, they keep."""
    lineage: Lineage | None = None
    """None of an image, and where the registry did not answer: a rollback waits for nobody."""
    override: Override | None = None

    def applies(self, environment: str, proved: Collection[str] | None = None) -> bool:
        """Whether the environment may not serve it.

        `proved` are the digests that its cluster has stable, where it was asked: a canary has proved nothing.
        """
        keeps = environment in (self.stays or ()) and (proved is None or self.digest in proved)
        return self.override is None and not keeps


def checked(shape: type[Document], **values: object) -> Document:
    """A document of now; raises Misuse that names the wrong value."""
    try:
        return shape.model_validate({"at": datetime.now(UTC).replace(microsecond=0)} | values)
    except ValidationError as error:
        raise Misuse(worded(error)) from error


def dump(document: BaseModel) -> str:
    """The YAML text of a document, keys in the order of its type."""
    values = document.model_dump(mode="json", exclude_none=True)
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def barred_path(model: str, digest: str) -> str:
    """Where git holds the record of a barred digest: all of it, for bytes of a chosen short prefix can be made."""
    return f"policies/barred/{model}/{digest.removeprefix('sha256:')}.yaml"


def gate_name(environment: str, version: str, digest: str) -> str:
    """A report's file in the run: named by digest too, so that a later judgement never replaces what git refers to."""
    return f"{environment}-{version}-{digest.removeprefix('sha256:')[:12]}.json"


def policy_path(model: str) -> str:
    """Where git holds the gate of a model."""
    return f"policies/promotion/{model}.yaml"


def release_path(environment: str, model: str) -> str:
    """Where git says what an environment serves."""
    return f"clusters/{environment}/models/{model}/release.yaml"


def evidence_path(environment: str, model: str) -> str:
    """Where git says what the release beside it was judged on, and how it should differ from the one before."""
    return f"clusters/{environment}/models/{model}/evidence.yaml"
