"""The page of estimators that can be served, made by trying each as a training run does before its search."""

import logging
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, cast

import lightgbm
import numpy as np
import xgboost
from sklearn.utils import all_estimators

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.training.convert import rehearse
from plumbline.training.converters import ConvertError
from plumbline.training.model import Examples, Model

TASKS = {"binary": 2, "multiclass": 3, "regression": 0}
PACKAGES = ("scikit-learn", "xgboost-cpu", "lightgbm", "skl2onnx", "onnxmltools", "onnx", "onnxruntime")
_FIELDS, _ROWS = 4, 400
_BOOSTED = {
    xgboost: ("XGBClassifier", "XGBRFClassifier", "XGBRegressor", "XGBRFRegressor"),
    lightgbm: ("LGBMClassifier", "LGBMRegressor"),
}
_HEAD = """\
# Estimators

Which estimators can be served: each of scikit-learn, XGBoost and LightGBM, as it comes, was fitted, converted to ONNX
and compared with itself, as `plumbline train` does on 200 rows before a search. Made by `make estimators`, with
{versions}

A `Pipeline` converts where each of its steps does, XGBoost's and LightGBM's among them; the
[list of skl2onnx](https://onnx.ai/sklearn-onnx/supported.html) has the transformers. LightGBM needs the system's
`libgomp1`, which the platform's image has. For all else, CatBoost and PyTorch among them, a model's folder brings its
own `to_onnx` ([add your model](add-a-model.md#another-library)).
"""


def estimators() -> Iterator[tuple[str, type[Any], str]]:
    """Name, class and task of all that can be made without a parameter."""
    kinds = [
        *((name, kind, "classifier") for name, kind in all_estimators(type_filter="classifier")),
        *((name, kind, "regressor") for name, kind in all_estimators(type_filter="regressor")),
        *(
            (name, getattr(library, name), "regressor" if "Regr" in name else "classifier")
            for library, names in _BOOSTED.items()
            for name in names
        ),
    ]
    for name, kind, type_ in kinds:
        try:
            with warnings.catch_warnings(action="ignore"):
                kind()
        except TypeError:  # it is made of other estimators, as a pipeline is
            continue
        for task in ("regression",) if type_ == "regressor" else ("binary", "multiclass"):
            yield name, kind, task


def examples(task: str, seed: int) -> Examples:
    """Rows above 0, which some estimators ask for, with a truth that follows from them."""
    generator = np.random.default_rng(seed)
    inputs = generator.uniform(0, 3, size=(_ROWS, _FIELDS)).astype(np.float32)
    signal = 1 + inputs[:, 0] + inputs[:, 1] ** 2
    if task == "regression":
        return Examples(inputs, signal.astype(np.float64))
    cuts = np.quantile(signal, np.arange(1, TASKS[task]) / TASKS[task])
    return Examples(inputs, np.digitize(signal, cuts).astype(np.float64))


def tried(kind: type[Any], task: str) -> str:
    """Why it cannot be served; empty where it can."""
    schema = ModelSchema(
        model="m",
        fields=tuple(
            SchemaField(name=f"f{number}", type="number", description="", example=1.0) for number in range(_FIELDS)
        ),
        output=Output(task=cast(Any, task), name="y", description="", labels=tuple("abc"[: TASKS[task]])),
    )

    def fresh(*_: Any) -> Any:
        estimator = kind()
        return estimator.set_params(random_state=0) if "random_state" in estimator.get_params() else estimator

    model = SimpleNamespace(baseline=fresh, candidate=fresh, defaults={}, to_onnx=None)
    try:
        rehearse(cast(Model, model), schema, examples(task, 0), examples(task, 1))
    except ConvertError as error:
        return _reason(str(error))
    return ""


def _reason(message: str) -> str:
    for sign, reason in (
        ("predict_proba", "it gives no probabilities: wrap it in CalibratedClassifierCV"),
        ("MissingShapeCalculator", "it has no converter"),
        ("beside the native model", "its ONNX answers something else"),
        ("before the search", "it asks for other data or parameters"),
    ):
        if sign in message:
            return reason
    return "its conversion fails"


def head() -> str:
    """What stands above the table."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return _HEAD.format(versions=textwrap.fill(f"{versions}.", 120))


def row(name: str, tasks: Mapping[str, str]) -> str:
    """An estimator's line, from {task: why it cannot be served}."""
    marks = ["-" if task not in tasks else "no" if tasks[task] else "yes" for task in TASKS]
    return f"| {' | '.join([name, *marks, '; '.join(dict.fromkeys(filter(None, tasks.values())))])} |"


def page() -> str:
    """The page's text."""
    results: dict[str, dict[str, str]] = {}
    for name, kind, task in estimators():
        results.setdefault(name, {})[task] = tried(kind, task)
    table = "\n".join(row(name, results[name]) for name in sorted(results))
    return f"{head()}\n| estimator | {' | '.join(TASKS)} | why not |\n| --- |{' --- |' * len(TASKS)} --- |\n{table}\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    lightgbm.register_logger(logging.getLogger("lightgbm"))  # else it writes into the page
    print(page(), end="")
