"""`clusters/<env>/models/<model>/evidence.yaml`: what a release was judged on, and how it should differ from the last.

Promotion writes it beside release.yaml, in the same commit; the gate's report, which release.yaml names by digest, has
its sha256. It is of the release beside it where `spec.artifact` is that release's: a rollback leaves it as it is.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from plumbline.core.documents import Strict, parse
from plumbline.core.names import Digest, Name, Version

Finite = Annotated[float, Field(allow_inf_nan=False)]


class JudgedOn(Strict):
    """The holdout."""

    digest: Digest
    """`plumbline.core.holdout.identity`."""
    rows: int
    clusters: int
    by: str
    """What the rows of a cluster share; empty where each row is its own."""
    first: date | None = None
    last: date | None = None


class Shift(Strict):
    """How the new answers differ from the old ones on some rows."""

    column: str = ""
    """Of a slice; empty for all rows."""
    value: str = ""
    rows: int
    agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of rows with the same label; None of a model that answers numbers."""
    distance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Mean over rows of half the summed absolute differences of all probabilities; of values, of their difference."""
    mean: dict[str, Finite]
    """{label, or `value`: mean score of the new one}."""
    mean_before: dict[str, Finite]


class Expected(Strict):
    """The difference between two releases, by slice; what a canary is compared with."""

    version: Version
    """Of the release before."""
    artifact: Digest
    shifts: tuple[Shift, ...]
    """All rows first, then each slice."""


class EvidenceSpec(Strict):
    """Of which bytes, on which rows."""

    version: Version
    artifact: Digest
    holdout: JudgedOn
    expected: Expected | None = None
    """None for a first release, and where the two could not be compared."""


class EvidenceMetadata(Strict):
    """The model's name."""

    name: Name


class ReleaseEvidence(Strict):
    """One evidence.yaml."""

    apiVersion: Literal["plumbline.dev/v1"] = "plumbline.dev/v1"
    kind: Literal["ReleaseEvidence"] = "ReleaseEvidence"
    metadata: EvidenceMetadata
    spec: EvidenceSpec


def parse_evidence(text: str, *, source: str = "evidence.yaml") -> ReleaseEvidence:
    """Read the text of an evidence.yaml; raises DocumentError that names `source`, the field and what was expected."""
    return parse(text, ReleaseEvidence, source)
