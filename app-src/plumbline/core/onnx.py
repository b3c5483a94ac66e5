"""The ONNX contract of a served model: one float32 input `features`, one float32 output, as its schema says.

Training, the gate and the server open a file by this one, so that what one of them accepts the others do too.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from plumbline.core.errors import Refused
from plumbline.core.schema import ModelSchema

INPUT = "features"

ort.disable_telemetry_events()


class ModelError(Refused):
    """The model can't be loaded or is not what its schema says; the message says how."""


def open_model(
    model: Path | bytes, schema: ModelSchema, threads: int = 1, *, gpu: bool = False
) -> ort.InferenceSession:
    """Open the file or its bytes and check it against the schema; raises ModelError. On the GPU where there is one."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # A spinning thread burns the container's quota between requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = ["CUDAExecutionProvider"] * gpu + ["CPUExecutionProvider"]
    try:
        session = ort.InferenceSession(
            model, options, [name for name in wanted if name in ort.get_available_providers()]
        )
    except Exception as error:  # onnxruntime raises types of its own for each way a graph can be wrong
        raise ModelError(f"model.onnx: ONNX Runtime cannot load it: {error}") from error
    _check_signature(session, schema)
    _check_answers(session, schema)
    return session


def _check_signature(session: ort.InferenceSession, schema: ModelSchema) -> None:
    columns, name, width = schema.width, schema.output.tensor, schema.output.width
    inputs = {item.name: (item.type, item.shape) for item in session.get_inputs()}
    outputs = {item.name: (item.type, item.shape) for item in session.get_outputs()}
    if inputs.keys() != {INPUT} or not _is_matrix(*inputs[INPUT], columns):
        raise ModelError(
            f"model.onnx: its inputs are {inputs}, expected one, {INPUT!r}, float32 of shape (rows, {columns})"
        )
    if name not in outputs or not _is_matrix(*outputs[name], width):
        raise ModelError(f"model.onnx: its outputs are {outputs}, expected {name!r}, float32 of shape (rows, {width})")


def _is_matrix(kind: str, shape: list[Any], columns: int) -> bool:
    """Any number of rows; a width that the graph leaves open is seen when it answers."""
    return (
        kind == "tensor(float)"
        and len(shape) == 2
        and not isinstance(shape[0], int)
        and (shape[1] == columns or not isinstance(shape[1], int))
    )


def _check_answers(session: ort.InferenceSession, schema: ModelSchema) -> None:
    """Two rows of the example, and one where nothing is known: shapes and missing values must both work."""
    output = schema.output
    unknown = np.full((1, schema.width), math.nan, dtype=np.float32)
    for rows in (schema.encode([schema.example()] * 2), unknown):
        try:
            answer = session.run([output.tensor], {INPUT: rows})[0]
        except Exception as error:  # as above
            raise ModelError(f"model.onnx: it fails on {len(rows)} rows: {error}") from error
        if answer.shape != (len(rows), output.width):
            raise ModelError(
                f"model.onnx: {len(rows)} rows give an output of shape {answer.shape}, "
                f"expected {(len(rows), output.width)}"
            )
