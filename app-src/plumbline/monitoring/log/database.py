"""The log's database, made where the server does not have it yet."""

import logging
import time
from datetime import timedelta

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

log = logging.getLogger(__name__)


def create(url: str, patience: timedelta) -> bool:
    """Make the database that the URL names; False if it is there. Raises the last error of a server that stays away."""
    name = str(conninfo_to_dict(url)["dbname"])
    with _connect(url, patience) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
            return False
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return True


def _connect(url: str, patience: timedelta) -> psycopg.Connection[tuple[object, ...]]:
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return psycopg.connect(url, dbname="postgres", autocommit=True, connect_timeout=5)
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("postgresql: %s; another try follows", str(error).strip())
            time.sleep(2)
