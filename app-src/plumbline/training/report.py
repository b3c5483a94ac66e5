"""The evaluation of a run, as training writes it (`evaluation/report.json`) and promotion reads it."""

from datetime import date

from plumbline.core.documents import Strict

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
    train: Period
    test: Period
