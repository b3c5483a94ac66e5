"""Training as its users start it: the command, against MLflow with sign-in, PostgreSQL and an S3 API."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import services
from irises import iris as iris

Command = Callable[..., str]


@pytest.fixture(scope="session")
def training(mlflow_server: services.Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run `python -m training …`; what it prints. A command that fails fails the test with all that it said."""
    return _command(mlflow_server.environment, tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The same with MLflow's embedded default, SQLite and a folder: quicker, and nothing else may differ."""
    folder = tmp_path_factory.mktemp("embedded")
    return _command({"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}, folder)


def _command(extra: dict[str, str], folder: Path) -> Command:
    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "plumbline", "train", *map(str, arguments)]
        done = subprocess.run(command, env={**os.environ, **extra}, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def flights(training: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small run of the flights: its id and its work folder."""
    work = tmp_path_factory.mktemp("flights")
    output = training("run", "--model", "flights", "--sample", 0.02, "--trials", 2, "--work", work)
    return output.split()[-1], work


@pytest.fixture
def client(mlflow_server: services.Mlflow, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """A client that is signed in."""
    for name, value in mlflow_server.environment.items():
        monkeypatch.setenv(name, value)
    return mlflow.MlflowClient()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an MLflow database whose tables are made once."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def tracked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow on its embedded default, below a temporary folder."""

    monkeypatch.chdir(store)
    uri = f"sqlite:///{store / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
