"""`plumbline monitor canary`: on a rendered tree, on the log of real services, with signed models."""

import json
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml
from trees import with_model
from typer.testing import CliRunner

import bundles
from plumbline.core.evidence import EvidenceMetadata, EvidenceSpec, JudgedOn, ReleaseEvidence
from plumbline.core.metrics.clusters import Clusters
from plumbline.core.release import Release, read_release
from plumbline.monitoring.canary import replay as replays
from plumbline.monitoring.cli import app
from plumbline.monitoring.experiment.replay import asked_again
from plumbline.promotion.delivery.documents import dump
from plumbline.promotion.gate.answers import Answers, Rows
from plumbline.promotion.gate.expected import expected_difference
from plumbline.scoring.scorer import Scorer
from plumbline.serving.artifact.fetch import obtain
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


@dataclass(frozen=True)
class Canary:
    """v1.1.0 beside v1.0.0 of the model `delays`, as git has them."""

    keys: bundles.Keys
    work: Path
    rows: list[dict[str, Any]]
    outputs: dict[str, list[dict[str, Any]]]
    """{version: what its signed model answers to the rows}."""

    def log(self, log: Any, version: str, role: str, places: list[int] | None = None, **changes: Any) -> None:
        """These rows are answered, each with the answer to the row at its place."""
        for number, row in enumerate(self.rows):
            output = self.outputs[version][places[number] if places else number]
            named = {"model": "delays", "version": version, "role": role, "keyholder": f"key{number % 7}"}
            log.predict(rows=[row], outputs=[output], **(named | changes))
        log.consume()


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    """Both releases in git, and what the gate saw between them."""
    keys, work = bundles.make_keys(tmp_path / "keys"), tmp_path / "work"
    rng = np.random.default_rng(2)
    rows = [
        {"distance": float(rng.uniform(0, 5000)), "hour": int(rng.integers(0, 24)), "carrier": "UA", "origin": "JFK",
         "wind": float(np.float32(rng.uniform(0, 40)))}
        for _ in range(60)
    ]  # fmt: skip
    where, outputs, answers, releases = work / "clusters/staging/models/delays", {}, [], []
    subprocess.run(["git", "init", "--quiet", "-b", "main", work], check=True)
    for seed, version in enumerate(("v1.0.0", "v1.1.0")):
        bundle = replace(bundles.make_bundle(tmp_path / version, keys, "binary", seed=seed), version=version)
        releases.append(read_release(path := bundle.release(where / "release.yaml")))
        with Scorer.fetch(releases[-1], path, keys.public) as scorer:
            both = asked_again(scorer, rows)[["probability_on-time", "probability_late"]].to_numpy(dtype=np.float64)
        outputs[version] = [{"label": "late", "probabilities": {"on-time": a, "late": b}} for a, b in both.tolist()]
        answers.append(Answers(both, bundle.threshold))
        if seed:
            judged = Rows(bundle.schema.output, np.zeros(len(rows)), Clusters.of_rows(len(rows)))
            seen = expected_difference(judged, answers[1], releases[0], answers[0])
            spec = EvidenceSpec(version=version, artifact=bundle.digest, expected=seen, holdout=JudgedOn(
                digest="sha256:" + "0" * 64, rows=60, clusters=60, by=""))  # fmt: skip
            evidence = ReleaseEvidence(metadata=EvidenceMetadata(name="delays"), spec=spec)
            (where / "evidence.yaml").write_text(dump(evidence))
        git = ["git", "-C", str(work), "-c", "user.name=Bob", "-c", "user.email=bob@plumbline.dev"]
        for arguments in (["add", "--all"], ["commit", "--quiet", "-m", version]):
            subprocess.run([*git, *arguments], check=True)
    monkeypatch.setenv("PROMOTION_REPO", str(work))
    monkeypatch.setenv("PROMOTION_PUBLIC_KEY", str(keys.public))
    return Canary(keys, work, rows, outputs)


def checked(log: Any) -> list[dict[str, Any]]:
    return list(json.loads(run(log, "check", "--env", "staging", "--keep", "--json")))


def test_a_canary_is_held_against_its_signed_model_stable_and_what_the_gate_saw(log: Any, canary: Canary) -> None:
    assert checked(log) == [], "nobody is a canary"
    canary.log(log, "v1.0.0", "stable")
    canary.log(log, "v1.1.0", "canary")
    (found,) = checked(log)
    assert (found["model"], found["version"], found["rows"], found["different"]) == ("delays", "v1.1.0", 60, 0)
    assert (found["stable_rows"], found["stable_different"], found["unexpected"], found["reason"]) == (60, 0, [], "")
    canary.log(log, "v1.1.0", "canary", places=[1, 0, *range(2, 60)])
    (found,) = checked(log)
    assert (found["rows"], found["different"], found["one_caller"]) == (120, 2, False)
    shown = log.quality()
    of = {"model": "delays", "version": "v1.1.0"}
    names = ("replayed_rows", "different_rows", "different_of_one_caller", "stable_different_rows", "unexpected")
    assert [shown(f"monitoring_canary_{name}", **of) for name in names] == [120, 2, 0, 0, 0]
    assert time.time() - (shown("monitoring_canary_checked_timestamp_seconds", **of) or 0) < 60
    said = run(log, "check", "--env", "staging")
    assert "delays v1.1.0: 2 of 120 answers are not the signed model's" in said
    assert "of stable 0 of 60" in said


def test_a_canary_of_stables_own_version_has_its_model_fetched_once(
    log: Any, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def noted(release: Release, *others: Any) -> Any:
        fetched.append(release.spec.version)
        return obtain(release, *others)

    monkeypatch.setattr("plumbline.scoring.scorer.obtain", noted)
    canary.log(log, "v1.1.0", "stable")
    canary.log(log, "v1.1.0", "canary")
    (found,) = checked(log)
    assert (found["rows"], found["different"], found["stable_rows"], found["stable_different"]) == (60, 0, 60, 0)
    assert fetched == ["v1.1.0"]


def test_a_canary_that_lies_elsewhere_than_the_gate_saw_says_where(log: Any, canary: Canary) -> None:
    """What callers send is not what the holdout has: another unit moves what lies between the two models."""
    evidence = canary.work / "clusters/staging/models/delays/evidence.yaml"
    known = yaml.safe_load(evidence.read_text())
    shift = known["spec"]["expected"]["shifts"][0]
    assert shift["distance"] > 0.02, "these two differ"
    shift.update(agreement=1.0, distance=0.0, mean=shift["mean_before"])
    evidence.write_text(yaml.safe_dump(known))
    subprocess.run(["git", "-C", canary.work, "-c", "user.name=Bob", "-c", "user.email=b@b", "commit", "-qam", "x"],
                   check=True)  # fmt: skip
    canary.log(log, "v1.0.0", "stable")
    canary.log(log, "v1.1.0", "canary")
    (found,) = checked(log)
    assert found["different"] == 0
    assert any(where.startswith("all rows: distance") for where in found["unexpected"])
    assert log.quality()("monitoring_canary_unexpected", model="delays", version="v1.1.0") == len(found["unexpected"])


def test_one_callers_rows_are_a_tenth_where_others_asked_too(log: Any, canary: Canary) -> None:
    canary.log(log, "v1.1.0", "canary", keyholder="heavy")
    canary.log(log, "v1.1.0", "canary", keyholder="", subject="s")
    canary.log(log, "v1.1.0", "canary", keyholder="")
    assert json.loads(run(log, "check", "--env", "staging", "--rows", "50", "--json"))[0]["rows"] == 50
    with psycopg.connect(log.dsn) as connection:
        drawn = replays.read(connection, "delays", "v1.1.0", datetime(2020, 1, 1, tzinfo=UTC), 50, "canary")
        alone = replays.read(connection, "delays", "v1.1.0", datetime(2020, 1, 1, tzinfo=UTC), 1000, "canary")
    counts = Counter(row.caller for row in drawn)
    assert (counts["heavy"], counts["s"], len(counts)) == (5, 5, 42)
    assert len(alone) == 180, "where others have none left, the rest is one's"


def test_what_was_answered_before_git_named_the_release_is_not_held_against_it(log: Any, canary: Canary) -> None:
    """Such as by the same version in another image."""
    earlier = datetime.now(UTC) - timedelta(hours=1)
    canary.log(log, "v1.1.0", "canary", places=[*range(59, -1, -1)], at=earlier)
    assert checked(log) == []
    canary.log(log, "v1.1.0", "canary")
    assert (checked(log)[0]["rows"], checked(log)[0]["different"]) == (60, 0)


def test_a_canary_that_git_took_out_is_left_alone(log: Any, canary: Canary) -> None:
    canary.log(log, "v1.0.0", "canary")
    assert checked(log) == []


def test_without_stable_a_replay_says_so(log: Any, canary: Canary) -> None:
    canary.log(log, "v1.1.0", "canary")
    (found,) = checked(log)
    assert (found["rows"], found["stable_rows"]) == (60, None)
    assert "stable was not asked" in found["reason"]
