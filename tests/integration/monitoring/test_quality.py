"""What Prometheus is told of the answers: the last day's labelled ones, and nothing that is no longer known."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import sql
from typer.testing import CliRunner

from plumbline.monitoring import live
from plumbline.monitoring.cli import app
from plumbline.monitoring.experiment import readout
from plumbline.monitoring.log.queries import window
from plumbline.monitoring.log.store import Store
from plumbline.monitoring.policy import Quality as Asked
from plumbline.monitoring.quality import Quality

FLIGHTS = {"model": "flights", "version": "v1.0.0", "role": "stable", "arm": ""}


def test_accuracy_error_and_value_of_what_was_labelled(log: Any) -> None:
    right, wrong, corrected = log.predict(), log.predict(), log.predict()
    log.label(right, "late", 3.0)
    log.label(wrong, "on time", 1.0)
    log.label(corrected, "on time")
    log.label(corrected, "late")
    log.predict()  # has no label yet
    log.label(log.predict(role="canary", version="v2.0.0"), "on time")
    old = datetime.now(UTC) - timedelta(hours=25)
    log.label(log.predict(at=old), "on time")
    for predicted, truth in ((10.0, 12.0), (20.0, 16.0)):
        number = log.predict(model="diabetes", outputs=[{"value": predicted}])
        log.label(number, truth)
    log.consume()
    shown = log.quality()
    assert shown("monitoring_labelled_rows", **FLIGHTS) == 3
    assert shown("monitoring_accuracy", **FLIGHTS) == pytest.approx(2 / 3)
    assert shown("monitoring_business_value", **FLIGHTS) == 2
    assert shown("monitoring_absolute_error", **FLIGHTS) is None
    assert shown("monitoring_accuracy", **FLIGHTS | {"version": "v2.0.0", "role": "canary"}) == 0
    assert shown("monitoring_absolute_error", **FLIGHTS | {"model": "diabetes"}) == 3
    assert shown("monitoring_database_up") == 1
    assert shown("monitoring_database_connections", state="open") >= 1


def answered(log: Any, late: float, truth: str, **more: Any) -> None:
    """One answer of a model whose threshold is 0.3, and its label."""
    output = {
        "label": "late" if late >= 0.3 else "on_time", "probability": max(late, 1 - late),
        "probabilities": {"on_time": 1 - late, "late": late},
    }  # fmt: skip
    log.label(log.predict(outputs=[output], **more), truth)


@pytest.fixture
def asked(log: Any, tmp_path: Path) -> Callable[[str], Callable[..., float | None]]:
    """Make a drift check with a policy that asks for some quality, as the scheduled one does; what is shown then."""
    rng = np.random.default_rng(0)
    late = rng.uniform(size=300)
    reference = pd.DataFrame({"distance": rng.normal(size=300), "carrier": "UA", "truth": "late"})
    reference = reference.assign(native_on_time=1 - late, native_late=late)
    reference.to_parquet(tmp_path / "holdout.parquet")
    (tmp_path / "policies/drift").mkdir(parents=True)
    where = ("--reference", str(tmp_path / "holdout.parquet"), "--policies", str(tmp_path / "policies"))

    def show(quality: str) -> Callable[..., float | None]:
        path = tmp_path / "policies/drift/flights.yaml"
        path.write_text(f"apiVersion: plumbline.dev/v1\nkind: Drift\nmodel: flights\nquality: {quality}\n")
        done = CliRunner().invoke(
            app, ["drift", "--model", "flights", "--version", "v1.0.0", "--out", str(tmp_path / "out"), *where],
            env={"MONITORING_DATABASE_URL": log.dsn},
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        return cast(Callable[..., float | None], log.quality())

    return show


@pytest.mark.parametrize(
    ("quality", "expected", "better"),
    [
        ("{metric: recall, worse: 0.1}", 2 / 3, "higher"),
        ("{metric: precision, worse: 0.1}", 2 / 4, "higher"),
        ("{metric: on_time_recall, worse: 0.1}", 5 / 7, "higher"),
        ("{metric: brier, worse: 0.1}", (2 * 0.1**2 + 0.8**2 + 2 * 0.6**2 + 5 * 0.2**2) / 10, "lower"),
        ("{metric: cost, worse: 1, costs: {late: {on_time: 20}, on_time: {late: 1}}}", (20 + 2) / 10, "lower"),
        ("{metric: average_precision, worse: 0.1}", 1 / 3 + 1 / 3 + 1 / 3 * 3 / 10, "higher"),
        ("{metric: recall_at_precision_0.9, worse: 0.1}", 2 / 3, "higher"),
    ],
)
def test_live_quality_is_the_metric_that_the_policy_names(
    log: Any, asked: Callable[[str], Callable[..., float | None]], quality: str, expected: float, better: str
) -> None:
    """Two late flights are found, one is missed; two of seven others are false alarms."""
    for late, truth in [(0.9, "late")] * 2 + [(0.2, "late")] + [(0.6, "on_time")] * 2 + [(0.2, "on_time")] * 5:
        answered(log, late, truth)
    log.predict()
    log.consume()
    labels = FLIGHTS | {"metric": "accuracy", "better": "higher"}
    shown = log.quality()
    assert shown("monitoring_quality", **labels) == pytest.approx(0.7), "before a check has said the policy"
    assert shown("monitoring_quality_tolerance", model="flights", metric="accuracy") == 0.05
    shown, metric = asked(quality), quality.split()[1].strip(",")
    assert shown("monitoring_quality", **labels | {"metric": metric, "better": better}) == pytest.approx(expected)
    assert shown("monitoring_quality", **labels) is None
    assert shown("monitoring_quality_tolerance", model="flights", metric=metric) in (0.1, 1)
    assert shown("monitoring_accuracy", **FLIGHTS) == pytest.approx(0.7)


def test_live_quality_of_several_labels_and_of_values(
    log: Any, asked: Callable[[str], Callable[..., float | None]]
) -> None:
    for label, truth in (("a", "a"), ("a", "b"), ("c", "c"), ("b", "b"), ("c", "unheard of")):
        probabilities = {name: 0.8 if name == label else 0.1 for name in "cab"}
        output = {"label": label, "probability": 0.8, "probabilities": probabilities}
        log.label(log.predict(version="v2.0.0", outputs=[output]), truth)
    for predicted, value in ((10.0, 12.0), (20.0, 16.0)):
        log.label(log.predict(version="v3.0.0", outputs=[{"value": predicted}]), value)
    log.consume()
    with psycopg.connect(log.dsn) as connection:
        span = window("flights", None)
        of = {
            metric: live.read(connection, span, Asked(metric=metric, worse=1))[0]
            for metric in ("macro_f1", "rmse", "b_recall")
        }
    assert of["macro_f1"]["v2.0.0", "stable", ""].value == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert of["b_recall"]["v2.0.0", "stable", ""].value == 0.5
    assert of["rmse"]["v3.0.0", "stable", ""].value == pytest.approx(np.sqrt((4 + 16) / 2))
    assert of["macro_f1"].keys() == {("v2.0.0", "stable", "")}, "values have none"


def test_a_readout_shows_the_policys_metric_with_an_interval_over_callers(log: Any, tmp_path: Path) -> None:
    for number in range(60):
        answered(log, 0.9 if number % 20 % 3 else 0.1, "late", subject=f"s{number % 20}")
    log.consume()
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift/flights.yaml").write_text(
        "apiVersion: plumbline.dev/v1\nkind: Drift\nmodel: flights\nquality: {metric: recall, worse: 0.1}\n"
    )
    command = ["readout", "--model", "flights", "--policies", str(tmp_path)]
    read = CliRunner().invoke(app, [*command, "--json"], env={"MONITORING_DATABASE_URL": log.dsn})
    found = json.loads(read.output)["lines"][0]["metrics"]["recall"]
    assert (found["mean"], found["rows"], found["callers"]) == (pytest.approx(0.65), 60, 20)
    # As wide as of 20 callers who are each always right or always wrong, not of 60 rows.
    assert 0.35 < found["low"] < 0.5
    assert 0.8 < found["high"] < 0.95
    shown = CliRunner().invoke(app, command, env={"MONITORING_DATABASE_URL": log.dsn}).output
    assert "recall 0.65 (0." in shown
    one = log.predict(version="v2.0.0", outputs=[{"label": "on_time", "probabilities": {"on_time": 0.9, "late": 0.1}}])
    log.label(one, "on_time")
    log.consume()
    shown = CliRunner().invoke(app, command, env={"MONITORING_DATABASE_URL": log.dsn}).output
    assert "recall -" in shown, "of a version of which no late flight is known"
    policy = tmp_path / "drift/flights.yaml"
    policy.write_text(policy.read_text().replace("recall", "rmse"))
    refused = CliRunner().invoke(app, command, env={"MONITORING_DATABASE_URL": log.dsn})
    assert refused.exit_code == 2
    assert (
        f"{policy}: quality.metric: unknown metric 'rmse' of a binary model; expected one of roc_auc" in refused.output
    )


def test_before_the_first_consumer_there_is_nothing_to_tell(log: Any) -> None:
    shown = log.quality()
    assert shown("monitoring_database_up") == 1
    assert shown("monitoring_labelled_rows", **FLIGHTS) is None


def test_figures_of_a_database_that_is_gone_are_not_shown(log: Any) -> None:
    log.label(log.predict())
    log.consume()
    store = Store(log.dsn)
    registry = CollectorRegistry()
    registry.register(quality := Quality(store))
    quality.refresh()
    assert registry.get_sample_value("monitoring_labelled_rows", FLIGHTS) == 1
    server, name = log.dsn.rsplit("/", 1)
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    quality.refresh()
    assert registry.get_sample_value("monitoring_database_up") == 0
    assert registry.get_sample_value("monitoring_labelled_rows", FLIGHTS) is None
    store.close()


def test_numbers_that_no_sum_can_hold_are_left_out_and_refused(log: Any) -> None:
    """Stored by a consumer of before: 1e200 squares to infinity, 1e308 twice is it, 400 digits are no double."""
    ids = [log.predict(model="diabetes", outputs=[{"value": 10.0}]) for _ in range(4)]
    for identifier in ids:
        log.label(identifier, 12.0, 3.0)
    log.label(log.predict(), "late", 1e200)
    log.consume()
    assert log.count("dead_letters") == 1
    with psycopg.connect(log.dsn) as connection:
        for identifier, value in zip(ids, (1e200, 1e308, 1e308), strict=False):
            connection.execute("UPDATE monitoring.feedback SET value = %s WHERE id = %s", [value, identifier])
        connection.execute("UPDATE monitoring.feedback SET truth = %s::jsonb WHERE id = %s", ["9" * 400, ids[0]])
        (line,) = readout.read(connection, window("diabetes", None)).lines
    assert (line.labelled, line.value_total) == (4, 3.0)
    assert line.metrics["absolute_error"].rows == 3
    assert log.quality()("monitoring_business_value", **FLIGHTS | {"model": "diabetes"}) == 3


def test_a_reading_that_fails_is_counted_and_tried_again(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plumbline.monitoring.quality._EVERY_SECONDS", 0.05)
    log.label(log.predict())
    log.consume()
    with psycopg.connect(log.dsn) as connection:
        connection.execute("ALTER TABLE monitoring.predictions RENAME COLUMN score TO scores")
    quality, stop, registry = Quality(log.stores[0]), threading.Event(), CollectorRegistry()
    registry.register(quality)
    before = registry.get_sample_value("monitoring_quality_read_timestamp_seconds")
    thread = threading.Thread(target=quality.run, args=[stop], daemon=True)
    thread.start()
    _until(lambda: (registry.get_sample_value("monitoring_quality_failures_total") or 0) >= 2)
    assert registry.get_sample_value("monitoring_quality_read_timestamp_seconds") == before
    with psycopg.connect(log.dsn) as connection:
        connection.execute("ALTER TABLE monitoring.predictions RENAME COLUMN scores TO score")
    _until(lambda: registry.get_sample_value("monitoring_labelled_rows", FLIGHTS) == 1)
    # The figures are there a moment before the time.
    _until(lambda: (registry.get_sample_value("monitoring_quality_read_timestamp_seconds") or 0) > (before or 0))
    stop.set()
    thread.join(60)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_reads_until_it_is_told_to_stop(log: Any) -> None:
    log.label(log.predict())
    log.consume()
    quality, stop, registry = Quality(log.stores[0]), threading.Event(), CollectorRegistry()
    registry.register(quality)
    thread = threading.Thread(target=quality.run, args=[stop], daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while registry.get_sample_value("monitoring_labelled_rows", FLIGHTS) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert thread.is_alive()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
