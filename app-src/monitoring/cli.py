"""The `monitoring` command: store the log, read it out, judge experiments and drift."""

import json
import logging
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from monitoring.settings import Settings
from monitoring.store import Store

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Read `30m`, `24h` or `90d`."""
    match = re.fullmatch(r"([1-9]\d{0,4})([mhd])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration; expected one like 30m, 24h or 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[Any, typer.Option(parser=duration, metavar="DURATION")]


@app.command()
def consume(until_empty: Annotated[bool, typer.Option(help="Stop when both streams are read.")] = False) -> None:
    """Store the streams `predictions` and `feedback` in PostgreSQL, each entry in effect exactly once."""
    from prometheus_client import start_http_server

    from monitoring.consumer import Consumer
    from monitoring.metrics import Metrics

    _log_as_json()
    settings, stop = Settings(), threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    if settings.metrics_port and not until_empty:
        start_http_server(settings.metrics_port)
    with _store(settings) as store:
        Consumer(settings, store, Metrics()).run(stop, until_empty=until_empty)


@app.command()
def prune(older_than: Duration) -> None:
    """Drop the partitions of days that ended longer ago than this, and dead letters as old."""
    if older_than < timedelta(days=1):
        raise typer.BadParameter("the log is dropped by whole days; expected at least 1d", param_hint="--older-than")
    with _store(Settings()) as store:
        store.migrate()
        dropped = store.prune((datetime.now(UTC) - older_than).date())
    typer.echo("\n".join(f"dropped {name}" for name in dropped) or "nothing is that old")


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    store = Store(str(settings.database_url))
    try:
        yield store
    finally:
        store.close()


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_as_json() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # The pool repeats for every connection what the consumer says once for every try.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


if __name__ == "__main__":
    app()
