import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import weeks
import yaml
from experiments import POLICY
from typer.testing import CliRunner

from plumbline.monitoring.cli import app

LATE = timedelta(hours=1)


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
    said = run(log, "readout", "--model", "flights", "--since", "soon", code=2)
    assert "expected one like 20s, 30m, 24h or 90d" in said


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
    """A policy of arms that two weeks of a test's log can fulfil."""
    rules = {
        **POLICY, "weeks": [1, 2], "minimumCallers": 20, "costs": {"late": {"on time": 2.0}},
        "rollback": [{"metric": "accuracy", "below": -0.05}],
    }  # fmt: skip
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/flights.yaml").write_text(yaml.safe_dump(rules))
    return tmp_path


def change(policies: Path, **fields: Any) -> Path:
    path = policies / "experiments/flights.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))
    return path


def answered(
    log: Any, *, gain: float = 0.0, version: str = "v1.1.0", days: float = 15.5, rows: int = 1200,
    late: timedelta = LATE, output: dict[str, Any] | None = None, named: bool = True,
) -> None:  # fmt: skip
    """Rows of 200 callers since so many days, three tenths of them in treatment, and their labels an hour later."""
    rng, labels = np.random.default_rng(7), []
    start = datetime.now(UTC) - timedelta(days=days)
    for number in range(rows):
        caller = int(rng.integers(0, 200)) if number else 0
        treated = caller % 10 < 3
        role, served = ("canary", version) if treated else ("stable", "v1.0.0")
        at = start + timedelta(days=days * number / rows)
        changes: dict[str, Any] = {"outputs": [output]} if output else {}
        subject = f"key-{caller:08x}" if named else ""
        identifier = log.predict(
            at=at, subject=subject, role=role, version=served, ms=float(rng.normal(5, 1)), **changes
        )
        labels.append((at + late, identifier, "late" if rng.random() < 0.6 + gain * treated else "on time"))
    for at, identifier, truth in labels:
        event = {"prediction_id": identifier, "at": at.isoformat(), "model": "flights", "truth": truth}
        log.redis.xadd("feedback", {"event": json.dumps(event)}, id=f"{int(at.timestamp() * 1000)}-*")
    log.consume()


def experiment(log: Any, policies: Path, *more: str, code: int = 0) -> Any:
    return json.loads(
        run(log, "experiment", "--model", "flights", "--policies", str(policies), "--json", *more, code=code)
    )


@pytest.mark.parametrize(("gain", "verdict", "code"), [(0.3, "promote", 0), (-0.35, "rollback", 10)])
def test_a_difference_is_found_and_told_to_prometheus(
    log: Any, policies: Path, gain: float, verdict: str, code: int
) -> None:
    answered(log, gain=gain)
    found = experiment(log, policies, "--exit-code", code=code)
    assert (found["verdict"], found["treatment"], found["control"]) == (verdict, "v1.1.0", "v1.0.0")
    assert min(found["looks"][-1]["promote"][0]["callers"]) > 50
    experiment(log, policies, "--keep")
    shown = log.quality()
    assert shown("monitoring_experiment_verdict", model="flights", version="v1.1.0") == (1 if gain > 0 else -1)
    judged = shown("monitoring_experiment_judged_timestamp_seconds", model="flights", version="v1.1.0")
    assert abs(judged - datetime.now(UTC).timestamp()) < 600
    text = run(log, "experiment", "--model", "flights", "--policies", str(policies))
    assert text.splitlines()[0] == verdict


def test_keys_without_a_subject_are_callers_and_rows_without_either_are_nobodys(log: Any, policies: Path) -> None:
    answered(log, gain=0.3, named=False)
    found = experiment(log, policies, code=11)
    assert found["verdict"] == "inconclusive"
    assert found["reason"] == "no labelled rows in one of the arms; 1200 rows have no caller (docs/monitoring.md)"


@pytest.mark.parametrize(("metric", "sign"), [("brier", 1), ("log_loss", 1), ("cost", 1)])
def test_each_metric_of_a_row(log: Any, policies: Path, metric: str, sign: int) -> None:
    """Both arms answer alike; treatment's rows come true more often."""
    output = {"label": "late", "probability": 0.8, "probabilities": {"on time": 0.2, "late": 0.8}}
    rules = [{"metric": metric, "above": 0, "gain": 0.1, "deviation": 0.4}]
    change(policies, promote=rules, rollback=rules_of("ms"), costs={"on time": {"late": 2.0}})
    answered(log, gain=0.3, output=output)
    found = experiment(log, policies)
    assert found["verdict"] == "promote"
    seen = found["looks"][-1]["promote"][0]
    expected = {"brier": 0.6, "log_loss": float(np.log(4)), "cost": 2.0}[metric]
    share = {name: experiment_share(log, name) for name in ("stable", "canary")}
    assert seen["gain"] == pytest.approx(sign * expected * (share["canary"] - share["stable"]), rel=0.05)


def rules_of(metric: str) -> list[dict[str, Any]]:
    return [{"metric": metric, "below": -100}]


def experiment_share(log: Any, role: str) -> float:
    """Of the rows of a role that came true, all labelled."""
    ((share,),) = log.query(
        "SELECT avg((f.truth #>> '{}' = 'late')::int) FROM monitoring.predictions p"
        " JOIN monitoring.feedback f USING (id) WHERE p.role = %s",
        role,
    )
    return float(share)


def test_minutes_that_are_dated_over_weeks_end_in_a_verdict(log: Any, policies: Path) -> None:
    """As `make demo` does it, into a second log."""
    dated = f"{log.redis_url.rpartition('/')[0]}/1"
    with redis.Redis.from_url(dated) as second:
        second.flushdb()
    labels = []
    for number in range(1200):
        treated = number % 10 < 3
        arm = {"role": "canary", "version": "v1.1.0"} if treated else {}
        right = number // 10 % 10 < (9 if treated else 6)
        labels.append((log.predict(subject=f"s{number % 200}", **arm), "late" if right else "on time"))
    for identifier, truth in reversed(labels):  # two servers keep no order
        log.label(identifier, truth)
    log.predict()  # of nobody: it stays where it is
    assert weeks.spread(log.redis_url, dated, 15.5) == 1200
    log.consume(redis_url=dated)
    found = experiment(log, policies, "--exit-code")
    assert (found["verdict"], found["treatment"], found["control"]) == ("promote", "v1.1.0", "v1.0.0")
    assert log.query("SELECT count(DISTINCT id) FROM monitoring.feedback JOIN monitoring.predictions USING (id)") == [
        (1200,)
    ]


def test_before_its_weeks_are_over_an_experiment_goes_on(log: Any, policies: Path) -> None:
    answered(log, gain=0.35, days=6.5)
    found = experiment(log, policies)
    assert (found["verdict"], found["looks"]) == ("continue", [])
    assert experiment(log, policies, "--exit-code", code=11)["verdict"] == "continue"


def test_labels_that_come_too_late_or_too_early_count_for_nobody(log: Any, policies: Path) -> None:
    answered(log, gain=0.35, late=timedelta(days=1, hours=1))
    assert experiment(log, policies, code=11)["reason"] == "no labelled rows in one of the arms"
    log.redis.flushall()


def test_labels_before_their_predictions_are_said_and_nothing_passes(log: Any, policies: Path) -> None:
    answered(log, gain=0.35, late=timedelta(hours=-1))
    found = experiment(log, policies, code=11)
    assert found["verdict"] == "inconclusive"
    assert found["reason"].startswith("feedback: 1200 labels came before their predictions, the first of ")


def test_no_traffic_is_inconclusive(log: Any, policies: Path) -> None:
    found = experiment(log, policies, code=11)
    assert (found["verdict"], found["treatment"]) == ("inconclusive", None)
    said = run(log, "experiment", "--model", "flights", "--policies", str(policies), "--keep")
    assert said == "flights: nobody has got treatment for a day\n"
    said = run(log, "experiment", "--model", "boats", "--policies", str(policies), "--keep")
    assert said.startswith("boats has no experiments: ")


def test_the_plan_reads_the_traffic_of_the_log(log: Any, policies: Path) -> None:
    plan = ("experiment", "plan", "--model", "flights", "--policies", str(policies))
    assert "the log has no labelled rows of callers of flights" in run(log, *plan, code=11)
    answered(log)
    found = json.loads(run(log, *plan, "--json"))
    assert 150 < found["traffic"]["callers"] < 200
    assert found["traffic"]["rows_per_day"] == pytest.approx(75, rel=0.1)
    assert "give both --callers and --rows-per-day" in run(log, *plan, "--callers", "9", code=2)


def test_a_metric_that_the_answers_do_not_have_is_refused_with_those_that_they_have(log: Any, policies: Path) -> None:
    answered(log, rows=60, output={"value": 10.0})
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
