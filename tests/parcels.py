"""A model whose fields are of every type: a folder to train, and its schema and rows alone."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PARCELS = '''
"""Will the parcel be late?"""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.training.model import ByTime, Model

SCHEMA = ModelSchema(
    model="parcels",
    fields=(
        SchemaField(name="weight", type="number", description="Weight", unit="kg", example=1.5, minimum=0, maximum=50),
        SchemaField(name="depot", type="category", description="From where", example="north", required=False),
        SchemaField(name="express", type="boolean", description="Paid to be fast", example=True, required=False),
        SchemaField(
            name="asked", type="timestamp", description="When the answer is asked for", moment=True,
            zone="Europe/Berlin", parts=("hour", "weekday", "month", "day_of_year"),
            example="2024-07-01T08:30:00+02:00",
        ),
        SchemaField(
            name="packed", type="timestamp", description="When it was packed", parts=("age_hours",),
            example="2024-06-30T22:15:00Z", required=False,
        ),
        SchemaField(
            name="note", type="text", description="What the sender wrote", by="words", buckets=16, longest=200,
            example="Fragile, handle with care", required=False,
        ),
        SchemaField(name="code", type="text", description="Code", by="characters", grams=3, buckets=8, example="AB-12"),
        SchemaField(
            name="marks", type="categories", description="Labels on it", example=("glass", "heavy"), longest=5,
        ),
    ),
    output=Output(task="binary", name="late", description="Late?", labels=("no", "yes")),
)


def fetch(directory):
    draw = np.random.default_rng(0)
    count = 600
    asked = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(count) * 7, unit="h")
    marks = [["glass", "heavy", "odd", "rare"][: number % 4] for number in range(count)]
    frame = pd.DataFrame({
        "weight": draw.uniform(0, 50, count).round(2),
        "depot": draw.choice(["north", "south", ""], count),
        "express": draw.choice(["true", "false", ""], count),
        "asked": asked.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "packed": (asked - pd.to_timedelta(draw.integers(1, 90, count), unit="h")).strftime("%Y-%m-%dT%H:%M:%S+01:00"),
        "note": draw.choice(["handle with care", "leave at the door", "wichtig: nicht stürzen", ""], count),
        "code": [f"{number % 7}X-{number}" for number in range(count)],
        "marks": ["|".join(members) for members in marks],
    })
    late = (frame["express"] != "true") & ((asked.hour > 12) | frame["marks"].str.contains("heavy"))
    frame.assign(truth=np.where(late, "yes", "no")).to_csv(directory / "rows.csv", index=False, lineterminator="\\n")


def rows(tables):
    table = tables["rows"]
    moments = pd.to_datetime(table["packed"], utc=True)
    marks = table["marks"].fillna("").str.split("|").map(lambda members: [member for member in members if member])
    return table.assign(packed=moments, marks=marks)


MODEL = Model(
    schema=SCHEMA,
    tables={
        "rows": pa.DataFrameSchema({
            "weight": pa.Column(float),
            "depot": pa.Column(str, nullable=True),
            "express": pa.Column("boolean", nullable=True),
            "asked": pa.Column(str),
            "packed": pa.Column(str),
            "note": pa.Column(str, nullable=True),
            "code": pa.Column(str),
            "marks": pa.Column(str, nullable=True),
            "truth": pa.Column(str),
        })
    },
    fetch=fetch,
    rows=rows,
    split=ByTime(
        validation=pd.Timestamp("2024-04-15", tz="UTC"), test=pd.Timestamp("2024-05-15", tz="UTC")
    ),
    cluster=None,
    baseline=lambda schema: DummyClassifier(strategy="prior"),
    candidate=lambda schema, params: make_pipeline(
        SimpleImputer(), DecisionTreeClassifier(random_state=0, **params)
    ),
    defaults={"max_depth": 6},
    space=lambda trial: {"max_depth": trial.suggest_int("max_depth", 2, 8)},
)
'''
ROWS: list[dict[str, Any]] = [
    {
        "weight": 1.5, "depot": "north", "express": True, "asked": "2024-07-01T08:30:00+02:00",
        "packed": "2024-06-30T22:15:00Z", "note": "Handle with CARE", "code": "AB-12", "marks": ["glass", "heavy"],
    },
    {"weight": 0, "asked": "2024-03-31T01:59:59.5Z", "code": "", "marks": []},
    {
        "weight": 50, "depot": "elsewhere", "express": False, "asked": "2024-12-31T23:30:00-05:00",
        "packed": "2025-01-01T05:30:00.250000+01:00", "note": "", "code": "ß日本\U0001f600",
        "marks": ["never seen", "heavy", "heavy"],
    },
]  # fmt: skip


def schema() -> Any:
    """The schema as training fills it in, without training."""
    from plumbline.core.schema import ModelSchema

    scope: dict[str, Any] = {}
    exec(PARCELS, scope)  # noqa: S102 - the text above
    known = {"depot": ("north", "south"), "marks": ("glass", "heavy", "odd")}
    document = scope["SCHEMA"].model_dump()
    for field in document["fields"]:
        field["vocabulary"] = known.get(field["name"], ())
    return ModelSchema.model_validate(document)


def make_bundle(folder: Path, keys: Any) -> Any:
    """A small signed model of these fields: a tree over random rows."""
    from sklearn.tree import DecisionTreeClassifier

    from bundles import Bundle, sign, to_onnx

    filled, draw = schema(), np.random.default_rng(0)
    matrix = draw.uniform(0, 30, (400, filled.width)).astype(np.float32)
    matrix[draw.random(matrix.shape) < 0.1] = np.nan
    tree = DecisionTreeClassifier(max_depth=12, random_state=0).fit(matrix, draw.integers(0, 2, 400))
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(to_onnx(tree))
    (folder / "schema.json").write_text(filled.to_json())
    sign(folder, keys)
    return Bundle(folder, filled, keys, threshold=0.5)


@pytest.fixture
def parcels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model of every type, trained and converted by the functions that the steps of a run call; needs no MLflow."""
    from plumbline.training import convert, data, evaluate, learn, models, prepare
    from plumbline.training.search import Trial
    from plumbline.training.work import Settings, Work

    folder = tmp_path / "models" / "parcels"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PARCELS)
    (folder / "card.yaml").write_text("title: Parcels\nowner: somebody\n")
    monkeypatch.setenv("TRAINING_MODELS", str(folder.parent))
    monkeypatch.setattr(models, "__path__", list(models.__path__))
    monkeypatch.delitem(sys.modules, "plumbline.training.models.parcels", raising=False)
    work = Work(tmp_path / "work")
    work.begin(Settings(model="parcels", experiment="parcels/test", trials=1))
    work.data.mkdir()
    work.model.fetch(work.data)
    data.validate(work)
    prepare.prepare(work)
    filled, _ = prepare.load_part(work, "train")
    work.write(work.best, Trial(number=0, params=work.model.defaults, value=0.0, run=""))
    first, second = prepare.examples(work, "train"), prepare.examples(work, "validation")
    estimators = {
        "baseline": work.model.baseline(filled),
        "candidate": work.model.candidate(filled, work.model.defaults),
    }
    for name, estimator in estimators.items():
        learn.fit(estimator, first, second, filled.output)
        learn.save(estimator, work.native / name)
    evaluate.evaluate(work)
    work.bundle.mkdir()
    (work.bundle / "schema.json").write_text(filled.to_json())
    converted = convert.to_onnx(work.model, estimators["candidate"], filled)
    (work.bundle / "model.onnx").write_bytes(converted.SerializeToString())
    convert.check("tree", work.bundle / "model.onnx", filled, *evaluate.native_outputs(work))
    return work
