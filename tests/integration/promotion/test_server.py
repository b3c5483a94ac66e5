"""The command line against MLflow as the platform runs it: PostgreSQL, artifacts in an S3 API, sign-in."""

import subprocess
import sys
from pathlib import Path

import pytest
import services
from mlflow import MlflowClient
from typer.testing import CliRunner

from plumbline.promotion.cli import app
from plumbline.promotion.settings import Settings

from .conftest import IMAGE, Recipe, Remote, log

IMAGE_ARGUMENTS = ("--env", "staging", "--image", IMAGE)


def test_from_a_run_to_a_commit(
    mlflow_server: services.Mlflow,
    settings: Settings,
    remote: Remote,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {
        **mlflow_server.environment,
        "PROMOTION_REPO": remote.url,
        "PROMOTION_SIGNING_KEY": str(settings.signing_key),
        "PROMOTION_PUBLIC_KEY": str(settings.public_key),
        "PROMOTION_STORE": settings.store,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = log(MlflowClient(mlflow_server.url), Recipe(model), tmp_path)
    named = ("--model", model, "--version", "v1.0.0")

    def promotion(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, done.output
        return done.output

    # The first in a process of its own, as a Workflow's step starts it.
    command = [sys.executable, "-m", "plumbline", "promote", "register", "--run", run]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.endswith("version v1.0.0\n")
    before = remote.log()
    # Nobody in particular is let in nowhere, and a gate that can't ask says no.
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-password-1")
    assert "failed: MLflow" in promotion("run", *named, *IMAGE_ARGUMENTS, code=1)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", mlflow_server.password)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{services.free_port()}")
    assert "failed: MLflow" in promotion("run", *named, *IMAGE_ARGUMENTS, code=1)
    assert remote.log() == before, "no commit while MLflow is down"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    said = promotion("run", *named, *IMAGE_ARGUMENTS)
    assert "alias staging → v1.0.0\nv1.0.0 is Staging" in said
    release = remote.release("staging", model)
    assert release.spec.artifact.uri == f"{settings.store}/{model}/{release.spec.artifact.digest[7:]}"
    assert "already; nothing to do" in promotion("run", *named, *IMAGE_ARGUMENTS)
