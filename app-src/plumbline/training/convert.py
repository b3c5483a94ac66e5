"""From a fitted estimator to the ONNX file that is served: one float32 input, one float32 output."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from plumbline.core.errors import Misuse
from plumbline.core.onnx import INPUT, ModelError, open_model
from plumbline.core.schema import ModelSchema, Output
from plumbline.training.model import Floats, Inputs, Model

OPSET = {"": 18, "ai.onnx.ml": 3}
LARGEST_DIFFERENCE = 1e-4
"""Above this a conversion is broken, not merely rounded; promotion's gate is stricter, per model."""
Converter = Callable[[Any, int], onnx.ModelProto]


class ConvertError(Misuse):
    """An estimator that cannot be converted, or whose ONNX file answers something else."""


def _xgboost(estimator: Any, fields: int) -> onnx.ModelProto:
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    inputs = [(INPUT, FloatTensorType([None, fields]))]
    converted: onnx.ModelProto = convert_xgboost(estimator, "model", inputs, target_opset=15)
    return converted


def _sklearn(estimator: Any, fields: int) -> onnx.ModelProto:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    converted: onnx.ModelProto = to_onnx(
        estimator,
        name="model",
        initial_types=[(INPUT, FloatTensorType([None, fields]))],
        options={"zipmap": False} if hasattr(estimator, "predict_proba") else None,
        target_opset=OPSET,
    )
    return converted


CONVERTERS: dict[str, Converter] = {"xgboost": _xgboost, "sklearn": _sklearn}
FLAVOURS = {
    "xgboost": ("xgboost-cpu", "mlflow.xgboost"),
    "sklearn": ("scikit-learn", "mlflow.sklearn"),
    "torch": ("torch", "mlflow.pytorch"),
    "keras": ("tensorflow", "mlflow.tensorflow"),
    "tensorflow": ("tensorflow", "mlflow.tensorflow"),
}
"""By the library of an estimator's class: the package to install, and MLflow's flavour for it."""


def library_of(estimator: Any) -> str:
    """The library that an estimator's class (or the nearest known one that it extends) comes from.

    Raises ConvertError for an unknown kind, and for a known one whose library is not installed.
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
    raise ConvertError(f"{type(estimator).__name__} is of no known library; expected one of {', '.join(FLAVOURS)}")


def to_onnx(model: Model, estimator: Any, schema: ModelSchema) -> onnx.ModelProto:
    """Convert and reduce to the contract: input `features` [n, fields]; output `probabilities` or `value`.

    The model's own `to_onnx` goes first. Raises ConvertError where there is no converter.
    """
    if model.to_onnx is not None:
        own: onnx.ModelProto = model.to_onnx(estimator, schema)
        return own
    library = library_of(estimator)
    if library not in CONVERTERS:
        raise ConvertError(f"{library}: logged as it is, but not converted; define to_onnx in {schema.model}'s folder")
    return _contract(CONVERTERS[library](estimator, len(schema.fields)), schema.output)


def _contract(converted: onnx.ModelProto, output: Output) -> onnx.ModelProto:
    """Keep one output under the contract's name; labels are the server's to say."""
    name = output.tensor
    kept = next(item for item in converted.graph.output if item.name in ("probabilities", "variable"))
    for node in converted.graph.node:
        node.output[:] = [name if item == kept.name else item for item in node.output]
        node.input[:] = [name if item == kept.name else item for item in node.input]
    value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, output.width])
    converted.graph.ClearField("output")
    converted.graph.output.append(value)
    onnx.checker.check_model(converted)
    return converted


def check(path: Path, schema: ModelSchema, inputs: Inputs, native: Floats) -> float:
    """The largest absolute difference to the native outputs; raises ConvertError for a broken contract or too much."""
    try:
        session = open_model(path, schema)
    except ModelError as error:
        raise ConvertError(str(error)) from error
    answered = session.run([schema.output.tensor], {INPUT: inputs})[0]
    difference = float(np.abs(answered - native).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ConvertError(
            f"{path.name}: outputs differ by {difference} from the native model's, expected no more than "
            f"{LARGEST_DIFFERENCE}"
        )
    return difference
