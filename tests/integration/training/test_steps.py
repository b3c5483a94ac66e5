"""A model that is only a folder, trained step by step: the same again; in parts; taken up after a break."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from typer.testing import CliRunner

from plumbline.promotion.gate.bundle import open_bundle
from plumbline.training.cli import app
from plumbline.training.report import Report

pytestmark = pytest.mark.usefixtures("tracked")
STEPS = ("validate", "features", "search", "train", "evaluate", "convert")


def call(*arguments, fails=False):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails, result.output + repr(result.exception)
    return result.output


def steps(work, *begin):
    call("data", "--work", work, *begin)
    for step in STEPS:
        call(step, "--work", work)
    return call("finish", "--work", work).split()[-1]


def test_a_folder_is_enough_and_the_run_holds_what_promotion_needs(iris, tmp_path):
    import mlflow

    work = tmp_path / "work"
    output = call("run", "--model", "iris", "--trials", 2, "--work", work)
    *_, last = output.strip().splitlines()
    word, run_id = last.split()
    assert (word, len(run_id)) == ("run", 32)
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert {"model", "data.version", "data.digest", "code.commit", "code.dirty", "workflow"} <= run.data.tags.keys()
    held = {
        path.path
        for folder in ("bundle", "evaluation", "plots")
        for path in mlflow.artifacts.list_artifacts(run_id=run_id, artifact_path=folder)
    }
    assert held == {
        "bundle/model.onnx",
        "bundle/schema.json",
        "evaluation/report.json",
        "evaluation/holdout.parquet",
        "evaluation/card.yaml",
        *(
            f"plots/{name}.png"
            for name in ("calibration", "confusion_matrix", "feature_importance", "precision_recall", "roc")
        ),
    }
    report = Report.model_validate_json((work / "evaluation" / "report.json").read_bytes())
    assert report.metrics["accuracy"].value > 0.9 > report.baseline["accuracy"].value
    assert report.threshold is None
    assert report.train.first is None
    assert yaml.safe_load((work / "evaluation" / "card.yaml").read_text())["title"] == "Irises"
    children = mlflow.search_runs(
        [run.info.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{run_id}'", output_format="list"
    )
    assert sorted(child.info.run_name for child in children) == ["baseline", "trial-0", "trial-1"]
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["data.version"].removesuffix(".dir")
    again = call("run", "--model", "iris", "--trials", 2, "--work", work)
    assert again.strip().splitlines()[-1] == last


def test_steps_in_parts_give_the_same_bytes_and_metrics_as_a_run_in_one(iris, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    steps(whole, "--model", "iris", "--trials", 3, "--experiment", "iris/repeat")
    call("data", "--work", parts, "--model", "iris", "--trials", 3, "--experiment", "iris/repeat")
    call("validate", "--work", parts)
    call("features", "--work", parts)
    call("search", "--work", parts, "--part", 1, "--parts", 2)
    said = call("train", "--work", parts, fails=True)
    assert "the trials [0, 2] are missing" in said
    call("search", "--work", parts, "--part", 0, "--parts", 2)
    for step in STEPS[3:]:
        call(step, "--work", parts)
    for name in ("bundle/model.onnx", "bundle/schema.json", "evaluation/report.json", "plots/roc.png"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_trials_in_a_pod_each_give_the_same_choice_as_a_search_in_one_process(iris, tmp_path):
    whole, first = tmp_path / "whole", tmp_path / "pods" / "first"
    begin = ("--model", "iris", "--trials", 3, "--seed", 5)
    for work in (whole, first):
        for step in ("data", "validate", "features"):
            call(step, "--work", work, *(begin if step == "data" else ()))
    call("search", "--work", whole)
    gathered = []
    for part in range(3):
        pod = shutil.copytree(first, tmp_path / "pods" / str(part))
        call("search", "--work", pod, "--part", part, "--parts", 3)
        (trial,) = (pod / "trials").iterdir()
        assert trial.name == f"{part}.json", "one trial a pod, under a name that the graph can know"
        gathered.append(json.loads(trial.read_text()))
    file = tmp_path / "trials.json"
    file.write_text(json.dumps(gathered))
    call("train", "--work", whole)
    call("train", "--work", first, "--trials", file)
    chosen = [json.loads((work / "best.json").read_text()) | {"run": ""} for work in (whole, first)]
    assert chosen[0] == chosen[1]
    file.write_text('[{"number": 0}]')
    assert "expected a list of trials" in call("train", "--work", first, "--trials", file, fails=True)


def test_prepared_rows_are_shared_by_runs_of_equal_data_code_and_sample_alone(iris, tmp_path, monkeypatch):
    def key(name, *begin):
        call("data", "--model", "iris", "--work", tmp_path / name, *begin)
        return (tmp_path / name / "parameters" / "prepared").read_text()

    monkeypatch.setenv("TRAINING_CODE_COMMIT", "a" * 40)
    first = key("first", "--trials", 1)
    assert len(first) == 64
    assert key("other-trials", "--trials", 2, "--experiment", "iris/other") == first
    assert len({first, key("sample", "--sample", 0.5), key("seed", "--seed", 1)}) == 3
    monkeypatch.setenv("TRAINING_CODE_COMMIT", "b" * 40)
    assert key("code") != first
    monkeypatch.setattr("plumbline.training.provenance.code_version", lambda _: ("c" * 40, True))
    assert key("dirty") != key("dirty-again")


def test_a_run_is_unfinished_until_the_last_step_and_told_how_its_workflow_ended(iris, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("TRAINING_WORKFLOW", "workflows/train-model-1")
    call("data", "--model", "iris", "--trials", 1, "--work", tmp_path / "lost")
    done = steps(tmp_path / "done", "--model", "iris", "--trials", 1)
    lost = (tmp_path / "lost" / "parameters" / "run").read_text()
    assert [mlflow.get_run(run).info.status for run in (lost, done)] == ["RUNNING", "FINISHED"]
    call("report", "--model", "iris", "--workflow", "workflows/train-model-1", "--status", "Error")
    runs = [mlflow.get_run(run) for run in (lost, done)]
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED"]
    assert {run.data.tags["workflow.status"] for run in runs} == {"Error"}
    assert call("report", "--model", "iris", "--workflow", "workflows/another", "--status", "Failed") == ""


def test_a_broken_run_is_taken_up_where_it_broke(iris, tmp_path):
    work = tmp_path / "work"
    begin = ("--model", "iris", "--trials", 2, "--work", work)
    call("run", *begin)
    before = json.loads((work / "trials" / "1.json").read_text())
    for step in ("search", "train", "evaluate", "convert"):
        (work / "done" / step).unlink()
    (work / "trials" / "0.json").unlink()
    shutil.rmtree(work / "bundle")
    call("run", *begin)
    assert (work / "bundle" / "model.onnx").exists()
    assert json.loads((work / "trials" / "1.json").read_text()) == before, "a finished trial is not run again"


def test_a_run_that_breaks_is_failed_and_taken_up_it_runs_again(iris, tmp_path):
    import mlflow

    begin = ("run", "--model", "iris", "--trials", 1, "--experiment", "iris/broken", "--work", tmp_path / "work")
    whole = (iris / "__init__.py").read_text()

    def write(text):
        (iris / "__init__.py").write_text(text)
        del sys.modules["plumbline.training.models.iris"]

    write(whole.replace("LogisticRegression(max_iter=500", "LogisticRegression(max_iter=-1"))
    call(*begin, fails=True)
    (run,) = mlflow.search_runs(
        experiment_names=["iris/broken"], filter_string="params.trials != ''", output_format="list"
    )
    assert run.info.status == "FAILED"
    assert re.fullmatch(
        r"iris 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d 100 % of the rows, 1 trials, [0-9a-f]{7}\+?", run.info.run_name
    )
    write(whole)
    assert call(*begin).split()[-1] == run.info.run_id
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_is_killed(iris, tmp_path, how):
    import mlflow

    text = (iris / "__init__.py").read_text()
    (iris / "__init__.py").write_text(
        text.replace("def rows(tables):", "def rows(tables):\n    __import__('time').sleep(600)")
    )
    work = tmp_path / "work"
    command = [
        sys.executable,
        "-m",
        "plumbline",
        "train",
        "run",
        "--model",
        "iris",
        "--trials",
        "1",
        "--work",
        str(work),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while not (work / "done" / "validate").exists():
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.1)
        running.send_signal(how)
        said = running.communicate(timeout=60)[1]
    assert (running.returncode, "Traceback" in said) == (130, False), said
    run = (work / "parameters" / "run").read_text()
    assert mlflow.get_run(run).info.status == "KILLED"


def test_a_work_folder_belongs_to_one_run(iris, tmp_path):
    work = tmp_path / "work"
    call("data", "--model", "iris", "--work", work)
    assert "other settings" in call("data", "--model", "iris", "--sample", 0.5, "--work", work, fails=True)
    assert "schema.json is missing; run the steps before" in call("evaluate", "--work", work, fails=True)


def test_runs_are_found_by_metric_and_tag(iris, tmp_path):
    run_id = call("run", "--model", "iris", "--trials", 1, "--experiment", "iris/found", "--work", tmp_path / "work")
    run_id = run_id.split()[-1]
    where = "metrics.accuracy > 0.5 and tags.model = 'iris'"
    assert run_id in call("runs", "--model", "iris", "--where", where, "--order", "metrics.accuracy DESC")
    assert run_id not in call("runs", "--model", "iris", "--where", "metrics.accuracy > 1.5")
    assert "no runs of nothing" in call("runs", "--model", "nothing")
    said = call("runs", "--model", "iris", "--where", "accuracy is good", fails=True)
    assert said.startswith("error: MLflow: ")
    assert len(said.splitlines()) == 1


def test_search_refuses_a_part_that_does_not_exist(iris, tmp_path):
    call("data", "--model", "iris", "--work", tmp_path / "work")
    said = call("search", "--work", tmp_path / "work", "--part", 2, "--parts", 2, fails=True)
    assert "part: 2 is not among 2 parts, expected 0 to 1" in said


def rewritten(folder, old, new):
    """Change the model's definition, as a person does between two commands."""
    path = folder / "__init__.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    sys.modules.pop("plumbline.training.models.iris", None)


def test_what_cannot_be_converted_is_said_before_the_first_trial(iris, tmp_path):
    rewritten(iris, "LogisticRegression(max_iter=500, **params)", "DummyClassifier()")
    work = tmp_path / "work"
    begin = ("run", "--model", "iris", "--trials", 2, "--work", work)
    said = call(*begin, fails=True)
    assert said.splitlines()[-1].startswith(
        "error: DummyClassifier cannot be converted to ONNX: MissingShapeCalculator"
    )
    assert not (work / "trials").exists()


UNKNOWN = '''
class Slope:
    """Of no library: softmax of petal_length times 1, 2 and 3, less what each begins at."""

    def fit(self, x, y):
        self.start = np.array([0, 2.5, 7.5], dtype=np.float32)

    def predict_proba(self, x):
        scores = x[:, 2:3] * np.array([1, 2, 3], dtype=np.float32) - self.start
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def predict(self, x):
        return self.predict_proba(x).argmax(axis=1)


def to_onnx(fitted, schema):
    weights = np.zeros((4, 3), dtype=np.float32)
    weights[2] = [1, 2, 3]
    nodes = [
        helper.make_node("Gemm", ["x", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["chances"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "slope",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("chances", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(-fitted.start, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


MODEL = Model(
    to_onnx=to_onnx,'''


def test_an_estimator_of_a_library_that_nobody_knows_is_trained_by_its_own_conversion(iris, tmp_path):
    import mlflow

    rewritten(iris, "import pandas as pd\n", "import numpy as np\nimport pandas as pd\n")
    rewritten(iris, "import pandera.pandas as pa\n", "import pandera.pandas as pa\nfrom onnx import *\n")
    rewritten(iris, "\nMODEL = Model(", UNKNOWN)
    rewritten(iris, "LogisticRegression(max_iter=500, **params)", "Slope()")
    work = tmp_path / "work"
    run_id = call("run", "--model", "iris", "--trials", 1, "--work", work).split()[-1]
    report = Report.model_validate_json((work / "evaluation" / "report.json").read_bytes())
    assert report.metrics["accuracy"].value > 0.9
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    bundle = open_bundle(work / "bundle", "iris")
    assert bundle.predict(bundle.schema.encode([bundle.schema.example()] * 2)).shape == (2, 3)
