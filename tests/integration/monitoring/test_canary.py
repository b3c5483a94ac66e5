"""`plumbline monitor canary`: on a rendered tree, on the log of real services, with signed models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from trees import with_model
from typer.testing import CliRunner

import bundles
from plumbline.core.release import read_release
from plumbline.monitoring.cli import app
from plumbline.monitoring.experiment.replay import asked_again
from plumbline.scoring.scorer import Scorer
from plumbline.tree.render.build import complete

ROOT = Path(__file__).parents[3]


def run(log: Any, *arguments: str, code: int = 0) -> str:
    environment = {"MONITORING_REDIS_URL": log.redis_url, "MONITORING_DATABASE_URL": log.dsn}
    result = CliRunner().invoke(app, ["canary", *arguments], env=environment)
    assert result.exit_code == code, result.output
    return result.output


def test_a_plan_counts_by_the_environments_own_line_and_the_logs_traffic(log: Any) -> None:
    for _ in range(200):
        log.predict(rows=3)
    log.consume()
    with complete(ROOT, "staging") as tree:
        with_model(tree, "flights")
        where = ("plan", "--model", "flights", "--env", "staging", "--root", str(tree), "--json")
        asked = json.loads(run(log, *where))
        assert asked["perSecond"] == pytest.approx(200 / (7 * 86400)), "a batch is one prediction"
        assert not asked["steps"][0]["decided"]
        assert all(step["decided"] for step in json.loads(run(log, *where, "--per-second", "1000"))["steps"])
        verdict = tree / "kustomize/model-server/analysis/verdict.yaml"
        document = yaml.safe_load(verdict.read_text())
        for argument in document["spec"]["args"]:
            if argument["name"] == "margin":
                argument["value"] = "0.1"
        verdict.write_text(yaml.safe_dump(document))
        assert json.loads(run(log, *where))["steps"][0]["answers"] < asked["steps"][0]["answers"]
        assert "flihgts is not there" in run(log, *where[:2], "flihgts", *where[3:], code=2)


def test_what_a_version_logged_is_asked_again_of_its_signed_model(log: Any, tmp_path: Path) -> None:
    keys = bundles.make_keys(tmp_path)
    path = bundles.make_bundle(tmp_path / "model", keys, "binary").release(tmp_path / "release.yaml")
    release = read_release(path)
    rng = np.random.default_rng(2)
    rows = [
        {"distance": float(rng.uniform(0, 5000)), "hour": int(rng.integers(0, 24)), "carrier": "UA"} for _ in range(40)
    ]
    with Scorer.fetch(release, path, keys.public) as scorer:
        answers = asked_again(scorer, rows)[["probability_on-time", "probability_late"]].to_numpy(dtype=np.float64)
    outputs = [{"label": "late", "probabilities": {"on-time": a, "late": b}} for a, b in answers.tolist()]
    named = {"model": release.model, "version": release.spec.version, "role": "canary"}
    command = ("replay", "--release", str(path), "--public-key", str(keys.public), "--exit-code")
    assert "has no answer" in run(log, *command, code=11)
    for row, output in zip(rows, outputs, strict=True):
        log.predict(rows=[row], outputs=[output], **named)
    log.predict(rows=rows[:1], outputs=outputs[1:2], **{**named, "version": "v0.1.0"})
    log.consume()
    assert "0 of 40 answers" in run(log, *command)
    log.predict(rows=rows[:2], outputs=outputs[1::-1], **named)
    log.consume()
    assert "2 of 42 answers are not the signed model's" in run(log, *command, code=10)
