"""What a model's folder defines: `MODEL` in `<models>/<name>/__init__.py`, found by the folder's name alone."""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
import pandera.pandas as pa

from plumbline.core.errors import Misuse
from plumbline.core.schema import ModelSchema
from plumbline.training import models

Tables = Mapping[str, pd.DataFrame]
"""The raw data: {name of the file without .csv: its rows}."""
Params = dict[str, Any]
Floats = npt.NDArray[np.float64]
Inputs = npt.NDArray[np.float32]

TRUTH = "truth"
TIME = "at"
SLICE = "slice_"


class ModelError(Misuse):
    """A model's folder that is missing or does not define what training needs."""


@dataclass(frozen=True)
class Examples:
    """Inputs, shape (rows, fields), and the truth, shape (rows,): a label's place, or the value."""

    inputs: Inputs
    target: Floats


class Estimator(Protocol):
    """What scikit-learn, and XGBoost in its clothes, offer."""

    def fit(self, x: Any, y: Any) -> Any:
        """Fit to x, shape (n, fields), and y, shape (n,): labels' positions, or values."""

    def predict(self, x: Any) -> Any:
        """Answer for x, shape (n, fields), with shape (n,)."""


@dataclass(frozen=True)
class ByTime:
    """Train on what happened before `validation`, choose on what happened before `test`, judge on the rest.

    Reports give their dates in the time zone of `test`.
    """

    validation: pd.Timestamp
    test: pd.Timestamp

    def __post_init__(self) -> None:
        if not self.validation < self.test:
            raise ValueError(f"split: the validation begins {self.validation}, expected before the test {self.test}")


@dataclass(frozen=True)
class ByShare:
    """For data without time: seeded random shares of the rows; the rest is trained on."""

    validation: float = 0.2
    test: float = 0.2

    def __post_init__(self) -> None:
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError(f"split: shares must be above 0 and leave rows to train on: {self}")


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
    split: ByTime | ByShare
    baseline: Callable[[ModelSchema], Estimator]
    """What the candidate must beat."""
    candidate: Callable[[ModelSchema, Params], Estimator]
    defaults: Params
    """Trial 0 of the search."""
    space: Callable[[optuna.Trial], Params]
    minimum_count: int = 50
    """A category seen more rarely in training is left out of the vocabulary: it counts as unknown."""
    to_onnx: Callable[[Any, ModelSchema], Any] | None = None
    """Only for an estimator that training.convert does not know: (fitted, schema) -> onnx.ModelProto."""


def folder_of(name: str) -> Path:
    """The folder that defines a model, below TRAINING_MODELS; raises ModelError with the names that exist."""
    root = Path(os.environ.get("TRAINING_MODELS", models.DEFAULT))
    if not root.is_dir():
        raise ModelError(f"{root} is no folder: set TRAINING_MODELS to the one that holds a folder for each model")
    models.__path__[:] = [str(root)]
    names = sorted(path.parent.name for path in root.glob("*/__init__.py"))
    if name not in names:
        raise ModelError(f"there is no model {name!r} in {root}; expected one of {', '.join(names)}")
    return root / name


def load(name: str) -> Model:
    """Import a model's folder; raises ModelError that says what the folder lacks."""
    folder = folder_of(name)
    model = getattr(importlib.import_module(f"{models.__name__}.{name}"), "MODEL", None)
    if not isinstance(model, Model):
        raise ModelError(f"{folder / '__init__.py'}: expected MODEL = Model(…), found {model!r}")
    if model.schema.model != name:
        raise ModelError(f"{folder}: the schema is of {model.schema.model!r}, expected the folder's name {name!r}")
    return model
