"""The evaluation of a run, as training writes it (`evaluation/report.json`) and promotion reads it."""

from datetime import date

from plumbline.core.documents import Strict
from plumbline.core.metrics import names
from plumbline.core.schema import Output

OBJECTIVE = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
"""What trials, fields and slices are judged by, per task; lower is better. Proper scores keep probabilities honest."""


class Interval(Strict):
    """A metric with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Slice(Strict):
    """The metrics of the rows where `column` is `value`."""

    column: str
    value: str
    rows: int
    metrics: dict[str, Interval]


class Clustered(Strict):
    """What was resampled: whole clusters, or rows where each is its own."""

    by: str
    """What the rows of a cluster share, such as `day of at (UTC)`; empty where the model calls rows independent."""
    count: int


class Period(Strict):
    """A window of the data, both ends included; None where the data has no time."""

    first: date | None
    last: date | None
    rows: int


class Report(Strict):
    """How good a model is, on data after (or apart from) what it was trained on."""

    model: str
    metrics: dict[str, Interval]
    baseline: dict[str, Interval]
    """The same metrics of the baseline: what the model must beat to be worth serving."""
    slices: tuple[Slice, ...]
    threshold: float | None
    """Of a binary classifier: a probability from here on is the positive label. Chosen on validation data."""
    threshold_rule: str = ""
    """How it was chosen; empty in a report from before there were rules."""
    costs: dict[str, dict[str, float]] | None = None
    """What mistakes cost, {true label: {answered label: cost}}: the metric `cost` is their mean over all rows."""
    train: Period
    test: Period
    clusters: Clustered | None = None
    """Of the test window; None in a report of before they were declared."""
    baseline_threshold: float | None = None
    """As `threshold`, of the baseline."""

    def declared(self, output: Output) -> list[str]:
        """Those of its metrics that the model's folder asked for by a limit in their name."""
        return [name for name in self.metrics if names.at(name, output) is not None]
