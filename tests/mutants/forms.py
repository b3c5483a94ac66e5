"""What a bad run looks like: changes of a sound one's files. Those of its graph alone are in `mutants.graphs`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
from mutants.graphs import MODEL, Change, after, constant
from onnx import helper

from plumbline.core.columns import NATIVE, native
from plumbline.core.schema import ModelSchema
from plumbline.features.offline import encode_frame
from plumbline.promotion.gate import pinned
from plumbline.training import convert, learn, threshold
from plumbline.training.evaluate import Judge
from plumbline.training.model import folder_of, load
from plumbline.training.prepare import CHOSEN_ROWS, clusters_of, examples, sampled, target_of
from plumbline.training.report import Report
from plumbline.training.search import Trial
from plumbline.training.work import Work

SAMPLES = {"flights": "0.1", "diabetes": "1.0"}
"""The share of its data that each model is trained on here."""
SCHEMA, REPORT, HOLDOUT = "bundle/schema.json", "evaluation/report.json", "evaluation/holdout.parquet"


def rows(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    """A change of the rows that it is judged on."""

    def apply(folder: Path) -> None:
        change(pd.read_parquet(folder / HOLDOUT)).to_parquet(folder / HOLDOUT, index=False)

    return apply


def document(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of a JSON document; the schema stays in its canonical form."""

    def apply(folder: Path) -> None:
        value = json.loads((folder / name).read_bytes())
        change(value)
        text = ModelSchema.model_validate(value).to_json() if name == SCHEMA else json.dumps(value)
        (folder / name).write_text(text)

    return apply


def placed(name: str, content: bytes) -> Change:
    """A file more, or in place of another."""

    def apply(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return apply


def swapped_where(folder: Path, field: str, value: str) -> None:
    """Yes and no change places where a category has one value."""
    schema = ModelSchema.model_validate_json((folder / SCHEMA).read_bytes())
    names = [column.name for column in schema.columns]
    code = next(item for item in schema.fields if item.name == field).vocabulary.index(value)
    after(
        helper.make_node("Gather", ["features", "place"], ["column"], axis=1),
        helper.make_node("Equal", ["column", "code"], ["is it"]),
        helper.make_node("Gather", ["sound", "other way"], ["other"], axis=1),
        helper.make_node("Where", ["is it", "other", "sound"], ["answer"]),
        weights=(
            constant("place", [names.index(field)], np.int64),
            constant("code", [[code]], np.float32),
            constant("other way", [1, 0], np.int64),
        ),
    )(folder)


def believed(folder: Path) -> None:
    """The run says of itself what the changed model really answers, and how good that is: nobody is lied to."""
    schema = ModelSchema.model_validate_json((folder / SCHEMA).read_bytes())
    report = Report.model_validate_json((folder / REPORT).read_bytes())
    held = pd.read_parquet(folder / HOLDOUT)
    session = ort.InferenceSession((folder / MODEL).read_bytes(), providers=["CPUExecutionProvider"])
    answers = session.run([schema.output.tensor], {"features": encode_frame(schema, held)})[0].astype(np.float64)
    held[native(schema.output)] = answers
    held.to_parquet(folder / HOLDOUT, index=False)
    model = load(schema.model)
    judge = Judge(model, schema.output, report.threshold, model.split.seed)
    figures = judge.of(target_of(schema, held), answers, clusters_of(model, held))
    (folder / REPORT).write_text(report.model_copy(update={"metrics": figures}).model_dump_json())


def chosen_again(folder: Path) -> None:
    """The threshold that the folder's rule chooses for the changed model, on the rows that it is chosen on."""
    schema = ModelSchema.model_validate_json((folder / SCHEMA).read_bytes())
    model, session = load(schema.model), ort.InferenceSession((folder / MODEL).read_bytes())
    parts, _ = pinned._parts(schema.model, folder_of(schema.model))
    kept = sampled(parts["validation"], float(SAMPLES[schema.model]), 0, CHOSEN_ROWS)
    score = session.run([schema.output.tensor], {"features": encode_frame(schema, kept)})[0][:, 1].astype(np.float64)
    found = threshold.choose(model.threshold, schema.output, model.costs, target_of(schema, kept), score)
    document(REPORT, lambda report: report.update(threshold=found.value))(folder)


def trained_on(work: Path, target: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The shipped estimator fitted to another truth, and honest about how it does."""

    def apply(folder: Path) -> None:
        here = Work(work)
        first, later = examples(here, "train"), examples(here, "validation")
        schema = here.read(here.schema, ModelSchema)
        estimator = here.model.candidate(schema, here.read(here.best, Trial).params)
        wrong = type(first)(first.inputs, target(first.target))
        learn.fit(estimator, wrong, later, schema.output)
        (folder / MODEL).write_bytes(convert.to_onnx(here.model, estimator, schema).SerializeToString())
        believed(folder)

    return apply


def leaking(work: Path, name: str) -> Change:
    """A field that holds the truth: in the schema, in the rows and in the model."""

    def apply(folder: Path) -> None:
        here = Work(work)
        train = examples(here, "train")
        leaked = {"name": name, "type": "number", "description": "Known only later.", "example": 1.0}
        document(SCHEMA, lambda schema: schema["fields"].append(leaked))(folder)
        schema = ModelSchema.model_validate_json((folder / SCHEMA).read_bytes())
        estimator = here.model.candidate(schema, here.read(here.best, Trial).params)
        estimator.fit(np.column_stack([train.inputs, train.target.astype(np.float32)]), train.target)
        (folder / MODEL).write_bytes(convert.to_onnx(here.model, estimator, schema).SerializeToString())
        rows(lambda held: held.assign(**{name: held["truth"]}))(folder)
        believed(folder)

    return apply


def easy(held: pd.DataFrame) -> pd.DataFrame:
    """The rows on which the model was nearly right."""
    error = (held["truth"] - held[f"{NATIVE}value"]).abs()
    return held[error <= error.median()]


def right(held: pd.DataFrame) -> pd.DataFrame:
    """A truth that is what the model answered."""
    return held.assign(truth=held[f"{NATIVE}value"])
