"""What Prometheus is told of the answers: the last day's labelled ones, and nothing that is no longer known."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import sql

from plumbline.monitoring.experiment import readout
from plumbline.monitoring.log.queries import window
from plumbline.monitoring.log.store import Store
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
    thread.join(10)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
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
    deadline = time.monotonic() + 10
    while registry.get_sample_value("monitoring_labelled_rows", FLIGHTS) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert thread.is_alive()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
