"""The model that every server serves, in each form that one of them loads, and the rows that all are asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundles import Bundle, Keys, sign, to_onnx
from plumbline.core.schema import ModelSchema, Output, SchemaField

FEATURES, TREES = 30, 100
MANY = 100
"""Rows of a batch."""
Rows = list[list[float]]


@dataclass(frozen=True)
class Subject:
    """A gradient boosting, signed as promotion leaves it, and rows with the answers of scikit-learn to them."""

    bundle: Bundle
    rows: Rows
    expected: np.ndarray
    """The probability of the positive label for each row."""

    @property
    def names(self) -> list[str]:
        return [field.name for field in self.bundle.schema.fields]

    def batches(self) -> list[tuple[int, Rows]]:
        """Batches of 100 rows, each with where it begins."""
        return [(start, self.rows[start : start + MANY]) for start in range(0, len(self.rows) - MANY + 1, MANY)]


def schema(name: str, features: int, output: Output) -> ModelSchema:
    """Named, required numbers."""
    fields = (
        SchemaField(name=f"feature_{index}", type="number", description="A number", example=0.5)
        for index in range(features)
    )
    return ModelSchema(model=name, fields=tuple(fields), output=output)


def boosting(folder: Path, keys: Keys, features: int = FEATURES, trees: int = TREES, rows: int = 800) -> Subject:
    """Fit, convert and sign."""
    from sklearn.datasets import make_classification
    from sklearn.ensemble import GradientBoostingClassifier

    informative = min(features, 10)
    matrix, labels = make_classification(
        rows, features, n_informative=informative, n_redundant=0, random_state=0, shift=None
    )
    matrix = matrix.round(4)
    model = GradientBoostingClassifier(n_estimators=trees, random_state=0).fit(matrix, labels)
    output = Output(task="binary", name="class", description="Which one", labels=("no", "yes"))
    bundle = signed(folder, keys, schema("subject", features, output), to_onnx(model))
    return Subject(bundle, matrix.tolist(), model.predict_proba(matrix)[:, 1])


def matrix_chain(folder: Path, keys: Keys, seconds: float) -> Bundle:
    """A regression that takes about `seconds` a row on this machine: one large matrix, multiplied again and again."""
    import time

    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    few = 4
    session = ort.InferenceSession(_chain(few), options)
    row = {"features": np.ones((1, FEATURES), np.float32)}
    times = []
    for _ in range(12):
        start = time.perf_counter()
        session.run(None, row)
        times.append(time.perf_counter() - start)
    layers = max(1, round(seconds / (sorted(times)[len(times) // 2] / few)))
    output = Output(task="regression", name="value", description="A number")
    return signed(folder, keys, schema("chain", FEATURES, output), _chain(layers))


def _chain(layers: int, width: int = 1024) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    weights = {
        "first": generator.normal(size=(FEATURES, width)),
        "each": generator.normal(size=(width, width)) / np.sqrt(width),
        "last": generator.normal(size=(width, 1)),
    }
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    nodes = [helper.make_node("MatMul", ["features", "first"], ["layer0"])]
    for index in range(layers):
        nodes.append(helper.make_node("MatMul", [f"layer{index}", "each"], [f"product{index}"]))
        nodes.append(helper.make_node("Tanh", [f"product{index}"], [f"layer{index + 1}"]))
    nodes.append(helper.make_node("MatMul", [f"layer{layers}", "last"], ["value"]))
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, FEATURES])]
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, constants)
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return made


def signed(folder: Path, keys: Keys, described: ModelSchema, model: bytes) -> Bundle:
    """An artifact as promotion leaves it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "schema.json").write_text(described.to_json())
    sign(folder, keys)
    return Bundle(folder, described, keys, threshold=0.5 if described.output.labels else None)


def named(names: Sequence[str], row: Sequence[float]) -> dict[str, float]:
    """A row by the fields' names."""
    return dict(zip(names, row, strict=True))
