"""A model with fields of every type: trained, converted, judged again by the gate, compared by drift."""

import json

import numpy as np
import pandas as pd
import pytest

from parcels import parcels as parcels
from plumbline.core.onnx import open_model
from plumbline.core.schema import ModelSchema
from plumbline.monitoring.drift.compare import Baseline, compare
from plumbline.monitoring.drift.data import as_compared, from_holdout, require_rows
from plumbline.monitoring.policy import Drift
from plumbline.promotion.gate.holdout import read_holdout
from plumbline.training.data import DataError, read_tables
from plumbline.training.model import load
from plumbline.training.prepare import PrepareError, assemble, examples


def test_training_the_gate_and_drift_read_the_same_rows(parcels):
    schema = ModelSchema.model_validate_json((parcels.bundle / "schema.json").read_text())
    marks = next(field for field in schema.fields if field.name == "marks")
    assert set(marks.vocabulary) == {"glass", "heavy", "odd"}
    test = examples(parcels, "test")
    assert test.inputs.shape[1] == schema.width == sum(len(field.columns) for field in schema.fields)
    # The file holds moments as datetimes and lists as arrays, the gate reads it without pandas.
    holdout = read_holdout(parcels.evaluation / "holdout.parquet")
    np.testing.assert_array_equal(holdout.encode(schema), test.inputs)
    session = open_model(parcels.bundle / "model.onnx", schema)
    answered = session.run(None, {"features": test.inputs})[0]
    np.testing.assert_allclose(answered, holdout.native(schema), atol=1e-6)
    report = json.loads((parcels.evaluation / "report.json").read_text())
    assert report["metrics"]["roc_auc"]["value"] > 0.8, "hours, booleans and members say it"
    assert list((parcels.plots).glob("*.png"))

    raw = from_holdout(parcels.evaluation / "holdout.parquet")
    require_rows(schema, raw, "the holdout")
    before = as_compared(schema, raw, members=2)
    assert set(before.fields) == {
        "weight", "depot", "express", "asked.hour", "asked.weekday", "asked.month", "asked.day_of_year",
        "packed.age_hours", "note.length", "code.length", "marks.size", "marks.unknown", "marks=glass", "marks=heavy",
    }  # fmt: skip
    assert {name for name, number in before.fields.items() if not number} == {
        "depot", "express", "marks=glass", "marks=heavy"
    }  # fmt: skip
    policy = Drift(model="parcels", sample=50)
    baseline = Baseline.of(before.frame, policy)
    # What a log holds of the same rows: texts, lists and booleans of JSON.
    logged = json.loads(raw.frame.drop(columns="prediction").to_json(orient="records", date_format="iso"))
    now = pd.DataFrame(logged).assign(prediction=raw.frame["prediction"])
    now["packed"] = now["packed"].str.replace(".000", "")
    same = as_compared(schema, type(raw)(now, len(now), 0, raw.answers))
    assert {item.column for item in compare(baseline, same.frame).columns if item.drifted} == set()
    now["marks"] = [["new", "odd"]] * len(now)
    now["asked"] = [f"{moment[:11]}03{moment[13:]}" for moment in now["asked"]]
    moved = as_compared(schema, type(raw)(now, len(now), 0, raw.answers))
    drifted = {item.column for item in compare(baseline, moved.frame).columns if item.drifted}
    assert {"asked.hour", "marks.unknown", "marks=glass", "marks=heavy"} <= drifted
    assert not drifted & {"weight", "depot", "express", "note.length", "asked.month"}


def test_a_csvs_booleans_are_read_and_what_is_none_is_named_with_its_line(parcels, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    table = pd.read_csv(parcels.data / "rows.csv", dtype=str, keep_default_na=False)[:6]
    table["express"] = ["TRUE", "no", "1", "f", "", "Yes"]
    table.to_csv(folder / "rows.csv", index=False)
    read = read_tables(parcels.model, folder)["rows"]["express"]
    assert read.tolist() == [True, False, True, False, pd.NA, True]
    table["express"] = ["TRUE", "no", "maybe", "f", "", "Yes"]
    table.to_csv(folder / "rows.csv", index=False)
    with pytest.raises(DataError, match="line 4, column express: found 'maybe', expected true or false"):
        read_tables(parcels.model, folder)


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("asked", lambda moments: moments.str[:19], "column asked, row 0: found '2024-01-01T00:00:00', expected a mom"),
        (
            "express",
            lambda flags: flags.map({True: 1, False: 0}),
            "column express, row .: found [01].*, expected true or",
        ),
        ("marks", lambda lists: lists.str.join("|"), "column marks, row 0: found '', expected a list of up to 5 texts"),
        ("note", lambda notes: notes.str.len(), "column note, row .: found .*, expected a text of up to 200 character"),
    ],
)
def test_rows_that_are_not_what_the_schema_says_are_refused_in_words(parcels, column, change, said):
    tables = read_tables(parcels.model, parcels.data)
    broken = parcels.model.rows(tables)
    broken[column] = change(broken[column])
    model = load("parcels")
    object.__setattr__(model, "rows", lambda _: broken)
    with pytest.raises(PrepareError, match=said):
        assemble(model, tables)


def test_the_moment_of_a_row_need_not_be_said_twice(parcels):
    rows = assemble(parcels.model, read_tables(parcels.model, parcels.data))
    assert rows["at"].tolist() == pd.to_datetime(rows["asked"], utc=True).tolist()
