"""From a fitted estimator to the ONNX file that is served: one float32 input, one float32 output."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from plumbline.core.onnx import INPUT, ModelError, open_model
from plumbline.core.schema import ModelSchema, Output
from plumbline.training import converters, learn
from plumbline.training.converters import ConvertError
from plumbline.training.model import Examples, Floats, Inputs, Model, own_code

LARGEST_DIFFERENCE = 1e-4
"""Above this a conversion is broken, not merely rounded; promotion's gate is stricter, per model. Of a value it is a
share of the values' spread, whatever their unit is."""
REHEARSED_ROWS = 200
_USUAL = ("probabilities", "variable", "output_probability")
"""What converters call the output that is served."""
_LONGEST = 300


def to_onnx(model: Model, estimator: Any, schema: ModelSchema) -> onnx.ModelProto:
    """Convert and reduce to the contract: input `features` [n, width]; output `probabilities` or `value`.

    The model's own `to_onnx` goes first. Raises ConvertError, in one line that names the estimator, whatever a
    converter raises.
    """
    name = kind(estimator)
    try:
        if model.to_onnx is None:
            converted = converters.convert(estimator, schema.width)
        else:
            converted = model.to_onnx(estimator, schema)
            if not isinstance(converted, onnx.ModelProto):
                raise ConvertError(f"to_onnx gave {type(converted).__name__}, expected onnx.ModelProto")
        contracted = _contract(converted, schema.output)
        onnx.checker.check_model(contracted)
    except Exception as error:  # each converter has exceptions of its own, some with all the model's numbers in them
        raise ConvertError(f"{name} cannot be converted to ONNX: {_in_one_line(error)}") from error
    return contracted


def kind(estimator: Any) -> str:
    """What people call an estimator: its class, and of a pipeline those of its steps."""
    steps = getattr(estimator, "steps", None)
    inner = f"({', '.join(kind(step) for _, step in steps)})" if isinstance(steps, list) else ""
    return type(estimator).__name__ + inner


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    return shown if isinstance(error, ConvertError) else f"{type(error).__name__}: {shown}"


def _contract(converted: onnx.ModelProto, output: Output) -> onnx.ModelProto:
    """Keep one input and one output, under the contract's names, of any number of rows; labels are the server's to say.

    A library's exporter may fix the rows of its example: where the graph truly needs them, two rows fail later.
    """
    graph = converted.graph
    # Before version 4 each weight had to be an input too, which those that are added below are not.
    converted.ir_version = max(converted.ir_version, 4)
    if not {"", "ai.onnx"} & {item.domain for item in converted.opset_import}:  # trees alone need none
        converted.opset_import.append(helper.make_opsetid("", converters.OPSET[""]))
    _without_maps(graph)
    weights = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    if len(inputs) != 1:
        raise ConvertError(f"its inputs are {[item.name for item in inputs]}, expected one, float32 of all fields")
    kept = _served(graph, output)
    width, last = output.width, kept.name
    if kept.type.tensor_type.elem_type == TensorProto.DOUBLE:
        graph.node.append(helper.make_node("Cast", [last], [last := "plumbline_float"], to=TensorProto.FLOAT))
    if len(kept.type.tensor_type.shape.dim) == 1:
        graph.initializer.append(helper.make_tensor("plumbline_shape", TensorProto.INT64, [2], [-1, width]))
        graph.node.append(helper.make_node("Reshape", [last, "plumbline_shape"], [last := "plumbline_column"]))
    renamed = {last: output.tensor, inputs[0].name: INPUT}
    if clash := {item for node in graph.node for item in node.output if item in renamed.values()} - renamed.keys():
        renamed |= {item: f"plumbline_{item}" for item in clash}
    _rename(graph, renamed)
    inputs[0].name = INPUT
    if rows := inputs[0].type.tensor_type.shape.dim:
        rows[0].Clear()
    # What is known of the shapes in between may hold the exporter's rows too.
    graph.ClearField("value_info")
    graph.ClearField("output")
    graph.output.append(helper.make_tensor_value_info(output.tensor, TensorProto.FLOAT, [None, width]))
    return converted


def _without_maps(graph: onnx.GraphProto) -> None:
    """Take the probabilities before they become {label: probability}, as exporters for the native API end."""
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        graph.node.remove(node)
        for item in graph.output:
            if item.name == node.output[0]:
                item.CopyFrom(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None))


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename values, also where a branch or a loop within reads them."""
    for node in graph.node:
        node.output[:] = [names.get(item, item) for item in node.output]
        node.input[:] = [names.get(item, item) for item in node.input]
        for attribute in node.attribute:
            for inner in [attribute.g] * attribute.HasField("g") + [*attribute.graphs]:
                _rename(inner, names)


def _served(graph: onnx.GraphProto, output: Output) -> onnx.ValueInfoProto:
    """The output that is served: by its usual name, or the only one of numbers that are no integers."""
    outputs: dict[str, onnx.ValueInfoProto] = {item.name: item for item in graph.output}
    for name in (output.tensor, *_USUAL):
        if name in outputs and outputs[name].type.HasField("tensor_type"):
            return outputs[name]
    floats = [
        item for item in outputs.values() if item.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
    ]
    if len(floats) != 1:
        raise ConvertError(
            f"its outputs are {', '.join(outputs)}, expected {output.tensor!r}, float32 of shape (rows, {output.width})"
        )
    return floats[0]


def check(name: str, path: Path, schema: ModelSchema, inputs: Inputs, native: Floats) -> float:
    """The largest absolute difference to the native outputs; raises ConvertError for a broken contract or too much.

    `name` is the estimator's, for people.
    """
    try:
        session = open_model(path, schema)
    except ModelError as error:
        raise ConvertError(f"{name}: {_in_one_line(ConvertError(error))}") from error
    answered = session.run([schema.output.tensor], {INPUT: inputs})[0]
    difference = float(np.abs(answered - native).max())
    allowed, of_values = LARGEST_DIFFERENCE, ""
    if schema.output.task == "regression":
        spread = float(native.std()) or 1.0  # where all values are one, there is none to be a share of
        allowed, of_values = allowed * spread, f" ({LARGEST_DIFFERENCE:g} of the values' spread of {spread:.3g})"
    if not difference <= allowed:
        raise ConvertError(
            f"{name}: {path.name} answers up to {difference:.3g} beside the native model, expected no more than "
            f"{allowed:.3g}{of_values}"
        )
    return difference


def rehearse(model: Model, schema: ModelSchema, train: Examples, validation: Examples) -> float:
    """Fit baseline and first trial on 200 rows, keep, convert and compare it: what cannot be served costs no search.

    Returns the largest difference; raises ConvertError in one line that names the estimator.
    """
    fewer, later = _few(train, schema.output), _few(validation, schema.output)
    with own_code("baseline()"):
        baseline = model.baseline(schema)
    with own_code("candidate()"):
        candidate = model.candidate(schema, model.defaults)
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        for estimator in (baseline, candidate):
            native = _answers(estimator, schema.output, fewer, later, Path(folder) / "native")
        path = Path(folder) / "model.onnx"
        path.write_bytes(to_onnx(model, candidate, schema).SerializeToString())
        return check(kind(candidate), path, schema, later.inputs, native)


def _answers(estimator: Any, output: Output, train: Examples, later: Examples, path: Path) -> Floats:
    """What it answers once it is fitted and kept; raises ConvertError in one line for whatever its library raises."""
    name, rows = kind(estimator), len(later.target)
    try:
        learn.fit(estimator, train, later, output)
        learn.save(estimator, path)
        native = learn.outputs_of(estimator, later.inputs, output)
    except Exception as error:  # in the words of its library
        tried = f"{name}, tried on {len(train.target)} rows before the search"
        raise ConvertError(f"{tried}: {_in_one_line(error)}") from error
    if native.shape != (rows, output.width):
        raise ConvertError(
            f"{name} answers {rows} rows with {native.shape}, expected {output.width} numbers each, as the output says"
        )
    return native


def _few(rows: Examples, output: Output) -> Examples:
    """At most 200 of the rows, those of each label in turn: a rare one must be among them, or no classifier fits."""
    order = np.arange(len(rows.target))
    if output.task != "regression":
        turn = np.empty_like(order)
        for label in np.unique(rows.target):
            places = np.flatnonzero(rows.target == label)
            turn[places] = np.arange(len(places))
        order = np.argsort(turn, kind="stable")
    chosen = np.sort(order[:REHEARSED_ROWS])
    return Examples(rows.inputs[chosen], rows.target[chosen])
