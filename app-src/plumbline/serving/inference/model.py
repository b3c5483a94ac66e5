"""An ONNX model that was checked against its schema, tuned to the container and measured before it is called ready."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from plumbline.core.onnx import INPUT, ModelError, open_model
from plumbline.core.schema import ModelSchema

Matrix = npt.NDArray[np.float32]
_PROBE_ROWS = 64
_PROBE_SECONDS = 0.1
_WORTH_THREADS = 1e-3
"""Seconds: below this, handing work to other threads costs more than it saves."""
_MIN_GAIN = 1.2


@dataclass(frozen=True, slots=True)
class Cost:
    """What the warm-up measured, in seconds."""

    one_row: float
    per_row: float
    """Of a full probe batch, divided by its rows; of one row where batching would change an answer."""
    threads: int
    batch_rows: int
    """Up to so many rows gave bit-equal answers alone and together; 1 where they did not."""


class Model:
    """Runs rows through ONNX Runtime; safe to call from several threads."""

    def __init__(self, session: ort.InferenceSession, schema: ModelSchema, cost: Cost) -> None:
        self.schema = schema
        self.cost = cost
        self._session = session  # owns what `_bound` calls
        self._bound = session._sess.run
        self._outputs = [schema.output.tensor]

    def run(self, matrix: Matrix) -> Matrix:
        """The outputs of a contiguous float32 input (rows, width): (rows, classes) or (rows, 1).

        A model that answers otherwise in company is asked row by row: a batch is never another answer. Calls the
        session below its Python wrapper, whose checks of names cost a third of a small model's time: the load has made
        them already.
        """
        if self.cost.batch_rows == 1 and len(matrix) > 1:
            return np.concatenate([self.run(matrix[row : row + 1]) for row in range(len(matrix))])
        return self._bound(self._outputs, {INPUT: matrix}, None)[0]  # type: ignore[no-any-return]


def load_model(path: Path, schema: ModelSchema, cpus: float, lap: Callable[[str], None]) -> Model:
    """Load, check against the schema, warm up and measure; raises ModelError. `lap` is told when a step has ended.

    One thread unless the model is slow and more threads are measured to help: spinning or shared threads make small
    models slower, and would take the quota from the event loop.
    """
    session = open_model(path, schema, gpu=True)
    lap("load")
    probe = probe_rows(schema)
    model = Model(session, schema, _measure(session, schema, probe, 1))
    threads = math.floor(cpus)
    if model.cost.one_row > _WORTH_THREADS and threads > 1:
        several = open_model(path, schema, threads, gpu=True)
        cost = _measure(several, schema, probe, threads)
        if model.cost.one_row / cost.one_row > _MIN_GAIN and cost.batch_rows >= model.cost.batch_rows:
            model = Model(several, schema, cost)
    answer = model.run(schema.encode([schema.example()]))
    if not np.isfinite(answer).all():
        raise ModelError(f"model.onnx: the answer to the schema's own example is not finite: {answer.tolist()}")
    lap("warm-up")
    return model


def probe_rows(schema: ModelSchema) -> Matrix:
    """Rows around the schema's example, also with missing values: what alone and together are compared on."""
    generator = np.random.default_rng(0)
    matrix = np.repeat(schema.encode([schema.example()]), _PROBE_ROWS, axis=0)
    for index, field in enumerate(schema.columns):
        if field.type in ("category", "boolean"):
            codes = 2 if field.type == "boolean" else max(1, len(field.vocabulary))
            column = generator.integers(0, codes, _PROBE_ROWS).astype(np.float32)
        else:
            example = float(matrix[0, index])
            low = example - abs(example) - 1 if field.minimum is None else field.minimum
            high = example + abs(example) + 1 if field.maximum is None else field.maximum
            column = generator.uniform(low, high, _PROBE_ROWS).astype(np.float32)
        if not field.required:
            column[generator.random(_PROBE_ROWS) < 0.1] = np.nan
        matrix[1:, index] = column[1:]
    return matrix


def _measure(session: ort.InferenceSession, schema: ModelSchema, probe: Matrix, threads: int) -> Cost:
    """Time one row and a batch, and see whether batching keeps every bit; a slow model is given fewer rows."""
    model = Model(session, schema, Cost(0, 0, threads, _PROBE_ROWS))
    try:
        one = _median_seconds(model, probe[:1])
        rows = min(_PROBE_ROWS, max(4, int(_PROBE_SECONDS / one)))
        alone = np.concatenate([model.run(probe[i : i + 1]) for i in range(rows)])
        sizes = (rows, *(size for size in (2, 3, 8, 33) if size < rows))
        exact = all(np.array_equal(alone[:size], model.run(probe[:size]), equal_nan=True) for size in sizes)
        many = _median_seconds(model, probe[:rows])
    except Exception as error:  # onnxruntime raises types of its own for each way a graph can be wrong
        raise ModelError(f"model.onnx: it fails on the schema's example: {error}") from error
    return Cost(one, many / rows, threads, rows) if exact else Cost(one, one, threads, 1)


def _median_seconds(model: Model, matrix: Matrix) -> float:
    """Of up to 100 runs or 50 ms; the first, which allocates, is left out."""
    model.run(matrix)
    times: list[float] = []
    while not times or (len(times) < 100 and sum(times) < _PROBE_SECONDS / 2):
        start = time.perf_counter()
        model.run(matrix)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]
