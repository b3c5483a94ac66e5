"""What a model's folder defines: `MODEL` in `<models>/<name>/__init__.py`, found by the folder's name alone."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
import pandera.pandas as pa
from pydantic import BaseModel, ValidationError

from plumbline.core.columns import NATIVE, OURS, SLICE, TIME, is_ours
from plumbline.core.documents import worded
from plumbline.core.errors import Accident, Misuse, PlumblineError
from plumbline.core.metrics import names
from plumbline.core.metrics.names import Costs
from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.training import models, threshold

Tables = Mapping[str, pd.DataFrame]
"""The raw data: {name of the file without .csv: its rows}."""
Params = dict[str, Any]
Floats = npt.NDArray[np.float64]
Inputs = npt.NDArray[np.float32]


class ModelError(Misuse):
    """A model's folder that is missing or does not define what training needs."""


@dataclass(frozen=True)
class Examples:
    """Inputs, shape (rows, width), and the truth, shape (rows,): a label's place, or the value."""

    inputs: Inputs
    target: Floats


class Estimator(Protocol):
    """What scikit-learn, and XGBoost in its clothes, offer."""

    def fit(self, x: Any, y: Any) -> Any:
        """Fit to x, shape (n, width), and y, shape (n,): labels' positions, or values."""

    def predict(self, x: Any) -> Any:
        """Answer for x, shape (n, width), with shape (n,)."""


@dataclass(frozen=True)
class Day:
    """A cluster: rows whose `at` is of one calendar day in a time zone, such as "America/New_York"."""

    zone: str

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ModelError(f'cluster: Day({self.zone!r}) is no time zone; expected one like "UTC"') from error

    def __str__(self) -> str:
        return f"day of {TIME} ({self.zone})"


class Undeclared:
    """What stands for a cluster that a model's folder says nothing of."""


@dataclass(frozen=True)
class ByTime:
    """Train on what happened before `validation`, choose on what happened before `test`, judge on the rest.

    Reports give their dates in the time zone of `test`.
    """

    validation: pd.Timestamp
    test: pd.Timestamp
    seed: int = 0
    """Of the rows judged on where a run takes a sample: in git with the folder, so that no run can pick a lucky one."""

    def __post_init__(self) -> None:
        for name, moment in (("validation", self.validation), ("test", self.test)):
            if not isinstance(moment, pd.Timestamp) or moment.tz is None:
                raise ModelError(
                    f"split: {name} is {moment!r}, expected a moment with its time zone, "
                    f'such as pd.Timestamp("2013-09-01", tz="UTC")'
                )
        if not self.validation < self.test:
            raise ModelError(f"split: the validation begins {self.validation}, expected before the test {self.test}")


@dataclass(frozen=True)
class ByShare:
    """For data without time: seeded random shares of the rows; the rest is trained on. A cluster stays together."""

    validation: float = 0.2
    test: float = 0.2
    stratified: bool = False
    """Each label is split by itself, so that a rare one has its share of each part; a cluster goes by its first row."""
    seed: int = 0
    """Of the shares: in git with the folder, so that no run can pick a lucky holdout."""

    def __post_init__(self) -> None:
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ModelError(f"split: shares must be above 0 and leave rows to train on: {self}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the newest values of a view are read, each time that the online store is filled."""

    tables: tuple[str, ...]
    """The raw tables that views() makes it of, each held against its schema."""
    place: str = ""
    """The folder or address of their CSV files as fsspec names it ("https://…"); what fetch() writes if empty."""
    year: int | None = None
    """Of a demonstration: the values of this year's same day and hour are shown as those of now."""

    def fault(self, tables: Collection[str]) -> str:
        """What is wrong with it; empty where nothing is."""
        if not isinstance(self.tables, tuple) or not self.tables or (unknown := set(self.tables) - set(tables)):
            given = repr(self.tables) if not isinstance(self.tables, tuple) or not self.tables else sorted(unknown)
            return f"tables: found {given}, expected some of the model's tables {', '.join(tables)}, as a tuple"
        if not isinstance(self.place, str) or (self.year is not None and not 1900 <= self.year <= 2999):
            return f"place is a text and year one from 1900 to 2999, found {self.place!r} and {self.year!r}"
        return ""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model, from its raw data to its search space."""

    schema: ModelSchema
    """Fields, views and output; vocabularies are left empty, training fills them."""
    tables: Mapping[str, pa.DataFrameSchema]
    """What each raw CSV file must look like, by its name without .csv."""
    fetch: Callable[[Path], None]
    """Write the raw CSV files into a folder, the same bytes each time."""
    rows: Callable[[Tables], pd.DataFrame]
    """One row per example: the fields that no view fills, `truth` (label or number), with ByTime `at` (when the
    answer is asked for, UTC), and the columns to judge slices by, called `slice_…`."""
    views: Callable[[Tables], Mapping[str, pd.DataFrame]] = lambda _: {}
    """Per view its history: the entity's columns, `at` (from when on a value was known, UTC) and the view's fields."""
    sources: Mapping[str, Source | None] = field(default_factory=dict)
    """{view: where its newest values are read}. Each view must be declared: None says that something else fills it."""
    view_dropout: float = 0.15
    """The share of the rows to train on in which each view is missing, so that the model learns to do without: an
    online store that is empty for an hour must not make its answers worse than a constant."""
    split: ByTime | ByShare
    cluster: str | Day | type[Undeclared] | None = Undeclared
    """Whose rows depend on each other: a column of rows() such as "patient", or the Day of `at`. Intervals and tests
    resample whole clusters. It must be declared: None says that every row is independent of all others."""
    baseline: Callable[[ModelSchema], Estimator]
    """What the candidate must beat."""
    candidate: Callable[[ModelSchema, Params], Estimator]
    defaults: Params
    """Trial 0 of the search."""
    space: Callable[[optuna.Trial], Params]
    minimum_count: int = 50
    """A category seen more rarely in training is left out of the vocabulary: it counts as unknown."""
    costs: Costs | None = None
    """What mistakes cost, {true label: {answered label: cost}}: reports then have the metric `cost`."""
    threshold: str = "f1"
    """Of two labels: how the threshold is chosen on validation, e.g. "cost" or "recall_at_precision_0.9"."""
    metrics: tuple[str, ...] = ()
    """Reported besides those of the task: `recall_at_precision_0.9`, `precision_at_recall_0.8`."""
    to_onnx: Callable[[Any, ModelSchema], Any] | None = None
    """Only for an estimator that training.converters does not know: (fitted, schema) -> onnx.ModelProto."""

    def __post_init__(self) -> None:
        if ours := [field.name for field in self.schema.fields if is_ours(field.name)]:
            raise ModelError(
                f"fields: {', '.join(ours)} would stand twice beside the platform's own columns {', '.join(OURS)}, "
                f"{SLICE}… and {NATIVE}…; rename them, in rows() too"
            )
        if self.schema.output.task == "regression" and isinstance(self.split, ByShare) and self.split.stratified:
            raise ModelError("split: only labels can be stratified, and a regression has none; leave stratified out")
        self._typed_as_declared()
        self._sourced_as_declared()
        if not 0 <= self.view_dropout < 1:
            raise ModelError(
                f"view_dropout: {self.view_dropout} is no share of rows, expected 0 or more and less than 1"
            )
        self._clustered_as_declared()
        self._judged_as_declared()

    def _typed_as_declared(self) -> None:
        tables, split, count = self.tables, self.split, self.minimum_count
        schemas = isinstance(tables, Mapping) and all(isinstance(one, pa.DataFrameSchema) for one in tables.values())
        seeded = isinstance(split, ByTime | ByShare) and isinstance(split.seed, int) and 0 <= split.seed < 2**32
        for name, fits, wanted in (
            ("tables", schemas, '{"file without .csv": pa.DataFrameSchema({…})}'),
            ("split", seeded, "ByTime(…) or ByShare(…), whose seed is a whole number from 0"),
            ("minimum_count", isinstance(count, int) and count > 0, "a whole number of rows from 1"),
            ("metrics", not isinstance(self.metrics, str), 'a tuple such as ("recall_at_precision_0.9",)'),
        ):
            if not fits:
                raise ModelError(f"{name}: found {getattr(self, name)!r:.80}, expected {wanted}")

    def _sourced_as_declared(self) -> None:
        views = {view.name for view in self.schema.views}
        if undeclared := sorted(views ^ self.sources.keys()):
            raise ModelError(
                f"sources: {', '.join(undeclared)} must stand in both, the schema's views and sources; say where the "
                f"values come from that fill the online store, as Source(tables=(…)), or None if something else does it"
            )
        for name, source in self.sources.items():
            if source is not None and (wrong := source.fault(self.tables)):
                raise ModelError(f"sources, {name}: {wrong}")

    def _clustered_as_declared(self) -> None:
        if self.cluster is None or (isinstance(self.cluster, str | Day) and self.cluster):
            return
        given = "nothing" if self.cluster is Undeclared else repr(self.cluster)
        raise ModelError(
            f"cluster: found {given}; expected the column of rows() whose rows depend on each other, "
            f'such as "patient", '
            f'Day("UTC") for the calendar day of {TIME}, or None if every row is independent of all others'
        )

    def _judged_as_declared(self) -> None:
        output = self.schema.output
        if self.costs is not None and (wrong := names.costs_fault(self.costs, output)):
            raise ModelError(f"costs: {wrong}")
        if output.task == "binary" and (wrong := threshold.fault(self.threshold, output, self.costs)):
            raise ModelError(wrong)
        for name in self.metrics:
            if names.at(name, output) is None:
                label = "" if output.task == "binary" else "<label>_"
                form = f"{label}recall_at_precision_0.9 or {label}precision_at_recall_0.8"
                raise ModelError(f"metrics: {name!r}, expected names such as {form}; the others are always reported")


def names_of(root: Path | None = None) -> list[str]:
    """The models that have a folder, below TRAINING_MODELS unless a root is given."""
    return _names(root or Path(os.environ.get("TRAINING_MODELS", models.DEFAULT)))


def _names(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("*/__init__.py"))


def folder_of(name: str, root: Path | None = None) -> Path:
    """The folder that defines a model, below TRAINING_MODELS unless a root is given.

    Raises ModelError with the names that exist.
    """
    root = root or Path(os.environ.get("TRAINING_MODELS", models.DEFAULT))
    if not root.is_dir():
        raise ModelError(f"{root} is no folder: set TRAINING_MODELS to the one that holds a folder for each model")
    if list(models.__path__) != [str(root)]:
        models.__path__[:] = [str(root)]
        # What was imported from another folder is another model, though its name is the same.
        for module in [module for module in sys.modules if module.startswith(f"{models.__name__}.")]:
            del sys.modules[module]
    names = _names(root)
    if name not in names:
        raise ModelError(f"there is no model {name!r} in {root}; expected one of {', '.join(names)}")
    return root / name


@contextmanager
def own_code(what: str) -> Iterator[None]:
    """Say what a model's own code raises in one line, with the file and the line of that code; raises ModelError.

    A connection that broke is an Accident: whoever tries again may get through.
    """
    try:
        yield
    except Exception as error:  # whatever it is
        words = worded(error, _shape(error)) if isinstance(error, ValidationError) else " ".join(str(error).split())
        kind = "" if isinstance(error, PlumblineError | ValidationError) else f"{type(error).__name__}: "
        lost = isinstance(error, OSError) and error.filename is None
        raise (Accident if lost else ModelError)(f"{_place(error) or what}: {kind}{words}") from error


def _shape(error: ValidationError) -> type[BaseModel] | None:
    """What a model's folder was making, so that a field that does not exist is told with those that do."""
    return next((shape for shape in (SchemaField, Output, View, ModelSchema) if shape.__name__ == error.title), None)


def _place(error: Exception) -> str:
    """The line in a model's folder that it comes from; empty where it is none of its lines."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if Path(frame.filename).is_relative_to(models.__path__[0])]
    return f"{mine[-1].filename}:{mine[-1].lineno}" if mine else ""


def load(name: str, root: Path | None = None) -> Model:
    """Import a model's folder; raises ModelError that says what the folder lacks."""
    folder = folder_of(name, root)
    with own_code(str(folder)):
        module = importlib.import_module(f"{models.__name__}.{name}")
    model = getattr(module, "MODEL", None)
    if not isinstance(model, Model):
        raise ModelError(f"{folder / '__init__.py'}: expected MODEL = Model(…), found {model!r}")
    if model.schema.model != name:
        raise ModelError(f"{folder}: the schema is of {model.schema.model!r}, expected the folder's name {name!r}")
    return model
