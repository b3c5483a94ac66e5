"""What the workloads of an environment share."""

import time
from collections.abc import Callable

import psycopg
import pytest


def eventually(condition: Callable[[], bool], *, within: float) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def role(postgres_url: str) -> str:
    """The one user of the databases, as PostgreSQL's StatefulSet and RDS have it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plumbline LOGIN CREATEDB")
    return "plumbline"
