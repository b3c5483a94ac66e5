"""Fit an estimator, ask it, and carry it from step to step. Only this sandbox ever unpickles one."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from plumbline.core.schema import Output
from plumbline.training.model import Estimator, Examples, Floats, Inputs
from plumbline.training.work import written


def fit(estimator: Estimator, train: Examples, validation: Examples, output: Output) -> None:
    """Fit to train; what can stop early does so on validation."""
    x, y, later = train.inputs, train.target, validation.target
    if output.task != "regression":
        y, later = y.astype(int), later.astype(int)
    if isinstance(estimator, xgboost.XGBModel):
        estimator.fit(x, y, eval_set=[(validation.inputs, later)], verbose=False)
    else:
        estimator.fit(x, y)


def outputs_of(estimator: Any, x: Inputs, output: Output) -> Floats:
    """What the ONNX file will answer: probabilities, shape (rows, classes), or values, shape (rows, 1)."""
    if output.task == "regression":
        return np.asarray(estimator.predict(x), dtype=np.float64).reshape(-1, 1)
    return np.asarray(estimator.predict_proba(x), dtype=np.float64)


def save(estimator: Estimator, path: Path) -> None:
    """Keep a fitted estimator for the next step: XGBoost as its own JSON, others as a pickle."""
    suffix = ".json" if isinstance(estimator, xgboost.XGBModel) else ".pickle"
    with written(path.with_suffix(suffix)) as temporary:
        if isinstance(estimator, xgboost.XGBModel):
            estimator.save_model(temporary)
        else:
            temporary.write_bytes(pickle.dumps(estimator))


def restore(path: Path, fresh: Estimator) -> Estimator:
    """Load what `save` kept; `fresh` is an unfitted estimator of the same kind."""
    if isinstance(fresh, xgboost.XGBModel):
        fresh.load_model(path.with_suffix(".json"))
        return fresh
    restored: Estimator = pickle.loads(path.with_suffix(".pickle").read_bytes())  # noqa: S301 - written by this run
    return restored
