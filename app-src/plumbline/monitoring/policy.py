"""Rules in git for what is measured in production, as frozen types that can't hold an illegal value."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from plumbline.core.documents import DocumentError, Fault, Strict, read
from plumbline.core.errors import Misuse
from plumbline.core.metrics import names
from plumbline.core.names import Name
from plumbline.core.schema import Output
from plumbline.core.subject import unknown

SCORE, LABEL = "prediction", "predicted label"
"""The columns of a drift check that hold what was answered; all others are inputs."""
Share = Annotated[float, Field(gt=0, lt=1)]


class ReferenceFault(Misuse):
    """A reference that is missing or has not the columns of an evaluation; the message says which."""


class Column(Strict):
    """The rule of one column, where the default does not fit it."""

    method: Literal["psi", "wasserstein", "jensenshannon"] | None = None
    threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    ignore: bool = False
    """Reported, not judged: a column that is meant to move, like the month."""


class Quality(Strict):
    """What live answers are judged by, once their labels have come."""

    metric: str
    """As in the reports of training."""
    worse: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """How much worse than in the week before, in the metric's unit, is told to somebody."""
    costs: dict[str, dict[str, float]] | None = None
    """{true label: {answered label: cost}}, for the metric `cost`."""

    def faults(self, output: Output) -> Iterator[Fault]:
        """Why its metric can't be computed from answers with this output and their labels."""
        declared = [self.metric] if names.at(self.metric, output) else []
        if self.metric == "cost" and self.costs is None:
            yield "costs", "missing; the metric cost needs {true label: {answered label: cost}}"
        elif reason := names.fault(self.metric, output, costs=self.costs is not None, declared=declared):
            yield "metric", reason
        if self.costs is not None and (reason := names.costs_fault(self.costs, output)):
            yield "costs", reason


class OfModel(Strict):
    """Rules of one model."""

    model: Name


class Drift(OfModel):
    """`policies/drift/<model>.yaml`; a model without the file has these values."""

    apiVersion: Literal["plumbline.dev/v1"] = "plumbline.dev/v1"
    kind: Literal["Drift"] = "Drift"
    sample: Annotated[int, Field(ge=50)] = 2000
    """Rows that are compared on either side, always as many: the verdict then does not depend on the traffic."""
    seed: int = 0
    threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """The smallest effect that counts; where chance alone moves a column more than this, calibration raises it."""
    missing: Share = 0.05
    """The smallest change in the share of missing values that counts."""
    apart: Annotated[float, Field(ge=0.5, lt=1)] = 0.55
    """The smallest AUC of telling the window's rows from the reference's that counts as a joint shift."""
    windows: Annotated[tuple[Annotated[float, Field(gt=0, le=24 * 366)], ...], Field(min_length=1, max_length=5)] = (
        24,
        168,
    )
    """Hours of the windows that end at the check: a day shows what is large at once, a week what is small."""
    lossRise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """The smallest rise of the mean loss, estimated or seen, that counts; as a part of the reference's."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    columns: dict[str, Column] = Field(default_factory=dict)
    quality: Quality | None = None
    """Without it answers are judged by their accuracy, values by their absolute error."""

    def faults(self, output: Output, fields: Mapping[str, bool]) -> Iterator[Fault]:
        """What the policy names that the model does not have: columns, and the metric of its quality.

        `fields` are the model's, and whether each is a number.
        """
        columns = {**fields, SCORE: True, **({LABEL: False} if len(output.labels) > 2 else {})}
        for name, rule in self.columns.items():
            if reason := unknown(name, columns, "column"):
                yield f"columns.{name}", reason
            elif rule.method == "wasserstein" and not columns[name]:
                yield f"columns.{name}.method", "wasserstein is a distance of numbers; expected psi or jensenshannon"
        if self.quality is not None:
            yield from ((f"quality.{field}", reason) for field, reason in self.quality.faults(output))

    @property
    def ignored(self) -> frozenset[str]:
        """The columns that are not judged."""
        return frozenset(name for name, rule in self.columns.items() if rule.ignore)


Policy = TypeVar("Policy", bound=OfModel)


def read_policy(path: Path, shape: type[Policy], model: str) -> Policy:
    """Read a policy of a model; raises DocumentError that names the file, every wrong field and what was expected."""
    policy = read(path, shape)
    if policy.model != model:
        raise DocumentError(f"model is {policy.model!r}, expected {model!r}", source=str(path))
    return policy
