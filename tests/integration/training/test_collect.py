"""Answers whose labels have come become new data: in MLflow by digest, in git, then in the next training."""

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import mlflow
import pandas as pd
import psycopg
import pytest
import yaml
from irises import LOCK
from typer.testing import CliRunner

from parcels import PARCELS, ROWS
from plumbline.core import ids
from plumbline.core.columns import NATIVE, TIME
from plumbline.monitoring.log.events import Answer, Feedback, Prediction
from plumbline.monitoring.log.store import Store
from plumbline.promotion.gate.evaluation import read_evaluation
from plumbline.promotion.gate.pinned import require_pinned
from plumbline.promotion.registry.client import Registry
from plumbline.training.cli import app
from plumbline.training.data import pinned
from plumbline.training.model import folder_of

pytestmark = pytest.mark.usefixtures("tracked")
DAYS = 63
TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert getattr(result.exception, "exit_code", result.exit_code) == code, result.output + repr(result.exception)
    return result.output + str(result.exception or "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the model `parcels`, of whose days each is a cluster, in a clone of its repository."""
    from plumbline.training import models
    from plumbline.training.data import dvc_md5
    from plumbline.training.model import load

    work = tmp_path / "work"
    folder = work / "app-src/models/parcels"
    folder.mkdir(parents=True)
    text = PARCELS.replace("cluster=None", 'cluster=Day("UTC")').replace("import ByTime,", "import ByTime, Day,")
    (folder / "__init__.py").write_text(text)
    (folder / "card.yaml").write_text("title: Parcels\nowner: somebody\n")
    monkeypatch.setenv("TRAINING_MODELS", str(folder.parent))
    monkeypatch.setattr(models, "__path__", list(models.__path__))
    monkeypatch.delitem(sys.modules, "plumbline.training.models.parcels", raising=False)
    (data := tmp_path / "pinned").mkdir()
    load("parcels").fetch(data)
    (folder / "dvc.lock").write_text(LOCK.format(md5=dvc_md5(data)).replace("iris", "parcels"))
    subprocess.run(["git", "init", "--quiet", "-b", "main", work], check=True)
    _git(work, "add", "--all")
    _git(work, "commit", "--quiet", "-m", "parcels")
    _git(work, "config", "receive.denyCurrentBranch", "updateInstead")
    monkeypatch.setenv("PROMOTION_REPO", str(work))
    return folder


def _git(work: Path, *arguments: str) -> str:
    command = ["git", "-C", str(work), "-c", "user.name=Ada", "-c", "user.email=ada@plumbline.dev", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def log(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Eight answers a day for so many days, seven of them with a label; here express is late, which it never was."""
    monkeypatch.setenv("MONITORING_DATABASE_URL", postgres_dsn)
    store, draw = Store(postgres_dsn), random.Random(3)
    store.migrate()
    for day in range(DAYS):
        at = TODAY - timedelta(days=DAYS - day)
        answers, labels = [], []
        for number in range(8):
            moment = at + timedelta(minutes=number)
            made = ids.floor(moment).int | 0x7 << 76 | 0x2 << 62 | draw.getrandbits(60)
            row = {**ROWS[0], "weight": round(draw.uniform(0, 50), 2), "express": draw.random() < 0.5, "marks": ["new"],
                   "asked": moment.isoformat(), "packed": (moment - timedelta(hours=5)).isoformat()}  # fmt: skip
            columns = tuple(row)
            answers.append(Prediction(
                id=UUID(int=made), at=moment, model="parcels", version="v1.0.0", role="stable", columns=columns,
                data=(tuple(row.values()),), ms=1, outputs=(Answer(label="no", probabilities={"no": 0.9, "yes": 0.1}),),
            ))  # fmt: skip
            truth = "never heard of" if (day, number) == (5, 5) else "yes" if row["express"] else "no"
            if number < 7:
                labels.append(Feedback(UUID(int=made), 0, (int(moment.timestamp() * 1000) + 5000, number), moment,
                                       "parcels", truth, None))  # fmt: skip
        store.write(answers, labels, [])
    yield postgres_dsn
    store.close()


def test_labelled_answers_become_the_data_that_the_next_training_learns_and_is_judged_on(
    folder: Path, log: str, tmp_path: Path
) -> None:
    before = call("run", "--model", "parcels", "--trials", "1", "--experiment", "parcels/before").split()[-1]
    word = tmp_path / "word"
    collect = ("collect", "--model", "parcels", "--since", "80d", "--verdict-file", str(word))
    said = call(*collect, "--run", before)
    assert word.read_text() == "proposed\n"
    assert f"{7 * DAYS - 1} rows" in said
    assert ", 1 left out" in said
    pinned_rows = yaml.safe_load((folder / "logged.yaml").read_text())
    assert "parcels: data of the log up to" in _git(folder, "log", "-1", "--format=%s")
    assert pd.Timestamp(pinned_rows["test"]) == TODAY.replace(hour=0) - timedelta(days=21)
    assert pd.Timestamp(pinned_rows["validation"]) == TODAY.replace(hour=0) - timedelta(days=42)
    assert pinned(folder_of("parcels")).endswith(f".dir+{pinned_rows['digest']}")

    assert "train first" in call(*collect, "--run", before)
    assert word.read_text() == "ready\n"
    after = call("run", "--model", "parcels", "--trials", "1", "--experiment", "parcels/after", "--work",
                 str(tmp_path / "training")).split()[-1]  # fmt: skip
    assert mlflow.get_run(after).data.tags["data.version"] == pinned(folder_of("parcels"))
    assert mlflow.get_run(after).data.tags["data.digest"] != mlflow.get_run(before).data.tags["data.digest"]
    holdout = pd.read_parquet(tmp_path / "training/evaluation/holdout.parquet")
    assert (len(holdout), holdout[TIME].min() >= pd.Timestamp(pinned_rows["test"])) == (7 * 21, True)
    late = holdout[f"{NATIVE}yes"] > 0.5
    assert (late == (holdout["truth"] == "yes")).mean() > 0.95, "what changed since is learnt"
    learnt = pd.read_parquet(tmp_path / "training/train.parquet")
    assert (learnt[TIME] < pd.Timestamp("2024-07-01", tz="UTC")).sum() == 600, "what was judged on before is learnt now"

    (tmp_path / "judged").mkdir()
    evaluation, run = read_evaluation(Registry(), after, "parcels", tmp_path / "judged"), mlflow.get_run(after).data
    data = run.tags["data.digest"]
    assert require_pinned(evaluation, data, run.params) == data, "the judge makes the same rows anew"

    call(*collect, "--run", after)
    assert word.read_text() == "known\n", "git has these very rows"
    assert len(mlflow.search_runs(experiment_names=["parcels/data"])) == 1, "and MLflow keeps them once"


def test_rows_that_git_does_not_pin_are_not_trained_on(folder: Path, log: str) -> None:
    call("collect", "--model", "parcels", "--since", "80d")
    path = folder / "logged.yaml"
    text = path.read_text()
    other = "sha256:" + "0" * 64
    path.write_text(text.replace(yaml.safe_load(text)["digest"], other))
    said = call("run", "--model", "parcels", "--trials", "1", code=2)
    assert f"logged.yaml pins {other}, which the run" in said


def test_days_that_are_too_few_are_said(folder: Path, log: str, tmp_path: Path) -> None:
    said = call("collect", "--model", "parcels", "--since", "30d", code=11)
    assert "labels of 30 days have come, 60 are needed" in said
    word = tmp_path / "word"
    assert "60 are needed" in call("collect", "--model", "parcels", "--since", "30d", "--verdict-file", str(word))
    assert word.read_text() == "few\n"
    assert not (folder / "logged.yaml").exists()


def test_labels_that_are_older_than_their_answers_are_left_out(folder: Path, log: str) -> None:
    with psycopg.connect(log) as connection:
        connection.execute("UPDATE monitoring.feedback SET entry_ms = 0")
    assert "has no labelled row" in call("collect", "--model", "parcels", code=11)
