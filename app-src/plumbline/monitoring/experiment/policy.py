"""The rules of an experiment, in git: what is compared, by what, for how long, and who gets which version."""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from plumbline.core.documents import Fault, Strict
from plumbline.core.metrics import names
from plumbline.core.schema import Output
from plumbline.core.subject import unknown
from plumbline.monitoring.policy import OfModel, Share

Metric = Literal["accuracy", "brier", "log_loss", "cost", "absolute_error", "value", "ms"]
_OF_LABELS, _OF_VALUES = ("accuracy", "brier", "log_loss", "cost"), ("absolute_error",)
OF_ARMS = ("value", "ms")
"""What a version can't be asked for again: it is of the answer that was given."""
BUCKETS = 100
"""That the gateway makes of the callers of a model (kustomize/gateway/caller-bucket.yaml)."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, lt=1)]


class Arm(Strict):
    """Which predictions belong to an arm: those with this role, this arm, or both."""

    role: str | None = None
    arm: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.role is None and self.arm is None:
            raise ValueError("give a role, an arm or both")
        return self


class Promote(Strict):
    """A promotion needs evidence that treatment's gain is above this; 0 is "better", below 0 is "not worse by"."""

    metric: Metric
    above: Finite
    gain: Finite
    """That is planned for: if it is true, the experiment promotes with the power of the plan."""
    deviation: Positive
    """Standard deviation of a row's figure; where both versions answer the same rows, of the difference in a row."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.gain <= self.above:
            raise ValueError(f"the planned gain {self.gain:g} is not above {self.above:g}: it could never be promoted")
        return self


class Rollback(Strict):
    """Evidence that treatment's gain is below this ends the experiment."""

    metric: Metric
    below: Finite


class Plan(Strict):
    """What the number of weeks was chosen for; a test simulates every policy with these numbers."""

    power: Annotated[float, Field(ge=0.5, lt=1)]
    callers: Annotated[int, Field(ge=2)]
    """Of both arms together, in the whole experiment; of one size, or so many as those of different sizes are worth."""
    rowsPerDay: Annotated[int, Field(ge=1)]
    """Labelled rows of both arms together."""
    callerShare: Part
    """Of a row's variance, what its caller explains (the intraclass correlation)."""
    dayShare: Part
    """Of a row's variance, what its day explains for one version and not for the other."""


class Experiment(OfModel):
    """`policies/experiments/<model>.yaml`.

    A gain is treatment minus control, turned round for metrics of which less is better (brier, log_loss, cost,
    absolute_error, ms).
    """

    apiVersion: Literal["plumbline.dev/v1"]
    kind: Literal["Experiment"]
    answersChangeOutcomes: bool
    """False: what is answered changes nothing of what comes true, so both versions answer the same logged rows.

    True, as where a refusal is never tried: only callers who got an answer can say what came of it, and arms are
    compared.
    """
    control: Arm
    treatment: Arm
    share: Share
    """Of the callers that are meant to be in treatment, in whole percent."""
    salt: Annotated[str, Field(min_length=1, max_length=64)]
    """Another one draws other callers into treatment; a new experiment takes a new one."""
    alpha: Annotated[float, Field(gt=0, le=0.2)]
    """Two-sided error over all looks: at most half of it is false promotions."""
    weeks: Annotated[tuple[Annotated[int, Field(ge=1, le=520)], ...], Field(min_length=1, max_length=50)]
    """Whole weeks of predictions after which the data may be judged; the first is the least, the last the end."""
    labelDays: Annotated[int, Field(ge=1, le=400)]
    """How long a label is waited for: each row counts with the label that came so soon, in both arms alike."""
    minimumCallers: Annotated[int, Field(ge=10)]
    """Callers of an arm (of all rows, where both versions answer them) below which a look is passed over."""
    costs: dict[str, dict[str, Finite]] | None = None
    """{true label: {answered label: cost}}, for the metric `cost`; a cost below 0 is a benefit."""
    promote: Annotated[tuple[Promote, ...], Field(min_length=1)]
    """All must hold."""
    rollback: Annotated[tuple[Rollback, ...], Field(min_length=1)]
    """Any suffices; alpha is divided among them."""
    plan: Plan

    def faults(self, output: Output | None = None, *, labels: bool | None = None) -> Iterator[Fault]:
        """The metrics that answers do not have, and costs of labels that a model does not have.

        Without an output, `labels` says what is known: labels have no error, and values are neither right nor wrong.
        """
        labels = output.task != "regression" if output is not None else bool(labels)
        metrics = [name for name in get_args(Metric) if name not in (_OF_VALUES if labels else _OF_LABELS)]
        what = f"metric of {'labels' if labels else 'values'}"
        for field, metric in self._metrics().items():
            if reason := unknown(metric, metrics, what):
                yield f"{field}.metric", reason
        if self.costs is not None and output is not None and (reason := names.costs_fault(self.costs, output)):
            yield "costs", reason

    def replayed(self, metric: Metric) -> bool:
        """Whether both versions are asked for it on the same rows."""
        return not self.answersChangeOutcomes and metric not in OF_ARMS

    @property
    def replays(self) -> bool:
        """Whether any rule needs that."""
        return any(self.replayed(metric) for metric in self._metrics().values())

    @property
    def buckets(self) -> tuple[str, ...]:
        """The gateway's buckets whose callers are in treatment: as many as `share` says, drawn by the salt."""
        drawn = random.Random(f"{self.model}/{self.salt}").sample(range(BUCKETS), round(self.share * BUCKETS))  # noqa: S311 - a split, no secret
        return tuple(f"{bucket:02d}" for bucket in sorted(drawn))

    def _metrics(self) -> dict[str, Metric]:
        named = {f"promote.{number}": rule.metric for number, rule in enumerate(self.promote)}
        return named | {f"rollback.{number}": rule.metric for number, rule in enumerate(self.rollback)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not all(low < high for low, high in pairwise(self.weeks)):
            raise ValueError(f"weeks must rise strictly: {list(self.weeks)}")
        if self.control == self.treatment:
            raise ValueError("control and treatment are the same arm")
        if abs(self.share * BUCKETS - round(self.share * BUCKETS)) > 1e-9:
            raise ValueError(f"share is {self.share:g}; expected whole percent: the gateway has {BUCKETS} buckets")
        if self.plan.callerShare + self.plan.dayShare >= 1:
            raise ValueError("plan: callerShare and dayShare together leave nothing to the row itself")
        if self.costs is None and "cost" in self._metrics().values():
            raise ValueError("the metric cost needs costs: {true label: {answered label: cost}}")
        return self
