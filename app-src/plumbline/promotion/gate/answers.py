"""Answers of several models to the same rows, and the paired tests between them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from plumbline.core.errors import Inconclusive
from plumbline.core.metrics.clusters import Clusters, Difference, differences
from plumbline.core.metrics.curve import Floats
from plumbline.core.metrics.figures import Metric, build
from plumbline.core.metrics.names import Costs
from plumbline.core.metrics.rows import cost_matrix
from plumbline.core.schema import Output

Chosen = npt.NDArray[np.bool_]
POOLED = "(others)"
"""What the slices of a column are called that are too small by themselves; no value of a slice by habit."""
PROPER = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
"""The score that a constant is beaten by where a policy names none: it falls only if the answers get better."""


@dataclass(frozen=True)
class Answers:
    """What a model gives for the rows, shape (rows, k), and the threshold that it answers by."""

    outputs: Floats
    threshold: float | None

    def of(self, chosen: Chosen) -> "Answers":
        """For some of the rows."""
        return Answers(self.outputs[chosen], self.threshold)


@dataclass(frozen=True)
class Rows:
    """The rows that models are judged on, and how."""

    output: Output
    truth: Floats
    clusters: Clusters
    costs: Costs | None = None
    declared: Collection[str] = ()
    slices: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    """{column: the value of each row}."""

    def __len__(self) -> int:
        return len(self.truth)

    def only(self, chosen: Chosen) -> "Rows":
        """Some of them."""
        slices = {name: values[chosen] for name, values in self.slices.items()}
        return replace(self, truth=self.truth[chosen], clusters=self.clusters[chosen], slices=slices)

    def metrics(self, answers: Answers) -> dict[str, Metric]:
        """Every metric of the task."""
        return build(
            self.output, self.truth, answers.outputs, answers.threshold, costs=self.costs, declared=self.declared
        )

    def metric(self, name: str, answers: Answers, chosen: Chosen) -> Metric:
        """A metric of some of the rows, which takes the weights of all."""
        metric, places = self.only(chosen).metrics(answers.of(chosen))[name], np.flatnonzero(chosen)
        return metric if len(places) == len(self) else lambda weights: metric(weights[places])

    def compared(
        self, name: str, one: Answers, other: Answers, groups: Sequence[Chosen] = (), *, resamples: int, seed: int
    ) -> list[Difference]:
        """How much worse `one` is than `other` on all rows, then on each group of them.

        Raises Inconclusive where there are too few clusters to tell.
        """
        if self.clusters.fault:
            raise Inconclusive(self.clusters.fault)
        all_of_them = np.ones(len(self), dtype=bool)
        pairs = [
            (self.metric(name, one, chosen), self.metric(name, other, chosen), self.clusters[chosen])
            for chosen in (all_of_them, *groups)
        ]
        return differences(name, pairs, self.clusters, resamples=resamples, seed=seed)

    def constant(self, name: str) -> Answers:
        """The best that one answer to every row can do on these very rows, in hindsight, so hard to beat."""
        rows, labels = len(self), len(self.output.labels)
        if self.output.task == "regression":
            value = np.median(self.truth) if name == "mae" else self.truth.mean()
            return Answers(np.full((rows, 1), value), None)
        shares = np.bincount(self.truth.astype(np.intp), minlength=labels) / rows
        if name == "cost" and self.costs is not None:
            shares = np.eye(labels)[int(np.argmin(shares @ cost_matrix(self.output, self.costs)))]
        return Answers(np.tile(shares, (rows, 1)), 0.5 if self.output.task == "binary" else None)


def groups_of(rows: Rows, columns: Sequence[str], least: int) -> tuple[dict[tuple[str, str], Chosen], list[str]]:
    """{(column, value): its rows} of slices with at least so many clusters, the smaller ones of a column together.

    And the columns whose smaller ones are too few even together.
    """
    groups: dict[tuple[str, str], Chosen] = {}
    left: list[str] = []
    for column in columns:
        values = rows.slices[column]
        small = np.zeros(len(rows), dtype=bool)
        for value in np.unique(values):
            chosen = values == value
            if rows.clusters[chosen].count >= least:
                groups[column, str(value)] = chosen
            else:
                small |= chosen
        if small.any():
            if rows.clusters[small].count >= least:
                groups[column, POOLED] = small
            else:
                left.append(column)
    return groups, left
