"""One answer explained: its release in git, who approved it, and the same answer from the signed model."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from approvals import Approver, approvers
from typer.testing import CliRunner

from bundles import Kind, make_bundle, make_keys
from plumbline.core.release import Release, read_release
from plumbline.features.offline import encode_frame
from plumbline.promotion.delivery.release_text import new_text
from plumbline.scoring.scorer import Scorer
from plumbline.serving.inference.answers import Answers
from plumbline.why import app

ROWS = [
    {"distance": 1400.0, "hour": 17, "carrier": "UA", "origin": "JFK", "wind": 12.1},
    {"distance": 333.3, "hour": 5, "carrier": "ZZ"},
]
Why = Callable[..., tuple[int, str]]


def answered(release: Release, path: Path, key: Path) -> list[dict[str, Any]]:
    """What a server of the release answers to ROWS, as it prints it."""
    with Scorer.fetch(release, path, key) as scorer:
        outputs = scorer.model.run(encode_frame(scorer.schema, pd.DataFrame(ROWS, dtype=object)))
        rule = Answers(scorer.schema.output, release.spec.threshold)
        return [json.loads(rule.render(row)) for row in outputs.tolist()]


@pytest.fixture(params=["binary", "multiclass", "regression"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def release(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch, log: Any) -> Release:
    """A signed model that staging serves by git, approved by Ada."""
    keys = make_keys(tmp_path / "keys")
    bundle = make_bundle(tmp_path / "bundle", keys, kind)
    model, work = bundle.schema.model, tmp_path / "work"
    path = bundle.release(work / f"clusters/staging/models/{model}/release.yaml")
    ada = Approver("Ada")
    said = {"reason": "read the card", "at": "2026-01-02T03:04:05Z", "until": "2026-01-16T03:04:05Z"}
    for name, text in (
        ada.approval("staging", read_release(path), **said),
        ("policies/approvers.yaml", approvers(ada.entry("staging"))),
    ):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    subprocess.run(["git", "-C", work, "init", "--quiet", "-b", "main"], check=True)
    commit(work, "serve")
    monkeypatch.setenv("PROMOTION_REPO", str(work))
    monkeypatch.setenv("PROMOTION_PUBLIC_KEY", str(keys.public))
    monkeypatch.setenv("MONITORING_DATABASE_URL", log.dsn)
    log.outputs = answered(read_release(path), path, keys.public)
    return read_release(path)


def commit(work: Path, message: str) -> None:
    git = ["git", "-C", str(work), "-c", "user.name=Bob", "-c", "user.email=bob@plumbline.dev"]
    for arguments in (["add", "--all"], ["commit", "--quiet", "-m", message]):
        subprocess.run([*git, *arguments], check=True)


@pytest.fixture
def why(release: Release, log: Any) -> Why:
    def ask(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return ask


def test_an_answer_is_traced_and_comes_again_bit_by_bit(why: Why, release: Release, log: Any, tmp_path: Path) -> None:
    columns = dict.fromkeys(ROWS[0])
    one = log.predict(rows=[columns | row for row in ROWS], outputs=log.outputs, model=release.model)
    log.consume()
    for row in range(len(ROWS)):
        code, said = why(f"{one}:{row}", "--json")
        told = json.loads(said)
        assert (code, told["again"]) == (0, "the same, bit by bit")
        assert (told["version"], told["role"], told["features"]) == ("v1.0.0", "stable", ROWS[row])
        assert (told["run"], told["artifact"]) == (release.spec.lineage.run, release.spec.artifact.digest)
        assert told["approval"] == "Ada for staging on 2026-01-02: read the card"
        assert told["served"][0].startswith("staging since 20")
        assert " by Bob (" in told["served"][0]
    assert "again            the same, bit by bit" in why(one)[1]

    # A threshold that somebody wrote by hand is another label, and no server's; then the model is taken out of both.
    work = Path(os.environ["PROMOTION_REPO"])
    elsewhere = work / f"clusters/production/models/{release.model}/release.yaml"
    elsewhere.parent.mkdir(parents=True)
    threshold = {None: None, 0.0: 1.0}.get(release.spec.threshold, 0.0)
    other = release.model_copy(update={"spec": release.spec.model_copy(update={"threshold": threshold})})
    elsewhere.write_text(new_text(other))
    commit(work, "serve it in production")
    shutil.rmtree(work / "clusters")
    commit(work, "take it out")
    code, said = why(one, "--json")
    told = json.loads(said)
    assert (code, told["again"], len(told["served"])) == (0, "the same, bit by bit", 2)
    if release.spec.threshold is not None:
        (tmp_path / "bundle/v1.0.0.json").unlink()
        assert why(one)[1].endswith("the artifact lacks v1.0.0.json: no plain file in " + str(tmp_path / "bundle\n"))


def test_another_answer_than_the_models_is_said(why: Why, release: Release, log: Any, kind: Kind) -> None:
    output = json.loads(json.dumps(log.outputs[0]))
    numbers = output if kind == "regression" else output["probabilities"]
    name = list(numbers)[-1]
    numbers[name] = float(np.nextafter(np.float32(numbers[name]), np.float32(2)))
    identifier = log.predict(rows=ROWS[:1], outputs=[output], model=release.model)
    log.consume()
    code, said = why(identifier)
    assert (code, "again            another: {" in said) == (10, True)


@pytest.mark.parametrize("kind", ["regression"])
def test_what_cannot_be_explained_says_why(why: Why, release: Release, log: Any) -> None:
    unknown = log.predict(rows=ROWS[:1], outputs=log.outputs[:1], model=release.model, version="v9.9.9")
    log.consume()
    assert why(unknown) == (10, f"refused: git never named {release.model} v9.9.9, which answered {unknown}\n")
    assert why(log.new_id())[0] == 2
    with psycopg.connect(log.dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE monitoring.predictions RENAME TO others")
        code, said = why(unknown)
        connection.execute("ALTER TABLE monitoring.others RENAME TO predictions")
    assert (code, "is not in the log" in said) == (2, True)
    code, said = why("yesterday")
    assert (code, "'yesterday' is no prediction_id; expected <id> or <id>:<row>" in said) == (2, True)
