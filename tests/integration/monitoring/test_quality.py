"""What Prometheus is told of the answers: the last day's labelled ones, and nothing that is no longer known."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import sql

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
