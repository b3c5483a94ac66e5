"""Every graph is walked from end to end, and each command line that it would run is one that its package takes."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.exceptions import TyperException
from workflow_runner import Outputs, Runner, resolve

from plumbline.cli import MODULES

ROOT = Path(__file__).resolve().parents[3]
MADE = {
    "models": json.dumps([{"model": name, "version": "v1.0.0", "run": "r"} for name in ("diabetes", "flights")]),
    "trial": '{"number": 0}',
    "verdict": "drift",
    "collected": "ready",
    "version": "v1.0.1",
}
TRAINING = [
    "data",
    "validate",
    "features",
    "search(0)",
    "search(1)",
    "train",
    "evaluate",
    "convert",
    "finish",
    "judge",
    "register",
]


class Walk(Runner):
    """Runs nothing: a pod hands on made-up texts, after its command line was understood."""

    def _pod(self, node, template, artifacts, scope):  # noqa: ARG002
        quoted = {key: json.dumps(value)[1:-1] for key, value in scope.items()}
        filled = json.loads(resolve(json.dumps(template), quoted))
        self.pods.append(node)
        container = filled["container"]
        if container["command"][0] == "python":
            understood(container["command"][2], container["args"])
        made = filled.get("outputs", {})
        return Outputs(
            parameters={item["name"]: MADE.get(item["name"], "x") for item in made.get("parameters", [])},
            artifacts={item["name"]: Path(item["path"]) for item in made.get("artifacts", [])},
        )


def understood(package, arguments):
    """Parse as the command would; raises its error for an unknown option, a missing one, or a wrong type."""
    assert package == "plumbline"
    topic, *arguments = arguments
    command: Any = typer.main.get_command(importlib.import_module(f"plumbline.{MODULES[topic]}").app)
    if command.commands:
        command, arguments = command.commands[arguments[0]], arguments[1:]
    with command.make_context(topic, arguments):
        pass


@pytest.fixture
def walk(tmp_path, monkeypatch):
    """Walk a Workflow; the pods that it would start, in order."""
    monkeypatch.setenv("MONITORING_ALERTMANAGER_URL", "http://alertmanager")
    for name in ("BACKUP_STORE", "MLFLOW_ARTIFACTS"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "public.pem").touch()
    monkeypatch.setenv("PROMOTION_PUBLIC_KEY", str(tmp_path / "public.pem"))

    def run(name, answers=None, settings=(("class", "open"),), **arguments):
        walked = Walk(ROOT / "argo", tmp_path, dict(settings), answers=answers or {})
        walked.run(name, **arguments)
        return [pod.removeprefix(f"{name}.") for pod in walked.pods]

    return run


def test_training_ends_in_a_promotion_and_a_report(walk):
    pods = walk("train-model", model="flights", trials="2", environment="staging")
    assert pods == [*TRAINING, "promote.check", "promote.promote", "exit.report"]


def test_a_guarded_environment_asks_a_person_and_elsewhere_nobody_is_asked(walk):
    subject = {"model": "flights", "version": "v1.0.0", "environment": "eu"}
    assert walk("promote-model", **subject) == ["check", "promote"]
    production = {**subject, "settings": [("class", "guarded")]}
    yes = {"answer": "YES", "signed": "eyJ9"}
    assert walk("promote-model", {"ask": yes}, **production) == ["check", "approval.record", "promote"]
    # Without a YES nothing is recorded, and the gate of `promote` finds no approval.
    assert walk("promote-model", {"ask": {}}, **production) == ["check", "promote"]


def test_drift_is_told_and_trains_where_the_environment_wants_it(walk):
    told = walk("drift-check", environment="local", retrain="false")
    assert told == ["served", "model(0).drift", "model(0).tell", "model(1).drift", "model(1).tell"]
    trained = walk("drift-check", environment="local", retrain="true")
    assert {"model(0).renew.retrain.search(9)", "model(0).renew.retrain.promote.promote"} <= set(trained)


def test_drift_does_not_train_on_the_same_bytes_again(walk, monkeypatch):
    monkeypatch.setitem(MADE, "collected", "proposed")
    pods = walk("drift-check", environment="local", retrain="true")
    assert pods[:4] == ["served", "model(0).drift", "model(0).tell", "model(0).renew.collect"]
    assert not [pod for pod in pods if "retrain" in pod]


@pytest.mark.parametrize(
    ("name", "arguments", "pods"),
    [
        ("reconcile", {"environment": "local"}, ["reconcile"]),
        ("canary-check", {"environment": "local"}, ["replay"]),
        ("experiment-check", {"environment": "local"}, ["served", "model(0).judge", "model(1).judge"]),
        ("housekeeping", {}, ["prune", "archive"]),
        ("backup", {}, ["dump-mlflow", "dump-mlflow-auth", "dump-predictions", "keep"]),
        ("restore", {}, ["fetch", "load-mlflow", "load-mlflow-auth", "load-predictions"]),
        (
            "batch-scoring",
            {"environment": "local", "scoring_store": "s3://x", "parts": "2"},
            ["served", "model(0).score(0)", "model(0).score(1)", "model(1).score(0)", "model(1).score(1)"],
        ),
    ],
)
def test_scheduled_work_runs_these_steps(walk, name, arguments, pods):
    assert [pod.removeprefix(f"{name}.") for pod in walk(name, **arguments)] == pods


def test_a_command_line_that_a_package_does_not_take_is_found():
    with pytest.raises(TyperException, match=r"No such option.*--colour"):
        understood("plumbline", ["promote", "check", "--colour=red"])
    with pytest.raises(TyperException, match="Missing parameter: out"):
        understood("plumbline", ["monitor", "drift", "--model=flights"])
