"""What a model is worth where the online store has nothing: the gate finds it from the ONNX file and the rows."""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bundles import FIELDS, OUTPUTS, make_bundle, make_keys
from plumbline.core.schema import ModelSchema, View
from plumbline.core.subject import Subject
from plumbline.promotion.gate.bundle import open_bundle
from plumbline.promotion.gate.evaluation import Evaluation
from plumbline.promotion.gate.holdout import Holdout
from plumbline.promotion.policy import Rules, ViewLimit
from plumbline.training.report import Clustered, Period, Report

ROWS = 600
VIEWS = (View(name="air", entity=("hour",), fields=("origin", "wind"), max_age_seconds=60),)
SCHEMA = ModelSchema(model="delays", fields=FIELDS, output=OUTPUTS["binary"], views=VIEWS)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """A model whose answers hang on the wind, on rows of 30 days whose truth does."""
    folder: Path = tmp_path_factory.mktemp("without")
    made = make_bundle(folder / "bundle", make_keys(folder / "keys"), schema=SCHEMA)
    (made.folder / "model.sig").unlink()
    generator = np.random.default_rng(0)
    wind = generator.uniform(0, 40, ROWS)
    table = pa.table(
        {
            "distance": generator.uniform(100, 5000, ROWS),
            "hour": generator.integers(0, 24, ROWS),
            "carrier": generator.choice(["AA", "DL", "UA", "WN"], ROWS),
            "origin": generator.choice(["EWR", "JFK"], ROWS),
            "wind": wind,
            "truth": np.where(wind + generator.normal(0, 4, ROWS) > 20, "late", "on-time"),
            "_cluster": [str(row % 30) for row in range(ROWS)],
        }
    )
    period = Period(first=date(2013, 1, 1), last=date(2013, 1, 2), rows=ROWS)
    report = Report(
        model="delays", metrics={}, baseline={}, slices=(), threshold=0.5, train=period, test=period,
        clusters=Clustered(by="day", count=30),
    )  # fmt: skip
    return Evaluation(open_bundle(made.folder, "delays"), "", report, Holdout(table), {}, "")


def test_metrics_without_a_view_are_those_of_rows_that_have_none_of_its_fields(evaluation: Evaluation) -> None:
    limit = ViewLimit(view="air", metric="roc_auc", bound="low", min=0.6)
    found = evaluation.without_views([limit], seed=0)
    emptied = evaluation.holdout.table.set_column(4, "wind", pa.nulls(ROWS)).set_column(3, "origin", pa.nulls(ROWS))
    bare = Evaluation(evaluation.bundle, "", evaluation.report, Holdout(emptied), {}, "")
    assert found == {"air": {"roc_auc": bare.metrics(0)["roc_auc"]}}
    assert found["air"]["roc_auc"].value < evaluation.metrics(0)["roc_auc"].value - 0.1


def test_a_gate_that_names_a_view_or_a_metric_that_is_none_is_refused() -> None:
    subject = Subject(output=SCHEMA.output, fields={}, views=("air",))
    rules = {
        "images": ["ghcr.io/plumbline/model-server"],
        "metrics": [{"metric": "log_loss", "max": 1}],
        "beats_baseline": {"metric": "log_loss"},
        "champion": {"metric": "log_loss", "margin": 0.1},
        "latency_p95_ms": 5,
        "size_mb": 5,
        "parity": {"max_abs_difference": 1e-5},
        "card": ["owner"],
        "without_views": [{"view": "weather", "metric": "log_loss", "max": 1},
                          {"view": "air", "metric": "rmse", "max": 1}],
    }  # fmt: skip
    faults = dict(Rules.model_validate(rules).faults(subject))
    assert faults["without_views.0.view"] == "unknown view 'weather'; expected one of air"
    assert "rmse" in faults["without_views.1.metric"]
    assert len(faults) == 2
