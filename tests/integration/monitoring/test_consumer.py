import json
import threading
import time
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from plumbline.monitoring.log.store import Store


def test_each_row_of_each_answer_is_kept(log: Any) -> None:
    single, batch = log.predict(), log.predict(rows=3, role="canary", arm="b", subject="me")
    log.consume()
    assert log.query("SELECT id::text, row, rows FROM monitoring.predictions ORDER BY id, row") == sorted(
        [(single, 0, 1), (batch, 0, 3), (batch, 1, 3), (batch, 2, 3)]
    )
    kept = log.query(
        "SELECT role, arm, subject, features, output, label, score FROM monitoring.predictions WHERE row = 2"
    )
    features, output = {"distance": 2.0, "carrier": "UA"}, {"label": "late", "probability": 0.8}
    assert kept == [("canary", "b", "me", features, output, "late", 0.8)]
    assert log.redis.xpending("predictions", "monitoring")["pending"] == 0
    assert log.metric("monitoring_entries_total", stream="predictions", result="stored") == 2


def test_whose_key_it_was_is_kept_where_a_server_says_it(log: Any) -> None:
    """Servers of before say nothing."""
    asked, before = log.predict(keyholder="0123456789ab"), log.predict()
    log.label(asked, keyholder="ba9876543210")
    log.label(before)
    log.consume()
    for table, said in (("predictions", "0123456789ab"), ("feedback", "ba9876543210")):
        kept = dict(log.query(f"SELECT id::text, keyholder FROM monitoring.{table}"))  # noqa: S608
        assert kept == {asked: said, before: ""}


def test_what_is_delivered_again_changes_nothing(log: Any) -> None:
    identifier = log.predict(rows=2)
    log.label(f"{identifier}:1")
    log.consume()
    # As after a crash between commit and acknowledgement, and after a restore of an older Redis.
    log.redis.xgroup_setid("predictions", "monitoring", "0")
    log.redis.xgroup_setid("feedback", "monitoring", "0")
    log.consume()
    assert (log.count("predictions"), log.count("feedback"), log.count("dead_letters")) == (2, 1, 0)
    assert log.metric("monitoring_rows_total", table="predictions") == 2


def test_labels_that_are_early_late_repeated_or_unknown_are_all_kept(log: Any) -> None:
    early = log.new_id()
    log.label(early, "on time")
    log.consume()
    log.predict(id=early)
    log.label(early, "late", 2.5)
    log.label(log.new_id(), "late")
    log.consume()
    history = log.query(
        "SELECT truth, value FROM monitoring.feedback WHERE id = %s ORDER BY entry_ms, entry_sequence", early
    )
    assert history == [("on time", None), ("late", 2.5)]
    assert log.count("feedback") == 3


def test_poison_is_parked_with_its_reason_and_blocks_nothing(log: Any) -> None:
    log.redis.xadd("predictions", {"event": b"\xff{"})
    log.redis.xadd("predictions", {"other": "field"})
    log.predict(id=str(uuid4()))
    log.predict(at=datetime(2120, 1, 1, tzinfo=UTC))
    log.predict(request_id="nul \0 is legal JSON and no text of PostgreSQL")
    log.predict(subject="fine")
    log.label("no id")
    log.label(log.new_id(), "nul \0")
    log.consume()
    assert log.query("SELECT subject FROM monitoring.predictions") == [("fine",)]
    reasons = dict(log.query("SELECT encode(body, 'escape'), reason FROM monitoring.dead_letters"))
    assert len(reasons) == 7
    text = "\n".join(reasons.values())
    for part in (
        "Invalid JSON",
        "['other']; expected one named event",
        "not a UUIDv7",
        "its time 2120-01-01",
        "PostgreSQL:",
    ):
        assert part in text
    assert log.metric("monitoring_entries_total", stream="predictions", result="parked") == 5
    assert log.redis.xpending("predictions", "monitoring")["pending"] == 0


def test_entries_of_a_dead_consumer_are_taken_over(log: Any) -> None:
    log.consume()
    log.predict()
    log.redis.xreadgroup("monitoring", "dead", {"predictions": ">"})
    log.consume(claim_seconds=60)
    assert log.count("predictions") == 0  # it might still be alive
    time.sleep(0.1)
    log.consume(claim_seconds=0.05)
    assert log.count("predictions") == 1
    assert log.redis.xpending("predictions", "monitoring")["pending"] == 0


def test_its_own_unfinished_entries_come_first_after_a_restart(log: Any) -> None:
    log.consume()
    log.predict()
    log.redis.xreadgroup("monitoring", "one", {"predictions": ">"})
    log.consume(claim_seconds=3600)
    assert log.count("predictions") == 1


def test_entries_that_redis_trimmed_are_counted_as_lost(log: Any) -> None:
    log.predict()
    log.consume()
    for _ in range(5):
        log.predict()
    log.redis.xreadgroup("monitoring", "one", {"predictions": ">"}, count=2)
    log.redis.xtrim("predictions", maxlen=2, approximate=False)
    log.consume()
    assert log.count("predictions") == 3
    assert log.metric("monitoring_lost_entries_total", stream="predictions") == 3  # two read, one never


def test_a_stream_that_vanished_is_begun_anew(log: Any) -> None:
    log.predict()
    consumer = log.consumer()
    consumer.run(threading.Event(), until_empty=True)
    log.redis.flushall()
    log.predict()
    consumer.run(threading.Event(), until_empty=True)
    assert log.count("predictions") == 2
    assert log.metric("monitoring_reconnects_total", service="redis") >= 1


def test_days_are_partitions_made_on_demand_and_ahead_and_pruned(log: Any) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=100)
    log.predict(at=old)
    log.predict()
    log.consume()
    store = Store(log.dsn)
    log.stores.append(store)

    def partitions() -> set[str]:
        return {name for (name,) in log.query("SELECT relname FROM pg_class WHERE relname ~ 'predictions_[0-9]+$'")}

    days = [old, now, now + timedelta(days=1), now + timedelta(days=2)]
    assert partitions() == {f"predictions_{day:%Y%m%d}" for day in days}
    plan = log.query("EXPLAIN SELECT * FROM monitoring.predictions WHERE id = %s", log.new_id())
    assert f"predictions_{now:%Y%m%d}" in str(plan)
    assert f"predictions_{old:%Y%m%d}" not in str(plan)

    dropped = store.prune(now.date() - timedelta(days=90))
    assert dropped == [f"{table}_{old:%Y%m%d}" for table in ("feedback", "predictions")]
    assert store.prune(now.date() - timedelta(days=90)) == []
    assert log.count("predictions") == 1


def test_an_entry_of_a_day_that_was_pruned_meanwhile_is_stored(log: Any) -> None:
    consumer = log.consumer()
    at = datetime.now(UTC) - timedelta(days=30)
    log.predict(at=at)
    consumer.run(threading.Event(), until_empty=True)
    other = Store(log.dsn)
    log.stores.append(other)
    other.prune(date.today())
    log.predict(at=at)
    consumer.run(threading.Event(), until_empty=True)
    assert (log.count("predictions"), log.count("dead_letters")) == (1, 0)


def test_migrations_run_once_even_when_several_start_together(postgres_dsn: str) -> None:
    applied: list[list[str]] = []

    def migrate() -> None:
        store = Store(postgres_dsn)
        applied.append(store.migrate())
        store.make_partitions((), ahead_of=date(2026, 1, 1))
        store.close()

    threads = [threading.Thread(target=migrate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    once = sorted(file.name for file in (files("plumbline.monitoring.log") / "sql").iterdir())
    assert sorted(applied, reverse=True) == [once, [], [], [], [], []]
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM monitoring.migrations").fetchone() == (len(once),)


def test_a_read_out_that_is_running_does_not_hold_up_new_days(log: Any) -> None:
    log.predict()
    log.consume()
    with psycopg.connect(log.dsn) as reader:
        reader.execute("SELECT * FROM monitoring.predictions")
        log.predict(at=datetime.now(UTC) - timedelta(days=3))
        log.consume()
    assert log.count("predictions") == 2


def test_large_answers_are_stored_in_pieces(log: Any) -> None:
    for _ in range(3):
        log.predict(rows=5000, outputs=[{"value": 1.5}] * 5000, rows_note="x" * 3_000_000)
    log.consume()
    assert log.count("predictions") == 15_000
    assert log.metric("monitoring_commit_seconds_count") == 3


@pytest.mark.parametrize("members", [3])
def test_several_consumers_share_the_work(log: Any, members: int) -> None:
    for number in range(300):
        log.redis.xadd(*_prediction(log, number))
    consumers = [log.consumer(consumer=f"c{n}", batch_entries=7) for n in range(members)]
    threads = [
        threading.Thread(target=consumer.run, args=(threading.Event(),), kwargs={"until_empty": True})
        for consumer in consumers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (log.count("predictions"), log.count("dead_letters")) == (300, 0)


def _prediction(log: Any, number: int) -> tuple[str, dict[str, str]]:
    event = {
        "id": log.new_id(datetime.now(UTC) - timedelta(days=number % 5)), "at": datetime.now(UTC).isoformat(),
        "model": "flights", "version": "v1.0.0", "columns": [], "data": [[]], "outputs": [{"value": 1}], "ms": 1,
    }  # fmt: skip
    return "predictions", {"event": json.dumps(event)}


def test_the_views_that_a_row_was_answered_without_are_kept_where_a_server_says_them(log: Any) -> None:
    asked, before = log.predict(rows=3, missing_views={"weather": [0, 2], "traffic": [2]}), log.predict()
    log.consume()
    kept = log.query("SELECT id::text, row, missing_views FROM monitoring.predictions ORDER BY row")
    rows = {(identifier, row): views for identifier, row, views in kept}
    assert rows == {
        (asked, 0): ["weather"], (asked, 1): [], (asked, 2): ["weather", "traffic"], (before, 0): []
    }  # fmt: skip
