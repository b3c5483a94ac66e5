"""A third model that exists only in a temporary folder."""

from pathlib import Path

import pytest

from plumbline.training import models

IRIS = '''
"""Which iris is it?"""

import pandas as pd
import pandera.pandas as pa
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.training.model import ByShare, Model

NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
LABELS = ("setosa", "versicolor", "virginica")


def fetch(directory):
    data = load_iris()
    frame = pd.DataFrame(data.data, columns=list(NAMES)).assign(kind=[LABELS[place] for place in data.target])
    frame.to_csv(directory / "irises.csv", index=False, lineterminator="\\n")


def rows(tables):
    return tables["irises"].rename(columns={"kind": "truth"})


MODEL = Model(
    schema=ModelSchema(
        model="iris",
        fields=tuple(
            SchemaField(name=name, type="number", description=name, unit="cm", example=3.0, minimum=0, maximum=20)
            for name in NAMES
        ),
        output=Output(task="multiclass", name="kind", description="Kind of iris", labels=LABELS),
    ),
    tables={
        "irises": pa.DataFrameSchema(
            {**{name: pa.Column(float, pa.Check.in_range(0, 20)) for name in NAMES}, "kind": pa.Column(str)}
        )
    },
    fetch=fetch,
    rows=rows,
    split=ByShare(),
    cluster=None,
    baseline=lambda schema: DummyClassifier(),
    candidate=lambda schema, params: LogisticRegression(max_iter=500, **params),
    defaults={"C": 1.0},
    space=lambda trial: {"C": trial.suggest_float("C", 0.01, 100, log=True)},
)
'''
DVC = """stages:
  data:
    cmd: python -m plumbline train fetch --model iris --out data
    outs:
      - data
"""
LOCK = """schema: '2.0'
stages:
  data:
    cmd: python -m plumbline train fetch --model iris --out data
    outs:
    - path: data
      hash: md5
      md5: {md5}
"""


@pytest.fixture
def iris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the model `iris`, whose data are pinned; nothing else names it."""
    from plumbline.training.data import dvc_md5
    from plumbline.training.model import load

    folder = tmp_path / "models" / "iris"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(IRIS)
    (folder / "card.yaml").write_text("title: Irises\nowner: a botanist\n")
    (folder / "dvc.yaml").write_text(DVC)
    monkeypatch.setenv("TRAINING_MODELS", str(folder.parent))
    monkeypatch.setattr(models, "__path__", list(models.__path__))
    monkeypatch.delitem(__import__("sys").modules, "plumbline.training.models.iris", raising=False)
    data = tmp_path / "pinned"
    data.mkdir()
    load("iris").fetch(data)
    (folder / "dvc.lock").write_text(LOCK.format(md5=dvc_md5(data)))
    return folder
