"""Real PostgreSQL, Redis, an S3 API and MLflow with sign-in, started once for the run; nothing here is a mock."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import services


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server's `postgres` database.

    Not in pytest's folder: another run closes that to the user that PostgreSQL runs as.
    """
    with tempfile.TemporaryDirectory(prefix="plumbline-postgres-") as folder, services.postgres(Path(folder)) as url:
        yield url


@pytest.fixture(scope="session")
def new_database(postgres_url: str) -> Callable[[str], str]:
    """Make an empty database; returns its URL."""
    numbers = itertools.count(1)

    def create(purpose: str) -> str:
        name = f"{purpose}_{next(numbers)}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"{postgres_url.rsplit('/', 1)[0]}/{name}"

    return create


@pytest.fixture
def postgres_dsn(new_database: Callable[[str], str]) -> str:
    """The URL of an empty database of the test's own."""
    return new_database("test")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server."""
    with services.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a Redis server that is empty when the test starts."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.S3]:
    """An S3 API with one bucket."""
    with services.s3(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="session")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[str], str], s3: services.S3
) -> Iterator[services.Mlflow]:
    """MLflow as the platform runs it: PostgreSQL, artifacts proxied to the S3 API, sign-in."""
    directory = tmp_path_factory.mktemp("mlflow")
    backend, accounts = new_database("mlflow"), new_database("mlflow_auth")
    with services.mlflow(directory, store=s3, backend=backend, auth_database=accounts) as server:
        yield server
