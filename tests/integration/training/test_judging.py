"""A model of two labels that says what its mistakes cost, how its threshold is chosen and what else is reported."""

import numpy as np
import pandas as pd
import pytest
from irises import LOCK
from typer.testing import CliRunner

from plumbline.training.cli import app
from plumbline.training.data import dvc_md5
from plumbline.training.model import load
from plumbline.training.report import Report

pytestmark = pytest.mark.usefixtures("tracked")
DECLARED = """split=ByShare(stratified=True),
    costs={"virginica": {"other": 10}, "other": {"virginica": 1}},
    threshold="THRESHOLD",
    metrics=("recall_at_precision_0.9", "other_recall_at_precision_0.5"),"""


def call(*arguments, fails=False):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails, result.output + repr(result.exception)
    return result.output + str(result.exception or "")


@pytest.fixture
def of_two_labels(iris, tmp_path, monkeypatch):
    """Change the model `iris`: is it a virginica?"""

    def write(threshold, **more):
        text = (iris / "__init__.py").read_text()
        for old, new in {
            '("setosa", "versicolor", "virginica")': '("other", "virginica")',
            "LABELS[place] for": "LABELS[place // 2] for",
            'task="multiclass"': 'task="binary"',
            "split=ByShare(),": DECLARED.replace("THRESHOLD", threshold),
            **more,
        }.items():
            assert old in text
            text = text.replace(old, new)
        (iris / "__init__.py").write_text(text)
        monkeypatch.delitem(__import__("sys").modules, "plumbline.training.models.iris")
        data = tmp_path / "two"
        data.mkdir()
        load("iris").fetch(data)
        (iris / "dvc.lock").write_text(LOCK.format(md5=dvc_md5(data)))

    return write


def test_what_the_folder_declares_is_reported_and_chosen_by(of_two_labels, tmp_path):
    import mlflow

    of_two_labels("cost")
    run_id = call("run", "--model", "iris", "--trials", 1, "--work", tmp_path / "work").split()[-1]
    report = Report.model_validate_json((tmp_path / "work/evaluation/report.json").read_bytes())
    assert (report.threshold_rule, report.costs) == (
        "cost",
        {"virginica": {"other": 10.0}, "other": {"virginica": 1.0}},
    )
    held = pd.read_parquet(tmp_path / "work/evaluation/holdout.parquet")
    called, true = held["native_virginica"] >= report.threshold, held["truth"] == "virginica"
    assert report.metrics["cost"].value == pytest.approx((10 * (true & ~called) + (called & ~true)).mean())
    assert report.metrics["recall_at_precision_0.9"].value > 0.8 > report.baseline["recall_at_precision_0.9"].value
    assert report.metrics["recall_at_precision_0.9"].low <= report.metrics["recall_at_precision_0.9"].value
    assert report.baseline["other_recall_at_precision_0.5"].value == 1
    assert np.float32(report.threshold) == report.threshold
    assert mlflow.get_run(run_id).data.metrics["cost"] == report.metrics["cost"].value


def test_a_limit_that_no_threshold_keeps_ends_the_run_with_the_best_there_is(of_two_labels, tmp_path):
    of_two_labels("recall_at_precision_0.9", **{"max_iter=500, **params": "C=1e-12"})
    said = call("run", "--model", "iris", "--trials", 1, "--work", tmp_path / "work", fails=True)
    assert "threshold='recall_at_precision_0.9': no threshold has on validation precision 0.9, the best is 0.3" in said
