"""The served folder: which files it may hold, whether its ONNX keeps the contract, and how it answers."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pydantic import ValidationError

from plumbline.core.artifact import MODEL, SCHEMA, SIGNATURE
from plumbline.core.errors import Refused
from plumbline.core.onnx import INPUT, open_model
from plumbline.core.schema import ModelSchema
from plumbline.promotion.gate.graph import operators, read_graph, weights_digest
from plumbline.promotion.gate.memory import peak_mb

Floats = npt.NDArray[np.float64]
_CHUNK = 20_000
_ROUNDED = 0.01
"""By how much probabilities of float32, and what conversions make of them, may miss 0, 1 and a sum of 1."""


@dataclass(frozen=True)
class Bundle:
    """An artifact whose files, schema and graph were checked."""

    folder: Path
    schema: ModelSchema
    kind: str
    """The graph's operators, e.g. `TreeEnsembleClassifier`."""
    weights: str
    """Digest of what the graph computes, whatever its file says of itself."""
    session: ort.InferenceSession

    @property
    def bytes(self) -> int:
        """The size of what is fetched and loaded."""
        return sum((self.folder / name).stat().st_size for name in (MODEL, SCHEMA))

    def predict(self, matrix: npt.NDArray[np.float32]) -> Floats:
        """Outputs, shape (rows, classes) or (rows, 1), for the input (rows, fields).

        Raises Refused where a classifier's are no probabilities, or anything is not a number.
        """
        name = self.schema.output.tensor
        parts = [
            np.asarray(self.session.run([name], {INPUT: matrix[start : start + _CHUNK]})[0], dtype=np.float64)
            for start in range(0, len(matrix), _CHUNK)
        ]
        outputs = np.concatenate(parts)
        if self.schema.output.task == "regression":
            good = np.isfinite(outputs[:, 0])
        else:
            within = (outputs >= -_ROUNDED) & (outputs <= 1 + _ROUNDED)
            good = within.all(axis=1) & (np.abs(outputs.sum(axis=1) - 1) <= _ROUNDED)
        if not good.all():
            row = int((~good).argmax())
            wanted = "a number" if self.schema.output.task == "regression" else "probabilities that add up to 1"
            raise Refused(
                f"{MODEL}: it answers {outputs[row].tolist()} to row {row}, expected {wanted}; "
                f"so in {(~good).sum()} of {len(good)} rows"
            )
        return outputs


def check_names(names: Collection[str], *, signed: bool | None) -> None:
    """Refuse a bundle that is not exactly model.onnx and schema.json, and model.sig (None: with or without).

    This comes before any download: a pickle, a script or a `../` path never reaches the disk, let alone a loader.
    """
    expected = {MODEL, SCHEMA}
    if signed or (signed is None and SIGNATURE in names):
        expected.add(SIGNATURE)
    if surplus := sorted(set(names) - expected):
        raise Refused(
            f"bundle/: unexpected {surplus}; it may hold {MODEL}, {SCHEMA} and {SIGNATURE} alone. "
            "Log native models (pickles included) outside bundle/"
        )
    if missing := sorted(expected - set(names)):
        raise Refused(f"bundle/: {missing} missing; training's convert step writes {MODEL} and {SCHEMA}")


def open_bundle(folder: Path, model: str) -> Bundle:
    """Check the folder's files, its schema and its graph; raises Refused that names the file and what was expected."""
    schema = plain_bundle(folder, model)
    data = (folder / MODEL).read_bytes()
    graph = read_graph(data)
    # Loaded here only after it was loaded where it can do no harm.
    peak_mb(folder / MODEL, folder / SCHEMA)
    return Bundle(folder, schema, operators(graph), weights_digest(graph), open_model(data, schema))


def plain_bundle(folder: Path, model: str) -> ModelSchema:
    """The schema of a folder that holds what it may, as plain files, of this model; the graph is not opened."""
    check_names([path.relative_to(folder).as_posix() for path in folder.rglob("*")], signed=None)
    if links := [path.name for path in folder.iterdir() if path.is_symlink() or not path.is_file()]:
        raise Refused(f"bundle/: {links} are not plain files")
    schema = _read_schema(folder / SCHEMA)
    if schema.model != model:
        raise Refused(f"{SCHEMA}: model is {schema.model!r}, expected {model!r}")
    return schema


def one_row_p95_ms(bundle: Bundle, runs: int = 500) -> float:
    """The 95th percentile, in milliseconds, of answering the schema's example row on one thread."""
    row = bundle.schema.encode([bundle.schema.example()])
    name = [bundle.schema.output.tensor]
    times = np.empty(runs)
    for index in range(-50, runs):  # the first 50 warm up, and later ones overwrite their figures
        start = time.perf_counter()
        bundle.session.run(name, {INPUT: row})
        times[index] = time.perf_counter() - start
    return float(np.percentile(times, 95) * 1000)


def _read_schema(path: Path) -> ModelSchema:
    try:
        text = path.read_text(encoding="utf-8")
        schema = ModelSchema.model_validate_json(text)
    except (UnicodeDecodeError, ValidationError) as error:
        raise Refused(f"{SCHEMA}: not a model schema: {error}") from error
    if schema.to_json() != text:
        raise Refused(f"{SCHEMA}: not in its canonical form, so its digest would differ; write ModelSchema.to_json()")
    return schema
