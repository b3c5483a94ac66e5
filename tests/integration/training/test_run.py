"""A run of the flights on the real tracking server holds what T2, T3 and D2 ask for."""

import json
from datetime import date

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest

from plumbline.core.schema import ModelSchema
from plumbline.features.offline import encode_frame
from plumbline.training.data import pinned
from plumbline.training.model import folder_of
from plumbline.training.report import Report

# The first test waits for the services and a training, which on a busy machine takes minutes.
pytestmark = pytest.mark.timeout(900)


def test_the_run_names_its_data_its_code_and_its_model(flights, client):
    run_id, work = flights
    run = client.get_run(run_id)
    tags = run.data.tags
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "flights/training"
    assert tags["model"] == "flights"
    assert tags["data.version"] == pinned(folder_of("flights"))
    assert tags["data.digest"] == json.loads((work / "data.json").read_text())["digest"]
    assert len(tags["code.commit"]) == 40
    inputs = {item.tags[0].value: item.dataset for item in run.inputs.dataset_inputs if item.tags}
    assert {f"{dataset.digest}.dir" for dataset in inputs.values()} == {tags["data.version"]}
    (model,) = run.outputs.model_outputs
    assert client.get_logged_model(model.model_id).name == "model"


def test_search_trials_are_nested_and_autologged(flights, client):
    run_id, _ = flights
    run = client.get_run(run_id)
    children = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    assert sorted(child.info.run_name for child in children) == ["baseline", "trial-0", "trial-1"]
    trial = next(child for child in children if child.info.run_name == "trial-1")
    assert {"search_max_depth", "max_depth"} <= trial.data.params.keys(), "the second one is MLflow's own"
    assert len(client.get_metric_history(trial.info.run_id, "validation_0-logloss")) > 5
    assert trial.data.tags["data.version"] == run.data.tags["data.version"]


def test_the_artifacts_are_those_that_promotion_reads(flights, client, tmp_path):
    run_id, _ = flights
    found = {
        path.path for folder in ("bundle", "evaluation", "plots") for path in client.list_artifacts(run_id, folder)
    }
    plots = ("calibration", "confusion_matrix", "feature_importance", "precision_recall", "roc", "slices")
    assert found == {
        "bundle/model.onnx",
        "bundle/schema.json",
        "evaluation/report.json",
        "evaluation/holdout.parquet",
        "evaluation/card.yaml",
        *(f"plots/{name}.png" for name in plots),
    }
    folder = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="plots", dst_path=str(tmp_path))
    for name in plots:
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG"), folder


def test_from_the_held_out_rows_alone_the_figures_can_be_checked_again(flights, client, tmp_path):
    run_id, _ = flights
    for name in ("bundle", "evaluation"):
        mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(tmp_path))
    schema = ModelSchema.model_validate_json((tmp_path / "bundle" / "schema.json").read_bytes())
    report = Report.model_validate_json((tmp_path / "evaluation" / "report.json").read_bytes())
    held = pd.read_parquet(tmp_path / "evaluation" / "holdout.parquet")
    assert len(held) == report.test.rows == 10_000
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "model.onnx", providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"features": encode_frame(schema, held)})
    native = held[[f"native_{label}" for label in schema.output.labels]].to_numpy()
    assert np.abs(answers - native).max() < 1e-5
    late = held["truth"] == "late"
    brier = float(((answers[:, 1] - late) ** 2).mean())
    assert report.metrics["brier"].value == pytest.approx(brier, abs=1e-6)
    called = answers[:, 1] >= report.threshold
    assert report.metrics["accuracy"].value == pytest.approx(float((called == late).mean()), abs=1e-3)
    assert client.get_run(run_id).data.metrics["brier"] == pytest.approx(report.metrics["brier"].value)


def test_the_model_is_judged_on_later_months_by_slice_and_beats_its_baseline(flights):
    _, work = flights
    report = Report.model_validate_json((work / "evaluation" / "report.json").read_bytes())
    assert report.train.last is not None
    assert report.train.last < date(2013, 9, 1)
    assert (report.test.first, report.test.last) == (date(2013, 11, 1), date(2013, 12, 31))
    assert {found.column for found in report.slices} == {"carrier", "origin", "month"}
    months = {found.value: found.rows for found in report.slices if found.column == "month"}
    assert months.keys() == {"2013-11", "2013-12"}
    assert sum(months.values()) == report.test.rows
    for name in ("roc_auc", "log_loss"):
        found = report.metrics[name]
        assert found.low < found.value < found.high
    assert report.metrics["log_loss"].value < report.baseline["log_loss"].value
    assert report.metrics["roc_auc"].low > 0.6


def test_the_same_commit_and_data_give_the_same_metrics_and_bytes(flights, embedded, tmp_path):
    _, work = flights
    embedded("run", "--model", "flights", "--sample", 0.02, "--trials", 2, "--work", tmp_path)
    for name in ("bundle/model.onnx", "bundle/schema.json", "evaluation/report.json", "evaluation/holdout.parquet"):
        assert (tmp_path / name).read_bytes() == (work / name).read_bytes(), name


def test_runs_are_found_over_the_experiments_of_a_model(flights, training):
    run_id, _ = flights
    output = training(
        "runs", "--model", "flights", "--where", "metrics.roc_auc > 0.6", "--order", "metrics.roc_auc DESC"
    )
    assert run_id in output
    assert "no runs" in training("runs", "--model", "flights", "--where", "tags.data.version = 'another'")


def test_the_second_model_is_trained_by_the_same_command(embedded, tmp_path):
    embedded("run", "--model", "diabetes", "--trials", 2, "--work", tmp_path)
    report = Report.model_validate_json((tmp_path / "evaluation" / "report.json").read_bytes())
    assert report.metrics["rmse"].high < report.baseline["rmse"].value
    assert {found.column for found in report.slices} == {"sex", "age"}
    names = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    assert names == {"feature_importance", "predicted_vs_actual", "residuals", "slices"}
