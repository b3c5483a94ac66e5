"""The libraries whose estimators can be converted, each by its own converter; see `convert` for what is served."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import onnx

from plumbline.core.errors import Misuse
from plumbline.core.onnx import INPUT

OPSET = {"": 18, "ai.onnx.ml": 3}
Converter = Callable[[Any, int], onnx.ModelProto]


class ConvertError(Misuse):
    """An estimator that cannot be converted, or whose ONNX file answers something else."""


FLAVOURS = {
    "xgboost": ("xgboost-cpu", "mlflow.xgboost"),
    "lightgbm": ("lightgbm", "mlflow.lightgbm"),
    "sklearn": ("scikit-learn", "mlflow.sklearn"),
    "torch": ("torch", "mlflow.pytorch"),
    "keras": ("tensorflow", "mlflow.tensorflow"),
    "tensorflow": ("tensorflow", "mlflow.tensorflow"),
}
"""By the library of an estimator's class: the package to install, and MLflow's flavour for it."""


def library_of(estimator: Any) -> str | None:
    """The library that an estimator's class (or the nearest known one that it extends) comes from; None if unknown.

    Raises ConvertError for a known one that is not installed.
    """
    for kind in type(estimator).__mro__:
        if (name := kind.__module__.partition(".")[0]) in FLAVOURS:
            package, _ = FLAVOURS[name]
            try:
                version(package)
            except PackageNotFoundError as error:
                raise ConvertError(
                    f"{type(estimator).__name__} needs the package {package}, which is not installed"
                ) from error
            return name
    return None


def convert(estimator: Any, width: int) -> onnx.ModelProto:
    """What the library's converter gives for (rows, width); raises ConvertError where the library has none.

    A converter raises what it likes for an estimator that it does not know.
    """
    library = library_of(estimator)
    if library not in CONVERTERS:
        raise ConvertError(
            f"{library or type(estimator).__module__} has no converter here, only {', '.join(CONVERTERS)} have; "
            f"define to_onnx in the model's folder"
        )
    with _booleans_as_integers(), _trees_without_a_split():
        return CONVERTERS[library](estimator, width)


def _xgboost(estimator: Any, width: int) -> onnx.ModelProto:
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    inputs = [(INPUT, FloatTensorType([None, width]))]
    converted: onnx.ModelProto = convert_xgboost(estimator, "model", inputs, target_opset=15)
    return converted


def _sklearn(estimator: Any, width: int) -> onnx.ModelProto:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.preprocessing import StandardScaler

    _register_xgboost()
    if "lightgbm" in sys.modules:  # else no step can be of it, and to load it takes time, and libgomp of the system
        _register_lightgbm()
    # Its own way to scale, times the reciprocal, rounds otherwise than the division that trees were grown behind: a
    # value that one splits at falls on the other side.
    options: dict[type | int, dict[str, Any]] = {StandardScaler: {"div": "div"}}
    if hasattr(estimator, "predict_proba"):
        options[id(estimator)] = {"zipmap": False}
    converted: onnx.ModelProto = to_onnx(
        estimator,
        name="model",
        initial_types=[(INPUT, FloatTensorType([None, width]))],
        options=options,
        target_opset=OPSET,
    )
    return converted


@cache
def _register_xgboost() -> None:
    """Let skl2onnx convert XGBoost within a pipeline."""
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

    _register([XGBClassifier, XGBRFClassifier], [XGBRegressor, XGBRFRegressor], convert_xgboost)


@cache
def _register_lightgbm() -> None:
    """Let skl2onnx convert LightGBM, alone and within a pipeline."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    _register([LGBMClassifier], [LGBMRegressor], convert_lightgbm, split=None)


def _register(classifiers: list[type], regressors: list[type], converter: Callable[..., None], **options: Any) -> None:
    """Name a library's converter to skl2onnx, with the options of its regressors."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    probabilities = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    for kinds, shapes, offered in (
        (classifiers, calculate_linear_classifier_output_shapes, probabilities),
        (regressors, calculate_linear_regressor_output_shapes, options),
    ):
        for kind in kinds:
            update_registered_converter(kind, f"plumbline{kind.__name__}", shapes, converter, options=offered)


@contextmanager
def _booleans_as_integers() -> Iterator[None]:
    """While it lasts, onnx takes booleans in a list of integers.

    skl2onnx 1.20 gives them for the trees of HistGradientBoosting, and protobuf, since onnx 1.23, refuses them.
    """
    strict = onnx.helper.make_attribute

    def lenient(key: str, value: Any, *more: Any, **named: Any) -> onnx.AttributeProto:
        if isinstance(value, list):
            value = [int(item) if isinstance(item, bool | np.bool_) else item for item in value]
        return strict(key, value, *more, **named)

    onnx.helper.make_attribute = lenient
    try:
        yield
    finally:
        onnx.helper.make_attribute = strict


@contextmanager
def _trees_without_a_split() -> Iterator[None]:
    """While it lasts, a first tree that is one leaf of 0 is none to onnxmltools.

    1.16 takes it for a sign that base_score is a margin, and adds half a logit to each answer of a binary model.
    """
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import XGBConverter

    strict = XGBConverter.common_members

    def members(*arguments: Any) -> Any:
        objective, base_score, trees, best = strict(*arguments)
        if trees and trees[0].get("leaf") == 0:
            trees[0]["leaf"] = 1e-30  # lost in the sum of float32
        return objective, base_score, trees, best

    XGBConverter.common_members = staticmethod(members)
    try:
        yield
    finally:
        XGBConverter.common_members = staticmethod(strict)


CONVERTERS: dict[str, Converter] = {"xgboost": _xgboost, "lightgbm": _sklearn, "sklearn": _sklearn}
