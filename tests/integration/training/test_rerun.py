"""A run is made once more: the same result from the same code and data, and a word on everything that is not."""

import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from irises import LOCK
from typer.testing import CliRunner

from plumbline.training.cli import app
from plumbline.training.data import dvc_md5
from plumbline.training.model import load

pytestmark = pytest.mark.usefixtures("tracked")
COMMIT = "1" * 40


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert getattr(result.exception, "exit_code", result.exit_code) == code, result.output + repr(result.exception)
    return result.output + str(result.exception or "")


@pytest.fixture(scope="module")
def runs() -> list[str]:
    """Those that were made: one is enough for all tests."""
    return []


@pytest.fixture
def run(runs: list[str], iris: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run of known code."""
    monkeypatch.setenv("TRAINING_CODE_COMMIT", COMMIT)
    if not runs:
        made = call("run", "--model", "iris", "--trials", "2", "--seed", "3", "--experiment", "iris/rerun")
        runs.append(made.split()[-1])
    return runs[0]


def test_the_same_code_and_data_give_the_same(run: str) -> None:
    said = call("rerun", run)
    made = said.split()[-1]
    assert "the same: " in said
    assert "model.onnx and schema.json byte by byte" in said
    again = mlflow.get_run(made)
    assert made != run
    assert (again.data.tags["rerun.of"], again.data.params["seed"], again.data.params["trials"]) == (run, "3", "2")
    assert again.info.experiment_id == mlflow.get_run(run).info.experiment_id


def test_other_code_is_refused_until_told_and_what_it_changes_is_said(
    run: str, iris: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CODE_COMMIT", "2" * 40)
    text = (iris / "__init__.py").read_text()
    (iris / "__init__.py").write_text(text.replace("max_iter=500, **params", "max_iter=500, C=0.001"))
    monkeypatch.delitem(sys.modules, "plumbline.training.models.iris")
    before = len(mlflow.search_runs(experiment_names=["iris/rerun"]))
    said = call("rerun", run, code=10)
    assert f"code: the run's commit is {COMMIT}, here is {'2' * 40}; `git checkout {COMMIT}`" in said
    assert "--anyway trains all the same" in said
    assert len(mlflow.search_runs(experiment_names=["iris/rerun"])) == before
    said = call("rerun", run, "--anyway", code=10)
    assert "model.onnx: sha256:" in said
    assert "\nlog_loss: " in said
    assert "the same: " not in said


def test_changes_that_no_commit_has_and_other_data_are_said(
    run: str, iris: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (iris / "__init__.py").read_text()
    (iris / "__init__.py").write_text(text.replace("load_iris()\n", "load_iris()\n    data.data = data.data + 1\n"))
    monkeypatch.delitem(sys.modules, "plumbline.training.models.iris")
    (tmp_path / "new").mkdir()
    load("iris").fetch(tmp_path / "new")
    (iris / "dvc.lock").write_text(LOCK.format(md5=dvc_md5(tmp_path / "new")))
    monkeypatch.delenv("TRAINING_CODE_COMMIT")
    subprocess.run(["git", "init", "-q", iris], check=True)
    said = call("rerun", run, code=10)
    assert "code: here are changes that no commit has" in said
    assert f"data: the run's version is {mlflow.get_run(run).data.tags['data.version']}, dvc.lock here pins " in said


def test_what_is_no_whole_training_is_said(run: str) -> None:
    assert "MLflow has no run 'nothing'" in call("rerun", "nothing", code=2)
    experiment = mlflow.get_run(run).info.experiment_id
    where = f"tags.mlflow.parentRunId = '{run}'"
    trial = mlflow.search_runs([experiment], filter_string=where, output_format="list")[0]
    assert "it is no whole training, but perhaps a trial of one" in call("rerun", trial.info.run_id, code=2)
    mlflow.MlflowClient().set_terminated(run, "FAILED")
    try:
        assert "is FAILED: there is no result to compare with" in call("rerun", run, code=2)
    finally:
        mlflow.MlflowClient().set_terminated(run, "FINISHED")
