"""Bring MLflow's databases to the schema of the MLflow that is installed here: made if missing, migrated if old.

Runs before the server of the same image starts. Which server and which user is libpq's to know (PGHOST, PGUSER,
PGPASSWORD, PGSSLMODE); the names of the databases are the arguments of this script.
"""

import sys
import time

import psycopg
from mlflow.db import commands as runs
from mlflow.server.auth.db.cli import commands as accounts
from psycopg import sql

PATIENCE_SECONDS = 240
"""A platform that starts from nothing starts its PostgreSQL at the same time."""


def create(database: str) -> None:
    """Make a database unless it is there; waits for the server."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection = psycopg.connect(dbname="postgres", connect_timeout=5)
            break
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            print(f"PostgreSQL: {str(error).strip()}; trying again", flush=True)
            time.sleep(2)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [database])
        if not cursor.rowcount:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
            print(f"made the database {database}", flush=True)
    connection.close()


def main(tracking: str, users: str) -> None:
    """Migrate the database of runs and models, and that of users and permissions."""
    create(tracking)
    create(users)
    # `mlflow db upgrade` and `python -m mlflow.server.auth db upgrade`, which take half as long in one process.
    runs.main(["upgrade", f"postgresql:///{tracking}"], standalone_mode=False)
    accounts.main(["upgrade", "--url", f"postgresql:///{users}"], standalone_mode=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
