import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from plumbline.monitoring.cli import app

POLICIES = Path(__file__).parents[3] / "policies"


def run(log: Any, *arguments: str, code: int = 0) -> str:
    environment = {"MONITORING_REDIS_URL": log.redis_url, "MONITORING_DATABASE_URL": log.dsn}
    result = CliRunner().invoke(app, arguments, env=environment)
    assert result.exit_code == code, result.output
    return result.output


def read(log: Any, *arguments: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    document = json.loads(run(log, "readout", "--model", "flights", "--json", *arguments))
    return {(line["version"], line["role"], line["arm"]): line for line in document["lines"]}


def test_labels_meet_their_rows_and_the_last_one_wins(log: Any) -> None:
    single, batch, early = log.predict(), log.predict(rows=3), log.new_id()
    log.label(early, "late")  # before its prediction
    log.predict(id=early)
    log.label(single, "on time")
    log.label(single, "late")  # corrected: right after all
    log.label(f"{batch}:0", "late", 2.0)
    log.label(f"{batch}:2", "on time", 4.0)
    log.label(batch, "on time")  # of a batch a bare id says nothing
    log.label(f"{batch}:3", "late")  # no such row
    log.label(log.new_id(), "late")  # no such prediction
    log.predict(model="diabetes")
    log.consume()
    document = json.loads(run(log, "readout", "--model", "flights", "--json"))
    (line,) = document["lines"]
    assert document["unmatched_feedback"] == 3
    assert (line["rows"], line["labelled"], line["value_total"]) == (5, 4, 6.0)
    assert line["metrics"]["accuracy"]["mean"] == 0.75
    assert line["metrics"]["accuracy"]["callers"] == 3
    assert line["metrics"]["value"]["mean"] == 3.0
    assert line["metrics"]["value"]["low"] is None  # one caller has no spread
    assert line["labels"] == {"late": 1.0}
    assert line["scores"]["p50"] == 0.8


def test_versions_roles_and_arms_stand_apart(log: Any) -> None:
    rng = np.random.default_rng(1)
    for number in range(240):
        canary = number % 3 == 0
        who = {"arm": "b", "role": "canary", "version": "v1.1.0"} if canary else {"arm": "a"}
        identifier = log.predict(subject=f"s{number % 60}", ms=float(number % 3), **who)
        log.label(identifier, "late" if rng.random() < (0.9 if canary else 0.6) else "on time", 11.0 if canary else 1.0)
    log.consume()
    lines = read(log)
    assert set(lines) == {("v1.0.0", "stable", "a"), ("v1.1.0", "canary", "b")}
    a, b = lines["v1.0.0", "stable", "a"], lines["v1.1.0", "canary", "b"]
    assert (a["rows"], b["rows"], b["value_total"]) == (160, 80, 880.0)
    assert a["metrics"]["accuracy"]["high"] < b["metrics"]["accuracy"]["low"]
    assert b["metrics"]["accuracy"]["low"] < b["metrics"]["accuracy"]["mean"] < b["metrics"]["accuracy"]["high"]
    table = run(log, "readout", "--model", "flights")
    assert "accuracy 0.8875 (0.80" in table
    assert "feedback for unknown predictions: 0" in table


def test_a_regression_has_errors(log: Any) -> None:
    for truth in (8.0, 13.0, 12):
        log.label(log.predict(outputs=[{"value": 10.0}]), truth)
    log.label(log.predict(outputs=[{"value": 10.0}]), "not a number")
    log.consume()
    (line,) = read(log).values()
    assert line["metrics"]["error"]["mean"] == -1.0
    assert line["metrics"]["absolute_error"]["mean"] == pytest.approx(7 / 3)
    assert line["metrics"]["absolute_error"]["rows"] == 3
    assert "accuracy" not in line["metrics"]
    assert "absolute_error 2.333" in run(log, "readout", "--model", "flights")


def test_since_limits_the_window_and_an_empty_log_reads_as_empty(log: Any) -> None:
    assert read(log) == {}
    log.predict(at=datetime.now(UTC) - timedelta(days=3), version="v0.9.0")
    log.predict()
    log.consume()
    assert {version for version, _, _ in read(log, "--since", "24h")} == {"v1.0.0"}
    assert {version for version, _, _ in read(log)} == {"v0.9.0", "v1.0.0"}
    assert "expected one like 30m, 24h or 90d" in run(log, "readout", "--model", "flights", "--since", "soon", code=2)


def test_prune(log: Any) -> None:
    log.predict(at=datetime.now(UTC) - timedelta(days=91))
    log.predict()
    log.consume()
    assert "dropped predictions_" in run(log, "prune", "--older-than", "90d")
    assert run(log, "prune", "--older-than", "90d") == "nothing is that old\n"
    assert log.count("predictions") == 1
    assert "at least 1d" in run(log, "prune", "--older-than", "23h", code=2)


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """The policy of flights in git, with looks that a test can reach."""
    policy = yaml.safe_load((POLICIES / "experiments/flights.yaml").read_text())
    policy |= {"looks": [200, 400, 600], "minimumPerArm": 30, "share": 0.3}
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/flights.yaml").write_text(yaml.safe_dump(policy))
    return tmp_path


def experiment(log: Any, policies: Path, rows: int, *, gain: float, version: str = "v1.1.0", value: float = 0) -> Any:
    rng = np.random.default_rng(7)
    for _ in range(rows):
        caller = int(rng.integers(0, 300))
        treated = caller % 10 < 3
        role, served = ("canary", version) if treated else ("stable", "v1.0.0")
        identifier = log.predict(subject=f"s{caller}", role=role, version=served, ms=float(rng.normal(5, 1)))
        log.label(identifier, "late" if rng.random() < 0.6 + gain * treated else "on time", value)
    log.consume()
    return json.loads(run(log, "experiment", "--model", "flights", "--policies", str(policies), "--json"))


@pytest.mark.parametrize(("gain", "verdict"), [(0.35, "promote"), (-0.35, "rollback")])
def test_a_difference_is_found(log: Any, policies: Path, gain: float, verdict: str) -> None:
    found = experiment(log, policies, 600, gain=gain)
    assert (found["verdict"], found["treatment"], found["control"]) == (verdict, "v1.1.0", "v1.0.0")
    text = run(log, "experiment", "--model", "flights", "--policies", str(policies))
    assert text.splitlines()[0] == verdict
    assert "bound" in text


@pytest.mark.parametrize(("metric", "gain"), [("brier", 0.12), ("log_loss", 0.32)])
def test_surer_answers_are_found_where_as_many_are_right(log: Any, policies: Path, metric: str, gain: float) -> None:
    """One label in twenty: both arms never answer it, and treatment is surer of the other."""
    path = policies / "experiments/flights.yaml"
    policy = yaml.safe_load(path.read_text()) | {"promote": [{"metric": metric, "above": 0.05}]}
    path.write_text(yaml.safe_dump(policy))
    for number in range(600):
        treated = number % 10 < 3
        role, version, sure = ("canary", "v1.1.0", 0.9) if treated else ("stable", "v1.0.0", 0.6)
        output = {"label": "on time", "probability": sure, "probabilities": {"on time": sure, "late": 1 - sure}}
        identifier = log.predict(role=role, version=version, outputs=[output], ms=float(number % 7))
        log.label(identifier, "late" if number // 10 % 20 == 11 else "on time")
    log.consume()
    found = json.loads(run(log, "experiment", "--model", "flights", "--policies", str(policies), "--json"))
    assert found["verdict"] == "promote"
    assert found["looks"][-1]["promote"][0]["gain"] == pytest.approx(gain, rel=0.3)


def test_a_new_version_in_treatment_begins_anew(log: Any, policies: Path) -> None:
    assert experiment(log, policies, 300, gain=-0.35)["verdict"] == "rollback"
    found = experiment(log, policies, 100, gain=0, version="v1.2.0")
    assert (found["verdict"], found["treatment"]) == ("continue", "v1.2.0")
    assert 90 <= found["rows"] <= 100  # from its first prediction on


def test_no_traffic_is_inconclusive(log: Any, policies: Path) -> None:
    found = json.loads(run(log, "experiment", "--model", "flights", "--policies", str(policies), "--json"))
    assert (found["verdict"], found["treatment"]) == ("inconclusive", None)
    log.label(log.predict())
    log.consume()
    text = run(log, "experiment", "--model", "flights", "--policies", str(policies), "--since", "1h")
    assert text.startswith("inconclusive\n  because: no labelled rows in one of the arms")


def test_a_metric_that_the_answers_do_not_have_is_refused_with_those_that_they_have(log: Any, policies: Path) -> None:
    for role, version in (("stable", "v1.0.0"), ("canary", "v1.1.0")):
        log.label(log.predict(role=role, version=version, outputs=[{"value": 10.0}]), 12.0)
    log.consume()
    said = run(log, "experiment", "--model", "flights", "--policies", str(policies), code=2)
    expected = "unknown metric of values 'accuracy'; expected one of absolute_error, value, ms"
    assert f"{policies / 'experiments/flights.yaml'}: promote.0.metric: {expected}" in said


def test_a_policy_that_is_wrong_or_missing_says_so(log: Any, policies: Path) -> None:
    path = policies / "experiments/flights.yaml"
    for text, message in [
        ("model: [", "not readable as YAML"),
        (path.read_text() + "alpha: 0.1\n", "stands twice"),
        (path.read_text() + "peek: true\n", "peek: Extra inputs are not permitted"),
        (path.read_text().replace("model: flights", "model: boats"), "model is 'boats', expected 'flights'"),
    ]:
        path.write_text(text)
        assert message in run(log, "experiment", "--model", "flights", "--policies", str(policies), code=2)
    path.unlink()
    assert "cannot be read" in run(log, "experiment", "--model", "flights", "--policies", str(policies), code=2)
