"""PostgreSQL: migrations, partitions by day, and writes whose repetition changes nothing."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql
from psycopg_pool import ConnectionPool

from plumbline.core.ids import day_range, instant
from plumbline.monitoring.log.events import Feedback, Prediction

TABLES = ("predictions", "feedback")
_LOCK = 7_005_011  # an advisory lock: one process at a time changes tables
_AHEAD = timedelta(days=2)
# What the server will say again however often it is asked: the entry is at fault, not the connection.
_REFUSALS = (errors.DataError, errors.IntegrityError, errors.ProgramLimitExceeded, errors.UntranslatableCharacter)

_INSERT_PREDICTIONS: LiteralString = """
    INSERT INTO monitoring.predictions SELECT * FROM unnest(
        %s::uuid[], %s::int[], %s::int[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::text[], %s::text[]::jsonb[], %s::text[]::jsonb[], %s::text[], %s::float8[], %s::float8[], %s::text[],
        %s::text[]::jsonb[])
    ON CONFLICT DO NOTHING"""
_INSERT_FEEDBACK: LiteralString = """
    INSERT INTO monitoring.feedback SELECT * FROM unnest(
        %s::uuid[], %s::int[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::text[], %s::text[]::jsonb[],
        %s::float8[], %s::text[])
    ON CONFLICT DO NOTHING"""
_INSERT_DEAD_LETTERS: LiteralString = """
    INSERT INTO monitoring.dead_letters (stream, entry, reason, body)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bytea[]) ON CONFLICT DO NOTHING"""


class RefusedError(ValueError):
    """PostgreSQL will not take these values; the message is its reason."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that can't be stored, and why."""

    stream: str
    entry: str
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """Rows that were new; what was there before is not counted."""

    predictions: int
    feedback: int


class Store:
    """The log in one database."""

    def __init__(self, url: str) -> None:
        # Each connection is tried before it is used: after a restart of the server the old ones are dead.
        self._pool = ConnectionPool(
            url, min_size=1, max_size=2, timeout=5, open=False, check=ConnectionPool.check_connection,
            kwargs={"application_name": "monitoring", "connect_timeout": 5},
        )  # fmt: skip
        self._days: set[date] = set()

    def close(self) -> None:
        """Give the connections back to the server."""
        self._pool.close()

    def connections(self) -> dict[str, int]:
        """How many connections are open, how many of them idle, and how many callers wait for one."""
        stats = self._pool.get_stats()
        names = {"open": "pool_size", "idle": "pool_available", "waiting": "requests_waiting"}
        return {state: stats.get(name, 0) for state, name in names.items()}

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        self._pool.open()
        with self._pool.connection() as connection:
            yield connection

    def migrate(self) -> list[str]:
        """Apply what is missing of sql/, in order, all or nothing; returns the names that were applied."""
        self._days.clear()
        with self.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            connection.execute("CREATE SCHEMA IF NOT EXISTS monitoring")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS monitoring.migrations"
                " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            done = {name for (name,) in connection.execute("SELECT name FROM monitoring.migrations")}
            scripts = sorted(
                (item for item in files(__package__).joinpath("sql").iterdir()),
                key=lambda item: item.name,
            )
            applied = [script for script in scripts if script.name not in done]
            for script in applied:
                connection.execute(script.read_bytes())
                connection.execute("INSERT INTO monitoring.migrations (name) VALUES (%s)", [script.name])
        return [script.name for script in applied]

    def write(
        self, predictions: Sequence[Prediction], feedback: Sequence[Feedback], dead: Sequence[DeadLetter] = ()
    ) -> Written:
        """Store a batch in one transaction; raises RefusedError if PostgreSQL does not take a value of it."""
        try:
            try:
                return self._write(predictions, feedback, dead)
            except errors.CheckViolation:
                self._days.clear()  # a partition was pruned since it was made
                return self._write(predictions, feedback, dead)
        except _REFUSALS as error:
            raise RefusedError(f"PostgreSQL: {error.diag.message_primary or error}") from error

    def _write(
        self, predictions: Sequence[Prediction], feedback: Sequence[Feedback], dead: Sequence[DeadLetter]
    ) -> Written:
        ids = [item.id for item in predictions] + [item.id for item in feedback]
        self.make_partitions(instant(identifier).date() for identifier in ids)
        with self.connection() as connection:
            _insert(connection, _INSERT_DEAD_LETTERS, [_dead_row(item) for item in dead])
            return Written(
                _insert(connection, _INSERT_PREDICTIONS, [row for item in predictions for row in _rows(item)]),
                _insert(connection, _INSERT_FEEDBACK, [_feedback_row(item) for item in feedback]),
            )

    def make_partitions(self, days: Iterable[date], *, ahead_of: date | None = None) -> None:
        """Make what is missing for these days, and for today and the two after it where `ahead_of` is today."""
        wanted = set(days)
        if ahead_of:
            wanted |= {ahead_of + timedelta(days=n) for n in range(_AHEAD.days + 1)}
        missing = sorted(wanted - self._days)
        if missing:
            with self.connection() as connection:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                for day in missing:
                    for table in TABLES:
                        _make_partition(connection, table, day)
            self._days |= set(missing)

    def prune(self, before: date) -> list[str]:
        """Drop the partitions of days before this one, and dead letters as old; returns the dropped tables.

        A read-out that is still using one is waited for, at most 10 s.
        """
        with self.connection() as connection:
            connection.execute("SET LOCAL lock_timeout = '10s'")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            old = [name for name, day in _partitions(connection) if day < before]
            for name in old:
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("monitoring", name)))
            moment = datetime(before.year, before.month, before.day, tzinfo=UTC)
            connection.execute("DELETE FROM monitoring.dead_letters WHERE at < %s", [moment])
            connection.execute("DELETE FROM monitoring.drift_checks WHERE until < %s", [moment])
        self._days.clear()
        return old


def _partitions(connection: psycopg.Connection[Any]) -> list[tuple[str, date]]:
    """Every partition as (table, day), in order of its name."""
    tables = connection.execute(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
        " WHERE inhparent = ANY (%s::regclass[]) ORDER BY child.relname",
        [[f"monitoring.{table}" for table in TABLES]],
    )
    return [(name, date.fromisoformat(name.rsplit("_", 1)[1])) for (name,) in tables]


def _make_partition(connection: psycopg.Connection[Any], table: str, day: date) -> None:
    name = f"{table}_{day:%Y%m%d}"
    exists = connection.execute("SELECT to_regclass(%s)", [f"monitoring.{name}"]).fetchone()
    if exists and exists[0]:
        return
    start, end = day_range(day)
    parent, child = sql.Identifier("monitoring", table), sql.Identifier("monitoring", name)
    # Made apart and attached: CREATE … PARTITION OF would wait for every read-out that is running.
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(child, parent))
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            parent, child, sql.Literal(str(start)), sql.Literal(str(end))
        )
    )


def _insert(connection: psycopg.Connection[Any], statement: LiteralString, rows: Sequence[tuple[Any, ...]]) -> int:
    """One statement for all rows, column by column; returns how many were new."""
    if not rows:
        return 0
    return connection.execute(statement, [list(column) for column in zip(*rows, strict=True)]).rowcount


def _rows(item: Prediction) -> Iterator[tuple[Any, ...]]:
    """The rows of monitoring.predictions, in the order of its columns."""
    shared = (item.at, item.model, item.version, item.role, item.arm, item.subject, item.request_id)
    for number, (features, output) in enumerate(zip(item.rows, item.outputs, strict=True)):
        texts = (json.dumps(features), output.model_dump_json(exclude_unset=True))
        numbers = (output.label, output.score, item.ms)
        yield (item.id, number, len(item.data), *shared, *texts, *numbers, item.keyholder,
               json.dumps(item.missing_in(number)))  # fmt: skip


def _feedback_row(item: Feedback) -> tuple[Any, ...]:
    return (item.id, item.row, *item.entry, item.at, item.model, json.dumps(item.truth), item.value, item.keyholder)


def _dead_row(item: DeadLetter) -> tuple[Any, ...]:
    return item.stream, item.entry, item.reason.replace("\0", "\N{REPLACEMENT CHARACTER}"), item.body
