"""The rows that a model is judged on, made anew from what git pins: what a run brings of them is no evidence.

The model's folder says how rows come from data and which of them are judged on, its dvc.lock which data those are.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from plumbline.core.columns import BASELINE, native
from plumbline.core.errors import Refused
from plumbline.core.schema import ModelSchema
from plumbline.features.offline import encode_frame
from plumbline.promotion.gate.evaluation import Evaluation
from plumbline.promotion.gate.holdout import Holdout
from plumbline.training import threshold
from plumbline.training.data import obtain, read_tables
from plumbline.training.evaluate import period
from plumbline.training.logged import DATA, read_logged, rolled, with_logged
from plumbline.training.model import Model, folder_of, load, names_of
from plumbline.training.prepare import CHOSEN_ROWS, JUDGED_ROWS, assemble, sampled, split, target_of

_ANEW = "train and register again by what git says now"
_WORSE = 0.02
"""By which share of its worth a threshold may be worse than the best: ONNX and native model differ in last digits."""


def require_pinned(evaluation: Evaluation, data: str, parameters: Mapping[str, str]) -> str:
    """The digest of the data that the holdout was found to come from; empty where no folder here defines the model.

    Raises Refused that names the column and the row, or what the report says otherwise than the model's folder; `data`
    and `parameters` are what the run names. Raises DataError where the data that git pins can't be had.
    """
    name = evaluation.report.model
    if name not in names_of():
        return ""
    model = rolled(load(name), read_logged(folder_of(name)))
    if problems := list(_declared(evaluation, model)):
        raise Refused(f"{'; '.join(problems)}: {_ANEW}")
    parts, digest = _parts(name, folder_of(name))
    if data != digest:
        raise Refused(f"data.digest: the run names {data}, git pins {digest}: {_ANEW}")
    rows = _sample(parts["test"], model, evaluation.holdout)
    _require_same(rows, evaluation.holdout, evaluation.bundle.schema)
    _require_chosen(evaluation, model, parts["validation"], parameters)
    if (expected := period(model, rows)) != evaluation.report.test:
        raise Refused(f"report.json: its test window is {evaluation.report.test}, the rows are {expected}")
    return digest


def _declared(evaluation: Evaluation, model: Model) -> Iterator[str]:
    """What a run may not choose for itself: which fields there are, what mistakes cost, which rows belong together."""
    report = evaluation.report
    ours, theirs = _without_vocabularies(model.schema), _without_vocabularies(evaluation.bundle.schema)
    if ours.model_dump() != theirs.model_dump():
        names = [[field.name for field in schema.fields] for schema in (ours, theirs)]
        other = sorted({*names[0]} ^ {*names[1]})
        yield f"schema.json: not what the model's folder declares{f', which differs in {other}' if other else ''}"
    costs = None if model.costs is None else {one: dict(answers) for one, answers in model.costs.items()}
    if report.costs != costs:
        yield f"report.json: costs are {report.costs}, the model's folder says {costs}"
    by = "" if model.cluster is None else str(model.cluster)
    if report.clusters is None or report.clusters.by != by:
        said = None if report.clusters is None else report.clusters.by
        yield f"report.json: rows depend on each other by {said!r}, the model's folder says {by!r}"


def _without_vocabularies(schema: ModelSchema) -> ModelSchema:
    fields = tuple(field.model_copy(update={"vocabulary": ()}) for field in schema.fields)
    return schema.model_copy(update={"fields": fields})


@lru_cache(maxsize=2)
def _parts(name: str, folder: Path) -> tuple[dict[str, pd.DataFrame], str]:
    """All rows to choose and to judge on, and the digest of their data; the same for every run of one process."""
    model = rolled(load(name, folder.parent), read_logged(folder))
    with tempfile.TemporaryDirectory(prefix="promotion-") as place:
        path = Path(place) / "data"
        data = obtain(name, model, path)
        rows = with_logged(model, assemble(model, read_tables(model, path)), path / DATA)
    parts = split(model, rows)
    return {name: parts[name] for name in ("validation", "test")}, data.digest


def _sample(test: pd.DataFrame, model: Model, held: Holdout) -> pd.DataFrame:
    """The rows that a run of a sample keeps: by the split's seed, which is in git, and not too few."""
    least = min(len(test), JUDGED_ROWS)
    if not least <= held.rows <= len(test):
        raise Refused(f"holdout.parquet: {held.rows:,} rows; git's data give {len(test):,}, and {least:,} at least")
    return sampled(test, 0.0, model.split.seed, held.rows)


def _require_chosen(
    evaluation: Evaluation, model: Model, validation: pd.DataFrame, parameters: Mapping[str, str]
) -> None:
    """Raise Refused unless the threshold is what the folder's rule chooses on the rows that the run chose on."""
    value, bundle = evaluation.report.threshold, evaluation.bundle
    if value is None:
        return
    try:
        share, seed = float(parameters.get("sample", 1)), int(parameters.get("seed", 0))
    except ValueError as error:
        raise Refused(f"the run's parameters sample and seed are no numbers: {error}") from error
    rows = sampled(validation, share, seed, CHOSEN_ROWS)
    truth, score = target_of(bundle.schema, rows), bundle.predict(encode_frame(bundle.schema, rows))[:, 1]
    worse = threshold.short_of(model.threshold, bundle.schema.output, model.costs, truth, score, value)
    if not worse <= _WORSE:
        best = threshold.choose(model.threshold, bundle.schema.output, model.costs, truth, score).value
        raise Refused(
            f"report.json: the threshold {value:g} is not what the model's folder chooses by ({model.threshold}): on "
            f"the rows to choose on that gives {best:g}; {_ANEW}"
        )


def _require_same(rows: pd.DataFrame, held: Holdout, schema: ModelSchema) -> None:
    """Raise Refused unless the holdout is these rows, beside what the models answered."""
    expected, found = pa.Table.from_pandas(rows, preserve_index=False), held.table
    answers = {*native(schema.output), *native(schema.output, BASELINE)}
    if other := sorted({*expected.column_names} ^ ({*found.column_names} - answers)):
        raise Refused(f"holdout.parquet: the columns {other} are not those that the model's folder gives: {_ANEW}")
    for name in expected.column_names:
        ours, theirs = _values(expected, name), _values(found, name)
        differing = [row for row, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]
        if differing:
            row = differing[0]
            raise Refused(
                f"holdout.parquet: column {name!r}, row {row} is {theirs[row]!r}, the data that git pins give "
                f"{ours[row]!r} (so in {len(differing):,} of {len(ours):,} rows): {_ANEW}"
            )


def _values(table: pa.Table, name: str) -> list[Any]:
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64())
    return [None if isinstance(value, float) and math.isnan(value) else value for value in column.to_pylist()]
