"""The log's database, made where the server does not have it yet."""

import logging
import time

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

PATIENCE_SECONDS = 240
"""A platform that starts from nothing starts its PostgreSQL at the same time."""
log = logging.getLogger(__name__)


def create(url: str) -> bool:
    """Make the database that the URL names; False if it is there. Waits for the server, and raises its last error."""
    name = str(conninfo_to_dict(url)["dbname"])
    with _connect(url) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
            return False
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return True


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return psycopg.connect(url, dbname="postgres", autocommit=True, connect_timeout=5)
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("postgresql: %s; another try follows", str(error).strip())
            time.sleep(2)
